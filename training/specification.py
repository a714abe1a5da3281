"""What is agreed before an evaluation's first answer: what is measured, what would be enough, what must not get worse.

It is written down with its hash when the evaluation is asked for. Whoever judges the sheet reads this and nothing else, so a
result cannot choose its own rules.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

SCHEMA = 1
ONE_LOOK = 0.025
"""The level of an evaluation that was asked for before specifications were written: one side of a 95 % interval."""


class Axis(StrEnum):
    """On what a challenger that is not worse has to be better."""

    QUALITY = "quality"
    COST = "cost"
    LATENCY = "latency"
    JUDGE = "judge"


class OverMemory(StrEnum):
    """What a challenger must show against memory, on the questions to which memory has an answer."""

    SAY = "say"
    NOT_WORSE = "not worse"
    BETTER = "better"


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """The most that each guard may show; more than that and the current model stays.

    Slowness counts only where people notice it: a median below `noticeable_s` seconds is never held against a challenger
    (a base that says little is quickly done, and twice nothing is nothing). Likewise cost below `noticeable_usd` for 1,000
    answers. `refusals_more` is how much more often (0..1) than the current model it may refuse.
    """

    latency_ratio: float = 2.0
    noticeable_s: float = 5.0
    error_rate: float = 0.02
    empty_rate: float = 0.02
    refusals_more: float = 0.05
    cost_ratio: float = 1.5
    noticeable_usd: float = 1.0


@dataclass(frozen=True, slots=True)
class Specification:
    """The agreement. Scores and margins are shares of 1 ("0.05" is five points of 100).

    `metrics` is the family on which quality is judged, the first of them the one that is told. Not worse means: by less than
    `margin` in every one of them. Better on quality means: in at least one, after Holm's correction. A difference below
    `worthwhile` is not worth a change. `alpha` is what this look may take (`training.looks`); `level` is that of the
    intervals people read. `minimum` answers to `fewest_clusters` different questions are the least that is looked at.
    """

    metrics: tuple[str, ...] = ("token_f1", "chrf")
    axis: Axis = Axis.QUALITY
    margin: float = 0.05
    worthwhile: float = 0.02
    worthwhile_saving: float = 0.10
    alpha: float = ONE_LOOK
    level: float = 0.95
    minimum: int = 20
    fewest_clusters: int = 6
    held_out_share: float = 1.0
    memory: OverMemory = OverMemory.NOT_WORSE
    limits: GuardLimits = field(default_factory=GuardLimits)
    against: str = "current"
    challenger_id: str = ""
    current_id: str = ""
    dataset_id: str = ""
    resamples: int = 9_999
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.held_out_share <= 1:
            raise ValueError(f"held_out_share must be above 0 and at most 1, not {self.held_out_share}")
        if min(self.margin, self.worthwhile, self.alpha) <= 0 or self.minimum < 1:
            raise ValueError("margin, worthwhile, alpha and minimum must be above 0")
        if not self.metrics:
            raise ValueError("a specification needs at least one metric")

    @property
    def metric(self) -> str:
        """The metric that is told."""
        return self.metrics[0]

    @property
    def per_metric(self) -> float:
        """What is left of `alpha` for the hardest of the tests after Holm's correction."""
        return self.alpha / len(self.metrics) if self.axis is Axis.QUALITY else self.alpha

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `Specification.from_json` gives the same value back."""
        return {"schema": SCHEMA, **asdict(self), "metrics": list(self.metrics)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What was agreed; for an evaluation without any (they were not always written), the defaults."""
        if not data:
            return cls()
        told = {name: value for name, value in data.items() if name not in {"schema", "sha256"}}
        return cls(
            **{
                **told,
                "metrics": tuple(told["metrics"]),
                "axis": Axis(told["axis"]),
                "memory": OverMemory(told["memory"]),
                "limits": GuardLimits(**told["limits"]),
            }
        )

    @property
    def sha256(self) -> str:
        """The hash of the agreement: of its JSON with sorted keys and no spaces."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def stored(self) -> dict[str, Any]:
        """The JSON with its own hash beside it, as an evaluation keeps it."""
        return {**self.to_json(), "sha256": self.sha256}

    def with_alpha(self, alpha: float) -> Self:
        """The same, for a look that may take `alpha`."""
        return replace(self, alpha=alpha)


def unchanged(stored: Mapping[str, Any]) -> bool:
    """Whether a stored agreement still is what was hashed; true of one that was never written."""
    return not stored or stored.get("sha256") == Specification.from_json(stored).sha256
