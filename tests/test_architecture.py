"""The dependency arrows: who may import whom, and that frameworks are imported by one module each."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("bench", "catalog", "client", "runtime", "service", "training")
MAY_IMPORT = {
    "bench": {"bench", "catalog"},
    "catalog": {"catalog"},
    "client": {"client", "catalog"},
    "runtime": {"runtime", "catalog"},
    "service": {"service", "runtime", "catalog"},
    "training": {"training", "runtime", "catalog"},
}
CORE_MAY_NOT_IMPORT = {"fastapi", "starlette", "uvicorn", "tensorflow", "openvino"}
STANDARD_AND_PYDANTIC = {*sys.stdlib_module_names, "pydantic", "catalog"}


def imported(file: Path) -> set[str]:
    """Every module that a file names in an import, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.add(str(node.module))
    return found


def top_level(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_point_the_right_way(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        ours = top_level(imported(file)) & {*PACKAGES, "tests", "scripts"}
        assert ours <= MAY_IMPORT[package], f"{file.relative_to(ROOT)} imports {ours - MAY_IMPORT[package]}"


def test_catalog_is_pure() -> None:
    for file in (ROOT / "catalog").rglob("*.py"):
        assert top_level(imported(file)) <= STANDARD_AND_PYDANTIC, file.name


def test_core_knows_no_http_and_no_framework() -> None:
    for file in (ROOT / "service/core").rglob("*.py"):
        modules = imported(file)
        assert not top_level(modules) & CORE_MAY_NOT_IMPORT, file.name
        assert not {module for module in modules if module.startswith("service.api")}, file.name


@pytest.mark.parametrize("framework", ["tensorflow", "openvino"])
def test_one_module_outside_training_imports_each_framework(framework: str) -> None:
    files = [file for package in ("catalog", "runtime", "service") for file in (ROOT / package).rglob("*.py")]
    importing = [file.relative_to(ROOT).as_posix() for file in files if framework in top_level(imported(file))]
    assert importing == [f"runtime/{framework}.py"]


def test_importing_the_app_imports_no_framework() -> None:
    program = "import sys, service.app; print({'tensorflow', 'openvino', 'keras', 'training'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
