"""Telemetry: counters, metrics and log lines of the answered requests."""
