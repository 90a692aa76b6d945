"""The command line of training, `python -m training COMMAND`; `training.commands` has the commands."""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from cifar10_serving.errors import ProjectError
from training.commands import (
    evaluate,
    export,
    fit,
    import_model,
    list_models,
    publish,
    quantize,
    recalibrate,
    report,
    robustness,
    show_data,
    summary,
    temperature,
    verify,
)
from training.commands.arguments import Parser

STOPPED = 130


def main() -> int:
    """Run a command; return 0, 1 after an error with a message, or 130 after Ctrl-C."""
    arguments = _parser().parse_args()
    try:
        code: int = arguments.run(arguments)
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped{arguments.when_stopped}", file=sys.stderr)
        return STOPPED
    return code


def _parser() -> Parser:
    parser = Parser(prog="python -m training", description="Train, measure and publish CIFAR-10 models.")
    parser.set_defaults(when_stopped="")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module, purpose in (
        ("list", list_models, "list the models and their published versions"),
        ("summary", summary, "show a network's layers, parameters and output shapes"),
        ("fit", fit, "train a model by a recipe and publish it as the next version"),
        ("import", import_model, "publish a model that was trained elsewhere: .keras, .h5, SavedModel or .onnx"),
        ("export", export, "publish a finished run, or write a model repository for another server"),
        ("evaluate", evaluate, "evaluate a published version again and compare with its metadata"),
        ("publish", publish, "copy published versions to an object store or another models folder"),
        ("quantize", quantize, "add an int8 network to a published version, and measure it"),
        (
            "robustness",
            robustness,
            "evaluate a published version on noisy, blurred, low-contrast and compressed images",
        ),
        ("temperature", temperature, "find the temperature that calibrates a recipe's model"),
        ("recalibrate", recalibrate, "publish a version again at its recipe's current temperature"),
        ("verify", verify, "verify a published version as the service would"),
        ("report", report, "write the results page from the published versions"),
        ("show-data", show_data, "draw the first images of the data set"),
    ):
        command = commands.add_parser(name, help=purpose)
        module.add(command)
        command.set_defaults(run=module.run)
        if module is fit:
            command.set_defaults(when_stopped=fit.WHEN_STOPPED)
    return parser


if __name__ == "__main__":
    sys.exit(main())
