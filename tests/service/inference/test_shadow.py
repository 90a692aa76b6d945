import threading
from pathlib import Path

import numpy as np
import pytest

from cifar10_serving.runtimes.base import Images, Probabilities
from cifar10_serving.schemas import ShadowStatus
from service.inference.shadow import MAX_WAITING, Shadow
from service.registry.repository import ModelRepository
from service.registry.version import ModelVersion
from tests.conftest import SAMPLES
from tests.fakes import FakeModel, FakeRuntime
from tests.leases import lease
from tests.version_copies import publish_copy, write_rollout
from tests.waiting import wait_until


@pytest.fixture
def repository(one_model: Path) -> ModelRepository:
    publish_copy(one_model, 2, source=2)
    write_rollout(one_model, shadow=2)
    repository = ModelRepository(one_model, FakeRuntime())
    repository.load_all()
    return repository


def counts(repository: ModelRepository) -> ShadowStatus:
    status = repository.model_status("sequential").shadow
    assert status is not None
    return status


def wait_for(repository: ModelRepository, count: int) -> ShadowStatus:
    def compared() -> int:
        status = counts(repository)
        return status.agreed + status.disagreed + status.failed

    wait_until(lambda: compared() >= count)
    return counts(repository)


def offer_all(repository: ModelRepository, shadow: Shadow) -> int:
    """Offer each sample image with the answer of version 1; how often version 2 agrees."""
    agreed = 0
    for sample in SAMPLES:
        with lease(repository, "sequential") as chosen, lease(repository, "sequential", 2) as other:
            assert chosen.version == 1
            assert chosen.model is not None
            assert other.model is not None
            answer = chosen.model.predict(sample.pixels[np.newaxis])[0]
            agreed += int(answer.argmax() == other.model.predict(sample.pixels[np.newaxis])[0].argmax())
            shadow.offer(chosen, sample.pixels, answer)
    return agreed


class StuckModel(FakeModel):
    def __init__(self) -> None:
        self.release = threading.Event()

    def predict(self, images: Images) -> Probabilities:
        self.release.wait(20)
        raise RuntimeError(f"the shadow can't compute {len(images)} images")


def test_agreement_is_counted(repository: ModelRepository) -> None:
    shadow = Shadow(repository, lambda: False, thread_name_prefix="test-shadow")
    agreed = offer_all(repository, shadow)
    status = wait_for(repository, len(SAMPLES))
    assert (status.version, status.agreed, status.disagreed) == (2, agreed, len(SAMPLES) - agreed)
    assert (status.dropped, status.failed) == (0, 0)
    shadow.close()


def test_agreement_is_of_the_labels_and_not_of_their_places(repository: ModelRepository) -> None:
    shadow = Shadow(repository, lambda: False, thread_name_prefix="test-shadow")
    other = repository.find("sequential", 2)
    other.labels = other.labels[::-1]
    assert other.model is not None
    answers = other.model.predict(np.stack([sample.pixels for sample in SAMPLES]))
    for sample, answer in zip(SAMPLES, answers, strict=True):
        shadow.offer(repository.find("sequential"), sample.pixels, answer[::-1])
    assert wait_for(repository, len(SAMPLES)).agreed == len(SAMPLES)
    shadow.close()


def test_busy_service_drops_comparisons(repository: ModelRepository) -> None:
    shadow = Shadow(repository, lambda: True, thread_name_prefix="test-shadow")
    offer_all(repository, shadow)
    assert counts(repository).dropped == len(SAMPLES)
    shadow.close()


def test_slow_and_broken_shadow_delays_nobody(repository: ModelRepository) -> None:
    shadow = Shadow(repository, lambda: False, thread_name_prefix="test-shadow")
    stuck = StuckModel()
    repository.find("sequential", 2).model = stuck
    chosen = repository.find("sequential")
    for _ in range(MAX_WAITING + 4):
        shadow.offer(chosen, SAMPLES[0].pixels, np.zeros(10, np.float32))
    assert counts(repository).dropped == 4
    stuck.release.set()
    assert wait_for(repository, MAX_WAITING).failed == MAX_WAITING
    shadow.close()


def test_shadow_is_not_compared_with_itself_and_others_have_none(repository: ModelRepository) -> None:
    shadow = Shadow(repository, lambda: True, thread_name_prefix="test-shadow")
    shadow.offer(repository.find("sequential", 2), SAMPLES[0].pixels, np.zeros(10, np.float32))
    shadow.offer(ModelVersion("nope", 1, Path(), ()), SAMPLES[0].pixels, np.zeros(10, np.float32))
    assert counts(repository).dropped == 0
    shadow.close()


def test_closed_shadow_takes_no_more_and_holds_no_lease(repository: ModelRepository) -> None:
    shadow = Shadow(repository, lambda: False, thread_name_prefix="test-shadow")
    shadow.close()
    shadow.offer(repository.find("sequential"), SAMPLES[0].pixels, np.zeros(10, np.float32))
    assert repository.find("sequential", 2).wait_until_unused(0)
