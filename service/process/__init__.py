"""Processes that serve: sockets, signals, workers, graceful shutdown, memory."""
