"""`python -m cluster status`: the versions and rollouts of every instance, and whether all have the same.

It asks each instance's `/instance`, so it needs neither Ray nor a store. A name that stands for several addresses, as
that of a headless Kubernetes Service does, is asked at each of them.
"""

import argparse
import http.client
import json
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from cifar10_serving.artifacts.documents import DocumentError, parse_document, printable
from cifar10_serving.artifacts.layout import METADATA_FILE, is_version_name, published_models, published_versions
from cifar10_serving.artifacts.rollout import (
    DEFAULT_GENERATION,
    MAX_ROLLOUT_BYTES,
    SERVING_FILE,
    Rollout,
    read_rollout,
)
from cifar10_serving.errors import ProjectError
from cifar10_serving.schemas import InstanceModel, InstanceStatus
from cifar10_serving.stores.address import is_address, parse_address

SAME: Final = 0
DIFFERENT: Final = 1
WRONG_USE: Final = 2
ANSWER_LIMIT_S: Final = 5.0
LOOK_EVERY_S: Final = 1.0
MAX_ANSWER_BYTES: Final = 2**24
MAX_INSTANCES: Final = 1_000
MAX_PARALLEL: Final = 32
DEFAULT_URL: Final = "http://127.0.0.1:8000"
PORTS: Final = {"http": 80, "https": 443}
EPILOG: Final = f"""exit codes:
  {SAME}  all instances have the same versions and rollouts, and what is expected
  {DIFFERENT}  they don't, or one does not answer; with --wait: not within the time limit
  {WRONG_USE}  the arguments are wrong, or no address was found"""

DEFAULT_POLICY: Final = "latest(1)"

if TYPE_CHECKING:
    from cifar10_serving.stores.objects import ObjectStore

Clock = Callable[[], float]


class StatusError(ProjectError):
    """Raised for arguments that can't be used."""


@dataclass(frozen=True, slots=True)
class Address:
    """One address of an instance.

    Args:
        url: the URL by which it was given, parsed.
        ip: the IP address to connect to.
    """

    url: SplitResult
    ip: str

    def __str__(self) -> str:
        host = f"[{self.ip}]" if ":" in self.ip else self.ip
        return f"{host}:{self.port}"

    @property
    def port(self) -> int:
        """The TCP port."""
        return self.url.port or PORTS[self.url.scheme]


@dataclass(frozen=True, slots=True)
class Answer:
    """The status of an instance, or the reason why there is none."""

    address: str
    status: InstanceStatus | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Expected:
    """The versions and rollouts that every instance should have.

    Args:
        versions: versions that answer, by model.
        rollouts: generations of the rollouts in force, by model.
    """

    versions: Mapping[str, Sequence[int]]
    rollouts: Mapping[str, str]


def main(arguments: Sequence[str]) -> int:
    """Print the table; return the exit code."""
    parsed = _parser().parse_args(list(arguments))
    try:
        expected = _expected(parsed.expect, parsed.expect_rollout)
        if parsed.models is not None:
            expected = expected_by(parsed.models, but=expected)
        urls = [*parsed.url, *(line for file in parsed.urls for line in _lines(file))]
        return follow(
            lambda: ask_all(addresses(urls or [DEFAULT_URL])),
            expected,
            parsed.wait or 0.0,
            show=lambda answers, problems: print(
                _document(answers, problems) if parsed.json else table(answers, problems), flush=True
            ),
        )
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt:
        return 130


def expected_by(models: str, *, but: Expected) -> Expected:
    """Return what a store or a models folder wants every instance to have: by its serving.json, or the newest version.

    Args:
        models: the address of an object store, or the path of a folder.
        but: what is expected of some models otherwise.

    Raises:
        ProjectError: it can't be read, or a serving.json is not valid.
    """
    from service.registry.routing import wanted_versions

    if is_address(models):
        from cifar10_serving.stores.objects import ObjectStore

        stored, rollouts = _in_store(ObjectStore(parse_address(models)))
    else:
        folder = Path(models)
        stored = {name: published_versions(folder, name) for name in published_models(folder)}
        rollouts = {name: read_rollout(folder, name) or Rollout() for name in stored}
    wanted = {
        name: sorted(wanted_versions(rollouts[name], DEFAULT_POLICY, usable=frozenset(versions), serving=frozenset()))
        for name, versions in stored.items()
    }
    generations = {name: rollout.generation for name, rollout in rollouts.items()}
    return Expected({**wanted, **but.versions}, {**generations, **but.rollouts})


def _in_store(store: "ObjectStore") -> tuple[dict[str, list[int]], dict[str, Rollout]]:
    stored: dict[str, list[int]] = {}
    files = store.listing()
    for path in files:
        name, _, rest = path.partition("/")
        version, _, file = rest.partition("/")
        if is_version_name(version) and file == METADATA_FILE:
            stored.setdefault(name, []).append(int(version))
    rollouts = {name: Rollout() for name in stored}
    for name in stored:
        if (file := f"{name}/{SERVING_FILE}") in files:
            try:
                rollouts[name] = parse_document(store.read(file, MAX_ROLLOUT_BYTES), Rollout, place_parts=1)
            except DocumentError as error:
                raise StatusError(f"{store.address}/{file}: {error}") from None
    return stored, rollouts


def follow(
    ask: Callable[[], Sequence[Answer]],
    expected: Expected,
    limit_s: float,
    *,
    show: Callable[[Sequence[Answer], Sequence[str]], None],
    clock: Clock = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Ask until all instances have what is expected, or the time is over; show the last answers.

    Args:
        ask: asks all instances.
        limit_s: time limit; 0 to ask once.
        show: prints the answers and the problems.
    """
    end_s = clock() + limit_s
    while True:
        answers = ask()
        problems = differences(answers, expected)
        if not problems or clock() >= end_s:
            show(answers, problems)
            return DIFFERENT if problems else SAME
        sleep(min(LOOK_EVERY_S, max(0.0, end_s - clock())))


def addresses(urls: Iterable[str]) -> list[Address]:
    """Return every address that the URLs stand for, once each.

    Raises:
        StatusError: a URL is not legal, or its host has no address.
    """
    found: dict[tuple[str, int, str], Address] = {}
    for url in urls:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            is_legal = parts.scheme in PORTS and bool(parts.hostname) and parts.username is None and not parts.query
            port = parts.port or PORTS.get(parts.scheme, 0)
        except ValueError:
            is_legal, port = False, 0
        if not is_legal:
            raise StatusError(
                f"the address '{printable(url.rpartition('@')[2])}'",
                expected="such as http://HOST:PORT, without credentials",
            )
        try:
            known = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise StatusError(f"{parts.hostname} has no address: {error.strerror}", remedy="check the name") from None
        for *_, place in known:
            found.setdefault((str(place[0]), port, parts.path), Address(parts, str(place[0])))
    if len(found) > MAX_INSTANCES:
        raise StatusError(f"{len(found):,} addresses", expected=f"at most {MAX_INSTANCES:,}")
    return list(found.values())


def ask_all(places: Sequence[Address]) -> list[Answer]:
    """Ask every instance, many at a time."""
    with ThreadPoolExecutor(min(MAX_PARALLEL, len(places))) as pool:
        return list(pool.map(ask_one, places))


def ask_one(place: Address) -> Answer:
    """Ask one instance; a failure is an answer, too."""
    try:
        connection = _connection(place)
        try:
            host = place.url.netloc
            connection.request("GET", f"{place.url.path.rstrip('/')}/instance", headers={"Host": host})
            response = connection.getresponse()
            content = response.read(MAX_ANSWER_BYTES)
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            return Answer(str(place), None, f"answered {response.status}: an older release, or another program")
        return Answer(str(place), parse_document(content, InstanceStatus))
    except (OSError, http.client.HTTPException) as error:
        return Answer(str(place), None, f"does not answer: {printable(str(error) or type(error).__name__)}")
    except DocumentError as error:
        return Answer(str(place), None, f"answered something else: {printable(str(error))}")


def differences(answers: Sequence[Answer], expected: Expected) -> list[str]:
    """Return why not all instances have the same and what is expected, one line for each reason."""
    problems = [f"{answer.address} {answer.problem}" for answer in answers if answer.status is None]
    instances = [(answer.address, answer.status) for answer in answers if answer.status is not None]
    for address, status in instances:
        who = f"{status.instance} ({address})"
        if not status.ready:
            problems.append(f"{who} is not ready")
        if status.store is not None and status.store.problem is not None:
            problems.append(f"{who} can't follow the store: {printable(status.store.problem, 300)}")
        for name, model in status.models.items():
            problems += [f"{who}: {name} {what}" for what in _unsettled(model)]
        for name in sorted({*expected.versions, *expected.rollouts}):
            found = status.models.get(name, InstanceModel(ready=[], loading=[], failed=[], rollout=None))
            missing = [str(version) for version in expected.versions.get(name, ()) if version not in found.ready]
            if missing:
                problems.append(f"{who}: {name} version {', '.join(missing)} does not answer")
            if name in expected.rollouts and found.rollout != expected.rollouts[name]:
                problems.append(f"{who}: {name} has rollout {found.rollout}, not {expected.rollouts[name]}")
    for name in sorted({name for _, status in instances for name in status.models}):
        kinds = {_state(status.models.get(name)) for _, status in instances}
        if len(kinds) > 1:
            problems.append(f"{name} differs: {'; '.join(sorted(kinds))}")
    return problems


def table(answers: Sequence[Answer], problems: Sequence[str]) -> str:
    """Return the answers as a table: a line for each instance and model."""
    rows = [("INSTANCE", "ADDRESS", "MODEL", "READY", "LOADING", "FAILED", "ROLLOUT")]
    for answer in answers:
        if answer.status is None:
            rows.append(("?", answer.address, "?", "", "", "", ""))
        for name, model in answer.status.models.items() if answer.status is not None else ():
            instance = answer.status.instance if answer.status is not None else ""
            rollout = model.rollout or "differs"
            if model.next_rollout is not None:
                rollout = f"{rollout} -> {model.next_rollout}"
            versions = (_listed(model.ready), _listed(model.loading), _listed(model.failed))
            rows.append((instance, answer.address, name, *versions, rollout))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if problems:
        return "\n".join([*lines, "", *problems])
    count = len(answers)
    return "\n".join([*lines, "", "the instance has it" if count == 1 else f"all {count} instances have it"])


def _unsettled(model: InstanceModel) -> list[str]:
    found = [f"version {_listed(model.loading)} is being loaded"] if model.loading else []
    if model.rollout is None:
        found.append("has workers with different rollouts, or none yet")
    if model.next_rollout is not None:
        found.append(f"has not put rollout {model.next_rollout} in force yet")
    if model.problem is not None:
        found.append(printable(model.problem, 300))
    return found


def _state(model: InstanceModel | None) -> str:
    if model is None:
        return "not there"
    return f"version {_listed(model.ready) or 'none'}, rollout {model.rollout}"


def _listed(versions: Sequence[int]) -> str:
    return ", ".join(map(str, versions))


def _document(answers: Sequence[Answer], problems: Sequence[str]) -> str:
    instances = [
        {
            "address": answer.address,
            "problem": answer.problem or None,
            "status": answer.status.model_dump(mode="json") if answer.status is not None else None,
        }
        for answer in answers
    ]
    return json.dumps({"same": not problems, "problems": list(problems), "instances": instances}, indent=1)


def _connection(place: Address) -> http.client.HTTPConnection:
    if place.url.scheme == "http":
        return http.client.HTTPConnection(place.ip, place.port, timeout=ANSWER_LIMIT_S)
    connection = http.client.HTTPSConnection(place.ip, place.port, timeout=ANSWER_LIMIT_S)
    # The certificate is of the name, not of the address.
    plain = socket.create_connection((place.ip, place.port), ANSWER_LIMIT_S)
    connection.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=place.url.hostname)
    return connection


def _expected(versions: Iterable[str], rollouts: Iterable[str]) -> Expected:
    """Return what the options expect.

    Raises:
        StatusError: an option is not legal.
    """
    wanted: dict[str, list[int]] = {}
    for option in versions:
        name, equals, version = option.partition("=")
        if not equals or not name or not version.isascii() or not version.isdigit():
            raise StatusError(f"--expect {printable(option)}", expected="MODEL=VERSION, such as vgg16=2")
        wanted.setdefault(name, []).append(int(version))
    generations: dict[str, str] = {}
    for option in rollouts:
        name, equals, what = option.partition("=")
        if not equals or not name or not what:
            raise StatusError(
                f"--expect-rollout {printable(option)}", expected="MODEL=FILE with a serving.json, or MODEL=GENERATION"
            )
        generations[name] = _generation(what)
    return Expected(wanted, generations)


def _generation(what: str) -> str:
    is_generation = what == DEFAULT_GENERATION or (len(what) == 12 and set(what) <= set("0123456789abcdef"))  # noqa: PLR2004
    if is_generation:
        return what
    try:
        return parse_document(Path(what).read_bytes(), Rollout, place_parts=1).generation
    except OSError as error:
        raise StatusError(f"{printable(what)} can't be read: {error.strerror}") from None
    except DocumentError as error:
        raise StatusError(f"{printable(what)}: {error}") from None


def _lines(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StatusError(f"{file} can't be read: {error}", expected="a file with an address on each line") from None
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cluster status",
        description="Shows the versions and rollouts of every instance, and whether all have the same.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--url",
        action="append",
        default=[],
        metavar="URL",
        help=f"an instance, or a name of several; may be repeated; default: {DEFAULT_URL}",
    )
    parser.add_argument(
        "--urls", action="append", default=[], type=Path, metavar="FILE", help="a file with a URL on each line"
    )
    parser.add_argument(
        "--wait", type=float, metavar="SECONDS", help="ask every second until all have it, at most this long"
    )
    parser.add_argument(
        "--expect",
        action="append",
        default=[],
        metavar="MODEL=VERSION",
        help="a version that every instance should answer with; may be repeated",
    )
    parser.add_argument(
        "--expect-rollout",
        action="append",
        default=[],
        metavar="MODEL=FILE",
        help="a serving.json that should be in force, or its generation from the table; may be repeated",
    )
    parser.add_argument(
        "--models",
        metavar="TARGET",
        help="the address of an object store, or the path of a models folder: every instance should have the versions "
        "and rollouts that it says",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser
