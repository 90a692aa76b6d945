"""What models that tests make up have in common."""

from abc import ABC, abstractmethod

from cifar10_serving.runtimes.base import Images, Probabilities


class MadeUpModel(ABC):
    """A `cifar10_serving.runtimes.base.LoadedModel` of which a test writes `predict`."""

    parallel_calls = 1
    warm_up_rows: tuple[int, ...] = (1,)

    @abstractmethod
    def predict(self, images: Images) -> Probabilities: ...

    def predict_alone(self, images: Images) -> Probabilities:
        return self.predict(images)
