import pytest

from bench.rounds import rotated, steps_of_round
from bench.servers import SERVERS
from tests.bench.fake_results import SERVERS as NAMES

CHOSEN = [SERVERS[name] for name in NAMES]
MODELS = ["vgg16", "sequential", "functional"]


@pytest.mark.parametrize("number", range(7))
def test_every_round_tries_every_server_with_every_model_and_each_baseline_once(number: int) -> None:
    steps = [(step.server.name, step.model) for group in steps_of_round(CHOSEN, MODELS, number) for step in group]
    wanted = [(name, model) for name in NAMES if SERVERS[name].serves_models for model in MODELS]
    assert sorted(map(str, steps)) == sorted(map(str, [*wanted, ("bare_asgi", None), ("multipart_asgi", None)]))


def test_no_server_is_first_in_every_round() -> None:
    def first(number: int) -> str:
        groups = steps_of_round(CHOSEN, ["sequential"], number)
        return groups[0][0].server.name

    assert len({first(number) for number in range(len(CHOSEN))}) == len(CHOSEN)


def test_baselines_stand_among_the_servers_of_a_small_cnn() -> None:
    for group in steps_of_round(CHOSEN, MODELS, 0):
        models = {step.model for step in group}
        assert (None in models) == ("sequential" in models)


def test_rotated() -> None:
    assert rotated("abc", 1) == ["b", "c", "a"]
    assert rotated("abc", 3) == ["a", "b", "c"]
    assert rotated("", 1) == []
