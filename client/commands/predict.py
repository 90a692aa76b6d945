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
    command.description = "Images are sent as they are. Of a folder, every image below it is asked about."
    command.add_argument(
        "files", nargs="+", metavar="FILE", help="files, folders, patterns ('a/**/*.png'), - for stdin"
    )
    add_model(command)
    add_top_k(command)
    how = command.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print one JSON object a line")
    how.add_argument("--csv", action="store_true", help="print comma-separated values")
    command.add_argument(
        "--labels",
        choices=[FROM_FOLDER],
        help="the folders' names are the true classes: print the accuracy and the confusion matrix too",
    )
    command.add_argument(
        "--resume",
        metavar="FILE",
        help="keep the answers in FILE, JSON lines or (--csv, or FILE.csv) CSV, and ask only about those that are not "
        "there: the same command goes on where it was stopped",
    )
    command.add_argument(
        "--concurrency",
        type=concurrency,
        default=DEFAULT_CONCURRENCY,
        metavar="N",
        help=f"how many requests there are at a time: {DEFAULT_CONCURRENCY}",
    )
    command.add_argument(
        "--thumbnail",
        choices=CHOICES,
        default="auto",
        help="shows what the model sees, in terminals that can (needs Pillow); auto: of up to 8 images",
    )
    add_service(command)


def run(arguments: argparse.Namespace) -> int:
    """Ask about every image."""
    found = find_images(arguments.files)
    images = found.images
    if arguments.labels == FROM_FOLDER:
        if any(image.path is None for image in images):
            raise CommandLineError("standard input has no folder that could name its class")
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
        go_on = "; the same command goes on" if saved is not None else ""
        say(f"stopped: {work.answered:,} of {len(images):,} images were answered{go_on}")
        return ExitCode.STOPPED
    if saved is not None:
        saved.finish()
    return work.finish()


def _say_what_is_saved(saved: ResumeFile, name: str, total: int) -> None:
    if saved.earlier:
        say(f"{len(saved.earlier):,} of {total:,} images were answered before: {name}")
    if saved.strange:
        say(f"{saved.strange:,} rows of {name} are about files that this run doesn't have; they stay")


def _rows(arguments: argparse.Namespace, images: list[NamedImage]) -> Rows:
    if arguments.json:
        return JsonRows()
    if arguments.csv:
        return CsvRows()
    return TableRows([image.name for image in images])
