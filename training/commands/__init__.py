"""The commands of `python -m training`, one file each, with their options and output.

The rest of `training` does the work. TensorFlow is imported only when a command runs, so that `--help` and `list` are
fast.
"""
