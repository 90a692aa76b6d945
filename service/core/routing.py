"""Which version answers a request: one immutable table, built when the set of versions changes and swapped whole.

A lookup is a few dictionary reads, on the event loop, while another thread loads. What is loaded and why is
`service.core.repository`'s part.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from catalog.rollout import STABLE_LABEL, Rollout
from service.core.model_version import ModelVersion


@dataclass(frozen=True, slots=True)
class Route:
    """One model's versions that answer.

    Args:
        by_version: by number and by label.
        default: answers where no version is asked for; None where none is ready.
        split: shares those requests out among two instead, the first one's share being `first_share`, 0 to 1.
        shadow: computes on the side.
    """

    by_version: Mapping[int | str, ModelVersion]
    default: ModelVersion | None
    split: tuple[ModelVersion, ModelVersion] | None
    first_share: float
    shadow: ModelVersion | None

    def choose(self, version: int | str | None, source: random.Random) -> ModelVersion | None:
        """The version that answers; None where it isn't ready."""
        if version is not None:
            return self.by_version.get(version)
        if self.split is None:
            return self.default
        return self.split[0] if source.random() < self.first_share else self.split[1]


def build_route(serving: Mapping[int, ModelVersion], rollout: Rollout) -> Route:
    """The route over these loaded versions.

    Without a split the version labelled `stable` answers, else the newest; the shadow only where it is alone. A
    split of which one version isn't loaded goes to the other.
    """
    labelled = {label: serving[version] for label, version in rollout.labels.items() if version in serving}
    sharing = [(serving[version], weight) for version, weight in (rollout.split or {}).items() if version in serving]
    newest_first = sorted(serving, key=lambda version: (version != rollout.shadow, version), reverse=True)
    newest = serving[newest_first[0]] if newest_first else None
    by_version: dict[int | str, ModelVersion] = dict(serving.items())
    by_version.update(labelled)
    default = max(sharing, key=lambda entry: entry[1])[0] if sharing else labelled.get(STABLE_LABEL, newest)
    split, first_share = None, 1.0
    if len(sharing) == 2:  # noqa: PLR2004
        (first, first_weight), (second, second_weight) = sharing
        split, first_share = (first, second), first_weight / (first_weight + second_weight)
    return Route(
        by_version=by_version,
        default=default,
        split=split,
        first_share=first_share,
        shadow=serving.get(rollout.shadow) if rollout.shadow is not None else None,
    )
