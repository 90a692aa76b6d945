"""An infer request put to the data plane: what REST and gRPC have in common."""

from service.api.open_inference.infer_request import InferRequest
from service.core.inference import Inference, Inferred
from service.core.observation import Observation


async def infer(
    inference: Inference,
    request: InferRequest,
    observation: Observation,
    *,
    model: str,
    version: int | str | None,
    timeout_s: float,
) -> Inferred:
    """Compute a request; called within a slot. The protocol has one answer for all rows, so one bad file fails it all.

    Args:
        timeout_s: longest time to the answer, where the request has no shorter one of its own.

    Raises:
        RequestError: see the tree in `service.errors`.
    """
    if request.timeout_s is not None:
        timeout_s = min(timeout_s, request.timeout_s)
    if request.images is not None:
        return await inference.infer(request.images, observation, model=model, version=version, timeout_s=timeout_s)
    answered = await inference.infer_files(
        request.files or [], observation, model=model, version=version, timeout_s=timeout_s
    )
    return answered.all_or_error()
