"""`predict FILE…`: the classes of images, one row each as they come, and a folder's accuracy where it is a test set."""

import argparse
import asyncio
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

from client.commands.arguments import add_model, add_service, add_top_k, client_options, concurrency
from client.commands.errors import CommandLineError
from client.commands.exit_codes import ExitCode
from client.commands.files import NamedImage, find_images
from client.commands.folder_labels import check_labels
from client.commands.output import say
from client.commands.prediction_run import PredictionRun
from client.commands.resume import ResumeFile, wants_csv
from client.commands.rows import CsvRows, JsonRows, NoRows, Rows, TableRows
from client.commands.thumbnail import CHOICES, Thumbnails

DEFAULT_CONCURRENCY: Final = 8
FROM_FOLDER: Final = "from-folder"


def add(command: argparse.ArgumentParser) -> None:
    """The options."""
    command.description = (
        "Classify images. Files are sent unchanged. A folder stands for every image in it and its subfolders."
    )
    command.add_argument(
        "files", nargs="+", metavar="FILE", help="files, folders, patterns ('a/**/*.png'), - for stdin"
    )
    add_model(command)
    add_top_k(command)
    how = command.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print one JSON object per line")
    how.add_argument("--csv", action="store_true", help="print comma-separated values")
    command.add_argument(
        "--labels",
        choices=[FROM_FOLDER],
        help="use the folders' names as true classes, and print the accuracy and the confusion matrix",
    )
    command.add_argument(
        "--resume",
        metavar="FILE",
        help="write the answers to FILE as JSON lines or CSV (--csv, or FILE.csv), and skip images that it already "
        "has: run the same command again to continue",
    )
    command.add_argument(
        "--concurrency",
        type=concurrency,
        default=DEFAULT_CONCURRENCY,
        metavar="N",
        help=f"number of concurrent requests; default: {DEFAULT_CONCURRENCY}",
    )
    command.add_argument(
        "--thumbnail",
        choices=CHOICES,
        default="auto",
        help="show the model's input in terminals that can (needs Pillow); auto: for up to 8 images",
    )
    add_service(command)


def run(arguments: argparse.Namespace) -> int:
    """Ask about every image."""
    found = find_images(arguments.files)
    images = found.images
    if arguments.labels == FROM_FOLDER:
        if any(image.path is None for image in images):
            raise CommandLineError("standard input has no folder that names its class")
        check_labels(image.path for image in images if image.path)
    options = client_options(arguments)
    with _saved(arguments, images) as saved:
        if found.left_out:
            say(str(found.left_out))
        return _ask(arguments, images, options, saved)


def _saved(arguments: argparse.Namespace, images: list[NamedImage]) -> AbstractContextManager[ResumeFile | None]:
    if arguments.resume is None:
        return nullcontext()
    if any(not isinstance(image.image, Path) for image in images):
        raise CommandLineError("standard input and pipes can't be read again", remedy="leave out --resume")
    path = Path(arguments.resume)
    return ResumeFile(path, images, as_csv=wants_csv(path, as_json=arguments.json, as_csv=arguments.csv))


def _ask(
    arguments: argparse.Namespace, images: list[NamedImage], options: dict[str, Any], saved: ResumeFile | None
) -> int:
    if saved is not None:
        saved.check(arguments.model, arguments.version)
        saved.begin()
        _say_what_is_saved(saved, arguments.resume, len(images))
    work = PredictionRun(
        images,
        NoRows() if saved is not None and saved.is_standard_output() else _rows(arguments, images),
        Thumbnails(arguments.thumbnail, len(images), plain=arguments.json or arguments.csv),
        labelled=arguments.labels == FROM_FOLDER,
        saved=saved,
    )
    asked = {"model": arguments.model, "version": arguments.version, "top_k": arguments.top_k}
    try:
        asyncio.run(work.ask(options, asked, arguments.concurrency))
    except KeyboardInterrupt:
        go_on = "; run the same command to continue" if saved is not None else ""
        say(f"stopped: {work.answered:,} of {len(images):,} images were answered{go_on}")
        return ExitCode.STOPPED
    if saved is not None:
        saved.finish()
    return work.finish()


def _say_what_is_saved(saved: ResumeFile, name: str, total: int) -> None:
    if saved.earlier:
        say(f"{len(saved.earlier):,} of {total:,} images were already answered: {name}")
    if saved.strange:
        say(f"{saved.strange:,} rows of {name} are for files that are not in this run; they are kept")


def _rows(arguments: argparse.Namespace, images: list[NamedImage]) -> Rows:
    if arguments.json:
        return JsonRows()
    if arguments.csv:
        return CsvRows()
    return TableRows([image.name for image in images])
