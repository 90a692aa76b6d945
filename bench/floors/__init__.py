"""What no server can be better than: the bare ASGI server, the same with the form parsed, and the runtime alone."""
