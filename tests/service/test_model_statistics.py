import numpy as np

from service.core.batch_queue import Computed
from service.core.observation import Observation
from service.model_statistics import ModelStatistics


def observed(**parts: object) -> Observation:
    return Observation(is_inference=True, model="sequential", version=1, total_s=0.5, **parts)  # type: ignore[arg-type]


def test_requests_are_counted_by_version_and_by_their_end() -> None:
    statistics = ModelStatistics(clock=lambda: 1234.5)
    computed = Computed(np.zeros((3, 10), np.float32), queue_s=0.1, compute_s=0.2, batch_rows=3)
    statistics.request_ended(observed(computed=computed, decode_s=0.05))
    statistics.request_ended(observed(from_cache=True))
    statistics.request_ended(observed(error="deadline-passed"))
    known = statistics.of("sequential", 1)
    assert (known.success.count, known.success.total_s) == (2, 1.0)
    assert (known.fail.count, known.fail.total_s) == (1, 0.5)
    assert (known.queue.count, known.queue.total_s) == (1, 0.1)
    assert (known.compute.total_s, known.decode.total_s) == (0.2, 0.05)
    assert (known.cached, known.last_inference_s) == (1, 1234.5)


def test_batches_are_counted_by_size() -> None:
    statistics = ModelStatistics()
    for rows in (3, 3, 1):
        statistics.batch_computed("sequential", 1, rows, 0.25)
    known = statistics.of("sequential", 1)
    assert (known.rows, known.executions) == (7, 3)
    assert (known.batches[3].count, known.batches[3].total_s) == (2, 0.5)


def test_what_reached_no_version_or_asked_for_no_prediction_is_not_counted() -> None:
    statistics = ModelStatistics()
    statistics.request_ended(Observation(is_inference=True))
    statistics.request_ended(Observation(model="sequential", version=1))
    assert statistics.of("sequential", 1).success.count == 0
