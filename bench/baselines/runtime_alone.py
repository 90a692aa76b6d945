"""Measure OpenVINO without a server: images/s of a published version at each batch size. Prints JSON.

python runtime_alone.py FOLDER PRECISION SECONDS_PER_BATCH BATCH...

One thread calls, like the service's own runtime. The model is compiled for latency, which on one socket uses every core
for a batch.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # see cifar10_serving/runtimes/telemetry.py
import openvino  # noqa: E402  # after the line above


def main(arguments: list[str]) -> None:
    """Measure and print {batch: images/s}, the largest difference from golden.npz, and the load time."""
    folder, precision = Path(arguments[0]), arguments[1]
    seconds_per_batch = float(arguments[2])
    start_s = time.perf_counter()
    core = openvino.Core()
    hints = {"float32": openvino.Type.f32, "bfloat16": openvino.Type.bf16}
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hints[precision]}
    request = core.compile_model(core.read_model(folder), "CPU", settings).create_infer_request()
    load_s = time.perf_counter() - start_s
    with np.load(folder / "golden.npz", allow_pickle=False) as golden:
        images, probabilities = golden["images"], golden["probabilities"]
    difference = float(np.abs(request.infer([images])[0] - probabilities).max())
    rates = {}
    for batch in map(int, arguments[3:]):
        rows = np.ascontiguousarray(np.resize(images, (batch, *images.shape[1:])))
        request.infer([rows], share_inputs=True)  # the first one of a new shape compiles
        calls, start_s = 0, time.perf_counter()
        while (elapsed_s := time.perf_counter() - start_s) < seconds_per_batch:
            request.infer([rows], share_inputs=True)
            calls += 1
        rates[batch] = calls * batch / elapsed_s
    print(json.dumps({"images_per_s": rates, "golden_difference": difference, "load_s": load_s}))


if __name__ == "__main__":
    main(sys.argv[1:])
