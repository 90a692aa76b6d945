"""Serve small image classifiers: a client, the schemas of the HTTP API, published versions, and runtimes.

The only package that is installed. `service/` and `training/` are applications beside it, run from a checkout or from
the image.
"""

__version__ = "0.2.0"
