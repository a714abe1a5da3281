"""The router: how good a local answer probably is, and how much better an API model's would be, fitted on a team's ratings.

Three heads read the same blocks of numbers (`router_fit`): the chance of a good local answer, that of a good API answer, and
the gain of the one over the other, which is learned best from questions of which both answers were rated (duels, draws).
Chances are calibrated on questions that the heads had not seen. Pure: rows in, a value out, JSON to keep it.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from training.router_calibration import Calibration, Platt, calibrated, calibration_of, sigmoid
from training.router_fit import (
    ANSWER_BLOCKS,
    QUESTION_BLOCKS,
    Asked,
    Design,
    Head,
    design_of,
    logistic_head,
    straight_head,
    variances,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

VERSION = 1
FEWEST = 30
"""Fewer questions with a rated local answer than that, and nothing is fitted."""
FOLDS = 5
_LOCAL = "local"
_API_GOOD = 0.8
_API_WORTH = 10.0
"""What is expected of an API model before it was rated: as good as this, as if by so many ratings."""
_HEADS_WORTH = 1000.0
"""The difference of both chances counts as much as so many questions of which both answers were rated."""
_WEIGHT_LIMIT = 10.0
_RATER_SHARE = 0.25


class UnknownRouter(ValueError):
    """The stored router is of a version that this program does not know."""


@dataclass(frozen=True, slots=True)
class RatedAnswer:
    """One answer that people judged: `label` from 0 (bad) to 1 (good).

    `cluster` is what stands or falls together (the thread). `kind` is "local" or an API's; `features` are those stored with
    the *local* candidate of the same question, whichever was rated. `propensity` is the probability with which this answer
    came to be shown and rated (the route's times the solicitation's, where they were drawn). `raters` may be pseudonyms.
    """

    question_id: str
    question: str
    cluster: str
    kind: str
    label: float
    topic: str = ""
    features: Mapping[str, float] = field(default_factory=dict)
    propensity: float = 1.0
    raters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Expected:
    """What the router expects: the chances of a good answer, and the gain of asking an API model (-1..1)."""

    p_local: float
    p_api: float
    gain: float


@dataclass(frozen=True, slots=True)
class Expectations:
    """The same for many questions, as arrays."""

    p_local: "Numbers"
    p_api: "Numbers"
    gain: "Numbers"


@dataclass(frozen=True, slots=True)
class Rated:
    """A question with all that is known of it: labels of one or both answers (NaN where nobody judged), and their weights.

    `propensity` is the chance with which the one label that there is came to be seen; 1 where no draw decided.
    """

    asked: Asked
    cluster: str
    local: float
    api: float
    local_weight: float
    api_weight: float
    propensity: float = 1.0


@dataclass(frozen=True, slots=True)
class Router:
    """A fitted router. `labels` counts the answers it was fitted on, `pairs` the questions with both answers judged."""

    design: Design
    local: Head
    api: Head
    gain: Head
    calibration: Calibration
    labels: int
    pairs: int

    def expect(self, asked: Asked) -> Expected:
        """What to expect of one question and its local answer."""
        told = self.expect_all([asked])
        return Expected(float(told.p_local[0]), float(told.p_api[0]), float(told.gain[0]))

    def expect_all(self, asked: Sequence[Asked]) -> Expectations:
        """What to expect of each."""
        return _expectations(self, self.design.blocks(asked))

    def local_scores(self, asked: Sequence[Asked]) -> "Numbers":
        """What the local head says before it is calibrated."""
        return self.local.score(self.design.blocks(asked))

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON values; `Router.from_json` gives the same router back."""
        return {
            "version": VERSION,
            "design": self.design.to_json(),
            "local": self.local.to_json(),
            "api": self.api.to_json(),
            "gain": self.gain.to_json(),
            "calibration": self.calibration.to_json(),
            "labels": self.labels,
            "pairs": self.pairs,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Router":
        """Raises UnknownRouter for what another version of the program stored."""
        if data.get("version") != VERSION:
            raise UnknownRouter(
                f"This router is of version {data.get('version')!r}; this program knows version {VERSION}. "
                "It decides by the threshold until the next fit."
            )
        return cls(
            Design.from_json(data["design"]),
            Head.from_json(data["local"]),
            Head.from_json(data["api"]),
            Head.from_json(data["gain"]),
            calibration_of(data["calibration"]),
            int(data["labels"]),
            int(data["pairs"]),
        )


def label_of(votes: Sequence[int], *, corrected: bool = False) -> float | None:
    """The label of an answer: 0 if somebody corrected it, else the share of thumbs up; None without either.

    `votes` holds each rater's last vote (+1, -1, or 0 for one taken back).
    """
    if corrected:
        return 0.0
    cast = [vote for vote in votes if vote]
    return sum(vote > 0 for vote in cast) / len(cast) if cast else None


def duel_labels(outcome: str) -> tuple[float, float] | None:
    """The labels of A and B in a closed duel; None where it said nothing of either."""
    return {"a": (1.0, 0.0), "b": (0.0, 1.0), "tie": (1.0, 1.0), "both bad": (0.0, 0.0)}.get(outcome)


def gathered(rows: Sequence[RatedAnswer]) -> list[Rated]:
    """One entry for each question, in a lasting order, weighted by the inverse of its chance to be seen (at most tenfold).

    Several labels of one arm are averaged. Nobody's ratings carry more than a quarter of the weight, where there are more
    than four raters.
    """
    by_question: dict[str, list[RatedAnswer]] = {}
    for row in rows:
        by_question.setdefault(row.question_id, []).append(row)
    worth = _rater_worth(rows)
    return [_rated(by_question[name], worth) for name in sorted(by_question)]


def fit(rows: Sequence[RatedAnswer]) -> Router | None:
    """A router; None for fewer than FEWEST questions with a rated local answer, or where all are rated alike."""
    return fit_rated(gathered(rows))


def fit_rated(rated: Sequence[Rated], *, calibrate: bool = True) -> Router | None:
    """The same, for questions that are gathered already; without `calibrate` chances are as the heads say them."""
    rough = _uncalibrated(rated)
    seen = _unseen_scores(rated, rough) if rough is not None and calibrate else None
    if rough is None or seen is None:
        return rough
    scores, labels, weights = seen
    return Router(
        rough.design,
        rough.local,
        rough.api,
        rough.gain,
        calibrated(scores, labels, weights),
        rough.labels,
        rough.pairs,
    )


def fold_of(cluster: str, folds: int = FOLDS) -> int:
    """The fold of a cluster, the same for ever: routers are compared on the same folds."""
    return int.from_bytes(hashlib.sha256(cluster.encode()).digest()[:4], "big") % folds


def folds_of(rated: Sequence[Rated]) -> list[tuple[list[int], list[int]]]:
    """For each fold the places that are fitted on, and those that are looked at."""
    fold = [fold_of(each.cluster) for each in rated]
    return [
        (
            [place for place, each in enumerate(fold) if each != number],
            [place for place, each in enumerate(fold) if each == number],
        )
        for number in sorted(set(fold))
    ]


def _uncalibrated(rated: Sequence[Rated]) -> Router | None:
    import numpy as np

    local = np.array([each.local for each in rated])
    api = np.array([each.api for each in rated])
    has_local, has_api = ~np.isnan(local), ~np.isnan(api)
    if has_local.sum() < FEWEST or np.ptp(local[has_local]) == 0:
        return None
    design = design_of([each.asked for each in rated])
    blocks = design.blocks([each.asked for each in rated])
    weight = np.array([each.local_weight for each in rated]), np.array([each.api_weight for each in rated])
    both = has_local & has_api
    known = {name: each[has_local] for name, each in blocks.items()}
    chosen = variances(known, ANSWER_BLOCKS, local[has_local], weight[0][has_local])
    return Router(
        design=design,
        local=logistic_head(known, chosen, local[has_local], weight[0][has_local]),
        api=_api_head(blocks, has_api, api, weight[1]),
        gain=_gain_head(blocks, chosen, both, api - local, np.sqrt(weight[0] * weight[1])),
        calibration=Platt(),
        labels=int(has_local.sum() + has_api.sum()),
        pairs=int(both.sum()),
    )


def _api_head(
    blocks: Mapping[str, "Numbers"], rows: "Numbers", labels: "Numbers", weights: "Numbers"
) -> Head:
    """The chance of a good API answer, drawn towards what is usual while there are few ratings of it."""
    import numpy as np

    if rows.sum() < FEWEST or np.ptp(labels[rows]) == 0:
        head, mean, seen = None, (float(labels[rows].mean()) if rows.any() else _API_GOOD), float(rows.sum())
    else:
        mine = {name: each[rows] for name, each in blocks.items()}
        chosen = variances(mine, QUESTION_BLOCKS, labels[rows], weights[rows])
        head = logistic_head(mine, chosen, labels[rows], weights[rows])
        mean, seen = float(np.average(labels[rows], weights=weights[rows])), float(rows.sum())
    shrunk = (mean * seen + _API_GOOD * _API_WORTH) / (seen + _API_WORTH)
    if head is None:
        return Head(math.log(shrunk / (1 - shrunk)), {})
    mean = min(max(mean, 0.01), 0.99)
    return Head(head.offset + math.log(shrunk / (1 - shrunk)) - math.log(mean / (1 - mean)), head.weights)


def _gain_head(
    blocks: Mapping[str, "Numbers"],
    chosen: Mapping[str, float],
    rows: "Numbers",
    gains: "Numbers",
    weights: "Numbers",
) -> Head:
    """Each block may say as much of the gain as of the local answer: differences are too noisy to choose by."""
    if rows.sum() < FEWEST:
        return Head(0.0, {})
    mine = {name: each[rows] for name, each in blocks.items()}
    return straight_head(mine, chosen, gains[rows], weights[rows])


def _expectations(router: Router, blocks: Mapping[str, "Numbers"]) -> Expectations:
    import numpy as np

    local = router.calibration.chance(router.local.score(blocks))
    api = sigmoid(router.api.score(blocks))
    # Ties of a calibration in steps would be ties of the decision: for the gain the chance before it is taken.
    rough = api - sigmoid(router.local.score(blocks))
    pairs = router.pairs if router.pairs >= FEWEST else 0
    gain = (pairs * router.gain.score(blocks) + _HEADS_WORTH * rough) / (pairs + _HEADS_WORTH)
    return Expectations(local, np.clip(local + gain, 0.0, 1.0) if pairs else api, np.clip(gain, -1, 1))


def _unseen_scores(rated: Sequence[Rated], router: Router) -> "tuple[Numbers, Numbers, Numbers] | None":
    """Scores of local answers by heads that were not fitted on their fold, with labels and weights.

    What each block may say was decided on all of them: a handful of numbers, which remember no answer.
    """
    import numpy as np

    known = [each for each in rated if not np.isnan(each.local)]
    labels, weights = (
        np.array([each.local for each in known]),
        np.array([each.local_weight for each in known]),
    )
    blocks = router.design.blocks([each.asked for each in known])
    chosen = variances(blocks, ANSWER_BLOCKS, labels, weights)
    scores = np.full(len(known), np.nan)
    for fitted_on, looked_at in folds_of(known):
        if len(fitted_on) < FEWEST // 2 or np.ptp(labels[fitted_on]) == 0:
            continue
        mine = {name: each[fitted_on] for name, each in blocks.items()}
        head = logistic_head(mine, chosen, labels[fitted_on], weights[fitted_on])
        scores[looked_at] = head.score({name: each[looked_at] for name, each in blocks.items()})
    seen = ~np.isnan(scores)
    return (scores[seen], labels[seen], weights[seen]) if seen.sum() >= FEWEST else None


def _rated(rows: Sequence[RatedAnswer], worth: Mapping[str, float]) -> Rated:
    local = [row for row in rows if row.kind == _LOCAL]
    api = [row for row in rows if row.kind != _LOCAL]
    first = next(iter([*local, *api]))
    features = next((row.features for row in [*local, *api] if row.features), {})
    return Rated(
        Asked(first.question, first.topic, features),
        first.cluster,
        _mean([row.label for row in local]),
        _mean([row.label for row in api]),
        _mean([_weight(row, worth) for row in local]) if local else 0.0,
        _mean([_weight(row, worth) for row in api]) if api else 0.0,
        min(row.propensity for row in rows),
    )


def _weight(row: RatedAnswer, worth: Mapping[str, float]) -> float:
    mine = [worth[rater] for rater in row.raters]
    return min(_WEIGHT_LIMIT, 1 / max(row.propensity, 1e-6)) * (sum(mine) / len(mine) if mine else 1.0)


def _rater_worth(rows: Sequence[RatedAnswer]) -> dict[str, float]:
    counts: dict[str, int] = {}
    for row in rows:
        for rater in row.raters:
            counts[rater] = counts.get(rater, 0) + 1
    if len(counts) <= 1 / _RATER_SHARE:
        return dict.fromkeys(counts, 1.0)
    most = _RATER_SHARE * sum(counts.values())
    return {rater: min(1.0, most / count) for rater, count in counts.items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
