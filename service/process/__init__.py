"""The processes of the service: sockets, signals, workers, graceful shutdown, memory."""
