import pytest

from bench.goals import Judged, Verdict, judge
from tests.bench.fake_results import measured_round, overload, results, trial, whole_start


def judged(text: str, *rounds_of_ours: float, **parts: object) -> Judged:
    run = results(*(measured_round(number, ours, **parts) for number, ours in enumerate(rounds_of_ours)))
    [found] = [one for one in judge(run) if one.goal.text.startswith(text)]
    return found


@pytest.mark.parametrize(
    ("ours", "verdict", "measured"),
    [
        (500, Verdict.MET, "2.500 times"),
        (499.9, Verdict.NOT_MET, "2.499 times"),
        (400, Verdict.NOT_MET, "2.000 times"),
    ],
)
def test_times_the_best_alternative(ours: float, verdict: Verdict, measured: str) -> None:
    found = judged("sequential, float32, concurrency 1: requests/s", ours)
    assert (found.verdict, found.measured) == (verdict, measured)


def test_the_median_of_the_rounds_counts_and_the_worst_is_shown() -> None:
    found = judged("sequential, float32, concurrency 1: requests/s", 200, 700, 800)
    assert (found.verdict, found.measured, found.worst) == (Verdict.MET, "3.500 times", "1.000 times")


def test_each_precision_has_goals_of_its_own() -> None:
    for precision, measured in (("float32", "3.000"), ("bfloat16", "1.500"), ("default", "1.500")):
        found = judged(f"sequential, {precision}, concurrency 1: requests/s", 600)
        assert found.measured == f"{measured} times"


def test_a_precision_in_which_ours_was_not_measured_has_no_goals() -> None:
    run = results(measured_round(0, 600))
    run = run.model_copy(update={"servers": [name for name in run.servers if name != "ours_bfloat16"]})
    assert not [one for one in judge(run) if "bfloat16" in one.goal.text]


def test_photographs_are_compared_with_photographs() -> None:
    found = judged("sequential, photo, float32, concurrency 8: requests/s", 400)
    assert (found.verdict, found.measured) == (Verdict.MET, "2.000 times")
    assert judged("sequential, 12mp, float32, concurrency 8: requests/s", 400).verdict is Verdict.NOT_MEASURED


def test_the_share_of_the_runtime_is_of_its_better_layout() -> None:
    ours = trial("ours", "vgg16", 1700)  # twice that at 64
    found = judged("vgg16, float32, concurrency 64: requests/s vs the runtime", 600, trials=[ours])
    assert (found.verdict, found.measured) == (Verdict.MET, "0.850 times")


def test_binary_infer_is_compared_with_its_own_runtime_calls() -> None:
    found = judged("sequential: V2 binary infer", 600)
    assert (found.verdict, found.measured) == (Verdict.MET, "1.250 times")
    assert judged("vgg16: V2 binary infer", 600).verdict is Verdict.NOT_MEASURED


def test_what_is_not_published_is_not_measured() -> None:
    assert judged("vgg16, float32, concurrency 8: requests/s vs the best", 600).verdict is Verdict.NOT_MEASURED
    assert judged("overload: p99", 600).verdict is Verdict.NOT_MEASURED


def test_overload() -> None:
    parts = {"overload": overload()}
    assert judged("overload at 3 times", 600, **parts).measured == "0.950 times"
    assert judged("overload: p99", 600, **parts).verdict is Verdict.MET
    assert judged("overload: errors", 600, **parts).verdict is Verdict.MET  # 503 and 504 are none
    parts = {"overload": overload(statuses={200: 100, 500: 1}, unanswered=2, rejected_p99_ms=50)}
    assert judged("overload: errors", 600, **parts).measured == "3.000"
    assert judged("overload: errors", 600, **parts).verdict is Verdict.NOT_MET
    assert judged("overload: p99", 600, **parts).verdict is Verdict.NOT_MET


def test_overload_that_was_none_gets_no_verdict() -> None:
    waited = overload(statuses={200: 20000}, offered_per_s=2000, rejected_p99_ms=None)
    for text in ("overload at 3 times", "overload: p99", "overload: errors"):
        assert judged(text, 600, overload=waited).verdict is Verdict.NO_OVERLOAD
    endured = overload(statuses={200: 30000}, rejected_p99_ms=None)  # it got the wanted rate, and took it all
    assert judged("overload at 3 times", 600, overload=endured).measured == "3.000 times"
    both = results(measured_round(0, 600, overload=waited), measured_round(1, 600, overload=overload()))
    [goodput] = [one for one in judge(both) if one.goal.text.startswith("overload at 3 times")]
    assert (goodput.measured, goodput.worst) == ("0.950 times", "0.950 times")


def test_start_and_memory_count_with_six_models_only() -> None:
    parts = {"whole_start": whole_start()}
    assert judged("first start until ready", 600, **parts).verdict is Verdict.NOT_MET
    assert judged("next start until ready", 600, **parts).verdict is Verdict.MET
    memory = judged("resident memory", 600, **parts)
    assert (memory.verdict, memory.measured) == (Verdict.NOT_MET, "600.001 MB")  # a byte too many, not rounded away
    assert judged("import", 600, **parts).measured == "0.600 s"
    parts = {"whole_start": whole_start(models=3)}
    assert judged("next start until ready", 600, **parts).verdict is Verdict.NOT_MEASURED
