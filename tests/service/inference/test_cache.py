import numpy as np

from cifar10_serving.runtimes.base import Images, Probabilities
from service.inference.cache import ENTRY_BYTES, PredictionCache
from service.registry.repository import ModelRepository
from tests.conftest import SMALL_MODELS
from tests.fakes import FakeRuntime


def pixels(seed: int) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (1, 32, 32, 3), np.uint8)


def probabilities(seed: int) -> Probabilities:
    return np.full((1, 10), seed, np.float32)


def test_least_recently_used_go_when_the_room_is_full() -> None:
    repository = ModelRepository(SMALL_MODELS, FakeRuntime(), version_policy="all")
    repository.load_all()
    version = repository.find("sequential")
    cache = PredictionCache(3 * (ENTRY_BYTES + 40))
    keys = [cache.key(version, pixels(seed)) for seed in range(4)]
    for seed in range(3):
        cache.put(keys[seed], probabilities(seed))
    assert cache.get(keys[0]) is not None
    cache.put(keys[3], probabilities(3))
    assert cache.get(keys[1]) is None
    assert all(cache.get(keys[seed]) is not None for seed in (0, 2, 3))
    assert cache.size_bytes <= 3 * (ENTRY_BYTES + 40)
    assert (cache.hits, cache.misses) == (4, 1)


def test_models_and_pixels_are_kept_apart() -> None:
    repository = ModelRepository(SMALL_MODELS, FakeRuntime(), version_policy="all")
    repository.load_all()
    cache = PredictionCache(1000)
    keys = {
        cache.key(repository.find(model, version), pixels(seed))
        for model, version in (("sequential", 1), ("sequential", 2), ("functional", 2))
        for seed in (0, 1)
    }
    assert len(keys) == 6
    assert cache.key(repository.find("sequential"), pixels(0)) == cache.key(repository.find("sequential"), pixels(0))


def test_many_classes_take_more_room() -> None:
    repository = ModelRepository(SMALL_MODELS, FakeRuntime())
    repository.load_all()
    version = repository.find("sequential")
    cache = PredictionCache(100_000)
    for seed in range(4):
        cache.put(cache.key(version, pixels(seed)), np.zeros((1, 10_000), np.float32))
        assert cache.size_bytes <= 100_000
    assert cache.get(cache.key(version, pixels(3))) is not None
    assert cache.get(cache.key(version, pixels(1))) is None
    cache.put(cache.key(version, pixels(9)), np.zeros((1, 30_000), np.float32))
    assert cache.size_bytes == 0
