"""Leases of versions for `with` blocks."""

from collections.abc import Iterator
from contextlib import contextmanager

from service.registry.repository import ModelRepository
from service.registry.version import ModelVersion


@contextmanager
def lease(repository: ModelRepository, name: str, version: int | None = None) -> Iterator[ModelVersion]:
    """Keep the serving version loaded while the block runs."""
    chosen = repository.acquire(name, version)
    try:
        yield chosen
    finally:
        chosen.release()
