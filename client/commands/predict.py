"""`predict FILE…`: the classes of images, one row each as they come, and a folder's accuracy where it is a test set."""

import argparse
import asyncio
import sys
from typing import Final

from client.commands.arguments import add_model, add_service, add_top_k, client_options, concurrency
from client.commands.errors import CommandLineError
from client.commands.exit_codes import ExitCode
from client.commands.files import NamedImage, named_images
from client.commands.folder_labels import check_labels
from client.commands.prediction_run import PredictionRun
from client.commands.rows import CsvRows, JsonRows, Rows, TableRows
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
    images = named_images(arguments.files)
    if arguments.labels == FROM_FOLDER:
        if any(image.path is None for image in images):
            raise CommandLineError("standard input has no folder that could name its class")
        check_labels(image.path for image in images if image.path)
    work = PredictionRun(
        images,
        _rows(arguments, images),
        Thumbnails(arguments.thumbnail, len(images), plain=arguments.json or arguments.csv),
        labelled=arguments.labels == FROM_FOLDER,
    )
    options = {"model": arguments.model, "version": arguments.version, "top_k": arguments.top_k}
    try:
        asyncio.run(work.ask(client_options(arguments), options, arguments.concurrency))
    except KeyboardInterrupt:
        print(f"stopped: {work.answered:,} of {len(images):,} images were answered", file=sys.stderr)
        return ExitCode.STOPPED
    return work.finish()


def _rows(arguments: argparse.Namespace, images: list[NamedImage]) -> Rows:
    if arguments.json:
        return JsonRows()
    if arguments.csv:
        return CsvRows()
    return TableRows([image.name for image in images])
