"""The commands of `python -m training`, one file each: its options, and what it prints.

The work itself is done elsewhere in `training`. TensorFlow is imported when a command runs, not before, so that
`--help` and `list` answer at once.
"""
