"""Calls of Triton's extensions that this server doesn't support; each is rejected with a text, over REST and gRPC.

REST answers 501 and gRPC UNIMPLEMENTED, as Triton does for TRITONSERVER_ERROR_UNSUPPORTED:
https://docs.nvidia.com/deeplearning/triton-inference-server, "HTTP/REST and GRPC Protocol".
"""

from dataclasses import dataclass
from typing import Final

from service.errors import UnsupportedCallError
from service.settings import variable


@dataclass(frozen=True, slots=True)
class UnsupportedExtension:
    """An unsupported extension, its calls, and the reason.

    Args:
        paths: paths below `/v2`.
        methods: methods of the gRPC service.
    """

    name: str
    paths: tuple[str, ...]
    methods: tuple[str, ...]
    remedy: str

    def error(self) -> UnsupportedCallError:
        """Return the error for its calls."""
        return UnsupportedCallError(f"this server doesn't support {self.name}", remedy=self.remedy)


def _shared_memory(kind: str) -> UnsupportedExtension:
    path = f"/{kind.lower()}sharedmemory"
    return UnsupportedExtension(
        f"{kind} shared memory",
        (f"{path}/status", f"{path}/unregister", f"{path}/region/{{region}}/{{call}}"),
        tuple(f"{kind.capitalize()}SharedMemory{call}" for call in ("Status", "Register", "Unregister")),
        "send tensors in the request: an image has 3,072 bytes",
    )


UNSUPPORTED: Final = (
    _shared_memory("system"),
    _shared_memory("CUDA"),
    UnsupportedExtension(
        "trace settings",
        ("/trace/setting", "/models/{model}/trace/setting"),
        ("TraceSetting",),
        "each request's times are in the service's log, under its X-Request-ID, and in /metrics",
    ),
    UnsupportedExtension(
        "log settings",
        ("/logging",),
        ("LogSettings",),
        f"set {variable('log_level')} and {variable('access_log_sample_rate')}, and restart the service",
    ),
    UnsupportedExtension(
        "the generate extension",
        tuple(
            f"/models/{{model}}{version}/{call}"
            for version in ("", "/versions/{version}")
            for call in ("generate", "generate_stream")
        ),
        (),
        "use /infer: the models only classify images",
    ),
)
MODEL_REPOSITORY: Final = UnsupportedExtension(
    f"the model repository extension while {variable('admin_token')} is not set",
    ("/repository/index", "/repository/models/{model}/load", "/repository/models/{model}/unload"),
    ("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"),
    "set it, and send it as 'Authorization: Bearer TOKEN'",
)


def unsupported_extensions(*, with_repository: bool) -> tuple[UnsupportedExtension, ...]:
    """Return the unsupported extensions, which depend on whether the repository extension is enabled."""
    return UNSUPPORTED if with_repository else (*UNSUPPORTED, MODEL_REPOSITORY)
