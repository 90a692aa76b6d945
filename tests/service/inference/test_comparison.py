from pathlib import Path

from cifar10_serving.schemas import Agreement, Prediction
from service.errors import RequestError, UnavailableError
from service.inference.comparison import Answered, agreement, comparable
from service.registry.version import ModelVersion


def prediction(label: str, confidence: float) -> Prediction:
    return Prediction(model="sequential", version=1, label=label, class_id=0, confidence=confidence, top=[])


def test_the_majority_counts_and_a_tie_goes_to_the_surer() -> None:
    cat, dog, ship = prediction("cat", 0.4), prediction("dog", 0.9), prediction("ship", 0.5)
    assert agreement([cat, dog, cat]) == Agreement(label="cat", models=2, of=3)
    assert agreement([cat, dog, ship]) == Agreement(label="dog", models=1, of=3)
    assert agreement([]) == Agreement(label=None, models=0, of=0)


def answered(labels: tuple[str, ...], result: Prediction | RequestError) -> Answered:
    version = ModelVersion("sequential", 1, Path(), ())
    version.labels = labels
    return Answered(version, result, None)


def test_only_models_with_the_same_labels_are_held_against_each_other() -> None:
    pets, ships = ("cat", "dog"), ("cat", "dog", "ship")
    cat, dog, ship = prediction("cat", 0.4), prediction("dog", 0.9), prediction("ship", 0.5)
    failed = UnavailableError("busy", retry_after_s=1)
    assert comparable([answered(pets, cat), answered(ships, ship), answered(("dog", "cat"), dog)]) == [cat, dog]
    assert comparable([answered(pets, cat), answered(ships, ship)]) == [cat]
    assert comparable([answered(pets, failed), answered(ships, ship)]) == [ship]
    assert comparable([answered(pets, failed)]) == []
