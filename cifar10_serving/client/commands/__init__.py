"""The commands: one module each, with `add` for its options and `run`; and modules that they share."""
