from cifar10_serving.schemas import Agreement, Prediction
from service.inference.comparison import agreement


def prediction(label: str, confidence: float) -> Prediction:
    return Prediction(model="sequential", version=1, label=label, class_id=0, confidence=confidence, top=[])


def test_the_majority_counts_and_a_tie_goes_to_the_surer() -> None:
    cat, dog, ship = prediction("cat", 0.4), prediction("dog", 0.9), prediction("ship", 0.5)
    assert agreement([cat, dog, cat]) == Agreement(label="cat", models=2, of=3)
    assert agreement([cat, dog, ship]) == Agreement(label="dog", models=1, of=3)
    assert agreement([]) == Agreement(label=None, models=0, of=0)
