"""Alternatives for serving the same SavedModel, one folder each, with locked requirements.

Each uses TensorFlow's signature `serving_default`. `bench.servers` starts it in its own virtual environment. The
settings are those that its documentation recommends, with a link to the page.
"""
