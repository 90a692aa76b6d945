"""The wheel: one top-level name, complete, and not disturbed by the user's own modules."""

import re
import subprocess
import sys
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from trove_classifiers import classifiers

import cifar10_serving
from tests.conftest import ROOT

OWN_MODULES = ("client.py", "catalog.py", "runtime.py", "schemas.py", "service/__init__.py", "training/__init__.py")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder)]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True, timeout=120)
    return folder


def test_wheel_has_one_top_level_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    metadata = f"cifar10_serving-{cifar10_serving.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"cifar10_serving", metadata}


def test_wheel_says_what_it_is_for(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        (name,) = (name for name in packed.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = BytesParser().parsebytes(packed.read(name))
    known = metadata.get_all("Classifier", [])
    assert set(known) <= classifiers
    allowed = SpecifierSet(metadata["Requires-Python"])
    minors = {f"3.{minor}" for minor in range(8, 30) if f"3.{minor}" in allowed}
    assert minors == {kind.rpartition(" ")[2] for kind in known if re.fullmatch(r".*:: 3\.\d+", kind)}
    assert metadata["Keywords"]
    addresses = [entry.partition(", ")[2] for entry in metadata.get_all("Project-URL", [])]
    assert addresses
    assert all(address.startswith("https://") for address in addresses)


def test_wheel_is_whole(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("cifar10_serving/")}
    tracked = subprocess.check_output(["git", "ls-files", "cifar10_serving"], cwd=ROOT, text=True).split()
    assert packed == set(tracked)


@pytest.mark.parametrize("command", [[], ["-m", "cifar10_serving", "--help"], ["bin/cifar10", "--help"]])
def test_modules_of_the_user_disturb_nothing(installed: Path, tmp_path: Path, command: list[str]) -> None:
    for name in OWN_MODULES:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("raise RuntimeError('this one is the user\\'s own')\n")
    script = tmp_path / "own_script.py"
    script.write_text("from cifar10_serving.client import Client\nprint('usage', Client)\n")
    if command and command[0].startswith("bin/"):
        command = [str(installed / command[0]), *command[1:]]
    shown = subprocess.run(
        [sys.executable, *(command or [str(script)])],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "usage" in shown.stdout
