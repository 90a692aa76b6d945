from io import StringIO

import pytest
from rich.console import Console

from cifar10_serving.artifacts.metadata import EpochResult
from training.progress import Bar, Lines, describe

EPOCH = EpochResult(epoch=2, loss=1.5, accuracy=0.25, val_loss=1.25, val_accuracy=0.5, duration_s=3.0)


def test_epoch_is_one_line_with_the_validation_part_where_there_is_one() -> None:
    assert (
        describe(EPOCH, 20)
        == "epoch 2/20: loss 1.5000, accuracy 0.2500, validation loss 1.2500, accuracy 0.5000, 3.0 s"
    )
    without = EPOCH.model_copy(update={"val_loss": None, "val_accuracy": None})
    assert describe(without, 20) == "epoch 2/20: loss 1.5000, accuracy 0.2500, 3.0 s"


def test_lines_hold_nothing_that_a_log_could_not(capsys: pytest.CaptureFixture[str]) -> None:
    with Lines() as progress:
        progress.tell("using what is there")
        progress.start("training", 100)
        progress.advance(50)
        progress.epoch(EPOCH, 20)
    assert capsys.readouterr().out == f"using what is there\n{describe(EPOCH, 20)}\n"


def test_bar_shows_what_runs_now_its_rate_and_the_time_left() -> None:
    screen = StringIO()
    with Bar(Console(file=screen, force_terminal=True, width=120)) as progress:
        progress.start("features", 100)
        progress.advance(100)
        progress.start("training", 1000)
        for _ in range(4):
            progress.advance(100)
        progress.epoch(EPOCH, 20)
    text = screen.getvalue()
    assert "features" in text
    assert "400/1000" in text
    assert "images/s" in text
    assert "epoch 2/20" in text
