"""Images in either form put to the data plane: what the protocols have in common that know one answer for all rows."""

from runtime.base import Images
from service.core.inference import Inference, Inferred
from service.core.observation import Observation


async def infer_all(
    inference: Inference,
    images: Images | None,
    files: list[bytes] | None,
    observation: Observation,
    *,
    model: str,
    version: int | str | None,
    timeout_s: float,
) -> Inferred:
    """The probabilities of all images; called within a slot. One file that can't be decoded fails them all.

    Args:
        images: (rows, 32, 32, 3) uint8 RGB 0..255; None where there are files.
        files: encoded images.

    Raises:
        RequestError: see the tree in `service.errors`.
    """
    if images is not None:
        return await inference.infer(images, observation, model=model, version=version, timeout_s=timeout_s)
    answered = await inference.infer_files(files or [], observation, model=model, version=version, timeout_s=timeout_s)
    return answered.all_or_error()
