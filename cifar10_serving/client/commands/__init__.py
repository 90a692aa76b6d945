"""The commands of the command line: a module each, with `add` for its options and `run`; what they share beside."""
