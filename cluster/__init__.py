"""The service on several machines: Ray Serve around the application, and commands for the nodes."""
