"""Measure OpenVINO without a server: images/s of a published version by layout and batch size. Prints JSON.

python runtime_alone.py FOLDER PRECISION SECONDS_PER_BATCH BATCH...

Two layouts: one call at a time, compiled for latency, which on one socket uses every core; and a call a core, each with
one thread and an inference request of its own.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # see cifar10_serving/runtimes/telemetry.py
import openvino  # noqa: E402  # after the line above


def main(arguments: list[str]) -> None:
    """Print {batch: images/s} of both layouts, and the largest difference from golden.npz."""
    folder, precision = Path(arguments[0]), arguments[1]
    seconds_per_batch, batches = float(arguments[2]), [int(batch) for batch in arguments[3:]]
    core = openvino.Core()
    model = core.read_model(folder)
    hint = {"float32": openvino.Type.f32, "bfloat16": openvino.Type.bf16}[precision]
    with np.load(folder / "golden.npz", allow_pickle=False) as golden:
        images, probabilities = golden["images"], golden["probabilities"]
    cores = len(os.sched_getaffinity(0))
    layouts: dict[str, tuple[dict[str, Any], int]] = {
        "one_call": ({"PERFORMANCE_HINT": "LATENCY"}, 1),
        "call_a_core": ({"NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores}, cores),
    }
    rates: dict[str, dict[int, float]] = {}
    difference = 0.0
    for layout, (settings, calls) in layouts.items():
        compiled = core.compile_model(model, "CPU", {**settings, "INFERENCE_PRECISION_HINT": hint})
        requests = [compiled.create_infer_request() for _ in range(calls)]
        difference = max(difference, float(np.abs(requests[0].infer([images])[0] - probabilities).max()))
        rates[layout] = {batch: _rate(requests, images, batch, seconds_per_batch) for batch in batches}
    print(json.dumps({"images_per_s": rates, "golden_difference": difference}))


def _rate(requests: list[Any], images: NDArray[np.uint8], batch: int, seconds: float) -> float:
    """Measure images/s if each request infers batches of this size, one after the other, in a thread of its own."""
    rows = [np.ascontiguousarray(np.resize(images, (batch, *images.shape[1:]))) for _ in requests]
    for request, own in zip(requests, rows, strict=True):
        request.infer([own], share_inputs=True)  # the first one of a new shape compiles
    counts = [0] * len(requests)
    start_s = time.perf_counter()

    def infer(number: int) -> None:
        while time.perf_counter() - start_s < seconds:
            requests[number].infer([rows[number]], share_inputs=True)
            counts[number] += 1

    threads = [threading.Thread(target=infer, args=(number,)) for number in range(1, len(requests))]
    for thread in threads:
        thread.start()
    infer(0)
    for thread in threads:
        thread.join()
    return sum(counts) * batch / (time.perf_counter() - start_s)


if __name__ == "__main__":
    main(sys.argv[1:])
