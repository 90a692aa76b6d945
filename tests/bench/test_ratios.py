import pytest

from bench.ratios import (
    best_rate,
    lowest_p99_ms,
    median,
    over_rounds,
    peers,
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


@pytest.mark.parametrize(
    ("precision", "cpu_features", "compared"),
    [
        ("float32", ["avx512_bf16"], ["fastapi_openvino", "plain_fastapi", "plain_fastapi_2"]),
        ("bfloat16", ["avx512_bf16"], ["fastapi_openvino_default"]),
        ("default", ["avx512_bf16"], ["fastapi_openvino_default", "plain_fastapi", "plain_fastapi_2"]),
        ("bfloat16", [], []),
    ],
)
def test_peers_compute_in_the_same_precision(precision: str, cpu_features: list[str], compared: list[str]) -> None:
    assert peers(results(cpu_features=cpu_features), precision) == compared


def test_without_bfloat16_the_servers_in_float32_are_the_default_ones() -> None:
    run = results(cpu_features=["avx2"])
    run = run.model_copy(update={"servers": [name for name in run.servers if not name.endswith("_default")]})
    assert peers(run, "default") == peers(run, "float32") == ["fastapi_openvino", "plain_fastapi", "plain_fastapi_2"]


def test_the_best_alternative_is_the_fastest_in_the_same_precision() -> None:
    for precision, best in (("float32", 200), ("bfloat16", 400), ("default", 400)):
        assert over_rounds(RUN, best_rate(peers(RUN, precision), "sequential", 1)) == [best] * 3


def test_photographs_have_rates_of_their_own() -> None:
    assert over_rounds(RUN, rate("ours", "sequential", 8, "photo")) == [150, 250, 450]
    assert over_rounds(RUN, rate("ours", "sequential", 8)) == []
    assert over_rounds(RUN, best_rate(peers(RUN, "float32"), "sequential", 8, "photo")) == [100] * 3


def test_the_lowest_p99_may_be_that_of_a_slower_server() -> None:
    quick = trial("plain_fastapi", "sequential", 10, p50_ms=0.5)
    run = results(measured_round(0, 300, trials=[quick, trial("plain_fastapi_2", "sequential", 200)]))
    assert over_rounds(run, lowest_p99_ms(peers(run, "float32"), "sequential", 1)) == [2]


def test_the_runtime_counts_in_its_better_layout_with_batches_up_to_the_concurrency() -> None:
    assert over_rounds(RUN, runtime_rate("sequential", "float32", 8)) == [1000] * 3
    assert over_rounds(RUN, runtime_rate("sequential", "float32", 32)) == [4000] * 3
    assert over_rounds(RUN, runtime_rate("sequential", "float32")) == [4000] * 3
    assert over_rounds(RUN, ratio(rate("ours", "sequential", 64), runtime_rate("sequential", "float32", 64))) == [
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
