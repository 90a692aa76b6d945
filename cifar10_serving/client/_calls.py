"""The request and the result type of each call, shared by both clients."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic
from urllib.parse import quote

import httpx

from cifar10_serving.artifacts.metadata import ModelMetadata
from cifar10_serving.client._answers import AnyRecord
from cifar10_serving.client._errors import ImageSourceError
from cifar10_serving.client._images import EncodedImage
from cifar10_serving.schemas import (
    BatchPrediction,
    Comparison,
    Explanation,
    ModelList,
    ModelStatus,
    Prediction,
    Readiness,
    ServiceStatistics,
)

OK: Final = frozenset({200})
READY_OR_NOT: Final = frozenset({200, 503})


@dataclass(frozen=True, slots=True)
class Call(Generic[AnyRecord]):
    """A request, and the record in its answer.

    `sent` has httpx's arguments for the body: `content` and `headers`.
    """

    method: str
    path: str
    record: type[AnyRecord]
    parameters: Mapping[str, str | int | list[str]] = field(default_factory=dict)
    sent: Mapping[str, Any] = field(default_factory=dict)
    accepted: frozenset[int] = OK
    names: Sequence[str] = ()
    """Names of the requested models and versions, as the caller wrote them."""


def predict(
    image: EncodedImage, *, model: str | None, version: int | str | None, top_k: int | None
) -> Call[Prediction]:
    """Return the call of `POST /predict`."""
    parameters = _given(model=model, version=version, top_k=top_k)
    return Call("POST", "/predict", Prediction, parameters, _body(image), names=_names(model, version))


def predict_batch(
    images: Iterable[EncodedImage], *, model: str | None, version: int | str | None, top_k: int | None
) -> Call[BatchPrediction]:
    """Return the call of `POST /predict/batch`.

    Raises:
        ImageSourceError: there are no images.
    """
    files = [("files", (_form_name(image), image.content, image.content_type)) for image in images]
    if not files:
        raise ImageSourceError("there are no images", expected="one or more")
    parameters = _given(model=model, version=version, top_k=top_k)
    sent = _whole_form(files)
    return Call("POST", "/predict/batch", BatchPrediction, parameters, sent, names=_names(model, version))


def compare(image: EncodedImage, *, models: Sequence[str], top_k: int | None) -> Call[Comparison]:
    """Return the call of `POST /compare`."""
    parameters = _given(top_k=top_k) | ({"model": [_sendable(name) for name in models]} if models else {})
    return Call("POST", "/compare", Comparison, parameters, _body(image), names=_names(*models))


def explain(
    image: EncodedImage,
    *,
    model: str | None,
    version: int | str | None,
    class_id: int | None,
    patch: int | None,
    stride: int | None,
) -> Call[Explanation]:
    """Return the call of `POST /explain`."""
    parameters = _given(model=model, version=version, class_id=class_id, patch=patch, stride=stride)
    return Call("POST", "/explain", Explanation, parameters, _body(image), names=_names(model, version))


def models() -> Call[ModelList]:
    """Return the call of `GET /models`."""
    return Call("GET", "/models", ModelList)


def model(name: str) -> Call[ModelStatus]:
    """Return the call of `GET /models/{name}`."""
    return Call("GET", f"/models/{_segment(name)}", ModelStatus, names=_names(name))


def metadata(name: str, version: int) -> Call[ModelMetadata]:
    """Return the call of `GET /models/{name}/versions/{version}`."""
    path = f"/models/{_segment(name)}/versions/{version}"
    return Call("GET", path, ModelMetadata, names=_names(name))


def ready() -> Call[Readiness]:
    """Return the call of `GET /readyz`, whose 503 is an answer as well."""
    return Call("GET", "/readyz", Readiness, accepted=READY_OR_NOT)


def stats() -> Call[ServiceStatistics]:
    """Return the call of `GET /stats`."""
    return Call("GET", "/stats", ServiceStatistics)


def _form_name(image: EncodedImage) -> str:
    """Return a file's name without its folders, which are private, and as UTF-8, which a name may not be."""
    return _sendable(Path(image.name or "image").name, "replace")


def _sendable(text: str, errors: str = "backslashreplace") -> str:
    """Return text that can be encoded as UTF-8; a shell argument may contain other bytes, which Python escapes."""
    return text.encode("utf-8", errors).decode()


def _segment(name: str) -> str:
    """Return a name as one segment of a path; `.` and `..` would otherwise change the path."""
    quoted = quote(_sendable(name), safe="")
    return quoted.replace(".", "%2E") if name in {".", ".."} else quoted or quote(" ")


def _names(*names: str | int | None) -> list[str]:
    return [name.partition("/")[0] for name in names if isinstance(name, str)]


def _body(image: EncodedImage) -> dict[str, Any]:
    return {"content": image.content, "headers": {"Content-Type": image.content_type}}


def _whole_form(files: Sequence[tuple[str, tuple[str, bytes, str]]]) -> dict[str, Any]:
    """Return a form in one piece; httpx would send the head, the content and the end of each file by themselves."""
    form = httpx.Request("POST", "http://form", files=files)
    return {"content": form.read(), "headers": {"Content-Type": form.headers["Content-Type"]}}


def _given(**parameters: str | int | None) -> dict[str, str | int | list[str]]:
    return {
        name: _sendable(value) if isinstance(value, str) else value
        for name, value in parameters.items()
        if value is not None
    }
