import pytest

from cifar10_serving.artifacts.rollout import Rollout
from service.registry.routing import wanted_versions

PUBLISHED = {1, 2, 3, 10}


@pytest.mark.parametrize(
    ("rollout", "wanted"),
    [
        (Rollout(), {10}),
        (Rollout(policy="latest(2)"), {3, 10}),
        (Rollout(policy="latest(9)"), PUBLISHED),
        (Rollout(policy="all"), PUBLISHED),
        (Rollout(policy=[1, 3]), {1, 3}),
        (Rollout(labels={"stable": 2}), {2, 10}),
        (Rollout(split={1: 1, 2: 1}), {1, 2, 10}),
        (Rollout(shadow=10), {3, 10}),
    ],
)
def test_policy_and_what_is_named_are_wanted(rollout: Rollout, wanted: set[int]) -> None:
    assert wanted_versions(rollout, "latest(1)", usable=PUBLISHED, serving=set()) == wanted


def test_setting_holds_where_the_model_has_no_policy() -> None:
    assert wanted_versions(Rollout(), "all", usable=PUBLISHED, serving=set()) == PUBLISHED


def test_list_that_can_not_be_served_whole_keeps_what_serves() -> None:
    assert wanted_versions(Rollout(policy=[3]), "all", usable={1, 2}, serving={2}) == {2}
    assert wanted_versions(Rollout(policy=[3]), "all", usable={1, 2, 3}, serving={2}) == {3}
    assert wanted_versions(Rollout(policy=[3]), "all", usable={1}, serving={2}) == set()


def test_latest_takes_the_next_older_for_one_that_failed() -> None:
    assert wanted_versions(Rollout(policy="latest(2)"), "all", usable=PUBLISHED - {10}, serving=set()) == {2, 3}
