"""How far the votes of different people can be relied on, and what they say together about one answer.

Pure and streaming: a first pass over all rated answers counts, for each rater, how often the others agreed (`Raters.add`);
`weigh` turns the counts into weights; a second pass asks for labels (`Weights.label`). The state is a few numbers a rater.

A weight has three steps, so that people can be told and one odd vote does not shift everybody a little: 1, a half, or 0,
and twice that for an expert. Everybody starts with 1 and loses it by evidence only: where it is nearly sure (95 of 100) that
somebody agrees with the others, beyond chance, less than half (a quarter) as much as is usual in this team. Chance is what
somebody would reach who pressed the same thumbs blindly, so always pressing one thumb earns nothing, and voting only on what
one likes costs nothing. Few comparisons mean little: they are joined by ten that came out as usual. It is the first step of
Dawid and Skene's EM, from the majority of the others; more would need more passes and gain little while most mean it well.

How much one person may decide is a question of its own: `training.caps`.
"""

import math
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from storage.feedback import Vote

__all__ = [
    "AUTHOR_CAP",
    "DISLIKED",
    "EXPERT",
    "RATER_CAP",
    "UNDECIDED",
    "UNHEARD",
    "Agreement",
    "Agreements",
    "CapRules",
    "Label",
    "Rater",
    "Raters",
    "Vote",
    "Weights",
    "tell_apart",
]

RATER_CAP, AUTHOR_CAP = 0.05, 0.20
EXPERT = 2.0
"""What an expert's word counts for, where anybody else's counts 1."""
MARGIN = 0.1
"""Votes decide when the winning side leads by this share of all weight: 3 to 2 does, 6 to 5 does not."""
PRIOR_RATINGS = 10.0
"""As many comparisons as everybody is believed to have had already, with the usual outcome."""
FULL, HALF = 0.5, 0.25
SURELY = 1.645

DISLIKED = "disliked, and nobody wrote a better answer"
UNDECIDED = "people disagree about it"
UNHEARD = "only rated by people who nearly always disagree with the others"
_REASONS = {1: "", -1: DISLIKED, 0: UNDECIDED}


@dataclass(frozen=True, slots=True)
class CapRules:
    """What the operator allows one person to decide by votes, and to write: shares of a dataset's rows, 1 for no cap."""

    rater: float = RATER_CAP
    author: float = AUTHOR_CAP


class Label(NamedTuple):
    """What the votes on an answer say: `value` +1 liked, -1 disliked, 0 undecided (with the `reason`, if not liked).

    `weight` (0..1) is how much stands behind it: one ordinary vote 0.5, two that agree 0.67, one against two 0.5.
    `deciders` are the people without any one of whom the answer would be in the dataset if it is not, or out if it is in.
    """

    value: int
    weight: float
    reason: str
    deciders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far raters agree: `answers` were rated by several, by `votes` votes; `share` of their pairs say the same.

    `alpha` is Krippendorff's, for labels without order: 1 all agree, 0 as by chance. `ac1` is Gwet's, which stays fair where
    nearly everything is liked. Both are None where no two votes can be compared (alpha: or only one label was ever given).
    """

    answers: int
    votes: int
    share: float | None
    alpha: float | None
    ac1: float | None


@dataclass(frozen=True, slots=True)
class Rater:
    """One person's standing: what their word counts (`weight`, an expert's doubled) and why.

    They were `compared` with the majority of the others so many times and `agreed` so often; `by_chance` is how often the
    same thumbs, pressed blindly, would have agreed, `as_usual` how often they do in this team.
    """

    person: str
    votes: int
    ups: int
    compared: int
    agreed: int
    by_chance: float
    as_usual: float
    weight: float
    expert: bool


class Agreements:
    """Counts agreement, one rated thing after the other. Labels may be anything; here they are +1 and -1."""

    def __init__(self) -> None:
        self._answers = self._votes = 0
        self._same = 0.0
        self._pairable: Counter[Hashable] = Counter()
        self._pair_same: float = 0.0
        self._shares: Counter[Hashable] = Counter()
        self._rated = 0

    def add(self, labels: Sequence[Hashable]) -> None:
        """All labels that one thing got, from different people."""
        count = len(labels)
        if count < 2:
            if count:
                self._rated += 1
                self._shares[labels[0]] += 1
            return
        tallies = Counter(labels)
        self._rated += 1
        for label, number in tallies.items():
            self._shares[label] += number / count  # type: ignore[assignment]
        same = sum(number * (number - 1) for number in tallies.values())
        self._answers += 1
        self._votes += count
        self._same += same / (count * (count - 1))
        self._pair_same += same / (count - 1)
        self._pairable.update(tallies)

    def join(self, others: "Agreements") -> None:
        """What was counted elsewhere, too."""
        self._answers += others._answers
        self._votes += others._votes
        self._same += others._same
        self._pair_same += others._pair_same
        self._rated += others._rated
        self._pairable.update(others._pairable)
        self._shares.update(others._shares)

    def told(self) -> dict[str, Any]:
        """What was counted, as JSON; labels are numbers."""
        return {
            "numbers": [self._answers, self._votes, self._same, self._pair_same, self._rated],
            "pairable": [[int(label), count] for label, count in self._pairable.items()],  # type: ignore[call-overload]
            "shares": [[int(label), share] for label, share in self._shares.items()],  # type: ignore[call-overload]
        }

    @classmethod
    def from_told(cls, told: Mapping[str, Any]) -> "Agreements":
        """The counts that were told."""
        found = cls()
        found._answers, found._votes, found._same, found._pair_same, found._rated = told["numbers"]
        found._pairable.update(dict(told["pairable"]))
        found._shares.update(dict(told["shares"]))
        return found

    def so_far(self) -> Agreement:
        """Of everything that was added."""
        if not self._answers:
            return Agreement(0, 0, None, None, None)
        share = self._same / self._answers
        return Agreement(self._answers, self._votes, share, self._alpha(), self._ac1(share))

    def _alpha(self) -> float | None:
        total = self._votes
        expected = sum(number * (number - 1) for number in self._pairable.values()) / (total - 1)
        if expected >= total:
            return None
        return 1 - (total - self._pair_same) / (total - expected)

    def _ac1(self, share: float) -> float | None:
        shares = [number / self._rated for number in self._shares.values()]
        chance = sum(each * (1 - each) for each in shares) / max(1, max(2, len(shares)) - 1)
        return (share - chance) / (1 - chance)


class _Counts:
    """What is counted of one rater. Index 1 is for their thumbs up, 0 for their thumbs down."""

    __slots__ = ("agreed", "compared", "ups", "votes")

    def __init__(self) -> None:
        self.votes = self.ups = 0
        self.compared = [0, 0]
        self.agreed = [0, 0]


class Raters:
    """The first pass: who votes, and how often the others agree."""

    def __init__(self, experts: Collection[str] = ()) -> None:
        self.experts = frozenset(experts)
        self._counts: dict[str, _Counts] = {}
        self._liked = [0, 0]
        self._agreements = Agreements()

    def add(self, votes: Sequence[Vote], asker: str = "") -> None:
        """The votes that one answer got, at most one a person; `asker` asked for it and may be among them."""
        if len(votes) == 1:  # most answers
            self._alone(votes[0])
            return
        said = [vote for vote in votes if vote.value]
        total = sum(1 if vote.value > 0 else -1 for vote in said)
        for vote in said:
            up = vote.value > 0
            counts = self._counts.get(vote.rater)
            if counts is None:
                counts = self._counts[vote.rater] = _Counts()
            counts.votes += 1
            counts.ups += up
            others = total - (1 if up else -1)
            if others:
                liked = others > 0
                self._liked[liked] += 1
                counts.compared[up] += 1
                counts.agreed[up] += liked == up
        if said:
            self._agreements.add([vote.value > 0 for vote in said])

    def _alone(self, vote: Vote) -> None:
        """A vote with which nobody can be compared."""
        if not vote.value:
            return
        counts = self._counts.get(vote.rater)
        if counts is None:
            counts = self._counts[vote.rater] = _Counts()
        counts.votes += 1
        counts.ups += vote.value > 0
        self._agreements.add((vote.value > 0,))

    def join(self, others: "Raters") -> None:
        """What was heard elsewhere, too."""
        for person, theirs in others._counts.items():
            counts = self._counts.setdefault(person, _Counts())
            counts.votes += theirs.votes
            counts.ups += theirs.ups
            for side in (0, 1):
                counts.compared[side] += theirs.compared[side]
                counts.agreed[side] += theirs.agreed[side]
        self._liked = [ours + more for ours, more in zip(self._liked, others._liked, strict=True)]
        self._agreements.join(others._agreements)

    def told(self) -> dict[str, Any]:
        """What was heard, as JSON."""
        counts = {
            person: [each.votes, each.ups, each.compared, each.agreed]
            for person, each in self._counts.items()
        }
        return {"counts": counts, "liked": self._liked, "agreements": self._agreements.told()}

    @classmethod
    def from_told(cls, told: Mapping[str, Any]) -> "Raters":
        """What was told, of nobody in particular an expert: to be joined to others."""
        found = cls()
        for person, (votes, ups, compared, agreed) in told["counts"].items():
            counts = found._counts[person] = _Counts()
            counts.votes, counts.ups, counts.compared, counts.agreed = votes, ups, compared, agreed
        found._liked = told["liked"]
        found._agreements = Agreements.from_told(told["agreements"])
        return found

    def weigh(self) -> "Weights":
        """What everybody's word counts, from everything that was added."""
        chance = [share / max(1, sum(self._liked)) for share in self._liked]
        usual = self._usual(chance)
        raters = {
            person: self._rater(person, counts, chance, usual) for person, counts in self._counts.items()
        }
        return Weights(raters, self.experts, self._agreements.so_far())

    def _usual(self, chance: Sequence[float]) -> list[float]:
        """How often thumbs down, and thumbs up, agree with the others in this team; as by chance where nothing is known."""
        compared, agreed = [1.0, 1.0], list(chance)
        for counts in self._counts.values():
            for side in (0, 1):
                compared[side] += counts.compared[side]
                agreed[side] += counts.agreed[side]
        return [agreed[side] / compared[side] for side in (0, 1)]

    def _rater(self, person: str, counts: _Counts, chance: Sequence[float], usual: Sequence[float]) -> Rater:
        expert = person in self.experts
        return Rater(
            person=person,
            votes=counts.votes,
            ups=counts.ups,
            compared=sum(counts.compared),
            agreed=sum(counts.agreed),
            by_chance=sum(counts.compared[side] * chance[side] for side in (0, 1)),
            as_usual=sum(counts.compared[side] * usual[side] for side in (0, 1)),
            weight=_step(counts, chance, usual) * (EXPERT if expert else 1.0),
            expert=expert,
        )


def _step(counts: _Counts, chance: Sequence[float], usual: Sequence[float]) -> float:
    """1, 0.5 or 0, by how much more than by chance somebody agrees at best, as a share of what is usual."""
    total = sum(counts.compared)
    lead = expected = variance = 0.0
    for side in (0, 1):
        mix = counts.compared[side] / max(1, total)
        size = PRIOR_RATINGS * mix + counts.compared[side]
        rate = (PRIOR_RATINGS * mix * usual[side] + counts.agreed[side]) / size if size else usual[side]
        lead += mix * (rate - chance[side])
        expected += mix * (usual[side] - chance[side])
        variance += mix**2 * rate * (1 - rate) / (size + 1)
    if expected <= 0:
        return 1.0  # nobody agrees with anybody more than by chance: nobody can be told from the others
    at_best = (lead + SURELY * math.sqrt(variance)) / expected
    return 1.0 if at_best >= FULL else 0.5 if at_best >= HALF else 0.0


class Weights:
    """The second pass: what the votes on one answer say together."""

    def __init__(
        self, raters: Mapping[str, Rater], experts: Collection[str] = (), agreement: Agreement | None = None
    ) -> None:
        self.raters = raters
        self.experts = frozenset(experts)
        self.agreement = agreement or Agreement(0, 0, None, None, None)
        self._weight = {person: rater.weight for person, rater in raters.items()}

    def weight(self, person: str) -> float:
        """What this person's word counts: 0, 0.5 or 1, doubled for an expert. Who is not known counts in full."""
        known = self._weight.get(person)
        return (EXPERT if person in self.experts else 1.0) if known is None else known

    def signed(self, votes: Sequence[Vote]) -> list[tuple[str, float]]:
        """The votes that count, as person and weight, negative against the answer; in order of the person."""
        if len(votes) == 1:  # most answers
            weight = self.weight(votes[0].rater) * votes[0].value
            return [(votes[0].rater, weight)] if weight else []
        found = [
            (vote.rater, self.weight(vote.rater) * (1 if vote.value > 0 else -1))
            for vote in votes
            if vote.value
        ]
        return sorted(each for each in found if each[1])

    def label(self, votes: Sequence[Vote], asker: str = "") -> Label:
        """What these votes say. The asker's own vote counts like anybody's, and is capped like anybody's."""
        signed = self.signed(votes)
        if not signed:
            return Label(0, 0.0, UNHEARD if any(vote.value for vote in votes) else UNDECIDED, ())
        outcome = tell_apart(tuple([weight for _, weight in signed]))
        deciders = tuple([signed[place][0] for place in outcome.deciding])
        return Label(outcome.value, outcome.weight, _REASONS[outcome.value], deciders)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What weights, positive for and negative against, come to.

    `deciding` are the places of those without any one of which the answer would be in if it is out, or the other way round.
    `shares` is how much of the outcome each decides: 1 for these, else its equal share of the side that brought it about,
    and 0 on the other side. An answer that is out because of votes against it was decided by those.
    """

    value: int
    weight: float
    deciding: tuple[int, ...]
    shares: tuple[float, ...]


@lru_cache(maxsize=4096)
def tell_apart(weights: tuple[float, ...]) -> Outcome:
    """The outcome of votes with these weights. The same few patterns come again and again."""
    value = _value(weights)
    pivotal = tuple(
        (_value(weights[:place] + weights[place + 1 :]) > 0) != (value > 0) for place in range(len(weights))
    )
    shares = _shares(weights, pivotal, liked=value > 0)
    backing = sum(abs(weight) for weight in weights if weight * value > 0)
    against = sum(abs(weight) for weight in weights if weight * value < 0)
    weight = round(backing / (backing + against + 1), 3) if value else 0.0
    return Outcome(value, weight, tuple(place for place, decides in enumerate(pivotal) if decides), shares)


def _shares(weights: tuple[float, ...], pivotal: tuple[bool, ...], *, liked: bool) -> tuple[float, ...]:
    """Those who brought it about: who likes it if it is in; if it is out and somebody likes it, who does not."""
    side = [(weight > 0) == liked for weight in weights]
    brought_about = sum(side) if max(weights) > 0 else 0
    each = 1 / brought_about if brought_about else 0.0
    return tuple(
        1.0 if decides else each if among else 0.0 for decides, among in zip(pivotal, side, strict=True)
    )


def _value(weights: tuple[float, ...]) -> int:
    lead, everything = sum(weights), sum(abs(weight) for weight in weights)
    if not everything or abs(lead) < MARGIN * everything:
        return 0
    return 1 if lead > 0 else -1
