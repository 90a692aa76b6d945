"""Alternatives for serving the same SavedModel, one folder each, with locked requirements.

FastAPI + OpenVINO and Triton use OpenVINO, as our server does; the others use TensorFlow's signature `serving_default`.
`bench.servers` starts each in its own virtual environment. The settings are those that its documentation recommends,
with a link to the page.
"""
