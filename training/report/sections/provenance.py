"""Provenance of the numbers: the training run of each version, and how this page was made."""

import importlib.metadata
from typing import Final

from cifar10_serving import __version__
from training.provenance import hardware, package_versions
from training.report.markdown import Column, code, items, plain, table
from training.report.sections.section import Section
from training.report.versions import Published, PublishedVersion

TITLE: Final = "Where the numbers come from"
RENDERING_PACKAGES: Final = ("matplotlib", "markdown-it-py")

COLUMNS: Final[tuple[Column[PublishedVersion], ...]] = (
    Column("version", lambda version: code(version.key), numeric=False),
    Column("command", lambda version: code(version.metadata.training_run.command), numeric=False),
    Column("started", lambda version: f"{version.metadata.training_run.started_at:%Y-%m-%d}", numeric=False),
    Column("commit", lambda version: code(_short(version.metadata.training_run.git_commit)), numeric=False),
    Column("images trained on", lambda version: f"{version.metadata.measured_data.train:,}"),
    Column("validated on", lambda version: f"{version.metadata.measured_data.validation:,}"),
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


def _short(commit: str) -> str:
    digest, dash, dirty = commit.partition("-")
    return f"{digest[:12]}{dash}{dirty}"


def _by_packages(versions: list[PublishedVersion]) -> list[str]:
    keys: dict[str, list[str]] = {}
    for version in versions:
        keys.setdefault(_listed(version.metadata.training_run.versions), []).append(code(version.key))
    return [f"{', '.join(of_these)}: {plain(packages)}" for packages, of_these in keys.items()]


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
