"""Write the generated documents: docs/settings.md, tables in README.md and docs/artifact.md, the OpenAPI examples.

    python -m scripts.write_docs            write them
    python -m scripts.write_docs --check    exit with 1 and name those that are out of date

The numbers come from models/*/*/metadata.json, the settings from `service.settings.Settings`, the examples from the
service itself (`scripts.openapi_examples`).
"""

import json
import sys
from pathlib import Path

from cifar10_serving.artifacts.layout import read_metadata, version_folder
from cifar10_serving.artifacts.metadata import Evaluation, ModelMetadata
from cifar10_serving.artifacts.tutorial import read_tutorial
from scripts.openapi_examples import are_equivalent, make_examples
from service.http.openapi import EXAMPLES
from service.settings import DEPRECATED_NAMES, REMOVED_IN, Settings, flag, legal_values, variable
from training.published import versions_by_model

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
ARTIFACT = ROOT / "docs/artifact.md"
SETTINGS = ROOT / "docs/settings.md"
BEGIN, END = "<!-- {}: written by make docs -->", "<!-- end of {} -->"


def main() -> int:
    """Write or check; return 1 if a check finds a difference."""
    check = "--check" in sys.argv[1:]
    wanted = {
        SETTINGS: settings_document(),
        README: readme(README.read_text(encoding="utf-8")),
        ARTIFACT: artifact_document(ARTIFACT.read_text(encoding="utf-8")),
        EXAMPLES: examples_document(),
    }
    stale = [file for file, text in wanted.items() if not file.exists() or file.read_text(encoding="utf-8") != text]
    for file in stale:
        if check:
            print(f"{file.relative_to(ROOT)} is out of date: run make docs")
        else:
            file.write_text(wanted[file], encoding="utf-8")
    return 1 if check and stale else 0


def settings_document() -> str:
    """Return docs/settings.md."""
    rows = [
        [
            f"`{variable(name)}`",
            f"`{flag(name)}`",
            _default(field.default),
            legal_values(name),
            str(field.description),
        ]
        for name, field in Settings.model_fields.items()
    ]
    return (
        "# Settings of the service\n\n"
        "Each setting is an environment variable and a flag of `python -m service` (after `make serve`:\n"
        "`.venv-serve/bin/python -m service`, in the project's folder). The flag overrides the variable. If a value\n"
        "is not allowed, the service does not start; the error names the variable, the value and the allowed values.\n"
        "`make docs` generates this page from `service/settings.py`.\n\n"
        + table(["variable", "flag", "default", "allowed values", "meaning"], rows)
        + "\n## Deprecated names\n\n"
        f"These names still work and log a warning. Version {REMOVED_IN} will no longer accept them. If the old and\n"
        "the new name are given with different values, the service does not start.\n\n"
        + table(["deprecated", "now"], [_both_forms(old, new) for old, new in DEPRECATED_NAMES.items()])
    )


def _default(value: object) -> str:
    if value is None:
        return "not set"
    return f"`{value}`" if value != "" else "empty"


def _both_forms(*names: str) -> list[str]:
    return [f"`{variable(name)}`, `{flag(name)}`" for name in names]


def examples_document() -> str:
    """Return service/http/examples.json; the stored text if only timings and last digits differ."""
    made = make_examples()
    stored = EXAMPLES.read_text(encoding="utf-8") if EXAMPLES.exists() else "{}"
    if are_equivalent(json.loads(stored), made):
        return stored
    return f"{json.dumps(made, indent=1, ensure_ascii=False)}\n"


def readme(text: str) -> str:
    """Return the README with a current table of results."""
    return replace_part(text, "results", results_table(stored_versions()))


def artifact_document(text: str) -> str:
    """Return docs/artifact.md with a current table of exports."""
    return replace_part(text, "artifacts", artifacts_table(stored_versions()))


def stored_versions() -> list[ModelMetadata]:
    """Return the metadata of the versions in models/ that were trained here and measured; imported ones may not be."""
    versions = [
        read_metadata(version_folder(ROOT / "models", name, version))
        for name, versions in versions_by_model(ROOT / "models").items()
        for version in versions
    ]
    return [
        metadata
        for metadata in versions
        if metadata.training is not None and metadata.evaluation("test", "float32", "openvino") is not None
    ]


def results_table(versions: list[ModelMetadata]) -> str:
    """Return a table of our test results next to the tutorial's."""
    rows = []
    for metadata in versions:
        published = read_tutorial(ROOT / "models", metadata.name)
        ours = stored(metadata)
        reduced = metadata.evaluation("test", "bfloat16", "openvino")
        rows.append(
            [
                f"{metadata.title} (`{metadata.name}`, version {metadata.version})",
                str(metadata.recipe.get("name", "not named")),
                f"{metadata.parameters.total:,}",
                f"{published.test_accuracy:.4f}" if published else "",
                f"**{ours.accuracy:.4f}**",
                f"{reduced.accuracy:.4f}" if reduced else "",
                f"{published.test_loss:.4f}" if published else "",
                f"{ours.loss:.4f}",
                f"{metadata.training_run.wall_time_s / 60:.1f}",
            ]
        )
    heads = [
        *("model", "recipe", "parameters", "accuracy, tutorial", "accuracy, ours", "ours in bfloat16"),
        *("loss, tutorial", "loss, ours", "training, minutes"),
    ]
    return table(heads, rows)


def artifacts_table(versions: list[ModelMetadata]) -> str:
    """Return a table of size on disk, difference from the Keras model, and load times."""
    runtimes = ["openvino float32", "openvino bfloat16", "tensorflow float32"]
    rows = [
        [
            f"`{metadata.name}/{metadata.version}`",
            f"{metadata.export.size_bytes / 1e6:.2f} MB",
            f"{metadata.export.max_abs_difference_from_keras:.1e}",
            f"{metadata.export.classes_changed_from_keras} of {stored(metadata).n:,}",
            *(
                f"{metadata.export.load_time_s[runtime] * 1000:.0f} ms"
                if runtime in metadata.export.load_time_s
                else ""
                for runtime in runtimes
            ),
        ]
        for metadata in versions
    ]
    heads = ["version", "`saved_model.pb`", "largest probability difference", "classes changed", *runtimes]
    return table(heads, rows)


def stored(metadata: ModelMetadata) -> Evaluation:
    """Return the evaluation on the test set in float32, preferably by OpenVINO.

    Raises:
        ValueError: there is none.
    """
    evaluation = metadata.evaluation("test", "float32", "openvino")
    if evaluation is None:
        raise ValueError(f"{metadata.name} version {metadata.version} has no evaluation on the test set in float32")
    return evaluation


def replace_part(text: str, name: str, content: str) -> str:
    """Return the text with new content between the marks of a generated part.

    Raises:
        ValueError: a mark is missing.
    """
    begin, end = BEGIN.format(name), END.format(name)
    if text.find(end) < text.find(begin) or begin not in text:
        raise ValueError(f"the part '{name}' needs the marks {begin} and {end}, in this order")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{content}{end}{after}"


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
