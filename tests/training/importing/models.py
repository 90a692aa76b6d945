"""Small models that tell dark, medium and bright pictures apart if their pixels are scaled to 0..1.

A picture's class is the one whose brightness c is nearest to its mean m: the largest of 2cm - c², which is linear.
ONNX files are encoded here, as no package of this project writes them.
"""

import os
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LABELS = ("bright", "dark", "medium")
BRIGHTNESS = (0.8, 0.2, 0.5)
SHARPNESS = 200.0
SIDE = 16
FLOAT, EXTERNAL = 1, 1


def weights() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the kernel (channels, classes) and bias (classes,) from mean colours to logits."""
    centres = np.array(BRIGHTNESS, np.float32)
    return np.tile(SHARPNESS * 2 * centres / 3, (3, 1)), -SHARPNESS * centres**2


def write_pictures(folder: Path, *, each: int = 10, labels: tuple[str, ...] = LABELS) -> Path:
    """Write PNG files of about each class's brightness into class folders."""
    random = np.random.default_rng(0)
    for label, brightness in zip(labels, BRIGHTNESS, strict=True):
        (folder / label).mkdir(parents=True)
        for number in range(each):
            pixels = np.clip(random.normal(255 * brightness, 20, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


def write_labels(file: Path) -> Path:
    """Write the labels, one a line."""
    file.write_text("\n".join(LABELS) + "\n")
    return file


def write_onnx(file: Path, *, batch: int | None = None, operation: str = "Gemm", external: str = "") -> Path:
    """Write the model as ONNX in the layout NCHW.

    Args:
        file: the output file.
        batch: the fixed batch dimension; None for any.
        operation: the name of the last operation, to write one that doesn't exist.
        external: the name of the file with the kernel, written beside it if it is a plain name.
    """
    kernel, bias = weights()
    nodes = [
        _node("GlobalAveragePool", ["images"], "pooled"),
        _node("Flatten", ["pooled"], "flat"),
        _node(operation, ["flat", "kernel", "bias"], "logits"),
    ]
    graph = b"".join(_bytes(1, node) for node in nodes) + _bytes(2, b"brightness")
    graph += _bytes(5, _tensor("kernel", kernel, external)) + _bytes(5, _tensor("bias", bias))
    graph += _bytes(11, _value("images", [batch, 3, SIDE, SIDE])) + _bytes(12, _value("logits", [batch, len(LABELS)]))
    file.write_bytes(_number(1, 8) + _bytes(7, graph) + _bytes(8, _number(2, 17)))
    if external and os.sep not in external:
        (file.parent / external).write_bytes(kernel.tobytes())
    return file


def _node(operation: str, inputs: list[str], output: str) -> bytes:
    return (
        b"".join(_bytes(1, name.encode()) for name in inputs)
        + _bytes(2, output.encode())
        + _bytes(4, operation.encode())
    )


def _tensor(name: str, values: NDArray[np.float32], external: str = "") -> bytes:
    tensor = b"".join(_number(1, size) for size in values.shape) + _number(2, FLOAT) + _bytes(8, name.encode())
    if not external:
        return tensor + _bytes(9, values.astype("<f4").tobytes())
    entry = _bytes(1, b"location") + _bytes(2, external.encode())
    return tensor + _bytes(13, entry) + _number(14, EXTERNAL)


def _value(name: str, shape: list[int | None]) -> bytes:
    sizes = b"".join(_bytes(1, _bytes(2, b"n") if size is None else _number(1, size)) for size in shape)
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, _number(1, FLOAT) + _bytes(2, sizes)))


def _bytes(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return struct.pack(f"{len(parts) + 1}B", *parts, value)
