"""Ridge regression in blocks: how much each kind of evidence may say is decided by the labels themselves.

A block (topics, the shape of the question, its words, the local answer) has one variance, chosen by the evidence (the
probability of all labels, with every weight integrated out), so that with few labels a block of many numbers is shrunk to
nothing. Heads are straight (differences of labels) or logistic (chances). Numbers in, numbers out; nothing is drawn.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from training.router_calibration import sigmoid
from training.router_features import BUCKETS, question_features, word_buckets

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Blocks = Mapping[str, Numbers]

QUESTION_BLOCKS = ("topic", "shape", "words")
ANSWER_BLOCKS = (*QUESTION_BLOCKS, "answer", "curve")
VARIANCES: Mapping[str, tuple[float, ...]] = {
    "topic": (0.0, 0.04, 0.1, 0.2),
    "shape": (0.0, 0.04, 0.1, 0.25),
    "answer": (0.0, 0.1, 0.3, 1.0, 3.0),
    "curve": (0.0, 0.1, 0.4),
    "words": (0.0, 0.1),
}
"""What a block may add to the variance of a label, as a multiple of the noise."""
_START = {"topic": 0.1, "shape": 0.1, "answer": 0.3, "curve": 0.0, "words": 0.0}
_ROUNDS = 2
_WAVES = 64
_STEPS = 30


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as the router sees it, with the features of the local answer where there is one.

    `topic` is what questions have in common, such as their channel; "" where nothing is known.
    """

    question: str
    topic: str = ""
    features: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scale:
    """Named numbers brought to mean 0 and spread 1 and kept within 3; one that is missing is ordinary (0).

    `waves` are the random directions and phases by which curves are followed.
    """

    names: tuple[str, ...]
    means: tuple[float, ...]
    spreads: tuple[float, ...]
    waves: tuple[tuple[float, ...], ...] = ()

    def straight(self, rows: Sequence[Mapping[str, float]]) -> "Numbers":
        """The numbers themselves."""
        import numpy as np

        raw = np.array([[row.get(name, math.nan) for name in self.names] for row in rows], dtype=float)
        raw = raw.reshape(len(rows), len(self.names))
        told = np.clip((raw - np.array(self.means)) / np.array(self.spreads), -3, 3)
        return np.where(np.isnan(told), 0.0, told)

    def curved(self, straight: "Numbers") -> "Numbers":
        """Random Fourier features: their products are near exp(-distance² / 2), so that any smooth curve can be followed."""
        import numpy as np

        waves = np.array(self.waves)
        told: Numbers = np.cos(straight @ waves[:, :-1].T + waves[:, -1]) * math.sqrt(2 / len(waves))
        return told


def scale_of(rows: Sequence[Mapping[str, float]], *, width: float) -> Scale:
    """The scale of these rows; names that never change are left out. `width` is how far a curve reaches."""
    import numpy as np

    names = sorted({name for row in rows for name in row})
    raw = np.array([[row.get(name, math.nan) for name in names] for row in rows], dtype=float).reshape(
        len(rows), len(names)
    )
    known = ~np.isnan(raw)
    counts = np.maximum(known.sum(axis=0), 1)
    means = np.where(known, raw, 0).sum(axis=0) / counts
    spreads = np.sqrt(np.where(known, (raw - means) ** 2, 0).sum(axis=0) / counts)
    kept = [place for place in range(len(names)) if spreads[place] > 1e-6]
    dice = random.Random(f"{len(kept)}")
    waves = tuple(
        (*(round(dice.gauss(0, 1 / width), 6) for _ in kept), round(dice.uniform(0, 2 * math.pi), 6))
        for _ in range(_WAVES)
    )
    return Scale(
        tuple(names[place] for place in kept),
        tuple(float(means[place]) for place in kept),
        tuple(float(spreads[place]) for place in kept),
        waves if kept else (),
    )


@dataclass(frozen=True, slots=True)
class Design:
    """How an `Asked` becomes rows of numbers, in blocks of comparable size."""

    topics: tuple[str, ...]
    shape: Scale
    answer: Scale
    rarity: tuple[float, ...]

    def blocks(self, asked: Sequence[Asked]) -> dict[str, "Numbers"]:
        """One matrix for each block, a row for each question."""
        shape = self.shape.straight([question_features(each.question) for each in asked])
        told = {
            "topic": self._topics(asked),
            "words": self._words(asked),
        }
        if self.shape.names:
            told["shape"] = self.shape.curved(shape)
        if self.answer.names:
            straight = self.answer.straight([each.features for each in asked])
            told["answer"] = straight / math.sqrt(len(self.answer.names))
            told["curve"] = self.answer.curved(straight)
        return told

    def _topics(self, asked: Sequence[Asked]) -> "Numbers":
        import numpy as np

        places = {topic: place for place, topic in enumerate(self.topics)}
        told = np.zeros((len(asked), len(self.topics)))
        for row, each in enumerate(asked):
            if (place := places.get(each.topic)) is not None:
                told[row, place] = 1.0
        return told

    def _words(self, asked: Sequence[Asked]) -> "Numbers":
        import numpy as np

        return _hashed([word_buckets(each.question) for each in asked], BUCKETS, np.array(self.rarity))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "topics": list(self.topics),
            "shape": _scale_json(self.shape),
            "answer": _scale_json(self.answer),
            "rarity": list(self.rarity),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Design":
        return cls(
            tuple(data["topics"]),
            _scale_from(data["shape"]),
            _scale_from(data["answer"]),
            tuple(map(float, data["rarity"])),
        )


def design_of(asked: Sequence[Asked]) -> Design:
    """The design for these questions."""
    import numpy as np

    seen = np.zeros(BUCKETS)
    for each in asked:
        seen[list(word_buckets(each.question))] += 1
    return Design(
        tuple(sorted({each.topic for each in asked if each.topic})),
        scale_of([question_features(each.question) for each in asked], width=2.5),
        scale_of([each.features for each in asked], width=4.0),
        tuple(round(float(each), 4) for each in np.log((1 + len(asked)) / (1 + seen)) + 0.1),
    )


@dataclass(frozen=True, slots=True)
class Head:
    """offset + the sum of each block's numbers times its weights."""

    offset: float
    weights: Mapping[str, tuple[float, ...]]

    def score(self, blocks: "Blocks") -> "Numbers":
        """One number for each row."""
        import numpy as np

        rows = len(next(iter(blocks.values())))
        told = np.full(rows, self.offset)
        for name, weights in self.weights.items():
            told += blocks[name] @ np.array(weights)
        return told

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"offset": self.offset, "weights": {name: list(each) for name, each in self.weights.items()}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Head":
        return cls(
            float(data["offset"]), {name: tuple(map(float, each)) for name, each in data["weights"].items()}
        )


def variances(
    blocks: "Blocks", names: Sequence[str], labels: "Numbers", weights: "Numbers"
) -> dict[str, float]:
    """How much each block may say: the variances under which labels are likeliest; without what says nothing."""
    import numpy as np

    names = [name for name in names if name in blocks and blocks[name].shape[1]]
    rows = np.hstack([np.zeros((len(labels), 0)), *(blocks[name] for name in names)])
    roots = np.sqrt(weights)
    rows, centred = rows * roots[:, None], (labels - np.average(labels, weights=weights)) * roots
    sizes = {name: blocks[name].shape[1] for name in names}
    products = _Products(rows.T @ rows, rows.T @ centred, float(centred @ centred), len(labels), sizes)
    chosen = {name: _START[name] for name in names}
    best = _evidence(products, chosen)
    for _ in range(_ROUNDS):
        before = chosen
        for name in names:
            for value in VARIANCES[name]:
                if (
                    value != chosen[name]
                    and (told := _evidence(products, tried := {**chosen, name: value})) > best
                ):
                    best, chosen = told, tried
        if chosen == before:
            break
    return {name: value for name, value in chosen.items() if value > 0}


def straight_head(
    blocks: "Blocks", chosen: Mapping[str, float], labels: "Numbers", weights: "Numbers"
) -> Head:
    """Weighted ridge regression."""
    import numpy as np

    mean = float(np.average(labels, weights=weights))
    rows, penalties = _side_by_side(blocks, chosen, len(labels))
    inner = rows.T @ (rows * weights[:, None]) + np.diag(penalties)
    at = np.asarray(np.linalg.solve(inner, rows.T @ (weights * (labels - mean))), dtype=np.float64)
    return Head(mean, _by_block(blocks, chosen, at))


def logistic_head(
    blocks: "Blocks", chosen: Mapping[str, float], labels: "Numbers", weights: "Numbers"
) -> Head:
    """Weighted ridge logistic regression by Newton's method; the offset is not shrunk."""
    import numpy as np

    mean = float(np.clip(np.average(labels, weights=weights), 0.02, 0.98))
    rows, penalties = _side_by_side(blocks, chosen, len(labels))
    # A weight that moves a chance by d moves its logit by d / (mean (1 - mean)).
    penalties = penalties * mean * (1 - mean)
    rows = np.column_stack([rows, np.ones(len(labels))])
    penalties = np.append(penalties, 1e-6)
    at = np.append(np.zeros(len(penalties) - 1), math.log(mean / (1 - mean)))
    for _ in range(_STEPS):
        chance = sigmoid(rows @ at)
        curve = weights * np.maximum(chance * (1 - chance), 1e-6)
        slope = rows.T @ (weights * (labels - chance)) - penalties * at
        step = np.linalg.solve(rows.T @ (rows * curve[:, None]) + np.diag(penalties), slope)
        at = at + step * min(1.0, 4.0 / max(1e-12, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-7:
            break
    return Head(float(at[-1]), _by_block(blocks, chosen, at[:-1]))


@dataclass(frozen=True, slots=True)
class _Products:
    """All that the evidence needs of labels and blocks: columns by columns, columns by labels, labels by labels."""

    columns: "Numbers"
    labels: "Numbers"
    squares: float
    count: int
    sizes: Mapping[str, int]


def _evidence(products: _Products, chosen: Mapping[str, float]) -> float:
    """The log-probability of labels whose noise has the variance that suits them best."""
    import numpy as np

    spreads = np.concatenate(
        [np.zeros(0), *(np.full(size, chosen[name]) for name, size in products.sizes.items())]
    )
    used = spreads > 0
    roots = np.sqrt(spreads[used])
    inner = np.eye(len(roots)) + roots[:, None] * products.columns[np.ix_(used, used)] * roots
    pull = roots * products.labels[used]
    # One decomposition gives both: what is left in the corner when the pull stands beside the matrix is the distance.
    corner = np.array([[products.squares + 1e-9]])
    diagonal = np.diag(np.linalg.cholesky(np.block([[inner, pull[:, None]], [pull[None, :], corner]])))
    distance = 2 * math.log(max(float(diagonal[-1]), 1e-9))
    return -0.5 * products.count * distance - float(np.log(diagonal[:-1]).sum())


def _side_by_side(blocks: "Blocks", chosen: Mapping[str, float], rows: int) -> tuple["Numbers", "Numbers"]:
    import numpy as np

    matrix = np.hstack([np.zeros((rows, 0)), *(blocks[name] for name in chosen)])
    penalties = [np.full(blocks[name].shape[1], 1 / value) for name, value in chosen.items()]
    return matrix, np.concatenate([np.zeros(0), *penalties])


def _by_block(
    blocks: "Blocks", chosen: Mapping[str, float], weights: "Numbers"
) -> dict[str, tuple[float, ...]]:
    told, start = {}, 0
    for name in chosen:
        end = start + blocks[name].shape[1]
        told[name] = tuple(float(each) for each in weights[start:end])
        start = end
    return told


def _hashed(rows: Sequence[Mapping[int, float]], buckets: int, rarity: "Numbers | None" = None) -> "Numbers":
    import numpy as np

    told = np.zeros((len(rows), buckets))
    for place, row in enumerate(rows):
        if row:
            told[place, list(row)] = list(row.values())
    if rarity is not None:
        told *= rarity
    unit: Numbers = told / np.maximum(np.linalg.norm(told, axis=1, keepdims=True), 1e-9)
    return unit


def _scale_json(scale: Scale) -> dict[str, Any]:
    return {
        "names": list(scale.names),
        "means": list(scale.means),
        "spreads": list(scale.spreads),
        "waves": [list(each) for each in scale.waves],
    }


def _scale_from(data: Mapping[str, Any]) -> Scale:
    return Scale(
        tuple(data["names"]),
        tuple(map(float, data["means"])),
        tuple(map(float, data["spreads"])),
        tuple(tuple(map(float, each)) for each in data["waves"]),
    )
