import numpy as np
from numpy.typing import NDArray

from training.batches import ShuffledBatches, epoch_order
from training.data import Split
from training.preprocessing import scale


def batches(split: Split, *, reshuffle: bool = True) -> ShuffledBatches:
    return ShuffledBatches(
        split.images,
        split.labels,
        lambda images, _random: scale(images, "divide_by_255"),
        batch_size=24,
        seed=83,
        reshuffle=reshuffle,
    )


def labels_of_epoch(data: ShuffledBatches) -> list[int]:
    return [int(label) for index in range(len(data)) for label in data[index][1]]


def test_every_epoch_has_its_own_order_of_all_images() -> None:
    first, second = epoch_order(83, 0, 1000), epoch_order(83, 1, 1000)
    assert not np.array_equal(first, second)
    assert sorted(first) == sorted(second) == list(range(1000))


def test_order_depends_on_seed_and_epoch_alone() -> None:
    assert np.array_equal(epoch_order(83, 7, 1000), epoch_order(83, 7, 1000))
    assert not np.array_equal(epoch_order(83, 7, 1000), epoch_order(84, 7, 1000))


def test_batches_cover_the_split_and_the_last_is_smaller(golden_split: Split) -> None:
    data = batches(golden_split)
    assert [len(data[index][1]) for index in range(len(data))] == [24, 24, 16]
    images, labels = data[0]
    assert images.dtype == np.float32
    assert images.shape == (24, 32, 32, 3)
    order = epoch_order(83, 0, 64)[:24]
    assert np.array_equal(labels, golden_split.labels[order])
    assert np.array_equal(images, golden_split.images[order].astype(np.float32) / np.float32(255))


def test_resumed_run_sees_the_batches_of_an_uninterrupted_one(golden_split: Split) -> None:
    uninterrupted, resumed = batches(golden_split), batches(golden_split)
    for epoch in range(4):
        uninterrupted.start_epoch(epoch)
    resumed.start_epoch(3)
    assert labels_of_epoch(resumed) == labels_of_epoch(uninterrupted) != labels_of_epoch(batches(golden_split))


def test_one_order_can_be_repeated_as_keras_3_does(golden_split: Split) -> None:
    data = batches(golden_split, reshuffle=False)
    first = labels_of_epoch(data)
    data.start_epoch(1)
    assert labels_of_epoch(data) == first


def test_epochs_can_have_inputs_and_targets_of_their_own(golden_split: Split) -> None:
    asked = []

    def of_epoch(epoch: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        asked.append(epoch)
        return np.full_like(golden_split.pixels, epoch), np.full((64, 10), epoch, np.float32)

    data = ShuffledBatches(
        golden_split.pixels,
        golden_split.labels,
        lambda images, _random: images.astype(np.float32),
        batch_size=24,
        seed=83,
        of_epoch=of_epoch,
        rows=np.arange(30),
    )
    data.start_epoch(0)
    data.start_epoch(5)
    images, targets = data[1]
    assert images.shape == (6, 32, 32, 3)
    assert images.min() == images.max() == targets.min() == targets.max() == 5
    assert asked == [0, 5]
