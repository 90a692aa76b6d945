"""The command line of the attack: see `scripts.attack`."""

import argparse
import asyncio
import contextlib
import http.client
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.attack.campaign import Campaign, Tally
from scripts.attack.grpc_calls import Channels
from scripts.attack.kinds import GRPC_KINDS, KINDS, Kind, planned
from scripts.attack.process import (
    Attacked,
    MemoryWatch,
    descriptors,
    folder_or_temporary,
    liveness_watch,
    loopback_address,
    memory_bytes,
    small_models,
    started_service,
    status_of,
)
from scripts.attack.wire import Service
from scripts.attack.world import World, draw_world

MEBIBYTE: Final = 2**20
QUIET_TIMEOUT_S: Final = 60.0
MAX_SHOWN: Final = 3
OK: Final = 200


@dataclass(slots=True)
class Aftermath:
    """The service's state when the attack is over; figures of a process that wasn't started here are None."""

    is_answering: bool
    start_bytes: int | None = None
    peak_bytes: int | None = None
    end_bytes: int | None = None
    start_descriptors: int | None = None
    end_descriptors: int | None = None
    tracebacks: int | None = None
    exit_code: int | None = None
    livez_s: tuple[float, ...] = ()

    @property
    def is_right(self) -> bool:
        """It answers, logged no traceback, and stopped as it should."""
        return self.is_answering and not self.tracebacks and not self.exit_code


def main() -> int:
    """Run the attack; return 1 if a goal is missed."""
    arguments = _arguments()
    kinds = [kind for kind in KINDS if not arguments.kinds or kind.name in arguments.kinds]
    with folder_or_temporary(arguments.work) as folder:
        campaign, aftermath = _attack(arguments, kinds, folder)
    _report(campaign, aftermath)
    is_right = all(tally.is_right for tally in campaign.tallies.values()) and aftermath.is_right
    return 0 if is_right and not campaign.left_out else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.attack", description="Attack a service on a loopback address."
    )
    parser.add_argument("--requests", type=int, default=50_000, help="approximate number of attempts")
    parser.add_argument("--seed", type=int, default=1, help="seed of all random choices")
    parser.add_argument("--clients", type=int, default=64, help="number of concurrent clients")
    parser.add_argument("--kinds", nargs="+", choices=[kind.name for kind in KINDS], help="only these kinds")
    parser.add_argument(
        "--url", type=loopback_address, help="attack this service on a loopback address instead of starting one"
    )
    parser.add_argument("--grpc-port", type=int, default=0, help="the gRPC port of the service at --url; 0: none")
    parser.add_argument(
        "--models", type=Path, help="models folder of the started service; default: the newest small CNNs"
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of the started service")
    parser.add_argument("--overloaded", action="store_true", help="expect 503 everywhere, for small limits")
    parser.add_argument("--time-limit-s", type=float, default=900.0, help="time limit for sending, in seconds")
    parser.add_argument(
        "--save", type=Path, default=Path("attack-failures"), help="folder where unexpected attempts are saved"
    )
    parser.add_argument("--work", type=Path, help="folder for the service's log and models; it is kept")
    return parser.parse_args()


def _attack(arguments: argparse.Namespace, kinds: list[Kind], folder: Path) -> tuple[Campaign, Aftermath]:
    with contextlib.ExitStack() as stack:
        if arguments.url:
            attacked = None
            (host, port), grpc_port = arguments.url, arguments.grpc_port
        else:
            models = arguments.models or small_models(folder / "models")
            attacked = stack.enter_context(started_service(models, folder, **_settings(arguments.set)))
            host, port, grpc_port = attacked.host, attacked.port, attacked.grpc_port
        campaign, aftermath = asyncio.run(_attack_at(arguments, kinds, (host, port, grpc_port), attacked))
    if attacked is not None:
        aftermath.exit_code = attacked.exit_code
        aftermath.tracebacks = attacked.log.read_text(errors="replace").count("Traceback")
    return campaign, aftermath


def _settings(given: list[str]) -> dict[str, str]:
    """Variables without their prefix, such as WORKERS=2."""
    return {name: value for name, _, value in (text.partition("=") for text in given)}


async def _attack_at(
    arguments: argparse.Namespace, kinds: list[Kind], address: tuple[str, int, int], attacked: Attacked | None
) -> tuple[Campaign, Aftermath]:
    host, port, grpc_port = address
    service, world = Service(host, port), draw_world(arguments.seed)
    await world.learn(service)
    process_id = attacked.process.pid if attacked else None
    aftermath = Aftermath(is_answering=False)
    if process_id is not None:
        aftermath.start_bytes, aftermath.start_descriptors = memory_bytes(process_id), descriptors(process_id)
    if not grpc_port:
        kinds = [kind for kind in kinds if kind.name not in GRPC_KINDS]
    async with contextlib.AsyncExitStack() as stack:
        channels = await stack.enter_async_context(Channels(f"{host}:{grpc_port}")) if grpc_port else None
        campaign = Campaign(
            service,
            Service(host, grpc_port),
            channels,
            world,
            arguments.seed,
            arguments.clients,
            arguments.time_limit_s,
            arguments.save,
            arguments.overloaded,
        )
        with MemoryWatch(process_id) as memory, liveness_watch(host, port) as latencies_s:
            await campaign.run(planned(kinds, arguments.requests, arguments.seed))
    service.close()
    aftermath.livez_s = tuple(latencies_s)
    with contextlib.suppress(RuntimeError, OSError, http.client.HTTPException):
        aftermath.is_answering = await asyncio.to_thread(_comes_to_rest, host, port) and await _answers(service, world)
    service.close()
    if process_id is not None:
        aftermath.peak_bytes, aftermath.end_bytes = memory.peak_bytes, memory_bytes(process_id)
        aftermath.end_descriptors = descriptors(process_id)
    return campaign, aftermath


def _comes_to_rest(host: str, port: int) -> bool:
    """Wait until the service is ready and has no request left."""
    end_s = time.monotonic() + QUIET_TIMEOUT_S
    while time.monotonic() < end_s:
        if status_of(host, port, "/readyz") == OK:
            connection = http.client.HTTPConnection(host, port, timeout=10)
            with contextlib.closing(connection):
                connection.request("GET", "/stats")
                statistics = json.loads(connection.getresponse().read())
            if statistics["pending_requests"] == statistics["queue_rows"] == 0:
                return True
        time.sleep(0.5)
    return False


async def _answers(service: Service, world: World) -> bool:
    """Ask for every answer again, and compare."""
    before = world.learnt()
    await world.learn(service)
    return world.agrees_with(before)


def _report(campaign: Campaign, aftermath: Aftermath) -> None:
    print(f"{'kind':<18} {'requests':>8} {'5xx':>5} {'other':>5} {'wrong':>5} {'lost':>5}  statuses")
    total = Tally()
    for name, tally in sorted(campaign.tallies.items()):
        _print_row(name, tally)
        total.requests += tally.requests
        total.statuses += tally.statuses
        total.server_errors += tally.server_errors
        total.unexpected += tally.unexpected
        total.wrong += tally.wrong
        total.lost += tally.lost
    _print_row("all", total)
    rate = total.requests / campaign.duration_s
    print(f"\nseed {campaign.seed}, {campaign.clients} clients, {campaign.duration_s:.0f} s, {rate:.0f} requests/s")
    if campaign.left_out:
        print(f"not sent because of the time limit: {campaign.left_out}")
    for line in _aftermath_lines(aftermath):
        print(line)
    for name, tally in sorted(campaign.tallies.items()):
        for title, texts in (("unexpected", tally.unexpected), ("wrong", tally.wrong), ("lost", tally.lost)):
            for text in texts[:MAX_SHOWN]:
                print(f"{title}: {name}: {text[:400]}", file=sys.stderr)


def _print_row(name: str, tally: Tally) -> None:
    statuses = ", ".join(f"{status}: {count:,}" for status, count in sorted(tally.statuses.items()))
    others = len(tally.unexpected) - tally.server_errors
    print(
        f"{name:<18} {tally.requests:>8,} {tally.server_errors:>5} {others:>5} {len(tally.wrong):>5} "
        f"{len(tally.lost):>5}  {statuses}"
    )


def _aftermath_lines(aftermath: Aftermath) -> Iterator[str]:
    if aftermath.livez_s:
        ordered = sorted(aftermath.livez_s)
        yield (
            f"/livez: {len(ordered):,} times, median {ordered[len(ordered) // 2] * 1000:.1f} ms, "
            f"99 % {ordered[len(ordered) * 99 // 100] * 1000:.0f} ms, longest {ordered[-1] * 1000:.0f} ms"
        )
    if aftermath.start_bytes is not None and aftermath.peak_bytes is not None and aftermath.end_bytes is not None:
        start, peak, end = (
            size / MEBIBYTE for size in (aftermath.start_bytes, aftermath.peak_bytes, aftermath.end_bytes)
        )
        yield f"memory: {start:.0f} MB at the start, peak {peak:.0f} (+{peak - start:.0f}), {end:.0f} afterwards"
    if aftermath.start_descriptors is not None:
        yield f"open descriptors: {aftermath.start_descriptors} at the start, {aftermath.end_descriptors} afterwards"
    if aftermath.exit_code is not None:
        yield f"tracebacks in the log: {aftermath.tracebacks}; exit code after SIGTERM: {aftermath.exit_code}"
    yield f"ready, without requests left, and answering as before: {aftermath.is_answering}"


if __name__ == "__main__":
    sys.exit(main())
