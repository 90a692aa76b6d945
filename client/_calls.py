"""What each call sends and which record answers it: the one description that both clients share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic
from urllib.parse import quote

from catalog.metadata import ModelMetadata
from catalog.responses import (
    BatchPrediction,
    Comparison,
    Explanation,
    ModelList,
    ModelStatus,
    Prediction,
    Readiness,
    ServiceStatistics,
)
from client._answers import AnyRecord
from client._errors import ImageSourceError
from client._images import EncodedImage

OK: Final = frozenset({200})
READY_OR_NOT: Final = frozenset({200, 503})


@dataclass(frozen=True, slots=True)
class Call(Generic[AnyRecord]):
    """A request, and the record that its answer holds.

    `sent` are httpx's own arguments for the body: `content` and `headers`, or `files`.
    """

    method: str
    path: str
    record: type[AnyRecord]
    parameters: Mapping[str, str | int | list[str]] = field(default_factory=dict)
    sent: Mapping[str, Any] = field(default_factory=dict)
    accepted: frozenset[int] = OK


def predict(
    image: EncodedImage, *, model: str | None, version: int | str | None, top_k: int | None
) -> Call[Prediction]:
    """`POST /predict`."""
    parameters = _given(model=model, version=version, top_k=top_k)
    return Call("POST", "/predict", Prediction, parameters, _body(image))


def predict_batch(
    images: Iterable[EncodedImage], *, model: str | None, version: int | str | None, top_k: int | None
) -> Call[BatchPrediction]:
    """`POST /predict/batch`.

    Raises:
        ImageSourceError: there are none.
    """
    files = [("files", (_form_name(image), image.content, image.content_type)) for image in images]
    if not files:
        raise ImageSourceError("there are no images", expected="one or more")
    parameters = _given(model=model, version=version, top_k=top_k)
    return Call("POST", "/predict/batch", BatchPrediction, parameters, {"files": files})


def compare(image: EncodedImage, *, models: Sequence[str], top_k: int | None) -> Call[Comparison]:
    """`POST /compare`."""
    parameters = _given(top_k=top_k) | ({"model": list(models)} if models else {})
    return Call("POST", "/compare", Comparison, parameters, _body(image))


def explain(
    image: EncodedImage,
    *,
    model: str | None,
    version: int | str | None,
    class_id: int | None,
    patch: int | None,
    stride: int | None,
) -> Call[Explanation]:
    """`POST /explain`."""
    parameters = _given(model=model, version=version, class_id=class_id, patch=patch, stride=stride)
    return Call("POST", "/explain", Explanation, parameters, _body(image))


def models() -> Call[ModelList]:
    """`GET /models`."""
    return Call("GET", "/models", ModelList)


def model(name: str) -> Call[ModelStatus]:
    """`GET /models/{name}`."""
    return Call("GET", f"/models/{quote(name, safe='')}", ModelStatus)


def metadata(name: str, version: int) -> Call[ModelMetadata]:
    """`GET /models/{name}/versions/{version}`."""
    return Call("GET", f"/models/{quote(name, safe='')}/versions/{version}", ModelMetadata)


def ready() -> Call[Readiness]:
    """`GET /readyz`, whose 503 is an answer too."""
    return Call("GET", "/readyz", Readiness, accepted=READY_OR_NOT)


def stats() -> Call[ServiceStatistics]:
    """`GET /stats`."""
    return Call("GET", "/stats", ServiceStatistics)


def _form_name(image: EncodedImage) -> str:
    """A file's name without its folders, which are nobody's business, and as UTF-8, which a name need not be."""
    return Path(image.name or "image").name.encode("utf-8", "replace").decode()


def _body(image: EncodedImage) -> dict[str, Any]:
    return {"content": image.content, "headers": {"Content-Type": image.content_type}}


def _given(**parameters: str | int | None) -> dict[str, str | int | list[str]]:
    return {name: value for name, value in parameters.items() if value is not None}
