"""The command line of training: `python -m training list | fit MODEL | evaluate VERSION_FOLDER`."""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from catalog.artifact import published_versions, read_metadata, version_folder
from catalog.errors import ProjectError
from catalog.labels import MODEL_NAMES, MODELS
from catalog.metadata import Evaluation, ModelMetadata

MISMATCH = 3


def main() -> int:
    """Run the command that the arguments name; 0, or 1 after an error told in words."""
    arguments = _parser().parse_args()
    try:
        code: int = arguments.run(arguments)
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped{arguments.when_stopped}", file=sys.stderr)
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Train and publish CIFAR-10 models.")
    parser.set_defaults(when_stopped="")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="the models, and what is published of each")
    _add_models(listing)
    listing.set_defaults(run=_list)

    fit = commands.add_parser("fit", help="train a model by a recipe and publish it as the next version")
    fit.add_argument("model", metavar="MODEL", help=f"one of {', '.join(MODEL_NAMES)}")
    fit.add_argument("--recipe", default="tutorial", help="tutorial (the default)")
    fit.add_argument("--seed", type=int, help="another seed than the recipe's")
    fit.add_argument(
        "--checkpoints",
        type=Path,
        default=Path(".checkpoints"),
        metavar="FOLDER",
        help="keeps the state after each epoch, from which the same command resumes: .checkpoints",
    )
    _add_data(fit)
    _add_models(fit)
    fit.set_defaults(
        run=_fit, when_stopped=": nothing was published; the same command resumes after the last whole epoch"
    )

    evaluate = commands.add_parser(
        "evaluate",
        help="measure a published version again and compare with its metadata",
        description=f"Ends with {MISMATCH} where a figure is not what the metadata says.",
    )
    evaluate.add_argument("folder", type=Path, metavar="VERSION_FOLDER", help="such as models/sequential/1")
    _add_data(evaluate)
    evaluate.set_defaults(run=_evaluate)
    return parser


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="holds the official CIFAR-10, binary or python version; without it Keras downloads the data",
    )


def _add_models(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--models", type=Path, default=Path("models"), metavar="FOLDER", help="the published versions: models"
    )


def _list(arguments: argparse.Namespace) -> int:
    for model in MODELS:
        print(f"{model.name:<12} {model.title}: {model.architecture}")
        for version in published_versions(arguments.models, model.name):
            metadata = read_metadata(version_folder(arguments.models, model.name, version))
            test = metadata.evaluation("test", "float32", "openvino")
            accuracy = f", test accuracy {test.accuracy:.4f}" if test else ""
            print(f"{'':<12}   version {version}, recipe {metadata.recipe.get('name')}{accuracy}")
    return 0


def _fit(arguments: argparse.Namespace) -> int:
    # Imported here: --help and list are answered without waiting for TensorFlow.
    from training.checkpoint import Checkpoint
    from training.data import load_cifar10
    from training.export import export
    from training.fit import fit
    from training.recipes import get_recipe, with_seed

    recipe = get_recipe(arguments.recipe, arguments.model)
    if arguments.seed is not None:
        recipe = with_seed(recipe, arguments.seed)
    data = load_cifar10(arguments.data)
    checkpoint = Checkpoint(arguments.checkpoints, recipe, data.sha256)
    if checkpoint.file.exists():
        print(f"resuming from {checkpoint.file}")
    trained = fit(recipe, data.train, checkpoint=checkpoint, verbose=1 if sys.stderr.isatty() else 2)
    source = "" if arguments.data is None else " --data FOLDER"
    command = f"python -m training fit {recipe.model} --recipe {recipe.name} --seed {recipe.seed}{source}"
    _report(export(trained, data, arguments.models, command=command), arguments.models)
    checkpoint.discard()
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from training.data import load_cifar10
    from training.remeasure import remeasure

    read_metadata(arguments.folder)  # a wrong folder is told before 180 MB are read
    comparisons = remeasure(arguments.folder, load_cifar10(arguments.data))
    for comparison in comparisons:
        print(f"stored {_describe(comparison.stored)}")
        if comparison.now is None:
            print(f"now    not measured: {comparison.reason}")
        else:
            print(f"now    {_describe(comparison.now)}: {'matches' if comparison.matches else 'DOES NOT MATCH'}")
    return 0 if all(comparison.matches for comparison in comparisons) else MISMATCH


def _report(metadata: ModelMetadata, models: Path) -> None:
    print(f"published {version_folder(models, metadata.name, metadata.version)}")
    for entry in metadata.evaluations:
        print(f"  {_describe(entry)}")


def _describe(entry: Evaluation) -> str:
    return (
        f"{entry.split:<10} {entry.runtime} {entry.runtime_version} {entry.precision}: "
        f"{entry.correct:,} of {entry.n:,} right ({entry.accuracy:.4f}), loss {entry.loss:.4f}"
    )


if __name__ == "__main__":
    sys.exit(main())
