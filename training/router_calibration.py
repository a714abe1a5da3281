"""From a score to a chance, and how far chances can be trusted: Platt, isotonic, calibration error, Brier. Pure.

Below ISOTONIC_FROM labels two numbers are fitted (Platt); a staircase (isotonic) needs about a thousand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

ISOTONIC_FROM = 1000
_STEPS = 100


@dataclass(frozen=True, slots=True)
class Platt:
    """P(good) = 1 / (1 + exp(-(slope * score + offset)))."""

    slope: float = 1.0
    offset: float = 0.0
    kind: str = "platt"

    def chance(self, scores: "Numbers") -> "Numbers":
        """The chances of good answers."""
        return sigmoid(self.slope * scores + self.offset)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"kind": self.kind, "slope": self.slope, "offset": self.offset}


@dataclass(frozen=True, slots=True)
class Isotonic:
    """Straight lines between `scores` and their `chances`, both rising; level outside."""

    scores: tuple[float, ...]
    chances: tuple[float, ...]
    kind: str = "isotonic"

    def chance(self, scores: "Numbers") -> "Numbers":
        """The chances of good answers."""
        import numpy as np

        told: Numbers = np.interp(scores, self.scores, self.chances)
        return told

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"kind": self.kind, "scores": list(self.scores), "chances": list(self.chances)}


Calibration = Platt | Isotonic


def calibration_of(data: Mapping[str, Any]) -> Calibration:
    """What `to_json` gave. Raises ValueError for another kind."""
    if data["kind"] == "platt":
        return Platt(float(data["slope"]), float(data["offset"]))
    if data["kind"] == "isotonic":
        return Isotonic(tuple(map(float, data["scores"])), tuple(map(float, data["chances"])))
    raise ValueError(f"there is no calibration {data['kind']!r}")


def calibrated(scores: "Numbers", labels: "Numbers", weights: "Numbers | None" = None) -> Calibration:
    """The calibration that fits scores of answers which the scorer had not seen; Platt or isotonic by how many there are."""
    import numpy as np

    weights = np.ones(len(scores)) if weights is None else weights
    return (isotonic if len(scores) >= ISOTONIC_FROM else platt)(scores, labels, weights)


def platt(scores: "Numbers", labels: "Numbers", weights: "Numbers") -> Platt:
    """Logistic regression on the score alone, drawn a little towards slope 1 and offset 0 (each as if by two labels)."""
    import numpy as np

    design = np.stack([scores, np.ones(len(scores))], axis=1)
    centre = np.array([1.0, 0.0])
    at = centre.copy()
    for _ in range(_STEPS):
        chance = sigmoid(design @ at)
        curve = weights * np.maximum(chance * (1 - chance), 1e-9)
        slope = design.T @ (weights * (labels - chance)) - 0.5 * (at - centre)
        step = np.linalg.solve(design.T @ (design * curve[:, None]) + 0.5 * np.eye(2), slope)
        at = at + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    return Platt(max(0.0, float(at[0])), float(at[1]))


def isotonic(scores: "Numbers", labels: "Numbers", weights: "Numbers") -> Isotonic:
    """The staircase of least squared error (pool adjacent violators), with lines between the middles of its steps.

    Each end step keeps one label's worth of doubt, so that nobody is ever certain.
    """
    import numpy as np

    order = np.argsort(scores, kind="stable")
    steps: list[list[float]] = []  # weight, weighted label, weighted score
    for score, label, weight in zip(scores[order], labels[order], weights[order], strict=True):
        steps.append([weight, weight * label, weight * score])
        while len(steps) > 1 and steps[-2][1] * steps[-1][0] >= steps[-1][1] * steps[-2][0]:
            last = steps.pop()
            steps[-1] = [a + b for a, b in zip(steps[-1], last, strict=True)]
    return Isotonic(
        tuple(float(step[2] / step[0]) for step in steps),
        tuple(
            float(np.clip(step[1] / step[0], 0.5 / (step[0] + 1), 1 - 0.5 / (step[0] + 1))) for step in steps
        ),
    )


def sigmoid(values: "Numbers") -> "Numbers":
    """1 / (1 + exp(-x)), without overflow."""
    import numpy as np

    told: Numbers = 0.5 * (1 + np.tanh(values / 2))
    return told


def calibration_error(
    chances: "Sequence[float] | Numbers", labels: "Sequence[float] | Numbers", *, bins: int = 10
) -> float:
    """The expected calibration error: the mean gap between chance and share of good answers in bins of equal width.

    Raises ValueError for nothing.
    """
    import numpy as np

    told, seen = np.asarray(chances, dtype=float), np.asarray(labels, dtype=float)
    if not len(told):
        raise ValueError("a calibration error needs at least one label")
    place = np.minimum((told * bins).astype(int), bins - 1)
    gaps = np.bincount(place, weights=told - seen, minlength=bins)
    return float(np.abs(gaps).sum() / len(told))


def brier(chances: "Sequence[float] | Numbers", labels: "Sequence[float] | Numbers") -> float:
    """The mean squared distance of chance and label."""
    import numpy as np

    return float(np.mean((np.asarray(chances, dtype=float) - np.asarray(labels, dtype=float)) ** 2))
