"""Faults of processes and system resources: signals, memory, descriptors, a full disk."""

import asyncio
import os
import resource
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

from scripts.attack.attempts import Attempt, due, request
from scripts.attack.bombs import file_of
from scripts.attack.heads import HOST
from scripts.attack.process import descriptors, virtual_bytes
from scripts.faults.rig import PAUSE_S, Observed, Rig, answers_of, eventually, in_words

TWO_WORKERS: Final = {"WORKERS": "2"}
SETTLE_S: Final = 2.0
SPARE_DESCRIPTORS: Final = 20
SPARE_BYTES: Final = 48 * 2**20
STOP_TIMEOUT_S: Final = 60.0
GREEDY_CLIENTS: Final = 200
RECOVERY_TIMEOUT_S: Final = 30.0
LARGE_JSON_BYTES: Final = 2**20


async def worker_killed(rig: Rig) -> Observed:
    """Kill one of two workers with SIGKILL."""
    before = set(rig.workers())
    async with rig.load() as load:
        killed_s = time.monotonic()
        os.kill(min(before), signal.SIGKILL)
        restarted_s = await eventually(lambda: len(set(rig.workers()) - {min(before)}) == len(before))
        await asyncio.sleep(SETTLE_S)
    words = f"{load.failed_words()}; new worker after {restarted_s:.1f} s" if restarted_s else "no new worker"
    return Observed(words, None if restarted_s is None else max(restarted_s, load.recovered_s(killed_s)))


async def worker_stopped(rig: Rig) -> Observed:
    """Stop one of two workers with SIGSTOP."""
    before = set(rig.workers())
    async with rig.load() as load:
        stopped_s = time.monotonic()
        os.kill(min(before), signal.SIGSTOP)
        replaced_s = await eventually(lambda: min(before) not in rig.workers() and len(rig.workers()) == len(before))
        await asyncio.sleep(SETTLE_S)
        if replaced_s is None:
            os.kill(min(before), signal.SIGCONT)
    if replaced_s is None:
        return Observed(f"not noticed; {load.failed_words()}", None)
    words = f"{load.failed_words()}, slowest {load.longest_s:.1f} s; killed and replaced after {replaced_s:.1f} s"
    return Observed(words, max(replaced_s, load.recovered_s(stopped_s)))


async def stop_under_load(rig: Rig) -> Observed:
    """Send SIGTERM under load."""
    async with rig.load() as load:
        stopped_s = time.monotonic()
        rig.attacked.process.terminate()
        code = await asyncio.to_thread(rig.attacked.process.wait, STOP_TIMEOUT_S)
        ended_s = time.monotonic() - stopped_s
    lost = [way for failed_s, way in load.failures if failed_s < stopped_s + ended_s and way != "no connection"]
    words = f"exit code {code} after {ended_s:.1f} s; {len(lost)} requests on open connections got no answer"
    return Observed(words, ended_s if code == 0 else None)


async def stop_in_restart_pause(rig: Rig) -> Observed:
    """Send SIGTERM right after killing one of two workers."""
    os.kill(min(rig.workers()), signal.SIGKILL)
    await asyncio.sleep(PAUSE_S)
    stopped_s = time.monotonic()
    rig.attacked.process.terminate()
    code = await asyncio.to_thread(rig.attacked.process.wait, STOP_TIMEOUT_S)
    ended_s = time.monotonic() - stopped_s
    return Observed(f"exit code {code} after {ended_s:.1f} s, no process left", ended_s)


async def memory_exhausted(rig: Rig) -> Observed:
    """Limit the address space so that decoding a large image runs out of memory."""
    limits = resource.prlimit(rig.process_id, resource.RLIMIT_AS)
    picture = file_of("PNG pixels with alpha")
    asked = Attempt("large", request("POST", "/predict", picture, [("Content-Type", "image/png")]), due(200, 503, 504))
    async with rig.load() as load:
        most = virtual_bytes(rig.process_id) + SPARE_BYTES
        resource.prlimit(rig.process_id, resource.RLIMIT_AS, (most, limits[1]))
        statuses = await answers_of(rig.service, [asked] * 4)
        resource.prlimit(rig.process_id, resource.RLIMIT_AS, limits)
        freed_s = time.monotonic()
        photo_s = await rig.photo_answers()
        await asyncio.sleep(SETTLE_S)
    words = f"{in_words(statuses)}; small images: {load.failed_words()}"
    return Observed(words, None if photo_s is None else max(load.recovered_s(freed_s), photo_s))


async def descriptors_exhausted(rig: Rig) -> Observed:
    """Limit the descriptors to 20 free ones, and connect 200 clients."""
    limits = resource.prlimit(rig.process_id, resource.RLIMIT_NOFILE)
    most = descriptors(rig.process_id) + SPARE_DESCRIPTORS
    async with rig.load(clients=4) as load:
        resource.prlimit(rig.process_id, resource.RLIMIT_NOFILE, (most, limits[1]))
        greedy = [await rig.service.connect() for _ in range(GREEDY_CLIENTS)]
        await asyncio.sleep(SETTLE_S)
        for connection in greedy:
            connection.close()
        freed_s = time.monotonic()
        answered = False
        while not answered and time.monotonic() - freed_s < RECOVERY_TIMEOUT_S:
            answered = await rig.is_live()
        recovered_s = time.monotonic() - freed_s
        await asyncio.sleep(SETTLE_S)
    return Observed(f"{load.failed_words()}, on open connections", recovered_s if answered else None)


async def reader_of_json_killed(rig: Rig) -> Observed:
    """Kill the process that parses large JSON while it works."""
    body = b'{"instances": [%b]}' % b",".join([b"[[[1,2,3]]]"] * (LARGE_JSON_BYTES // 8))
    head = b"POST /v1/models/%b:predict HTTP/1.1\r\n" % rig.world.default_model.encode()
    content = head + HOST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    asked = Attempt("json", content, due(400, 413, 503))
    async with rig.load() as load:
        others = set(rig.children())
        asking = asyncio.create_task(answers_of(rig.service, [asked] * 4))
        started_s = await eventually(lambda: set(rig.children()) - others, timeout_s=10)
        for member in set(rig.children()) - others:
            os.kill(member, signal.SIGKILL)
        killed_s = time.monotonic()
        statuses = await asking
        again = await answers_of(rig.service, [asked])
        recovered_s = time.monotonic() - killed_s
    if started_s is None:
        return Observed("there was no such process", None)
    words = f"its requests: {in_words(statuses)}; next request: {in_words(again)}; {load.failed_words()}"
    return Observed(words, recovered_s if set(again) == {"400"} else None)


async def disk_full(rig: Rig) -> Observed:
    """Start with a full disk for compiled models."""
    full = sum(1 for _ in (rig.folder / "full").rglob("*"))
    async with rig.load() as load:
        await asyncio.sleep(SETTLE_S)
    log = rig.attacked.log.read_text(errors="replace")
    said = "the log says so" if "are not cached" in log else "nothing in the log"
    return Observed(f"it starts and serves, {full} files cached, {said}; {load.failed_words()}", 0.0)


def mount_small(folder: Path) -> bool:
    """Mount a file system of 1 MB; return False if this user may not."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    return mounted.returncode == 0


def unmount(folder: Path) -> None:
    """Unmount the file system."""
    subprocess.run(["umount", str(folder)], check=False, capture_output=True)
