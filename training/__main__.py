"""The command line of training: `python -m training COMMAND`. What each command does is in `training.commands`."""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from cifar10_serving.errors import ProjectError
from training.commands import (
    evaluate,
    export,
    fit,
    list_models,
    recalibrate,
    report,
    robustness,
    show_data,
    summary,
    temperature,
)
from training.commands.arguments import Parser

STOPPED = 130


def main() -> int:
    """Run the command that the arguments name; 0, or 1 after an error told in words, 130 after Ctrl-C."""
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
        ("list", list_models, "the models, and what is published of each"),
        ("summary", summary, "the layers of a network, its parameters and sizes"),
        ("fit", fit, "train a model by a recipe and publish it as the next version"),
        ("export", export, "publish a run that was trained and not published"),
        ("evaluate", evaluate, "measure a published version again and compare with its metadata"),
        ("robustness", robustness, "measure a published version on noisy, blurred, pale and compressed pictures"),
        ("temperature", temperature, "find the temperature at which a recipe's model is calibrated"),
        ("recalibrate", recalibrate, "publish a version again at the temperature that its recipe has now"),
        ("report", report, "write the page of results from what is published"),
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
