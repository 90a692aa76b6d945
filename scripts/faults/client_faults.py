"""Faults of clients: incomplete heads, idle connections, overload, decompression bombs, slow images."""

import asyncio
import random
import time
from collections import Counter
from typing import Final

from scripts.attack.attempts import Attempt, due, query, request
from scripts.attack.bombs import bomb, file_of
from scripts.attack.heads import GET, HOST
from scripts.attack.process import MemoryWatch, memory_bytes
from scripts.attack.world import World
from scripts.faults.rig import Load, Observed, Rig, answers_of, in_words

MEBIBYTE: Final = 2**20
CONNECTIONS: Final = 1000
BOMBS: Final = 60
FLOOD_S: Final = 5.0
MEASURE_S: Final = 3.0
FLOOD_FACTOR: Final = 3
SLOW_IMAGES: Final = 12


async def half_heads(rig: Rig) -> Observed:
    """Hold 1,000 connections that send half a request head."""
    return await _held_connections(rig, Attempt("held", GET + HOST, due(408), may_close=True, must_close=True))


async def idle_connections(rig: Rig) -> Observed:
    """Hold 1,000 connections that send nothing."""
    return await _held_connections(rig, Attempt("held", b"", (), must_close=True))


async def bombs(rig: Rig) -> Observed:
    """Send 60 decompression bombs at the same time."""
    draw = random.Random(1)  # noqa: S311  # repeatable, on purpose
    attempts = [bomb(draw, rig.world) for _ in range(BOMBS)]
    before_bytes = memory_bytes(rig.process_id)
    with MemoryWatch(rig.process_id) as memory:
        async with rig.load() as load:
            start_s = time.monotonic()
            statuses = await answers_of(rig.service, attempts)
            took_s = time.monotonic() - start_s
            recovered_s = await rig.photo_answers()
    peak = (memory.peak_bytes - before_bytes) / MEBIBYTE
    words = f"{in_words(statuses)} within {took_s:.0f} s, peak memory +{peak:.0f} MB; {_with_longest(load)}"
    return Observed(words, recovered_s)


async def decoders_lost(rig: Rig) -> Observed:
    """Send 12 images whose decoding takes longer than their deadline of 0.1 s."""
    content = file_of("PNG pixels with alpha")
    head = [("Content-Type", "image/png"), ("X-Request-Timeout-Ms", "100")]
    asked = [Attempt("slow", request("POST", "/predict", content, head), due(503, 504))] * SLOW_IMAGES
    async with rig.load() as load:
        statuses = await answers_of(rig.service, asked)
        meanwhile = await answers_of(rig.service, [rig.photo()])
        recovered_s = await rig.photo_answers()
    words = (
        f"{in_words(statuses)}; a photo right afterwards: {in_words(meanwhile)}; small images: {_with_longest(load)}"
    )
    return Observed(words, recovered_s)


async def flood(rig: Rig) -> Observed:
    """Send three times as many requests as the capacity, for 5 s."""
    draw = random.Random(1)  # noqa: S311  # repeatable, on purpose
    async with rig.load(clients=16, kind=_explain) as measured:
        before = measured.right
        await asyncio.sleep(MEASURE_S)
        capacity = (measured.right - before) / MEASURE_S
    async with rig.load(clients=2) as load:
        tasks = []
        start_s = time.monotonic()
        for number in range(round(FLOOD_FACTOR * capacity * FLOOD_S)):
            due_s = start_s + number / (FLOOD_FACTOR * capacity)
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            tasks.append(asyncio.create_task(answers_of(rig.service, [_explain(draw, rig.world)])))
        sent_s = time.monotonic()
        await asyncio.gather(*tasks)
        recovered_s = time.monotonic() - sent_s
    statuses = sum((task.result() for task in tasks), start=Counter[str]())
    sent = f"capacity {capacity:.0f} requests/s; {len(tasks):,} sent: {in_words(statuses)}"
    words = f"{sent}; small images: {_with_longest(load)}"
    return Observed(words, recovered_s)


async def _held_connections(rig: Rig, attempt: Attempt) -> Observed:
    before_bytes = memory_bytes(rig.process_id)
    async with rig.load() as load:
        start_s = time.monotonic()
        statuses = await answers_of(rig.service, [attempt] * CONNECTIONS)
        recovered_s = time.monotonic() - start_s
    grown = (memory_bytes(rig.process_id) - before_bytes) / MEBIBYTE
    words = f"{in_words(statuses)}, memory {grown:+.0f} MB; {_with_longest(load)}"
    return Observed(words, recovered_s if "none" not in statuses else None)


def _explain(draw: random.Random, world: World) -> Attempt:
    picture, target = world.picture(draw), world.target(draw)
    asked = query("/explain", model=target.model, patch=8, stride=4)
    return Attempt(
        "explain", request("POST", asked, picture.content, [("Content-Type", "image/png")]), due(200, 503, 504)
    )


def _with_longest(load: Load) -> str:
    return f"{load.failed_words()}, slowest {load.longest_s * 1000:.0f} ms"
