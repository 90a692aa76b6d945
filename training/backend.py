"""The framework that Keras computes with, which the environment variable KERAS_BACKEND names: TensorFlow, or JAX.

Either trains a recipe, and what one has trained the other can go on with. TensorFlow, Keras' default, is the one that
exports. On JAX neither TensorFlow nor OpenVINO needs to be installed, so that it trains where there is a GPU for it.
"""

from typing import Final

import keras

from training.errors import BackendError
from training.recipes import Recipe

TENSORFLOW: Final = "tensorflow"
JAX: Final = "jax"


def backend() -> str:
    """`tensorflow` or `jax`.

    Raises:
        BackendError: it is another.
    """
    name: str = keras.config.backend()
    if name not in (TENSORFLOW, JAX):
        raise BackendError(
            f"KERAS_BACKEND is {name}", expected=f"{TENSORFLOW} (the default) or {JAX}", remedy="unset KERAS_BACKEND"
        )
    return name


def require_tensorflow(purpose: str) -> None:
    """Find out before anything slow whether this backend is the one that can do it.

    Raises:
        BackendError: it is not.
    """
    if backend() != TENSORFLOW:
        raise BackendError(
            f"{purpose} on Keras' backend {backend()}",
            expected=f"the backend {TENSORFLOW}, which SavedModels are written by",
            remedy="train with --no-export, then publish with `python -m training export` where KERAS_BACKEND is unset",
        )


def compiles(recipe: Recipe) -> bool:
    """Whether XLA compiles the steps: as the recipe says, but on JAX always, which does nothing else well."""
    return recipe.jit_compile or backend() == JAX


def accelerators() -> list[str]:
    """The GPUs that the backend sees, as it names them."""
    if backend() == JAX:
        import jax

        return [device.device_kind for device in jax.devices() if device.platform == "gpu"]
    import tensorflow as tf

    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return [str(entry.get("device_name", "GPU")) for entry in details]
