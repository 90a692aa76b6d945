"""TensorFlow: the GPU runtime, and the reference on the CPU.

The only module outside training that imports TensorFlow. GPU memory grows as needed instead of being taken
whole at start (https://www.tensorflow.org/guide/gpu#limiting_gpu_memory_growth).
"""

import os
from pathlib import Path

import numpy as np

from catalog.errors import ModelLoadError, RuntimeUnavailableError
from catalog.metadata import Precision, RuntimeName
from runtime.base import DEFAULT_MAX_BATCH_ROWS, Images, Probabilities
from runtime.fixed_sizes import batch_sizes, compute_in_sizes

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf


class TensorFlowRuntime:
    """TensorFlow on one device, in float32.

    Args:
        device: `cpu`, `gpu` (the first one) or `gpu:N`.
        max_batch_rows: on a GPU, the largest of the sizes to which batches are padded.

    Raises:
        RuntimeUnavailableError: a GPU that TensorFlow doesn't see, or another precision than float32.
    """

    name: RuntimeName = "tensorflow"

    def __init__(
        self,
        device: str = "cpu",
        precision: Precision = "float32",
        *,
        max_batch_rows: int = DEFAULT_MAX_BATCH_ROWS,
    ) -> None:
        if precision != "float32":
            raise RuntimeUnavailableError(
                f"precision {precision} with TensorFlow", expected="float32", remedy="set runtime to openvino"
            )
        self.precision: Precision = precision
        self.version = str(tf.__version__)
        gpus = tf.config.list_physical_devices("GPU")
        # TensorFloat-32 has the 10 bits of float16: this runtime says float32.
        tf.config.experimental.enable_tensor_float_32_execution(False)
        self._sizes: tuple[int, ...] = ()
        if device == "cpu":
            _use_only([])
            self.device = "cpu"
            self._placement = "/CPU:0"
            return
        index = int(device.partition(":")[2] or 0)
        if index >= len(gpus):
            raise RuntimeUnavailableError(
                f"device {device} was asked for, and TensorFlow {tf.__version__} "
                f"sees {_describe([*gpus, *tf.config.list_physical_devices('CPU')])}",
                expected=f"a GPU number {index} with its driver, and TensorFlow with CUDA (extra 'gpu')",
                remedy="check nvidia-smi and the container's GPU reservation, or set device to cpu",
            )
        self.device = f"gpu:{index}"
        self._sizes = batch_sizes(max_batch_rows)
        self._placement = "/GPU:0" if _use_only([gpus[index]]) else f"/GPU:{index}"

    def load(self, folder: Path) -> "TensorFlowModel":
        """See `runtime.base.Runtime.load`."""
        try:
            with tf.device(self._placement):
                loaded = tf.saved_model.load(str(folder))
            return TensorFlowModel(loaded, self._placement, self._sizes)
        except (OSError, ValueError, KeyError, RuntimeError, tf.errors.OpError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ModelLoadError(
                f"TensorFlow {self.version} can't load {folder}: {lines[0]}",
                remedy="restore the version, or publish it again",
            ) from None


class TensorFlowModel:
    """The `serving_default` signature of a loaded SavedModel.

    Args:
        placement: TensorFlow's name of a device.
        sizes: to which batches are padded, ascending; none where the device takes every size alike.
    """

    parallel_calls = 1

    def __init__(self, loaded: "tf.Module", placement: str, sizes: tuple[int, ...] = ()) -> None:
        self._loaded = loaded  # a signature doesn't keep its SavedModel alive
        self._placement = placement
        self._sizes = sizes
        self.warm_up_rows = sizes or batch_sizes(DEFAULT_MAX_BATCH_ROWS)
        self._signature = loaded.signatures["serving_default"]

    def predict(self, images: Images) -> Probabilities:
        """See `runtime.base.LoadedModel.predict`."""
        return compute_in_sizes(self._compute, images, self._sizes) if self._sizes else self._compute(images)

    def predict_alone(self, images: Images) -> Probabilities:
        """See `runtime.base.LoadedModel.predict_alone`."""
        return self.predict(images)

    def _compute(self, images: Images) -> Probabilities:
        with tf.device(self._placement):
            outputs = self._signature(images=tf.constant(images))
        return np.asarray(outputs["probabilities"], np.float32)


def sees_gpu() -> bool:
    """Whether TensorFlow sees a GPU on this machine."""
    return bool(tf.config.list_physical_devices("GPU"))


def _use_only(gpus: "list[tf.config.PhysicalDevice]") -> bool:
    """Hide every other GPU, and let the memory of these grow; False where TensorFlow had begun and all are visible."""
    try:
        tf.config.set_visible_devices(gpus, "GPU")
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        return False
    return True


def _describe(devices: "list[tf.config.PhysicalDevice]") -> str:
    return ", ".join(device.name.removeprefix("/physical_device:") for device in devices) or "no device"
