"""The images of valid requests, and their expected answers.

The expected answers are learnt from the service at the start, one request at a time.
"""

import io
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image

from scripts.attack.attempts import Answer, Attempt, Check, due, query, request
from scripts.attack.wire import Service

IMAGES: Final = Path(__file__).resolve().parents[2] / "tests/images"
IMAGE_COUNT: Final = 40
PHOTO_COUNT: Final = 12
PHOTO_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
TOLERANCE: Final = 1e-3
"""Maximum difference of a probability; the batch size changes the last digits of an image's answer."""
MAX_MODELS: Final = 4

pillow_heif.register_heif_opener()

Probabilities = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file.

    Args:
        pixels: (32, 32, 3) uint8 RGB 0..255 if the file has this size; None for a larger one.
    """

    number: int
    content: bytes
    media_type: str
    pixels: NDArray[np.uint8] | None


@dataclass(frozen=True, slots=True)
class Target:
    """A model to query, the version that answers, and the version's labels."""

    model: str
    version: int
    labels: tuple[str, ...]


@dataclass(slots=True)
class World:
    """Images, models and expected answers, for the generators.

    Args:
        pictures: images of 32x32 pixels.
        photos: images of up to 700x700 pixels, in every format.
        targets: the models to query.
        default_model: answers requests without a model.
        grpc_address: address of the gRPC port; empty without one.
    """

    pictures: list[Picture]
    photos: list[Picture]
    targets: list[Target] = field(default_factory=list)
    default_model: str = ""
    grpc_address: str = ""
    _expected: dict[tuple[str, int], Probabilities] = field(default_factory=dict)

    def picture(self, draw: random.Random) -> Picture:
        """Draw an image of 32x32 pixels."""
        return draw.choice(self.pictures)

    def target(self, draw: random.Random) -> Target:
        """Draw a model to query."""
        return draw.choice(self.targets)

    def expected(self, model: str, picture: Picture) -> Probabilities:
        """Return the expected probabilities, in the order of the labels."""
        return self._expected[model, picture.number]

    def problem(self, model: str, picture: Picture, given: Sequence[float]) -> str:
        """Describe the problem with the probabilities of all classes; empty if there is none."""
        right = self.expected(model, picture)
        if len(given) == len(right) and all(abs(a - b) <= TOLERANCE for a, b in zip(given, right, strict=True)):
            return ""
        return f"{model}, image {picture.number}: {list(given)} instead of {list(right)}"

    def problem_of_prediction(self, model: str, picture: Picture, prediction: dict[str, Any]) -> str:
        """Describe the problem with a prediction of the native routes; empty if there is none."""
        right = self.expected(model, picture)
        labels = next(target.labels for target in self.targets if target.model == model)
        top = prediction["top"]
        best = prediction["class_id"]
        is_right = (
            prediction["model"] == model
            and prediction["label"] == labels[best]
            and right[best] >= max(right) - TOLERANCE
            and abs(prediction["confidence"] - right[best]) <= TOLERANCE
            and all(abs(entry["probability"] - right[entry["class_id"]]) <= TOLERANCE for entry in top)
            and all(entry["label"] == labels[entry["class_id"]] for entry in top)
        )
        return "" if is_right else f"{model}, image {picture.number}: {prediction} instead of {list(right)}"

    def predicts(self, model: str, picture: Picture) -> Check:
        """Check an answer of `/predict`."""
        return lambda answer: self.problem_of_prediction(model, picture, json.loads(answer.body))

    def learnt(self) -> dict[tuple[str, int], Probabilities]:
        """Return a copy of the expected answers."""
        return dict(self._expected)

    def agrees_with(self, others: dict[tuple[str, int], Probabilities]) -> bool:
        """Compare the expected answers with those learnt at another time."""
        return self._expected.keys() == others.keys() and all(
            abs(a - b) <= TOLERANCE
            for key, right in self._expected.items()
            for a, b in zip(right, others[key], strict=True)
        )

    async def learn(self, service: Service) -> None:
        """Query the models and every expected answer.

        Raises:
            RuntimeError: the service already fails before the attack.
        """
        listed = json.loads((await ask(service, request("GET", "/models"))).body)
        ready = [entry for entry in listed["models"] if entry["state"] == "ready"]
        self.default_model = listed["default_model"]
        ready.sort(key=lambda entry: (entry["name"] != self.default_model, entry["versions"][0]["parameters"] or 0))
        self.targets = [await _target(service, entry) for entry in ready[:MAX_MODELS]]
        for target in self.targets:
            for picture in (*self.pictures, *self.photos):
                asked = query("/predict", model=target.model, version=target.version, top_k=len(target.labels))
                answer = await ask(
                    service, request("POST", asked, picture.content, [("Content-Type", picture.media_type)])
                )
                by_class = {entry["class_id"]: float(entry["probability"]) for entry in json.loads(answer.body)["top"]}
                self._expected[target.model, picture.number] = tuple(
                    by_class[index] for index in range(len(target.labels))
                )


async def _target(service: Service, listed: dict[str, Any]) -> Target:
    name, version = listed["name"], listed["serving_version"]
    metadata = json.loads((await ask(service, request("GET", f"/models/{name}/versions/{version}"))).body)
    return Target(name, version, tuple(metadata["labels"]))


def draw_world(seed: int) -> World:
    """Draw the images for a seed."""
    drawn = np.random.default_rng(seed)
    shipped = [np.asarray(Image.open(file).convert("RGB")) for file in sorted(IMAGES.glob("*.png"))]
    pixels = list(shipped)
    while len(pixels) < IMAGE_COUNT:
        one, other = drawn.choice(len(shipped), 2)
        share = drawn.random()
        mixed = shipped[one] * share + shipped[other] * (1 - share) + drawn.normal(0, 8, shipped[0].shape)
        pixels.append(mixed.clip(0, 255).astype(np.uint8))
    pictures = [Picture(number, encode(image, "PNG"), "image/png", image) for number, image in enumerate(pixels)]
    photos = []
    for number in range(PHOTO_COUNT):
        kind = PHOTO_FORMATS[number % len(PHOTO_FORMATS)]
        width, height = (int(side) for side in drawn.integers(33, 700, 2))
        enlarged = Image.fromarray(pixels[number]).resize((width, height), Image.Resampling.BICUBIC)
        content = encode(np.asarray(enlarged), kind)
        photos.append(Picture(IMAGE_COUNT + number, content, f"image/{kind.lower()}", None))
    return World(pictures, photos)


def encode(pixels: NDArray[np.uint8], kind: str) -> bytes:
    """Encode pixels (height, width, 3) uint8 RGB as an image file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


async def ask(service: Service, content: bytes) -> Answer:
    """Send one request that must be answered with 200.

    Raises:
        RuntimeError: it is not.
    """
    kept: list[Answer] = []

    def keep(answer: Answer) -> str:
        kept.append(answer)
        return ""

    outcome = await service.perform(Attempt("question", content, due(200, check=keep), reuses=True))
    if not outcome.is_right:
        raise RuntimeError(f"{content[:100]!r}: {outcome.unexpected or outcome.lost or outcome.wrong}")
    return kept[0]
