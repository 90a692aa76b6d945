import pytest

from bench.ratios import (
    best_alternative_rate,
    best_rate,
    median,
    over_rounds,
    rate,
    rate_to_baseline,
    ratio,
    runtime_rate,
)
from tests.bench.fake_results import measured_round, results, trial

RUN = results(measured_round(0, 300), measured_round(1, 500), measured_round(2, 900))


def test_ratios_are_taken_within_each_round() -> None:
    assert over_rounds(RUN, rate_to_baseline("ours", "sequential", 1)) == [3, 5, 9]
    assert median([3.0, 9.0, 5.0]) == 5
    assert median([]) is None


def test_the_best_alternative_is_neither_ours_nor_a_baseline() -> None:
    assert over_rounds(RUN, best_alternative_rate("sequential", 1)) == [200, 200, 200]


def test_best_rate_is_of_any_concurrency_and_the_runtimes_of_any_batch() -> None:
    assert over_rounds(RUN, ratio(best_rate("ours", "sequential"), runtime_rate("sequential", "float32"))) == [
        pytest.approx(0.15),
        pytest.approx(0.25),
        pytest.approx(0.45),
    ]


def test_what_was_not_measured_gives_no_ratio() -> None:
    silent = measured_round(0, 300).model_copy(update={"trials": [trial("ours", "sequential", 10)]})
    assert over_rounds(results(silent), rate_to_baseline("ours", "sequential", 1)) == []
    assert over_rounds(RUN, rate("ours", "vgg16", 1)) == []
    dead = measured_round(0, 300).model_copy(
        update={"trials": [trial("ours", "sequential", 10), trial("plain_fastapi", "sequential", 0)]}
    )
    assert over_rounds(results(dead), rate_to_baseline("ours", "sequential", 1)) == []
