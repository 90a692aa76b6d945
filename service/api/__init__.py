"""The protocols: each module translates requests into calls of `service.inference`, and the results into answers."""
