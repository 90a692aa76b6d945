"""Which of a model's versions should serve: `latest(N)`, `all`, or a list.

A pure rule over version numbers; loading and unloading accordingly is `service.core.repository`'s part.
"""

from collections.abc import Set as AbstractSet

from catalog.rollout import Rollout


def wanted_versions(
    rollout: Rollout, default_policy: str, *, usable: AbstractSet[int], serving: AbstractSet[int]
) -> frozenset[int]:
    """The versions that should serve.

    `latest(N)` takes the newest that are usable, the shadow not counted: one that fails is replaced by the next
    older, before and after a restart alike. While one of a list can't be used, what serves now goes on.

    Args:
        rollout: the model's own policy, and the versions that it names.
        default_policy: `latest(N)` or `all`, where the rollout has none.
        usable: those that are published and did not fail to load.
        serving: those that serve now.
    """
    policy = rollout.policy or default_policy
    if policy == "all":
        return frozenset(usable)
    if isinstance(policy, str):
        count = int(policy.removeprefix("latest(").removesuffix(")"))
        newest_first = sorted((version for version in usable if version != rollout.shadow), reverse=True)
        return frozenset(newest_first[:count]) | (rollout.named & usable)
    chosen = frozenset(policy) & usable
    return chosen if len(chosen) == len(set(policy)) else chosen | (serving & usable)


def describe_policy(rollout: Rollout, default_policy: str) -> str:
    """The policy as serving.json and the setting write it."""
    return str(rollout.policy or default_policy)
