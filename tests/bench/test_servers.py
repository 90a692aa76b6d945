import json
from pathlib import Path

import numpy as np
import pytest

from bench.alternatives.triton.repository import write_backends, write_repository
from bench.servers import ALTERNATIVES, BASELINE, OUR_DEFAULT, OUR_SERVERS, SERVERS, Start
from tests.conftest import MODELS

START = Start(8000, "sequential", MODELS, MODELS / "sequential/3", Path("scratch"))


def test_every_server_on_openvino_is_measured_in_float32_and_in_its_default() -> None:
    names = ("fastapi_openvino", "fastapi_openvino_2", "triton", "triton_2")
    for name in names:
        told, default = SERVERS[name], SERVERS[f"{name}_default"]
        assert told.variables(START)["BENCH_PRECISION"] == "f32"
        assert "BENCH_PRECISION" not in default.variables(START)
        assert default.in_float32 == name
        assert (told.is_default, default.is_default) == (False, True)
        assert told.computes_in(["avx512_bf16"]) == "float32"
        assert default.computes_in(["avx512_bf16"]) == "bfloat16"
        assert default.computes_in(["avx2"]) == "float32"
    others = [server for server in ALTERNATIVES if not server.name.startswith(names)]
    assert BASELINE in {server.name for server in others}
    for server in others:
        assert server.is_default
        assert server.computes_in(["avx512_bf16"]) == "float32"


def test_ours_is_measured_in_each_precision_with_one_and_two_workers_and_without_settings() -> None:
    seen = {}
    for server in OUR_SERVERS:
        variables = server.variables(START)
        seen[server.name] = (variables.get("CIFAR10_PRECISION"), variables.get("CIFAR10_WORKERS"))
    assert seen.pop(OUR_DEFAULT) == (None, None)
    wanted = [(precision, workers) for precision in ("float32", "bfloat16", "auto") for workers in ("1", "2")]
    assert list(seen.values()) == wanted
    assert [server.name for server in OUR_SERVERS if server.is_default] == [OUR_DEFAULT]


def test_a_v2_answer_in_binary_is_read() -> None:
    probabilities = np.array([0.1, 0.7, 0.2], "<f4").tobytes()
    outputs = [{"name": "probabilities", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}}]
    answer = SERVERS["triton"].read_answer(json.dumps({"outputs": outputs}).encode() + probabilities)
    assert answer.class_id == 1
    assert answer.confidence == pytest.approx(0.7)


def test_triton_gets_a_batching_model_and_the_stub_of_its_python(tmp_path: Path) -> None:
    server = tmp_path / "pytriton/tritonserver"
    (server / "backends/python").mkdir(parents=True)
    (server / "backends/python/libtriton_python.so").write_text("library")
    (server / "python_backend_stubs/3.11").mkdir(parents=True)
    (server / "python_backend_stubs/3.11/triton_python_backend_stub").write_text("stub")
    for _ in range(2):  # again into the same folders
        write_backends(tmp_path / "backends", tmp_path / "pytriton")
        write_repository(tmp_path / "models", model="vgg16", classes=10, instances=2)
    assert sorted(file.name for file in (tmp_path / "backends/python").iterdir()) == [
        "libtriton_python.so",
        "triton_python_backend_stub",
    ]
    config = (tmp_path / "models/vgg16/config.pbtxt").read_text()
    for line in ("max_batch_size: 64", "dims: [ 10 ]", "count: 2 kind: KIND_CPU", "dynamic_batching { }"):
        assert line in config
    assert "class TritonPythonModel" in (tmp_path / "models/vgg16/1/model.py").read_text()
