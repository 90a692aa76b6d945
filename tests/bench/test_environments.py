import sys
from pathlib import Path

import pytest

from bench.environments import Environment, install
from bench.errors import BenchError
from bench.servers import SERVERS


def test_an_environment_that_needs_another_python_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("bench.environments.WORK", tmp_path)
    requirements = tmp_path / "requirements.txt"
    requirements.touch()
    with pytest.raises(BenchError, match=r"python3\.99, which is not installed"):
        install(Environment("other", requirements, (), "python3.99"))
    assert not (tmp_path / "venvs").exists()


def test_a_shared_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("bench.environments.WORK", tmp_path)
    requirements = tmp_path / "requirements.txt"
    requirements.touch()
    with pytest.raises(BenchError, match=r"libnone\.so\.1, which is not installed"):
        install(Environment("other", requirements, (), sys.executable, "libnone.so.1"))


def test_an_installed_environment_is_kept_until_its_requirements_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("bench.environments.WORK", tmp_path)
    environment = Environment("other", tmp_path / "requirements.txt", (), "python3.99")
    environment.requirements.touch()
    environment.folder.mkdir(parents=True)
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    (environment.folder / "requirements.sha256").write_text(empty)
    install(environment)
    environment.requirements.write_text("a-package==1\n")
    with pytest.raises(BenchError, match="not installed"):
        install(environment)


def test_locked_requirements_have_hashes_and_no_address() -> None:
    for file in {server.environment.requirements for server in SERVERS.values()}:
        text = file.read_text()
        assert "--hash=sha256:" in text
        assert "://" not in text
