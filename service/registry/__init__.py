"""Which versions exist, which are loaded, and which one answers."""
