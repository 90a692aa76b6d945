"""What a user would otherwise serve the same SavedModel with; a folder each, with its locked requirements.

Each answers from TensorFlow's signature `serving_default` and is started by `bench.servers` in its own virtual
environment. Its settings are the ones that its own documentation recommends, with the page beside them.
"""
