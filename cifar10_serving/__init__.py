"""A client, the schemas of the HTTP API, published versions, and runtimes, for small image classifiers.

This is the only package that is installed. `service/` and `training/` are applications next to it, run from a checkout
or from the image.
"""

__version__ = "0.2.0"
