"""`python -m cluster status` against servers that answer `/instance`."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cifar10_serving.artifacts.rollout import Rollout
from cifar10_serving.schemas import InstanceModel, InstanceStatus, StoreStatus
from cluster.__main__ import main
from cluster.status import Answer, Expected, StatusError, addresses, differences, follow, table
from tests.version_copies import publish_copy, write_rollout
from tests.waiting import ManualClock

NOTHING = Expected({}, {})
ONE = InstanceModel(ready=[1], loading=[], failed=[], rollout="default")
BOTH = InstanceModel(ready=[1, 2], loading=[], failed=[], rollout="default")


def instance(name: str, model: InstanceModel, *, ready: bool = True, store: StoreStatus | None = None) -> Answer:
    status = InstanceStatus(
        instance=name, release="0", ready=ready, workers=1, models={"sequential": model}, store=store
    )
    return Answer(f"{name}:8000", status)


@contextmanager
def serving(answer: Callable[[str], tuple[int, bytes]]) -> Iterator[str]:
    """A server that answers paths."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            status, content = answer(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def document(name: str, model: InstanceModel) -> bytes:
    status = instance(name, model).status
    assert status is not None
    return status.model_dump_json().encode()


def test_same_versions_and_rollouts_are_no_problem() -> None:
    answers = [instance("a", ONE), instance("b", ONE)]
    assert differences(answers, NOTHING) == []
    text = table(answers, [])
    assert text.splitlines()[-1] == "all 2 instances have it"
    assert [line.split()[:4] for line in text.splitlines()[1:3]] == [
        [name, f"{name}:8000", "sequential", "1"] for name in "ab"
    ]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (instance("b", BOTH), "sequential differs: version 1, 2, rollout default; version 1, rollout default"),
        (instance("b", ONE, ready=False), "b (b:8000) is not ready"),
        (instance("b", ONE.model_copy(update={"loading": [2]})), "b (b:8000): sequential version 2 is being loaded"),
        (
            instance("b", ONE.model_copy(update={"next_rollout": "0123456789ab"})),
            "b (b:8000): sequential has not put rollout 0123456789ab in force yet",
        ),
        (instance("b", ONE.model_copy(update={"problem": "bad file"})), "b (b:8000): sequential bad file"),
        (
            instance("b", ONE, store=StoreStatus(address="s3://x/y", problem="it is gone", answered_ago_s=9)),
            "b (b:8000) can't follow the store: it is gone",
        ),
        (Answer("b:8000", None, "does not answer: refused"), "b:8000 does not answer: refused"),
    ],
)
def test_what_differs_is_named(answer: Answer, problem: str) -> None:
    assert differences([instance("a", ONE), answer], NOTHING) == [problem]


def test_expected_versions_and_rollouts() -> None:
    answers = [instance("a", ONE)]
    assert differences(answers, Expected({"sequential": [1]}, {"sequential": "default"})) == []
    assert differences(answers, Expected({"sequential": [1, 2]}, {"sequential": "0123456789ab"})) == [
        "a (a:8000): sequential version 2 does not answer",
        "a (a:8000): sequential has rollout default, not 0123456789ab",
    ]
    assert differences(answers, Expected({"vgg16": [1]}, {})) == ["a (a:8000): vgg16 version 1 does not answer"]


@pytest.mark.parametrize(("limit_s", "code", "looks"), [(30.0, 0, 4), (2.0, 1, 3), (0.0, 1, 1)])
def test_it_waits_until_all_have_it_or_the_time_is_over(limit_s: float, code: int, looks: int) -> None:
    clock, asked = ManualClock(), 0

    def ask() -> list[Answer]:
        nonlocal asked
        asked += 1
        return [instance("a", BOTH if asked > 3 else ONE), instance("b", BOTH)]

    def sleep(duration_s: float) -> None:
        clock.now_s += duration_s

    shown: list[int] = []
    found = follow(
        ask, NOTHING, limit_s, show=lambda _, problems: shown.append(len(problems)), clock=clock, sleep=sleep
    )
    assert (found, asked, shown) == (code, looks, [code])


def test_name_with_several_addresses_is_asked_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        places = {"pods.default.svc": ["10.0.0.1", "10.0.0.2"], "pod-1": ["10.0.0.1"]}[host]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, port)) for place in places]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    found = addresses(["http://pods.default.svc:8000", "pod-1:8000", "https://pod-1/prefix"])
    assert list(map(str, found)) == ["10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.1:443"]


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://me:hush@host", "http://host:x", "http://host?hush"])
def test_other_addresses_are_errors(url: str) -> None:
    with pytest.raises(StatusError) as raised:
        addresses([url])
    assert "me:hush" not in str(raised.value)


def test_command_asks_servers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rollout = tmp_path / "serving.json"
    rollout.write_text('{"labels": {"stable": 1}}')
    model = ONE.model_copy(update={"rollout": Rollout(labels={"stable": 1}).generation})
    with (
        serving(lambda path: (200, document("a", model)) if path == "/instance" else (404, b"")) as first,
        serving(lambda path: (200, document("b", model)) if path == "/prefix/instance" else (404, b"")) as second,
    ):
        (tmp_path / "urls").write_text(f"# instances\n{second}/prefix\n")
        options = ["--url", first, "--urls", str(tmp_path / "urls")]
        assert main(["status", *options]) == 0
        expected = ["--expect", "sequential=1", "--expect-rollout", f"sequential={rollout}"]
        assert main(["status", *options, *expected, "--wait", "1"]) == 0
        assert "all 2 instances have it" in capsys.readouterr().out
        assert main(["status", *options, "--expect", "sequential=2", "--json"]) == 1
        document_ = json.loads(capsys.readouterr().out)
        assert not document_["same"]
        assert len(document_["instances"]) == 2
        assert main(["status", "--url", second]) == 1
        assert "answered 404" in capsys.readouterr().out


def test_models_folder_says_what_is_expected(capsys: pytest.CaptureFixture[str], one_model: Path) -> None:
    publish_copy(one_model, 2)
    write_rollout(one_model, labels={"stable": 1})
    model = BOTH.model_copy(update={"rollout": Rollout(labels={"stable": 1}).generation})
    models = [model, model.model_copy(update={"ready": [1]})]
    for served, code in zip(models, (0, 1), strict=True):
        content = document("a", served)
        with serving(lambda _, content=content: (200, content)) as url:  # type: ignore[misc]
            assert main(["status", "--url", url, "--models", str(one_model)]) == code
    assert "sequential version 2 does not answer" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"hello", b"{}", b""])
def test_other_programs_are_no_instances(capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    with serving(lambda _: (200, content)) as url:
        assert main(["status", "--url", url]) == 1
    assert "answered something else" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [["--expect", "x"], ["--expect-rollout", "x=/nothing"], ["--urls", "/nothing"], ["--url", "http://no.invalid"]],
)
def test_wrong_use(capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    assert main(["status", *options]) == 2
    assert capsys.readouterr().err.startswith("error: ")
