"""Provenance of the numbers: the training run of each version, and how this page was made."""

import importlib.metadata
from datetime import datetime
from typing import Final, Literal

from cifar10_serving import __version__
from cifar10_serving.artifacts.metadata import ImportRecord, TrainingRun
from training.provenance import hardware, package_versions
from training.report.markdown import Column, code, items, plain, table
from training.report.sections.section import Section
from training.report.versions import Published, PublishedVersion

TITLE: Final = "Where the numbers come from"
RENDERING_PACKAGES: Final = ("matplotlib", "markdown-it-py")

COLUMNS: Final[tuple[Column[PublishedVersion], ...]] = (
    Column("version", lambda version: code(version.key), numeric=False),
    Column("command", lambda version: code(_origin(version).command), numeric=False),
    Column("started", lambda version: f"{_started(version):%Y-%m-%d}", numeric=False),
    Column("commit", lambda version: code(_short(_origin(version).git_commit)), numeric=False),
    Column("images trained on", lambda version: _trained_on(version, "train")),
    Column("validated on", lambda version: _trained_on(version, "validation")),
)


def provenance(published: Published) -> Section:
    """List the training runs, and the command, machine and packages that made this page."""
    versions = package_versions() | {name: importlib.metadata.version(name) for name in RENDERING_PACKAGES}
    this_page = (
        f"`python -m training report` wrote this page and its plots (project version {__version__}, on "
        f"{plain(hardware())}; {plain(_listed(versions))}). The numbers come from `models/*/*/metadata.json` and "
        "`golden.npz`, which have more digits. Only the latencies were measured for this page. The tutorial's results "
        "are in `training/cifar10.py`."
    )
    runs = (
        "`python -m training evaluate models/NAME/VERSION --data FOLDER` evaluates a version again on the official "
        "CIFAR-10 and compares with its metadata. The training runs:"
    )
    return Section(
        TITLE,
        [
            this_page,
            runs,
            table(COLUMNS, published.versions),
            "Packages of those runs:",
            items(_by_packages(published.versions)),
        ],
    )


def _origin(version: PublishedVersion) -> TrainingRun | ImportRecord:
    """Return the training run, or the import, that the version comes from."""
    origin = version.metadata.training or version.metadata.imported
    if origin is None:
        raise AssertionError("checked when the metadata was read")
    return origin


def _started(version: PublishedVersion) -> datetime:
    origin = _origin(version)
    return origin.started_at if isinstance(origin, TrainingRun) else origin.imported_at


def _trained_on(version: PublishedVersion, split: Literal["train", "validation"]) -> str:
    return f"{getattr(version.metadata.measured_data, split):,}" if version.metadata.training else "imported"


def _short(commit: str) -> str:
    digest, dash, dirty = commit.partition("-")
    return f"{digest[:12]}{dash}{dirty}"


def _by_packages(versions: list[PublishedVersion]) -> list[str]:
    keys: dict[str, list[str]] = {}
    for version in versions:
        keys.setdefault(_listed(_origin(version).versions), []).append(code(version.key))
    return [f"{', '.join(of_these)}: {plain(packages)}" for packages, of_these in keys.items()]


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
