"""A published version on disk: its files, metadata, graph, rollout, and whether they may be trusted."""
