"""Rated questions near a question, and how local and API answers to them were judged. Pure.

Questions are compared by the buckets of their words, rare ones weighing more, so that nothing but numbers is held. The means
are shrunk: a single neighbour says little.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.router import RatedAnswer
from training.router_features import word_buckets

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float32]

BUCKETS = 1024
NEAREST = 10
PRIOR_WORTH = 3.0
"""The mean of all counts as much as so many neighbours that ask the very same."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Rated questions as rows of unit length; labels are NaN where that answer was not judged."""

    rows: "Numbers"
    rarity: "Numbers"
    local: "Numbers"
    api: "Numbers"

    @classmethod
    def of(cls, rated: Sequence[RatedAnswer]) -> "Neighbours":
        """The questions of these ratings."""
        import numpy as np

        raw = np.zeros((len(rated), BUCKETS), dtype=np.float32)
        for place, each in enumerate(rated):
            for bucket, value in word_buckets(each.question, BUCKETS).items():
                raw[place, bucket] = value
        rarity = np.log((1 + len(rated)) / (1 + (raw != 0).sum(axis=0))).astype(np.float32) + 0.1
        rows = _unit(raw * rarity)
        labels = np.array([each.label for each in rated], dtype=np.float32)
        local = np.array([each.kind == "local" for each in rated], dtype=bool)
        return cls(rows, rarity, np.where(local, labels, np.nan), np.where(local, np.nan, labels))

    def features(self, question: str) -> dict[str, float]:
        """What the nearest rated questions say: "near_score" (0..1), "near_local" and "near_api" (shrunk means of labels).

        Nothing where nothing was rated yet.
        """
        import numpy as np

        if not len(self.rows):
            return {}
        asked = np.zeros(BUCKETS, dtype=np.float32)
        for bucket, value in word_buckets(question, BUCKETS).items():
            asked[bucket] = value
        alike = np.clip(self.rows @ _unit((asked * self.rarity)[None, :])[0], 0.0, 1.0)
        places = np.argsort(-alike)[:NEAREST]
        told = {"near_score": float(alike[places[0]])}
        for name, labels in (("near_local", self.local), ("near_api", self.api)):
            mean = _shrunk(alike[places], labels[places], labels)
            if mean is not None:
                told[name] = mean
        return told


def _unit(rows: "Numbers") -> "Numbers":
    import numpy as np

    told: Numbers = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    return told


def _shrunk(alike: "Numbers", labels: "Numbers", everything: "Numbers") -> float | None:
    import numpy as np

    if np.isnan(everything).all():
        return None
    known = ~np.isnan(labels)
    prior = float(np.nanmean(everything))
    weights = alike[known]
    return float(((weights * labels[known]).sum() + PRIOR_WORTH * prior) / (weights.sum() + PRIOR_WORTH))
