"""LitServe with dynamic batching."""
