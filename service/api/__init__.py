"""The protocols: each module turns requests of one form into calls of `service.core`, and its answers back."""
