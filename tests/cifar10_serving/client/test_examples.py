"""The examples in docs/examples and docs/client.md work, against the real server."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cifar10_serving import client
from tests.conftest import ROOT
from tests.e2e.server import Server, clean_environment

EXAMPLES = ROOT / "docs/examples"
DOCUMENT = (ROOT / "docs/client.md").read_text(encoding="utf-8")


def output_of(server: Server, *command: str | Path, **more: str) -> str:
    environment = clean_environment() | {"CIFAR10_URL": server.url, "PYTHONPATH": str(ROOT)} | more
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl(server: Server) -> None:
    decoder, text, answers = json.JSONDecoder(), output_of(server, EXAMPLES / "curl.sh"), []
    while text:
        answer, end = decoder.raw_decode(text)
        answers.append(answer)
        text = text[end:].lstrip()
    one, raw, batch, comparison, explanation, problem = answers
    assert one["label"] == "cat"
    assert raw["label"] == "ship"
    assert [result["prediction"]["label"] for result in batch["results"]] == ["cat", "dog"]
    assert comparison["agreement"]["label"] == "cat"
    assert len(explanation["importance"]) == 32
    assert problem["status"] == 404


def test_python_client(server: Server) -> None:
    first, *each, error = output_of(server, sys.executable, EXAMPLES / "python_client.py").splitlines()
    assert first.startswith("cat, ")
    assert len(each) == 10
    assert each[-1] == "tests/images/truck_0011.png truck"
    assert "are not a supported image" in error


def test_python_async_client(server: Server) -> None:
    lines = output_of(server, sys.executable, EXAMPLES / "python_async_client.py").splitlines()
    assert {line.split()[1] for line in lines} == {"dog,"}
    assert len(lines) >= 3


def test_triton_client(server: Server) -> None:
    cat, ship, error = output_of(server, sys.executable, EXAMPLES / "triton_client.py").splitlines()
    assert cat.startswith("tests/images/cat_0008.png cat, ")
    assert ship.startswith("tests/images/ship_0001.png ship, ")
    assert "there is no model 'unknown'" in error


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node 18 or later")
def test_fetch(server: Server) -> None:
    first, error = output_of(server, "node", EXAMPLES / "fetch.mjs").splitlines()
    assert first.startswith("cat, ")
    assert error.startswith("There is no such model, version or plot: there is no model 'unknown'")


def test_each_example_is_executed_by_a_test() -> None:
    tests = [file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py")]
    names = [file.name for file in EXAMPLES.rglob("*.*") if file.is_file() and "__pycache__" not in file.parts]
    assert len(names) >= 6
    assert [name for name in names if not any(f'"{name}"' in test for test in tests)] == []


def test_python_in_the_document_runs(server: Server) -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(blocks) >= 4
    program = "\n".join(blocks).replace(client.DEFAULT_URL, server.url)
    assert "cat" in output_of(server, sys.executable, "-c", program)
