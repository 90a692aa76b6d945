import numpy as np
import pytest

from cifar10_serving.runtimes.base import Images, Probabilities, batch_sizes, compute_in_sizes


@pytest.mark.parametrize(
    ("max_batch_size", "sizes"),
    [
        (1, (1,)),
        (2, (1, 2)),
        (32, (1, 2, 4, 8, 16, 32)),
        (33, (1, 2, 4, 8, 16, 32, 33)),
        (48, (1, 2, 4, 8, 16, 32, 48)),
    ],
)
def test_sizes_double_up_to_the_largest_batch(max_batch_size: int, sizes: tuple[int, ...]) -> None:
    assert batch_sizes(max_batch_size) == sizes


@pytest.mark.parametrize(
    ("rows", "computed"), [(1, [1]), (3, [4]), (8, [8]), (9, [12]), (12, [12]), (13, [12, 1]), (41, [12, 12, 12, 8])]
)
def test_only_the_sizes_are_computed_and_every_row_gets_its_own_answer(rows: int, computed: list[int]) -> None:
    seen = []

    def compute(images: Images) -> Probabilities:
        seen.append(len(images))
        return (images[:, 0, 0, :1] * np.arange(10)).astype(np.float32)

    images = np.zeros((rows, 32, 32, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(rows)
    answers = compute_in_sizes(compute, images, (1, 2, 4, 8, 12))
    assert seen == computed
    np.testing.assert_array_equal(answers[:, 1], np.arange(rows))
