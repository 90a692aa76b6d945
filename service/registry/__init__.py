"""The registry: which versions exist, which are loaded, and which one answers."""
