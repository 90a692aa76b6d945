"""`python -m training import MODEL`: publish a model that was trained elsewhere."""

import argparse
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cifar10_serving.artifacts.layout import staging_folder
from cifar10_serving.artifacts.metadata import CHANNELS, MAX_SIDE, MIN_SIDE
from cifar10_serving.text import did_you_mean, printable
from training.commands.arguments import add_checkpoints, add_models
from training.commands.describe import describe_published
from training.errors import ModelImportError
from training.published import LEGAL_NAME, Name

if TYPE_CHECKING:
    from training.importing.importer import TestPictures
    from training.importing.source import Size
    from training.recipes.recipe import InputScaling

SIZE: Final = re.compile(r"([0-9]{1,5})(?:x([0-9]{1,5}))?")


def add(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    command.description = (
        "Publishes a classifier that was trained elsewhere as the next version of --name: a .keras file, a legacy .h5 "
        "file, the folder of a SavedModel, or an .onnx file. Exits with 0 when it is published, 1 after an error with "
        "one line that says why, and 2 for wrong options; after an error nothing was published."
    )
    command.add_argument("model", type=Path, metavar="MODEL", help="the file, or the folder of a SavedModel")
    command.add_argument("--name", required=True, metavar="NAME", help=f"the model's name: {LEGAL_NAME}")
    command.add_argument("--title", metavar="TEXT", help="title for readers; default: made from the name")
    command.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="a text file with one label a line, in the order of the outputs; default: the sorted names of the class "
        "folders in --data",
    )
    command.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="test pictures, in one folder per label, or a CSV file; without them the accuracy is not measured",
    )
    command.add_argument(
        "--scaling",
        metavar="NAME",
        help="how the model wants its pixels scaled, instead of the best that is measured: unscaled, divide_by_255, "
        "minus_one_to_one, imagenet, bgr_minus_imagenet_mean or standardize",
    )
    outputs = command.add_mutually_exclusive_group()
    outputs.add_argument(
        "--logits", dest="outputs", action="store_const", const="logits", help="the outputs are logits"
    )
    outputs.add_argument(
        "--probabilities",
        dest="outputs",
        action="store_const",
        const="probabilities",
        help="the outputs are probabilities; default: found out from the outputs",
    )
    command.add_argument(
        "--image-size", metavar="N", help="N or HEIGHTxWIDTH in pixels, for models that take images of any size"
    )
    command.add_argument(
        "--custom-objects",
        type=Path,
        metavar="FILE.py",
        help="a Python file with the classes of layers that Keras doesn't have; IT IS RUN",
    )
    add_checkpoints(command)
    add_models(command)


def run(arguments: argparse.Namespace) -> int:
    """Open, measure and publish the model."""
    name = Name.checked(arguments.name, title=arguments.title)
    image_size = parse_size(arguments.image_size) if arguments.image_size is not None else None
    scaling = _checked_scaling(arguments.scaling) if arguments.scaling is not None else None
    from training.data.listing import list_pictures
    from training.importing.labels import check_label_count, read_labels
    from training.importing.sources import open_source, source_kind

    kind = source_kind(arguments.model)
    if arguments.labels is None and arguments.data is None:
        raise ModelImportError(
            "no labels", expected="--labels FILE with one label a line, or --data FOLDER with a folder for each label"
        )
    labels = (
        read_labels(arguments.labels) if arguments.labels is not None else list(list_pictures(arguments.data).labels)
    )
    with staging_folder(arguments.models, arguments.name):
        pass  # reports a read-only folder now
    from training.backend import require_tensorflow

    require_tensorflow("importing")
    from training.importing.importer import ImportOptions, import_model

    source = open_source(arguments.model, image_size, arguments.custom_objects)
    height, width = source.input.size
    print(
        f"{printable(str(arguments.model))}: {kind}, {height}x{width} pixels {source.input.layout} "
        f"{source.input.dtype}, {source.output_count:,} outputs, {source.parameters.total:,} parameters",
        flush=True,
    )
    check_label_count(labels, source.output_count, str(arguments.labels or arguments.data))
    pictures = _pictures(arguments.data, arguments.checkpoints, image_size=source.input.size, labels=labels)
    options = ImportOptions(
        name=arguments.name,
        title=name.title,
        labels=labels,
        command=command_line(arguments),
        scaling=scaling,
        outputs=arguments.outputs,
        custom_objects=arguments.custom_objects,
    )
    metadata = import_model(source, arguments.model, options, arguments.models, pictures=pictures, tell=_tell)
    print(describe_published(metadata, arguments.models))
    if not metadata.evaluations:
        print("  accuracy not measured: there were no test pictures")
    return 0


def parse_size(given: str) -> "Size":
    """Parse a size in pixels: `224`, or height x width such as `224x320`.

    Raises:
        ModelImportError: it is not a size.
    """
    found = SIZE.fullmatch(given)
    sides = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in sides):
        raise ModelImportError(
            f"--image-size {given}", expected=f"N or HEIGHTxWIDTH, {MIN_SIDE} to {MAX_SIDE} pixels a side"
        )
    return sides


def command_line(arguments: argparse.Namespace) -> str:
    """Return the command that repeats the import, without this machine's paths."""
    words = ["python -m training import", shlex.quote(arguments.model.resolve().name), "--name", arguments.name]
    words += ["--labels", "FILE"] if arguments.labels is not None else []
    words += ["--data", "FOLDER"] if arguments.data is not None else []
    words += ["--scaling", arguments.scaling] if arguments.scaling is not None else []
    words += [f"--{arguments.outputs}"] if arguments.outputs is not None else []
    words += ["--image-size", arguments.image_size] if arguments.image_size is not None else []
    words += ["--custom-objects", shlex.quote(arguments.custom_objects.name)] if arguments.custom_objects else []
    words += ["--title", shlex.quote(arguments.title)] if arguments.title is not None else []
    return " ".join(words)


def _tell(line: str) -> None:
    print(line, flush=True)


def _checked_scaling(given: str) -> "InputScaling":
    from training.preprocessing import SCALINGS

    for known in SCALINGS:
        if known == given:
            return known
    raise ModelImportError(
        f"--scaling {given}{did_you_mean(given, SCALINGS)}", expected=f"one of {', '.join(SCALINGS)}"
    )


def _pictures(place: Path | None, cache: Path, *, image_size: "Size", labels: list[str]) -> "TestPictures | None":
    """Return the test pictures at the model's input size."""
    if place is None:
        return None
    from training.data.pictures import load_test_split
    from training.importing.importer import TestPictures
    from training.progress import for_terminal

    height, width = image_size
    with for_terminal() as progress:
        split, sha256 = load_test_split(
            place, labels=labels, input_shape=(height, width, CHANNELS), cache=cache, progress=progress
        )
    return TestPictures(
        split,
        name=place.absolute().stem if place.is_file() else place.absolute().name or "pictures",
        source=f"{len(split):,} pictures decoded to {width}x{height} pixels",
        sha256=sha256,
    )
