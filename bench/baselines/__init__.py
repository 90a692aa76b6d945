"""Baselines that no server can beat: a bare ASGI server, the same with form parsing, and the runtime alone."""
