"""Serve small image classifiers: a client, the schemas of the HTTP API, published versions, and runtimes.

The one package that is installed. `service/` and `training/` are applications beside it, run from a checkout or an image.
"""

__version__ = "0.2.0"
