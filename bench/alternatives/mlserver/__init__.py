"""MLServer with adaptive batching and a custom runtime."""
