"""`models/<name>/serving.json`: which versions of a model serve, and how requests are distributed among them.

This module defines the schema and rejects contradictions. The service knows which versions are published and loaded.
"""

import json
import re
from collections.abc import Collection
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from cifar10_serving.artifacts.documents import DocumentError, parse_document
from cifar10_serving.artifacts.files import read_regular
from cifar10_serving.artifacts.metadata import MAX_VERSION_DIGITS, Record, Version
from cifar10_serving.errors import RolloutError

SERVING_FILE: Final = "serving.json"
STABLE_LABEL: Final = "stable"
DEFAULT_GENERATION: Final = "default"
POLICY_PATTERN: Final = r"^(all|latest\([1-9][0-9]{0,3}\))$"
LABEL_PATTERN: Final = r"^[A-Za-z][A-Za-z0-9_-]{0,62}$"
LEGAL_LABEL: Final = "a letter, then letters, digits, - and _, 63 at most"
LEGAL_VERSION: Final = f"a whole number from 1, or a label ({LEGAL_LABEL})"
MAX_ROLLOUT_BYTES: Final = 2**20


def _policy(value: Any) -> Any:  # one message instead of one for each member of the union
    if isinstance(value, str) and re.fullmatch(POLICY_PATTERN, value):
        return value
    if isinstance(value, list) and value and all(type(entry) is int and entry >= 1 for entry in value):
        return value
    raise ValueError('should be "latest(N)", "all", or a list of version numbers such as [1, 3]')


Label = Annotated[str, Field(pattern=LABEL_PATTERN)]
Policy = Annotated[str | list[int], BeforeValidator(_policy)]
Weight = Annotated[int, Field(ge=0, le=1_000_000)]


class Rollout(Record):
    """The content of serving.json; every part is optional."""

    model_config = ConfigDict(strict=True)

    policy: Annotated[
        Policy | None,
        Field(description="versions that serve: latest(N), all, or a list; default: the setting version_policy"),
    ] = None
    labels: dict[Label, Version] = Field(
        default_factory=dict, description="names for versions, used as in ?version=canary"
    )
    split: Annotated[
        dict[Version, Weight] | None,
        Field(description="two versions and their shares of the requests without a version"),
    ] = None
    shadow: Annotated[
        Version | None, Field(description="a version that gets copies of the requests and never answers")
    ] = None

    @property
    def named(self) -> frozenset[int]:
        """The versions that labels, split and shadow name; they serve regardless of the policy."""
        shadow = () if self.shadow is None else (self.shadow,)
        return frozenset((*self.labels.values(), *(self.split or ()), *shadow))

    @property
    def generation(self) -> str:
        """Twelve digits that are the same for the same rollout, however its file is written; `default` without one."""
        content = self.model_dump(mode="json", exclude_defaults=True)
        if not content:
            return DEFAULT_GENERATION
        return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def check_published(self, name: str, published: Collection[int]) -> None:
        """Check that every version that the rollout names is published.

        Raises:
            RolloutError: one is not.
        """
        listed = self.policy if isinstance(self.policy, list) else []
        absent = sorted({*self.named, *listed}.difference(published))
        if absent:
            raise RolloutError(
                f"{name}/{SERVING_FILE} names version {', '.join(map(str, absent))}, which is not published",
                expected=f"any of {', '.join(map(str, sorted(published)))}",
                remedy="publish it, or correct the file: docs/versions.md describes it",
            )

    @model_validator(mode="after")
    def _without_contradictions(self) -> "Rollout":
        if self.split is not None and len(self.split) != 2:  # noqa: PLR2004
            raise ValueError(f'split names {len(self.split)} versions, expected two, such as {{"1": 90, "2": 10}}')
        if self.split is not None and not any(self.split.values()):
            raise ValueError("split gives both versions a share of 0")
        if self.shadow is not None and self.shadow in (*(self.split or ()), self.labels.get(STABLE_LABEL)):
            raise ValueError(f"shadow is version {self.shadow}, which answers requests by split or '{STABLE_LABEL}'")
        left_out = self.named.difference(self.policy) if isinstance(self.policy, list) else None
        if left_out:
            raise ValueError(
                f"version {', '.join(map(str, sorted(left_out)))} has a label, a share or is the shadow, "
                f"and is not in the policy {self.policy}"
            )
        return self


def read_rollout(models: Path, name: str) -> Rollout | None:
    """Return the rollout in `models/<name>/serving.json`; None if there is no such file.

    Raises:
        RolloutError: it can't be read, does not match `Rollout`, or contradicts itself.
    """
    try:
        content = read_regular(models / name, SERVING_FILE, max_bytes=MAX_ROLLOUT_BYTES)
        return parse_document(content, Rollout, place_parts=1)
    except FileNotFoundError:
        return None
    except OSError as error:
        problem = f"it can't be read: {error.strerror}"
    except DocumentError as error:
        problem = str(error)
    raise RolloutError(f"{name}/{SERVING_FILE}: {problem}", remedy="correct the file: docs/versions.md describes it")


def parse_version(text: str) -> int | str:
    """Parse the version in a request: a number or a label.

    Raises:
        ValueError: it is neither.
    """
    if text.isascii() and text.isdigit() and len(text) <= MAX_VERSION_DIGITS and int(text) >= 1:
        return int(text)
    if re.fullmatch(LABEL_PATTERN, text):
        return text
    raise ValueError(f"should be {LEGAL_VERSION}")
