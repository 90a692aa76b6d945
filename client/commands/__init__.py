"""The commands of `python -m client`: one module each, with `add` for its options and `run`; what they share beside."""
