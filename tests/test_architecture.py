"""The dependency rules: which package may import which, and that each framework is imported by one module."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = "cifar10_serving"
OURS = (PACKAGE, "bench", "cluster", "scripts", "service", "tests", "training")
APPLICATIONS = {
    "bench": {"bench", PACKAGE},
    "cluster": {"cluster", "service", PACKAGE},
    "service": {"service", PACKAGE},
    "training": {"training", PACKAGE},
}
SHARED = {PACKAGE, f"{PACKAGE}.errors", f"{PACKAGE}.image_names", f"{PACKAGE}.text"}
PARTS = {
    "artifacts": {"artifacts"},
    "schemas": {"schemas", "artifacts"},
    "runtimes": {"runtimes", "artifacts"},
    "stores": {"stores", "artifacts"},
    "client": {"client", "schemas", "artifacts"},
}
ROOMS = {
    "images": {"images"},
    "inference": {"inference", "images", "registry", "telemetry"},
    "registry": {"registry", "inference"},
}
"""The rooms of the service that know no HTTP; each may also use `service.errors` and `service.settings`."""
WEB_AND_FRAMEWORKS = {"fastapi", "starlette", "uvicorn", "tensorflow", "openvino"}
STANDARD_AND_PYDANTIC = {*sys.stdlib_module_names, "pydantic", PACKAGE}


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


def files_of(*parts: str) -> list[Path]:
    """A package's files, or the one file of a module."""
    path = ROOT.joinpath(*parts)
    files = list(path.rglob("*.py")) or [path.with_suffix(".py")]
    assert all(file.is_file() for file in files)
    return files


@pytest.mark.parametrize("package", APPLICATIONS)
def test_applications_import_the_package_and_not_each_other(package: str) -> None:
    for file in files_of(package):
        ours = top_level(imported(file)) & set(OURS)
        assert ours <= APPLICATIONS[package], f"{file.relative_to(ROOT)} imports {ours - APPLICATIONS[package]}"


@pytest.mark.parametrize("part", PARTS)
def test_arrows_inside_the_package(part: str) -> None:
    allowed = {f"{PACKAGE}.{name}" for name in PARTS[part]}
    for file in files_of(PACKAGE, part):
        modules = imported(file)
        assert not top_level(modules) & (set(OURS) - {PACKAGE}), file.relative_to(ROOT)
        for module in modules:
            if module.partition(".")[0] == PACKAGE and module not in SHARED:
                assert ".".join(module.split(".")[:2]) in allowed, f"{file.relative_to(ROOT)} imports {module}"


@pytest.mark.parametrize("room", ROOMS)
def test_data_plane_knows_no_http_and_no_framework(room: str) -> None:
    allowed = {f"service.{name}" for name in (*ROOMS[room], "errors", "settings")}
    for file in files_of("service", room):
        modules = imported(file)
        assert not top_level(modules) & WEB_AND_FRAMEWORKS, file.relative_to(ROOT)
        rooms = {".".join(module.split(".")[:2]) for module in modules if module.startswith("service.")}
        assert rooms <= allowed, f"{file.relative_to(ROOT)} imports {rooms - allowed}"


@pytest.mark.parametrize("part", ["artifacts", "schemas"])
def test_published_versions_and_schemas_need_pydantic_alone(part: str) -> None:
    for file in files_of(PACKAGE, part):
        assert top_level(imported(file)) <= STANDARD_AND_PYDANTIC, file.relative_to(ROOT)


@pytest.mark.parametrize("framework", ["tensorflow", "openvino"])
def test_one_module_outside_training_imports_each_framework(framework: str) -> None:
    files = [*files_of(PACKAGE), *files_of("service")]
    importing = [file.relative_to(ROOT).as_posix() for file in files if framework in top_level(imported(file))]
    assert importing == [f"{PACKAGE}/runtimes/{framework}.py"]


def test_only_the_cluster_imports_ray() -> None:
    others = [file for package in OURS if package not in ("cluster", "tests") for file in files_of(package)]
    assert [file.relative_to(ROOT) for file in others if "ray" in top_level(imported(file))] == []


def test_importing_the_app_imports_no_framework() -> None:
    slow = {"tensorflow", "openvino", "keras", "training", "fsspec", "s3fs", "tarfile"}
    program = f"import sys, service.app; print({slow} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
