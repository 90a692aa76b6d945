"""BentoML with adaptive batching."""
