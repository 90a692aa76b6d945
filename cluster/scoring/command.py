"""`python -m cluster score INPUT OUTPUT --model NAME[@VERSION]`: classify a whole data set into Parquet files."""

import argparse
import hashlib
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final, Literal, get_args

from cifar10_serving.artifacts.layout import METADATA_FILE, published_models, published_versions, version_folder
from cifar10_serving.artifacts.metadata import Precision
from cifar10_serving.artifacts.rollout import Rollout, parse_version, read_rollout
from cifar10_serving.errors import ProjectError
from cifar10_serving.runtimes.machine import return_free_memory
from cifar10_serving.text import did_you_mean, printable
from cluster.scoring.errors import ScoringUsageError
from cluster.scoring.output import Inputs
from cluster.scoring.progress import Progress, duration
from cluster.scoring.run import Crew, Job, ModelChoice, OneProcess, Processes, Result, Worker, default_processes, score
from cluster.scoring.scorer import Limits, load_version
from cluster.scoring.sources import Source, SourceOptions, chunk_images_for, open_source, part_images_for
from cluster.scoring.storage import open_storage
from service.errors import SettingsError
from service.registry.routing import build_route, wanted_versions
from service.registry.version import ModelVersion
from service.settings import Settings, read_settings

PROGRAM: Final = "python -m cluster score"
KINDS: Final = ("images", "parquet", "webdataset")
MAX_DIGITS: Final = 9
REQUIRED: Final = ("pyarrow",)


class ExitCode(IntEnum):
    """Exit codes; stable, for scripts."""

    DONE = 0
    """Every input has a row with a prediction."""
    FAILED = 1
    """The run could not go on; the same command continues it."""
    USAGE = 2
    """An invalid option, input, output or model; nothing was scored."""
    WITH_ERRORS = 3
    """Every input has a row; some are errors."""
    STOPPED = 130
    """Ctrl-C; the same command continues the run."""


def main(arguments: Sequence[str]) -> int:
    """Score; return an `ExitCode`."""
    options = parse(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        result = _run(options)
    except (ScoringUsageError, SettingsError) as error:
        return _fail(error, ExitCode.USAGE)
    except ProjectError as error:
        return _fail(error, ExitCode.FAILED)
    except KeyboardInterrupt:
        print("stopped; run the same command to continue", file=sys.stderr)
        return ExitCode.STOPPED
    print(_summary(result, options.output))
    return ExitCode.WITH_ERRORS if result.counts.errors else ExitCode.DONE


@dataclass(frozen=True, slots=True)
class Started:
    """A run whose input was found and whose model was loaded; nothing is written yet."""

    job: Job
    source: Source
    total: int
    entry: ModelVersion


def job_for(options: argparse.Namespace, settings: Settings) -> Started:
    """Find the input, load the model, and return what there is to do.

    Raises:
        ProjectError: the input, the model or the runtime can't be used.
    """
    if options.models is not None and "://" in options.models:
        raise ScoringUsageError(
            f"--models {options.models} is not a folder",
            remedy="set CIFAR10_MODELS to it, mirror it with `python -m service check`, and leave out --models",
        )
    models = Path(options.models) if options.models is not None else settings.models_folder
    folder = _version_folder(models, options.model, settings.version_policy)
    source_options = SourceOptions(
        kind=options.format,
        column=options.column,
        key_column=options.key_column,
        max_bytes=settings.max_body_bytes,
    )
    source = open_source(options.input, source_options)
    total = source.total()
    choice = _choice(settings, folder, options.precision or settings.precision)
    entry = load_version(folder, choice.open_runtime(), max_accuracy_drop=settings.max_accuracy_drop)
    part_images = options.part_images or part_images_for(total if source.unit == "images" else 0)
    return Started(_job(options, settings, source, entry, part_images), source, total, entry)


def _run(options: argparse.Namespace) -> Result:
    _check_installed()
    started = job_for(options, read_settings())
    job, source = started.job, started.source
    manifest = job.open_output().begin()
    if source.skipped:
        _say(f"skipped {source.skipped:,} files that are not {source.kind} by name")
    progress = Progress(started.total, source.unit)
    try:
        return score(job, source, _crew(options, job, started.entry), progress, manifest)
    finally:
        progress.close()


def _choice(settings: Settings, folder: Path, precision: Precision | Literal["auto"]) -> ModelChoice:
    return ModelChoice(
        folder.absolute(),
        settings.runtime,
        settings.device,
        precision,
        settings.max_accuracy_drop,
        settings.compiled_models_folder,
    )


def _job(options: argparse.Namespace, settings: Settings, source: Source, entry: ModelVersion, part_images: int) -> Job:
    if entry.precision is None:
        raise AssertionError("the version is not loaded")
    top_k = options.top_k and min(options.top_k, len(entry.labels))
    inputs = Inputs(
        input=open_storage(options.input).url,
        kind=source.kind,
        column=options.column,
        key_column=options.key_column,
        part_images=part_images,
        model=entry.name,
        version=entry.version,
        version_sha256=hashlib.sha256((entry.folder / METADATA_FILE).read_bytes()).hexdigest(),
        precision=entry.precision,
        top_k=top_k,
    )
    return Job(
        source=inputs.input,
        source_options=SourceOptions(
            kind=source.kind,
            column=options.column,
            key_column=options.key_column,
            max_bytes=settings.max_body_bytes,
            chunk_images=chunk_images_for(entry.image_bytes),
        ),
        output=open_storage(options.output).url,
        inputs=inputs,
        labels=entry.labels,
        # A worker elsewhere must not choose another precision.
        model=_choice(settings, entry.folder, entry.precision),
        limits=Limits(settings.max_image_pixels, settings.max_decode_bytes, top_k),
        threads=options.threads,
    )


def _crew(options: argparse.Namespace, job: Job, entry: ModelVersion) -> Crew:
    processes = options.processes or default_processes(entry.model.image_s if entry.model is not None else None)
    if processes == 1 and options.ray is None:
        return OneProcess(Worker(job, entry))
    entry.model = None  # the workers load it themselves
    return_free_memory()
    if options.ray is None:
        return Processes(job, processes)
    from cluster.scoring.on_ray import RayCrew

    return RayCrew(job, options.ray)


def _version_folder(models: Path, wanted: str, policy: str) -> Path:
    """Return the folder of NAME@VERSION; without a version, of the one that the service answers with.

    Raises:
        ScoringUsageError: there is no such model or version.
        RolloutError: the model's serving.json is not valid.
    """
    name, _, text = wanted.partition("@")
    versions = published_versions(models, name) if name else []
    if not versions:
        try:
            known = published_models(models)
        except OSError as error:
            raise ScoringUsageError(f"{models} can't be read: {error.strerror}", remedy="give --models") from None
        raise ScoringUsageError(
            f"there is no model '{printable(name)}' in {models}{did_you_mean(name, known)}",
            expected=f"one of {', '.join(known)}",
        )
    rollout = read_rollout(models, name) or Rollout()
    try:
        asked = parse_version(text) if "@" in wanted else None
    except ValueError as error:
        raise ScoringUsageError(f"the version in '{printable(wanted)}' {error}") from None
    if isinstance(asked, int):
        found = asked if asked in versions else None
    else:
        serving = wanted_versions(rollout, policy, usable=set(versions), serving=set())
        route = build_route(
            {number: ModelVersion(name, number, version_folder(models, name, number), ()) for number in serving},
            rollout,
        )
        entry = route.default if asked is None else route.by_version.get(asked)
        found = entry.version if entry is not None else None
    if found is None:
        raise ScoringUsageError(
            f"{name} has no version '{printable(text)}'",
            expected=f"one of {', '.join(map(str, (*versions, *rollout.labels)))}",
        )
    return version_folder(models, name, found)


def _check_installed() -> None:
    from importlib.util import find_spec

    missing = [package for package in REQUIRED if find_spec(package) is None]
    if missing:
        raise ScoringUsageError(
            f"{', '.join(missing)} is not installed for {sys.executable}",
            remedy="install this project's extra 'score' or 'cluster'",
        )


def _summary(result: Result, output: str) -> str:
    counts = result.counts
    rate = f"{result.scored_now / max(1e-9, result.elapsed_s):,.0f} images/s"
    now = f"{result.scored_now:,} scored now in {duration(result.elapsed_s)}, {rate}"
    return printable(
        f"{counts.rows:,} rows in {result.parts:,} parts in {output}: "
        f"{counts.rows - counts.errors:,} predictions, {counts.errors:,} errors; {now}"
    )


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command's arguments."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        allow_abbrev=False,
        description="Classify every image of a data set, without HTTP. Run the same command again to continue a run "
        "that was stopped or killed.",
        epilog="exit codes: 0 done; 1 failed, run it again to continue; 2 invalid option, input or model; 3 done, some "
        "rows are errors; 130 stopped by Ctrl-C",
    )
    parser.add_argument("input", metavar="INPUT", help="a folder of images, Parquet files or tars; a file; s3://…")
    parser.add_argument(
        "output", metavar="OUTPUT", help="folder for Parquet files, new or of the run to continue; s3://…"
    )
    parser.add_argument("--model", required=True, metavar="NAME[@VERSION]", help="VERSION: a number or a label")
    parser.add_argument("--models", metavar="FOLDER", help="model repository; default: CIFAR10_MODELS, or models")
    parser.add_argument(
        "--precision", choices=("auto", *get_args(Precision)), help="default: CIFAR10_PRECISION, or auto"
    )
    parser.add_argument("--format", choices=KINDS, help="kind of input; default: by the files' names")
    parser.add_argument("--column", metavar="NAME", help="Parquet: column with the images, as bytes or as paths")
    parser.add_argument("--key-column", metavar="NAME", help="Parquet: column with the keys; default: FILE#ROW")
    parser.add_argument("--top-k", type=positive_number, metavar="K", help="keep only the K best classes of each image")
    parser.add_argument("--part-images", type=positive_number, metavar="N", help="images in a part of a folder")
    parser.add_argument("--threads", type=positive_number, metavar="N", help="threads of a process; default: cores + 1")
    parser.add_argument(
        "--processes", type=positive_number, metavar="N", help="processes; default: by the model's speed"
    )
    parser.add_argument("--ray", metavar="ADDRESS", help="use Ray Data: a cluster's address, auto, or local")
    return parser.parse_args(arguments)


def positive_number(text: str) -> int:
    """Parse a whole number, 1 or more."""
    if not (text.isascii() and text.isdigit() and 0 < len(text) <= MAX_DIGITS and int(text)):
        raise argparse.ArgumentTypeError(f"'{printable(text)}': expected a whole number, 1 or more")
    return int(text)


def _fail(error: ProjectError, code: ExitCode) -> int:
    _say(f"error: {error}")
    return code


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
