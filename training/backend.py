"""The Keras backend, chosen by the environment variable KERAS_BACKEND: TensorFlow or JAX.

Both train every recipe, and each can resume the other's runs. Only TensorFlow, Keras' default, can export. Training on
JAX needs neither TensorFlow nor OpenVINO, so that a GPU machine needs only JAX.
"""

from typing import Final

import keras

from training.errors import BackendError
from training.recipes import Recipe

TENSORFLOW: Final = "tensorflow"
JAX: Final = "jax"


def backend() -> str:
    """Return `tensorflow` or `jax`.

    Raises:
        BackendError: another backend is configured.
    """
    name: str = keras.config.backend()
    if name not in (TENSORFLOW, JAX):
        raise BackendError(
            f"KERAS_BACKEND is {name}", expected=f"{TENSORFLOW} (the default) or {JAX}", remedy="unset KERAS_BACKEND"
        )
    return name


def require_tensorflow(purpose: str) -> None:
    """Check that the backend is TensorFlow, before anything slow is done.

    Raises:
        BackendError: another backend is configured.
    """
    if backend() != TENSORFLOW:
        raise BackendError(
            f"{purpose} on Keras' backend {backend()}",
            expected=f"the backend {TENSORFLOW}, which writes SavedModels",
            remedy="train with --no-export, then run `python -m training export` with KERAS_BACKEND unset",
        )


def compiles(recipe: Recipe) -> bool:
    """Return True if XLA compiles the steps: as the recipe says, and always on JAX."""
    return recipe.jit_compile or backend() == JAX


def accelerators() -> list[str]:
    """List the names of the backend's GPUs."""
    if backend() == JAX:
        import jax

        return [device.device_kind for device in jax.devices() if device.platform == "gpu"]
    import tensorflow as tf

    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return [str(entry.get("device_name", "GPU")) for entry in details]
