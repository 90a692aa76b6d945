import pytest

from cifar10_serving.text import closest, did_you_mean

NAMES = ["sequential", "vgg16", "Canary", "top_k"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("vgg61", "vgg16"),
        ("SEQUENTIAL", "sequential"),
        ("canry", "Canary"),
        ("topk", "top_k"),
        ("alexnet", None),
        ("", None),
    ],
)
def test_mistyped_name_finds_the_close_one(given: str, meant: str | None) -> None:
    assert closest(given, NAMES) == meant
    assert did_you_mean(given, NAMES) == (f" (did you mean '{meant}'?)" if meant else "")


def test_nothing_is_close_to_a_long_text() -> None:
    assert closest("sequential" * 1000, ["sequential" * 1000]) is None
