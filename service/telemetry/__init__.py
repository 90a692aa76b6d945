"""Telemetry: what the service counts and writes of the requests it has answered."""
