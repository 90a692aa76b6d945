"""`python -m training quantize VERSION_FOLDER`: add an int8 network to a published version."""

import argparse
import shlex
from pathlib import Path

from cifar10_serving.artifacts.layout import read_metadata
from training.commands.arguments import add_checkpoints, add_data
from training.commands.data import add_pictures, load_data
from training.commands.describe import describe_evaluation


def add(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    command.description = (
        "Quantizes the version's graph with NNCF in a few ways, compares their answers with float32's on training or "
        "held-out images, and adds the best as int8/ with its accuracy on the test images. A service with "
        "precision=auto uses it where it is faster and accurate enough."
    )
    command.add_argument("folder", type=Path, metavar="VERSION_FOLDER", help="such as models/vgg16/2")
    add_checkpoints(command)
    add_data(command)
    add_pictures(command, image_size=False)
    command.add_argument("--seed", type=int, metavar="N", help="chooses the images for calibration; default: 83")


def run(arguments: argparse.Namespace) -> int:
    """Quantize, and print each trial and the result."""
    metadata = read_metadata(arguments.folder)  # reports a wrong folder before 180 MB are read
    from training.quantize import DEFAULT_SEED, quantize

    words = ["python", "-m", "training", "quantize", f"models/{metadata.name}/{metadata.version}"]
    seed = DEFAULT_SEED if arguments.seed is None else arguments.seed
    quantized = quantize(
        arguments.folder,
        load_data(arguments, input_shape=metadata.input_shape),
        command=shlex.join([*words, *(["--seed", str(seed)] if arguments.seed is not None else [])]),
        seed=seed,
        progress=print,
    )
    for entry in quantized.evaluations:
        if entry.precision == "int8" or (entry.runtime, entry.precision) == ("openvino", "float32"):
            print(describe_evaluation(entry))
    return 0
