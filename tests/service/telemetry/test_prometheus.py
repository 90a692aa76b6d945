import numpy as np
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from service.errors import UnavailableError
from service.inference.scheduler import Computed
from service.telemetry.prometheus import exposition
from service.telemetry.stats import Snapshot, Stats
from service.telemetry.trace import Trace

LABELS = {"model": "sequential", "version": "3"}


def samples(snapshot: Snapshot) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = exposition(snapshot, [GaugeMetricFamily("cifar10_pending_requests", "Requests", 4)]).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counts_become_counters_and_cumulative_histograms() -> None:
    stats = Stats()
    computed = Computed(np.zeros((2, 10), np.float32), queue_s=0.0001, compute_s=0.3, batch_rows=2)
    for total_s in (0.004, 0.005, 99.0):
        stats.request_finished(
            Trace(is_inference=True, model="sequential", version=3, status=200, total_s=total_s, computed=computed)
        )
    stats.request_finished(Trace(is_inference=True, status=503, error=UnavailableError.kind))
    stats.batch_computed("sequential", 3, 2, 0.3, "idle")
    found = samples(stats.snapshot())

    def value(name: str, **labels: str) -> float | None:
        return found.get((f"cifar10_{name}", frozenset(labels.items())))

    assert value("requests_total", status="200", **LABELS) == 3
    assert value("requests_total", status="503", model="", version="") == 1
    assert value("rejected_total", model="", version="") == 1
    assert value("request_seconds_bucket", le="0.0025", **LABELS) == 0
    assert value("request_seconds_bucket", le="0.005", **LABELS) == 2
    assert value("request_seconds_bucket", le="10.0", **LABELS) == 2
    assert value("request_seconds_bucket", le="+Inf", **LABELS) == 3
    assert value("request_seconds_count", **LABELS) == 3
    assert value("batch_rows_bucket", le="2.0", **LABELS) == 1
    assert value("batch_rows_sum", **LABELS) == 2
    assert value("batches_total", reason="idle", **LABELS) == 1
    assert value("compute_seconds_count", **LABELS) == 1
    assert value("decode_seconds_count", **LABELS) is None  # nothing was decoded
    assert value("pending_requests") == 4


def test_a_service_that_was_never_asked_has_no_series_yet() -> None:
    assert not [name for name, labels in samples(Snapshot()) if "model" in dict(labels)]
