"""The data plane, without HTTP: from an admitted image to its probabilities."""
