"""A published version on disk: files, metadata, graph, rollout, and their verification."""
