"""The same calls with `Client` and `AsyncClient`, so that each test covers both."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from cifar10_serving.client import AsyncClient, Client, ImageResult, Retries

Ask = Callable[..., Any]


def ask_sync(url: str, call: str, *arguments: Any, options: dict[str, Any] | None = None, **named: Any) -> Any:
    with Client(url, **(options or {})) as client:
        answer = getattr(client, call)(*arguments, **named)
        return list(answer) if call == "predict_many" else answer


def ask_async(url: str, call: str, *arguments: Any, options: dict[str, Any] | None = None, **named: Any) -> Any:
    async def ask() -> Any:
        async with AsyncClient(url, **(options or {})) as client:
            answer = getattr(client, call)(*arguments, **named)
            return [result async for result in answer] if call == "predict_many" else await answer

    return asyncio.run(ask())


both = pytest.mark.parametrize("ask", [ask_sync, ask_async], ids=["sync", "async"])


def answered(results: list[ImageResult]) -> list[ImageResult]:
    return [result for result in results if result.prediction is not None]


def noted(waits: list[int], wait_s: float = 0.0) -> Callable[..., float]:
    """Stand in for `Retries.wait_s`: note how many attempts were made, and have the next one wait so long."""

    def wait(_retries: Retries, attempts_made: int, _retry_after_s: float | None = None) -> float:
        waits.append(attempts_made)
        return wait_s

    return wait
