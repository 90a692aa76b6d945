"""The command line of training: `python -m training fit MODEL`."""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from catalog.errors import ProjectError
from catalog.labels import MODEL_NAMES
from catalog.metadata import ModelMetadata


def main() -> int:
    """Run the command that the arguments name; 0, or 1 after an error told in words."""
    arguments = _parser().parse_args()
    try:
        _fit(arguments)
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: nothing was published", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Train and publish CIFAR-10 models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    fit = commands.add_parser("fit", help="train a model by a recipe and publish it as the next version")
    fit.add_argument("model", metavar="MODEL", help=f"one of {', '.join(MODEL_NAMES)}")
    fit.add_argument("--recipe", default="tutorial", help="tutorial (the default)")
    fit.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="holds the official CIFAR-10, binary or python version; without it Keras downloads the data",
    )
    fit.add_argument("--models", type=Path, default=Path("models"), metavar="FOLDER", help="where to publish: models")
    fit.add_argument("--seed", type=int, help="another seed than the recipe's")
    return parser


def _fit(arguments: argparse.Namespace) -> None:
    # Imported here: --help and a typo are answered without waiting for TensorFlow.
    from training.data import load_cifar10
    from training.export import export
    from training.fit import fit
    from training.recipes import get_recipe, with_seed

    recipe = get_recipe(arguments.recipe, arguments.model)
    if arguments.seed is not None:
        recipe = with_seed(recipe, arguments.seed)
    data = load_cifar10(arguments.data)
    trained = fit(recipe, data.train, verbose=1 if sys.stderr.isatty() else 2)
    source = "" if arguments.data is None else " --data FOLDER"
    command = f"python -m training fit {recipe.model} --recipe {recipe.name} --seed {recipe.seed}{source}"
    _report(export(trained, data, arguments.models, command=command), arguments.models)


def _report(metadata: ModelMetadata, models: Path) -> None:
    print(f"published {models / metadata.name / str(metadata.version)}")
    for entry in metadata.evaluations:
        print(
            f"  {entry.split:<10} {entry.runtime} {entry.runtime_version} {entry.precision}: "
            f"{entry.correct:,} of {entry.n:,} right ({entry.accuracy:.4f}), loss {entry.loss:.4f}"
        )


if __name__ == "__main__":
    sys.exit(main())
