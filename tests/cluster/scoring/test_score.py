"""Scoring by the command, with a fake runtime below it."""

import errno
import io
import json
import os
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cifar10_serving.artifacts.layout import read_metadata, version_folder
from cluster.__main__ import main
from cluster.scoring import output as output_module
from cluster.scoring import sources
from cluster.scoring.run import default_processes
from service.errors import out_of_memory
from tests.cluster.scoring.conftest import Score, rows_of
from tests.conftest import MODELS, SAMPLES, golden_class, newest_version

pa = pytest.importorskip("pyarrow", reason="needs pyarrow, from the extra score")
pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow, from the extra score")

LABELS = read_metadata(version_folder(MODELS, "sequential", newest_version("sequential"))).labels
EXPECTED = {sample.file.name: LABELS[golden_class("sequential", sample)] for sample in SAMPLES}


def test_every_image_of_a_folder_has_one_row(score: Score, images: Path, tmp_path: Path) -> None:
    assert score(images, tmp_path / "out") == 0
    rows = rows_of(tmp_path / "out")
    assert {row["key"] for row in rows} == {str(file.relative_to(images)) for file in images.rglob("*.png")}
    assert len(rows) == len(SAMPLES)
    for row in rows:
        assert row["label"] == EXPECTED[Path(row["key"]).name]
        assert row["confidence"] == pytest.approx(max(row["probabilities"]))
        assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-4)
        assert (row["model"], row["version"]) == ("sequential", newest_version("sequential"))
        assert (row["precision"], row["error"]) == ("float32", None)


def test_folder_of_parts_is_one_data_set(score: Score, images: Path, tmp_path: Path) -> None:
    score(images, tmp_path / "out", "--part-images", "3")
    assert len(list((tmp_path / "out").glob("part-*.parquet"))) == -(-len(SAMPLES) // 3)
    table = pq.read_table(tmp_path / "out")  # passes over the manifest
    assert table.num_rows == len(SAMPLES)
    assert json.loads(table.schema.metadata[output_module.LABELS_KEY]) == list(LABELS)
    manifest = json.loads((tmp_path / "out/_manifest.json").read_text())
    assert (manifest["finished"]["rows"], manifest["finished"]["errors"]) == (len(SAMPLES), 0)


def test_images_that_cannot_be_decoded_are_rows(
    score: Score, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "even/broken.png").write_bytes(SAMPLES[0].file.read_bytes()[:200])
    (images / "text.jpg").write_text("this is no image")
    (images / "empty.png").touch()
    (images / "large.bmp").write_bytes(b"BM" + bytes(3000))
    (images / "notes.txt").write_text("not an image by name")
    (images / ".hidden.png").write_bytes(b"x")
    assert score(images, tmp_path / "out") == 3
    rows = {row["key"]: row for row in rows_of(tmp_path / "out")}
    errors = {key: row["error"] for key, row in rows.items() if row["error"] is not None}
    assert errors.keys() == {"even/broken.png", "text.jpg", "empty.png", "large.bmp"}
    assert "not a supported image" in errors["text.jpg"]
    for key in errors:
        assert [rows[key][column] for column in ("label", "confidence", "probabilities")] == [None, None, None]
        assert rows[key]["model"] == "sequential"
    assert len(rows) == len(SAMPLES) + 4
    assert "skipped 1 files that are not images by name" in capsys.readouterr().err


def test_image_larger_than_the_service_accepts_is_a_row(
    score: Score, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR10_MAX_BODY_BYTES", "10000")
    (images / "huge.png").write_bytes(bytes(10_001))
    assert score(images, tmp_path / "out") == 3
    (error,) = [row["error"] for row in rows_of(tmp_path / "out") if row["error"]]
    assert "at most 10,000 bytes" in error


def test_photos_go_through_the_threads_of_the_decoder(score: Score, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (60, 90, 3), np.uint8)
    for number in range(40):
        Image.fromarray(pixels).resize((600, 400)).save(folder / f"{number:02d}.jpg")
    (folder / "05.jpg").write_bytes((folder / "06.jpg").read_bytes()[:9_000])
    assert score(folder, tmp_path / "out") == 3
    rows = rows_of(tmp_path / "out")
    assert Counter(row["error"] is None for row in rows) == {True: 39, False: 1}
    assert len({row["label"] for row in rows if row["error"] is None}) == 1


def test_top_k_keeps_the_best_classes(score: Score, images: Path, tmp_path: Path) -> None:
    score(images, tmp_path / "all")
    assert score(images, tmp_path / "top", "--top-k", "3") == 0
    for whole, row in zip(rows_of(tmp_path / "all"), rows_of(tmp_path / "top"), strict=True):
        best = np.argsort(whole["probabilities"])[::-1][:3]
        assert row["top_labels"] == [LABELS[place] for place in best]
        assert row["top_confidences"] == pytest.approx([whole["probabilities"][place] for place in best])
        assert (row["label"], row["confidence"]) == (row["top_labels"][0], row["top_confidences"][0])
        assert "probabilities" not in row


def test_names_may_have_any_bytes(score: Score, tmp_path: Path) -> None:
    name = b"caf\xe9 \xc3\xa9.png"
    (tmp_path / "in").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/" + name)).write_bytes(CONTENTS[0])
    assert score(tmp_path / "in", tmp_path / "out") == 0
    (row,) = rows_of(tmp_path / "out")
    assert (row["key"], row["error"]) == ("caf\\udce9 é.png", None)


def parquet(file: Path, columns: dict[str, object], *, group: int = 4) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file, row_group_size=group)


CONTENTS = [sample.file.read_bytes() for sample in SAMPLES]
NAMES = [sample.file.name for sample in SAMPLES]


@pytest.mark.parametrize("form", ["bytes", "struct", "paths", "large"])
def test_parquet(score: Score, tmp_path: Path, form: str) -> None:
    column = {
        "bytes": pa.array(CONTENTS),
        "large": pa.array(CONTENTS, pa.large_binary()),
        "struct": pa.array([{"bytes": content, "path": None} for content in CONTENTS]),
        "paths": pa.array([str(sample.file) for sample in SAMPLES]),
    }[form]
    parquet(tmp_path / "in/a/rows.parquet", {"image": column, "name": pa.array(NAMES)})
    options = ["--column", "image"] if form == "paths" else []
    assert score(tmp_path / "in", tmp_path / "out", *options, "--part-images", "5", "--key-column", "name") == 0
    assert {row["key"]: row["label"] for row in rows_of(tmp_path / "out")} == EXPECTED
    assert len(list((tmp_path / "out").glob("part-*.parquet"))) > 1


def test_rows_of_parquet_have_the_file_and_the_row_as_key(score: Score, tmp_path: Path) -> None:
    parquet(tmp_path / "in/a.parquet", {"image": CONTENTS})
    parquet(tmp_path / "in/b.parquet", {"image": [None, b"no image", CONTENTS[0]]})
    assert score(tmp_path / "in", tmp_path / "out", "--part-images", "5") == 3
    rows = {row["key"]: row for row in rows_of(tmp_path / "out")}
    assert rows.keys() == {f"a.parquet#{row}" for row in range(len(CONTENTS))} | {
        f"b.parquet#{row}" for row in range(3)
    }
    assert [rows[f"a.parquet#{row}"]["label"] for row in range(len(CONTENTS))] == [EXPECTED[name] for name in NAMES]
    assert "the row has no image" in rows["b.parquet#0"]["error"]
    assert "not a supported image" in rows["b.parquet#1"]["error"]
    assert rows["b.parquet#2"]["error"] is None


def test_paths_in_parquet_are_relative_to_the_input(score: Score, images: Path, tmp_path: Path) -> None:
    names = [*(str(file.relative_to(images)) for file in sorted(images.rglob("*.png"))), "missing.png"]
    parquet(images / "list.parquet", {"file": names, "split": ["test"] * len(names)})
    options = ["--format", "parquet", "--column", "file", "--key-column", "file"]
    assert score(images, tmp_path / "out", *options) == 3
    rows = {row["key"]: row for row in rows_of(tmp_path / "out")}
    assert rows.keys() == set(names)
    assert "No such file" in rows.pop("missing.png")["error"]
    assert all(row["label"] == EXPECTED[Path(key).name] for key, row in rows.items())


@pytest.mark.parametrize(
    ("columns", "options", "words"),
    [
        ({"name": ["a"]}, [], "no single column of images"),
        ({"a": [b"1"], "b": [b"2"]}, [], "name it with --column"),
        ({"a": [b"1"]}, ["--column", "b"], "no column 'b'"),
        ({"a": [b"1"]}, ["--key-column", "b"], "no column 'b'"),
        ({"a": [1]}, ["--column", "a"], "no single column of images"),
    ],
)
def test_parquet_without_the_column_is_rejected(  # noqa: PLR0917
    score: Score,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    columns: dict[str, object],
    options: list[str],
    words: str,
) -> None:
    parquet(tmp_path / "in/rows.parquet", columns)
    assert score(tmp_path / "in", tmp_path / "out", *options) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def shard(file: Path, samples: dict[str, bytes]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as tar:
        for name, content in samples.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_webdataset(score: Score, tmp_path: Path) -> None:
    long = "x" * 150  # needs an extended header
    first = {f"{long}/{name}": content for name, content in zip(NAMES, CONTENTS, strict=True)}
    shard(tmp_path / "in/0.tar", first | {f"{number}.cls": b"3" for number in range(40)})
    shard(tmp_path / "in/1.tar", {"a.jpg": b"broken", "a.json": b"{}"})
    shard(tmp_path / "in/2.tar", {"readme.txt": b"no image"})
    assert score(tmp_path / "in", tmp_path / "out") == 3
    rows = {row["key"]: row for row in rows_of(tmp_path / "out")}
    assert rows.pop("1.tar/a.jpg")["error"] is not None
    assert {key.removeprefix(f"0.tar/{long}/"): row["label"] for key, row in rows.items()} == EXPECTED
    assert len(list((tmp_path / "out").glob("part-*.parquet"))) == 3


def test_one_file_is_an_input(score: Score, tmp_path: Path) -> None:
    shard(tmp_path / "in/0.tar", dict(zip(NAMES, CONTENTS, strict=True)))
    shard(tmp_path / "in/1.tar", {"other.png": CONTENTS[0]})
    assert score(tmp_path / "in/0.tar", tmp_path / "out") == 0
    assert {row["key"] for row in rows_of(tmp_path / "out")} == {f"0.tar/{name}" for name in NAMES}


def test_truncated_tar_ends_the_run_and_the_other_parts_stay(
    score: Score, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard(tmp_path / "in/0.tar", dict(zip(NAMES, CONTENTS, strict=True)))
    shard(tmp_path / "in/1.tar", dict(zip(NAMES, CONTENTS, strict=True)))
    whole = (tmp_path / "in/1.tar").read_bytes()
    (tmp_path / "in/1.tar").write_bytes(whole[: len(whole) // 4])
    assert score(tmp_path / "in", tmp_path / "out", "--threads", "1") == 1
    assert "1.tar can't be read" in capsys.readouterr().err
    assert {row["key"] for row in rows_of(tmp_path / "out")} == {f"0.tar/{name}" for name in NAMES}


def test_run_goes_on_with_the_parts_that_are_missing(score: Score, images: Path, tmp_path: Path) -> None:
    (images / "broken.png").write_text("no image")
    options = ["--part-images", "2"]
    assert score(images, tmp_path / "out", *options) == 3
    before = {file: file.stat().st_mtime_ns for file in sorted((tmp_path / "out").glob("part-*"))}
    rows = rows_of(tmp_path / "out")
    *kept, lost = before
    lost.unlink()
    (tmp_path / "out/.unfinished-part").touch()
    assert score(images, tmp_path / "out", *options) == 3  # the error is in a part that is not scored again
    assert rows_of(tmp_path / "out") == rows
    assert all(file.stat().st_mtime_ns == before[file] for file in kept)
    assert not (tmp_path / "out/.unfinished-part").exists()


@pytest.mark.parametrize(
    ("options", "model", "words"),
    [
        ([], "functional", "model was sequential, and is functional now"),
        ([], "sequential@1", f"version was {newest_version('sequential')}, and is 1 now"),
        (["--top-k", "2"], "sequential", "top_k was None, and is 2 now"),
        (["--part-images", "7"], "sequential", "part_images was 2, and is 7 now"),
    ],
)
def test_run_does_not_go_on_with_another_model_or_other_options(  # noqa: PLR0917
    score: Score,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    model: str,
    words: str,
) -> None:
    assert score(images, tmp_path / "out", "--part-images", "2") == 0
    before = sorted((tmp_path / "out").iterdir())
    assert score(images, tmp_path / "out", "--part-images", "2", *options, model=model) == 2
    assert words in capsys.readouterr().err
    assert sorted((tmp_path / "out").iterdir()) == before


def test_run_does_not_go_on_with_another_input(
    score: Score, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "m.png").write_bytes(CONTENTS[0])
    options = ["--part-images", "2"]
    assert score(images, tmp_path / "out", *options) == 0
    assert score(images / "even", tmp_path / "out", *options) == 2
    assert "holds another run: input was" in capsys.readouterr().err
    (images / "m.png").write_bytes(CONTENTS[0] * 2)
    assert score(images, tmp_path / "out", *options) == 2
    assert "the input has changed since the run began" in capsys.readouterr().err
    for file in images.rglob("*.png"):
        if not file.is_relative_to(images / "even"):
            file.unlink()
    assert score(images, tmp_path / "out", *options) == 2
    assert "the input has changed since the run began" in capsys.readouterr().err


def test_output_folder_with_other_files_is_rejected(
    score: Score, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/part-of-something.parquet").touch()
    assert score(images, tmp_path / "out") == 2
    assert "holds 1 files" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert score(images, tmp_path / "file") == 2
    (tmp_path / "out/_manifest.json").write_text("{}")
    assert score(images, tmp_path / "out") == 2
    assert "not a manifest of this command" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("sequentail", "did you mean 'sequential'?"),
        ("sequential@9", "has no version '9'"),
        ("sequential@canary", "has no version 'canary'"),
        ("sequential@-", "should be a whole number from 1, or a label"),
        ("@1", "there is no model ''"),
    ],
)
def test_unknown_model_is_rejected(  # noqa: PLR0917
    score: Score, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str, words: str
) -> None:
    assert score(images, tmp_path / "out", model=model) == 2
    assert words in capsys.readouterr().err


def test_version_is_that_of_the_service(score: Score, images: Path, one_model: Path, tmp_path: Path) -> None:
    (one_model / "sequential/2").symlink_to(version_folder(MODELS, "sequential", 2))
    (one_model / "sequential/serving.json").write_text('{"policy": "all", "labels": {"stable": 1, "canary": 2}}')
    for model, version in [("sequential", 1), ("sequential@canary", 2), ("sequential@2", 2)]:
        output = tmp_path / model
        assert score(images, output, "--models", str(one_model), model=model) == 0
        assert {row["version"] for row in rows_of(output)} == {version}


def test_models_in_a_store_are_mirrored_first(
    score: Score, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(images, tmp_path / "out", "--models", "s3://bucket/models") == 2
    assert "mirror it with `python -m service check`" in capsys.readouterr().err


def test_damaged_model_scores_nothing(
    score: Score, images: Path, one_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (one_model / "sequential/1/saved_model.pb").open("r+b") as stream:
        stream.write(b"x")
    assert score(images, tmp_path / "out", "--models", str(one_model)) == 1
    assert "is not what was published" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_input_without_images_is_rejected(score: Score, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score(tmp_path / "missing", tmp_path / "out") == 2
    (tmp_path / "in").mkdir()
    assert score(tmp_path / "in", tmp_path / "out") == 2
    assert "holds nothing to score" in capsys.readouterr().err
    assert score(tmp_path / "in/x.tar", tmp_path / "out") == 2
    shard(tmp_path / "in/a.tar", {})
    (tmp_path / "in/b.png").touch()
    assert score(tmp_path / "in", tmp_path / "out") == 2
    assert "several kinds of input: 1 images, 1 webdataset" in capsys.readouterr().err
    assert score(tmp_path / "in", tmp_path / "out", "--format", "webdataset") == 0
    assert rows_of(tmp_path / "out") == []


def test_store_without_its_package_is_rejected(
    score: Score, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score("nowhere://bucket/images", tmp_path / "out") == 2
    assert "nowhere:// addresses can't be used here" in capsys.readouterr().err


def test_failing_disk_ends_the_run(
    score: Score, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    really_open = os.open

    def fail(path: str, *others: Any, **options: Any) -> int:
        if str(path).endswith(".png"):
            raise OSError(errno.EIO, "Input/output error")
        return really_open(path, *others, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", fail)
        assert score(images, tmp_path / "out") == 1
    assert "Input/output error" in capsys.readouterr().err
    assert rows_of(tmp_path / "out") == []
    assert score(images, tmp_path / "out") == 0
    assert len(rows_of(tmp_path / "out")) == len(SAMPLES)


def test_shortage_of_memory_ends_the_run(
    score: Score, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise out_of_memory()

    with monkeypatch.context() as patched:
        patched.setattr("cluster.scoring.scorer.decode_small", fail)
        assert score(images, tmp_path / "out") == 1
    assert "not enough memory" in capsys.readouterr().err
    assert score(images, tmp_path / "out") == 0


def test_parts_are_neither_too_small_nor_too_large() -> None:
    assert [sources.part_images_for(total) for total in (1, 50_000, 10**9)] == [256, 896, 65_536]


def test_chunks_of_large_inputs_have_fewer_images() -> None:
    assert [sources.chunk_images_for(side * side * 3) for side in (32, 512, 1024)] == [128, 42, 10]


@pytest.mark.parametrize(
    ("cores", "image_s", "processes"), [(2, 150e-6, 2), (64, 5e-6, 47), (64, 140e-6, 3), (2, 1e-3, 1), (8, None, 1)]
)
def test_quick_models_get_more_processes(
    monkeypatch: pytest.MonkeyPatch, cores: int, image_s: float | None, processes: int
) -> None:
    monkeypatch.setattr("cluster.scoring.run.usable_cores", lambda: cores)
    assert default_processes(image_s) == processes


def test_command_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "score" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["score", "--help"])
    assert ended.value.code == 0
    assert "exit codes: 0 done" in capsys.readouterr().out
