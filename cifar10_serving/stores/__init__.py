"""Stores of published versions that are not folders: object stores through fsspec, and archives over HTTP.

The service mirrors a store to a local folder; training publishes to it. Packages for a store are imported only when one
is opened.
"""
