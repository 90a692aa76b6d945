"""Triton's model configuration extension, the same over REST and gRPC: the parts of `ModelConfig` that mean something.

https://docs.nvidia.com/deeplearning/triton-inference-server, "Model Configuration Extension"; the fields are those of
https://github.com/triton-inference-server/common, protobuf/model_config.proto.
"""

import json
import re
from typing import Any, Final

from service.api.open_inference.metadata import PLATFORM, TensorMetadata, describe_model
from service.core.repository import ModelRepository
from service.settings import Settings

DATA_TYPES: Final = {"UINT8": "TYPE_UINT8", "FP32": "TYPE_FP32"}
CHANNELS_LAST: Final = "FORMAT_NHWC"
LATEST: Final = re.compile(r"latest\((\d+)\)")


def model_configuration(repository: ModelRepository, settings: Settings, name: str, version: str) -> dict[str, Any]:
    """The configuration of a model, from its metadata and the service's settings, as protobuf's JSON has it.

    `max_batch_size` is what one request may hold, `preferred_batch_size` what is computed at once.

    Args:
        version: a number or a label; empty for the one that answers where none is asked for.

    Raises:
        RequestError: there is no such model or version, or it is not ready.
    """
    described = describe_model(repository, name, version)
    return {
        "name": name,
        "platform": PLATFORM,
        "backend": str(repository.runtime.name),
        "version_policy": _version_policy(repository.model_status(name).policy),
        "max_batch_size": settings.max_request_rows,
        "input": [_tensor(tensor) | {"format": CHANNELS_LAST} for tensor in described.inputs],
        "output": [_tensor(tensor) for tensor in described.outputs],
        "dynamic_batching": {
            "preferred_batch_size": [settings.max_batch_rows],
            "max_queue_delay_microseconds": round(settings.batch_wait_ms * 1000),
        },
        "response_cache": {"enable": settings.cache_bytes > 0},
    }


def _tensor(tensor: TensorMetadata) -> dict[str, Any]:
    """A tensor without its first dimension, the batch."""
    return {"name": tensor.name, "data_type": DATA_TYPES[tensor.datatype], "dims": tensor.shape[1:]}


def _version_policy(policy: str) -> dict[str, Any]:
    """The policy as `catalog.rollout` and the setting write it."""
    latest = LATEST.fullmatch(policy)
    if latest is not None:
        return {"latest": {"num_versions": int(latest[1])}}
    return {"all": {}} if policy == "all" else {"specific": {"versions": json.loads(policy)}}
