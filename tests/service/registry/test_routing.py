import random
from pathlib import Path

import pytest

from cifar10_serving.artifacts.rollout import Rollout
from service.registry.routing import Route, build_route, wanted_versions
from service.registry.version import ModelVersion

PUBLISHED = {1, 2, 3, 10}

SOURCE = random.Random(5)  # noqa: S311  # of a split


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


def route(rollout: Rollout, *versions: int) -> Route:
    return build_route({version: ModelVersion("sequential", version, Path(), ()) for version in versions}, rollout)


def chosen(route: Route, version: int | str | None = None) -> int | None:
    entry = route.choose(version, SOURCE)
    return entry.version if entry else None


@pytest.mark.parametrize(
    ("rollout", "default"),
    [
        (Rollout(), 10),
        (Rollout(labels={"canary": 10}), 10),
        (Rollout(labels={"stable": 2, "canary": 10}), 2),
        (Rollout(labels={"stable": 7}), 10),
        (Rollout(shadow=10), 2),
        (Rollout(split={1: 90, 7: 10}), 1),
        (Rollout(split={7: 90, 2: 10}, labels={"stable": 1}), 2),
        (Rollout(split={6: 90, 7: 10}, labels={"stable": 1}), 1),
    ],
)
def test_version_that_answers_where_none_is_asked_for(rollout: Rollout, default: int) -> None:
    assert chosen(route(rollout, 1, 2, 10)) == default


def test_shadow_answers_only_where_it_is_alone() -> None:
    assert chosen(route(Rollout(shadow=2), 2)) == 2
    assert chosen(route(Rollout(shadow=2))) is None


def test_numbers_and_labels_are_found_and_others_not() -> None:
    routes = route(Rollout(labels={"canary": 2, "gone": 7}), 1, 2)
    assert [chosen(routes, version) for version in (1, 2, "canary", 7, "gone", "2")] == [1, 2, 2, None, None, None]


@pytest.mark.parametrize(("weights", "share"), [((90, 10), 0.9), ((1, 3), 0.25), ((0, 5), 0.0), ((5, 0), 1.0)])
def test_split_shares_requests_by_weight(weights: tuple[int, int], share: float) -> None:
    routes = route(Rollout(split=dict(zip((1, 2), weights, strict=True))), 1, 2)
    answered = [routes.choose(None, SOURCE) for _ in range(4000)]
    assert sum(entry is routes.by_version[1] for entry in answered) / 4000 == pytest.approx(share, abs=0.03)
    assert chosen(routes, 2) == 2
