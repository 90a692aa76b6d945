"""Faults of published files: broken versions, FIFOs, a missing models folder."""

import asyncio
import os
import shutil
import time
from typing import Any, Final

import httpx2 as httpx

from scripts.faults.rig import Observed, Rig, eventually
from tests.version_copies import publish_copy

MODEL: Final = "sequential"
QUICK_POLL: Final = {"POLL_INTERVAL_S": "0.2"}
POLL_S: Final = 0.2


async def broken_version(rig: Rig) -> Observed:
    """Publish a version with a flipped bit, then a valid one."""
    async with rig.load() as load:
        publish_copy(rig.models, 90, source=_serving(rig), broken=True)
        await eventually(lambda: _version(rig, 90).get("state") == "failed")
        reason = str(_version(rig, 90).get("reason"))
        published_s = time.monotonic()
        publish_copy(rig.models, 91, source=_serving(rig))
        await eventually(lambda: _version(rig, 91).get("state") == "ready")
        recovered_s = time.monotonic() - published_s
    return Observed(f"it failed ({reason[:60]}…) and never served; {load.failed_words()}", recovered_s)


async def fifo_in_version(rig: Rig) -> Observed:
    """Publish a version whose `metadata.json` is a FIFO, and a FIFO as `serving.json`; then a valid version."""
    async with rig.load() as load:
        hanging = rig.models / MODEL / "90"
        hanging.mkdir()
        os.mkfifo(hanging / "metadata.json")
        os.mkfifo(rig.models / MODEL / "serving.json")
        await asyncio.sleep(10 * POLL_S)
        published_s = time.monotonic()
        (rig.models / MODEL / "serving.json").unlink()
        publish_copy(rig.models, 91, source=_serving(rig))
        found_s = await eventually(lambda: _version(rig, 91).get("state") == "ready", timeout_s=20)
        recovered_s = time.monotonic() - published_s
    stopped_s = time.monotonic()
    rig.attacked.process.terminate()
    try:
        code: object = await asyncio.to_thread(rig.attacked.process.wait, 40)
    except TimeoutError:
        code = "none"
    words = f"{load.failed_words()}; SIGTERM afterwards: exit code {code} after {time.monotonic() - stopped_s:.1f} s"
    return Observed(words, None if found_s is None else recovered_s)


async def models_removed(rig: Rig) -> Observed:
    """Rename the models folder for two seconds."""
    async with rig.load() as load:
        away = rig.models.rename(rig.models.with_name("away"))
        await asyncio.sleep(10 * POLL_S)
        back_s = time.monotonic()
        away.rename(rig.models)
        await eventually(lambda: httpx.get(f"{_url(rig)}/readyz").is_success)
        recovered_s = max(time.monotonic() - back_s, load.recovered_s(back_s))
        await asyncio.sleep(5 * POLL_S)
    return Observed(load.failed_words(), recovered_s)


async def version_removed(rig: Rig) -> Observed:
    """Delete the only version of one of three models, then publish it again."""
    folder = rig.models / MODEL / str(_serving(rig))
    kept = rig.folder / "kept"
    shutil.copytree(folder, kept)
    others = [target for target in rig.world.targets if target.model != MODEL]
    rig.world.targets = others
    async with rig.load() as load:
        shutil.rmtree(folder)
        await asyncio.sleep(10 * POLL_S)
        gone = _state(rig)
        back_s = time.monotonic()
        shutil.copytree(kept, folder.with_name(".staging-x"))
        folder.with_name(".staging-x").rename(folder)
        await eventually(lambda: _state(rig) == "ready")
        recovered_s = time.monotonic() - back_s
    return Observed(f"the model was {gone or 'not listed'} meanwhile; other models: {load.failed_words()}", recovered_s)


def _url(rig: Rig) -> str:
    return f"http://{rig.attacked.host}:{rig.attacked.port}"


def _model(rig: Rig) -> dict[str, Any]:
    response = httpx.get(f"{_url(rig)}/models/{MODEL}", timeout=10)
    return dict(response.json()) if response.is_success else {}


def _state(rig: Rig) -> str:
    return str(_model(rig).get("state", ""))


def _serving(rig: Rig) -> int:
    return next(target.version for target in rig.world.targets if target.model == MODEL)


def _version(rig: Rig, number: int) -> dict[str, Any]:
    return next((entry for entry in _model(rig).get("versions", []) if entry["version"] == number), {})
