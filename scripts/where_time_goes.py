"""Measure how the time of a prediction is spent, from a real server's histograms before and after load from wrk.

    python -m scripts.where_time_goes [--model sequential] [--concurrency 1 8 64]

`outside` is the time that the client sees and the service's clock doesn't: sockets, reading HTTP, waiting for the event
loop. `compute` is a request's share of its batch. `other` is the rest inside: parsing the form, routing, writing the
answer, and waiting for the other images of its batch.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from bench.load import Target, require_wrk, run_wrk
from bench.uploads import BodyKind, varied_uploads, write_bodies
from cifar10_serving.artifacts.layout import published_versions, version_folder
from scripts.observing_cost import processor_s
from service.telemetry.prometheus import PREFIX
from tests.conftest import MODELS, ROOT
from tests.e2e.server import running_server

WARM_UP_S: Final = 2
SECONDS: Final = 6
STEPS: Final = ("decode", "queue", "compute")
TOTAL: Final = f"{PREFIX}request_seconds"
ROWS: Final = f"{PREFIX}batch_rows"


def main() -> None:
    """Print a line for each concurrency, in microseconds per request."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--model", default="sequential")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 64])
    arguments = parser.parse_args()
    require_wrk()
    columns = ("requests/s", "client", *STEPS, "other", "outside", "processor", "batch rows")
    print(f"{arguments.model}, microseconds per request\n{'at':>4}" + "".join(f"{name:>12}" for name in columns))
    newest = version_folder(MODELS, arguments.model, published_versions(MODELS, arguments.model)[-1])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count = write_bodies(folder / "bodies", varied_uploads(ROOT / "tests/images", [newest]), BodyKind.FORM)
        with running_server(folder / "log", CIFAR10_MODELS=str(MODELS)) as server:
            url = f"{server.url}/predict?model={arguments.model}"
            target = Target(url, folder / "bodies", count, BodyKind.FORM.value)
            for concurrency in arguments.concurrency:
                run_wrk(target, concurrency=concurrency, seconds=WARM_UP_S)
                used_s, before = processor_s(server.process.pid), _sums(server.url)
                load = run_wrk(target, concurrency=concurrency, seconds=SECONDS)
                used_s, after = processor_s(server.process.pid) - used_s, _sums(server.url)
                spent = {name: after[name] - before.get(name, 0.0) for name in after}
                steps_us = [spent[f"{PREFIX}{step}_seconds_sum"] / load.requests * 1e6 for step in STEPS]
                total_us = spent[f"{TOTAL}_sum"] / load.requests * 1e6
                client_us = concurrency / load.requests_per_s * 1e6
                figures = [
                    load.requests_per_s,
                    client_us,
                    *steps_us,
                    total_us - sum(steps_us),
                    client_us - total_us,
                    used_s / load.requests * 1e6,
                ]
                rows = spent[f"{ROWS}_sum"] / spent[f"{ROWS}_count"]
                print(f"{concurrency:4}" + "".join(f"{figure:12,.0f}" for figure in figures) + f"{rows:12.1f}")


def _sums(url: str) -> dict[str, float]:
    """Return the sums and counts of all histograms so far, over all labels."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    sums: dict[str, float] = {}
    for family in families:
        for sample in family.samples:
            if sample.name.endswith(("_sum", "_count")):
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


if __name__ == "__main__":
    main()
