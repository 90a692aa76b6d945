"""Requests of the Open Inference Protocol as in its documentation, and their expected answers."""

import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar10_serving.artifacts.layout import version_folder
from cifar10_serving.runtimes.golden import read_golden
from tests.conftest import MODELS, newest_version

MODEL = "sequential"
GOLDEN = read_golden(version_folder(MODELS, MODEL, newest_version(MODEL)) / "golden.npz")
INFER = f"/v2/models/{MODEL}/infer"
HEADER_LENGTH = "Inference-Header-Content-Length"
TOLERANCE = 1e-5


def image_input(rows: int = 2, **changes: Any) -> dict[str, Any]:
    """Return the first golden images as a flat input in JSON."""
    data = GOLDEN.images[:rows].ravel().tolist()
    return {"name": "images", "datatype": "UINT8", "shape": [rows, 32, 32, 3], "data": data} | changes


def binary_input(size: int, rows: int = 2, **changes: Any) -> dict[str, Any]:
    """Return the same input with its contents after the JSON."""
    head = {"name": "images", "datatype": "UINT8", "shape": [rows, 32, 32, 3]}
    return head | {"parameters": {"binary_data_size": size}} | changes


def with_binary(document: Any, content: bytes) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a request with tensors after its JSON."""
    head = json.dumps(document).encode()
    return head + content, {HEADER_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}


def elements(*contents: bytes) -> bytes:
    """Return a BYTES tensor in its raw form."""
    return b"".join(struct.pack("<I", len(content)) + content for content in contents)


def assert_golden(values: Any, rows: int = 2) -> None:
    """Check that these are the probabilities of the first golden images."""
    found: NDArray[np.float32] = np.asarray(values, np.float32).reshape(-1, 10)
    assert found.shape == (rows, 10)
    assert np.abs(found - GOLDEN.probabilities[:rows]).max() < TOLERANCE
