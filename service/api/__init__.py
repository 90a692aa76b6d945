"""The protocols: each module turns requests of one form into calls of `service.inference`, and its answers back."""
