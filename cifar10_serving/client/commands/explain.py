"""`explain FILE`: which parts of an image mattered to a model, as a map of characters."""

import argparse
from typing import Final

from cifar10_serving.client._client import Client
from cifar10_serving.client.commands.arguments import add_json, add_model, add_service, client_options, positive_number
from cifar10_serving.client.commands.asked_version import asked_metadata
from cifar10_serving.client.commands.exit_codes import CommandLineError
from cifar10_serving.client.commands.files import one_image
from cifar10_serving.client.commands.output import percent, printable_lines
from cifar10_serving.schemas import Explanation
from cifar10_serving.text import did_you_mean

SHADES: Final = " ░▒▓█"
"""Characters for increasing importance."""
MAX_SHOWN: Final = 20
"""Maximum number of labels in an error."""


def add(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    command.description = (
        "Hide one part of the image after another, and show where that lowers the probability of the class."
    )
    command.add_argument("file", metavar="FILE", help="an image, or - for standard input")
    add_model(command)
    command.add_argument(
        "--class", dest="label", metavar="NAME", help="the class to explain; default: the most probable one"
    )
    command.add_argument(
        "--patch",
        type=positive_number,
        metavar="PIXELS",
        help="side of the hidden square in pixels; default: a quarter of the model's input, 8 of 32",
    )
    command.add_argument(
        "--stride",
        type=positive_number,
        metavar="PIXELS",
        help="distance between squares in pixels; default: an eighth of the model's input, 4 of 32",
    )
    add_json(command)
    add_service(command)


def run(arguments: argparse.Namespace) -> int:
    """Print the map."""
    with Client(**client_options(arguments)) as client:
        explanation = client.explain(
            one_image(arguments.file),
            model=arguments.model,
            version=arguments.version,
            class_id=None if arguments.label is None else _class_id(client, arguments),
            patch=arguments.patch,
            stride=arguments.stride,
        )
    print(explanation.model_dump_json() if arguments.json else printable_lines(_describe(explanation)))
    return 0


def _class_id(client: Client, arguments: argparse.Namespace) -> int:
    metadata = asked_metadata(client, arguments.model, arguments.version)
    if arguments.label not in metadata.labels:
        shown = ", ".join(metadata.labels[:MAX_SHOWN])
        raise CommandLineError(
            f"{metadata.name} has no class '{arguments.label}'{did_you_mean(arguments.label, metadata.labels)}",
            expected=f"{shown} and others" if len(metadata.labels) > MAX_SHOWN else f"one of {shown}",
        )
    return metadata.labels.index(arguments.label)


def _describe(explanation: Explanation) -> str:
    patch = explanation.patch_pixels
    greatest = max((value for row in explanation.importance for value in row), default=0.0)
    title = f"{explanation.model} version {explanation.version}: {explanation.label}, {percent(explanation.confidence)}"
    if greatest <= 0:
        return f"{title}\nhiding {patch} x {patch} pixels never lowers the probability"
    legend = f"darker: hiding {patch} x {patch} pixels there lowers the probability more; by at most {greatest:.3f}"
    # A character is about twice as high as wide.
    upper, lower = explanation.importance[::2], explanation.importance[1::2]
    rows = [
        [sum(pair) / 2 for pair in zip(*two, strict=False)]
        for two in zip(upper, [*lower, *upper[len(lower) :]], strict=True)
    ]
    return "\n".join([title, legend, "", *("".join(_shade(value, greatest) for value in row).rstrip() for row in rows)])


def _shade(importance: float, greatest: float) -> str:
    if importance <= 0:
        return SHADES[0]
    return SHADES[min(len(SHADES) - 1, int(importance / greatest * len(SHADES)))]
