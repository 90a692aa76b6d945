"""The commands of `python -m cifar10_serving`: one module each, with `add` for its options and `run`; what they share beside."""
