"""`compare FILE`: classify one image with several models."""

import argparse

from cifar10_serving.client._client import Client
from cifar10_serving.client.commands.arguments import add_json, add_service, add_top_k, client_options
from cifar10_serving.client.commands.exit_codes import ExitCode
from cifar10_serving.client.commands.files import one_image
from cifar10_serving.client.commands.output import aligned, percent, printable_lines
from cifar10_serving.schemas import Comparison, ModelAnswer


def add(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    command.add_argument("file", metavar="FILE", help="an image, or - for standard input")
    command.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME[/N]",
        help="a model or one of its versions; repeat it for several. Default: every ready model",
    )
    add_top_k(command)
    add_json(command)
    add_service(command)


def run(arguments: argparse.Namespace) -> int:
    """Print the table; return `PARTLY` if a model could not answer."""
    with Client(**client_options(arguments)) as client:
        comparison = client.compare(one_image(arguments.file), models=arguments.model, top_k=arguments.top_k)
    print(comparison.model_dump_json() if arguments.json else printable_lines(_describe(comparison)))
    answered = [answer for answer in comparison.answers if answer.prediction]
    if len(answered) == len(comparison.answers):
        return ExitCode.DONE
    return ExitCode.PARTLY if answered else ExitCode.FAILED


def _describe(comparison: Comparison) -> str:
    header = ("model", "class", "confidence", "queue", "compute", "then")
    table = aligned([header, *map(_row, comparison.answers)], right=frozenset({2, 3, 4}))
    agreement = comparison.agreement
    verdict = (
        f"{agreement.models} of {agreement.of} models: {agreement.label}" if agreement.label else "no model answered"
    )
    lines = [*table, "", f"{verdict}; decoded in {comparison.decode_ms:.1f} ms"]
    if comparison.not_comparable:
        others = ", ".join(f"{other.model}/{other.version}" for other in comparison.not_comparable)
        lines.append(f"not comparable, since they share no label with these: {others}")
    return "\n".join(lines)


def _row(answer: ModelAnswer) -> tuple[str, ...]:
    name = f"{answer.model}/{answer.version}"
    if answer.prediction is None:
        return (name, "-", "-", "-", "-", answer.error.detail if answer.error else "")
    timings = answer.timings
    return (
        name,
        answer.prediction.label,
        percent(answer.prediction.confidence),
        f"{timings.queue_ms:.1f} ms" if timings else "-",
        f"{timings.compute_ms:.1f} ms" if timings else "-",
        ", ".join(f"{other.label} {percent(other.probability)}" for other in answer.prediction.top[1:]),
    )
