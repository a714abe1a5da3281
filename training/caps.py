"""Nobody steers the model alone: how many of a dataset's rows one person may decide.

Two caps, because there are two ways to steer. By votes: one person's ratings decide at most `RATER_CAP` (5 %) of the rows.
By words: one person writes the answers of at most `AUTHOR_CAP` (20 %) of the rows; a correction or a nomination is one
person's by nature, is signed and seen by the thread, and with 5 % a team's few experts could never teach it anything.

A vote decides where the row would not be in the dataset without it, or would be in it (then it is charged a whole row);
otherwise those who brought the outcome about are charged equal shares of it, so that two who always agree decide twice as
much together, and not without limit. Whoever has decided as much as they may is not heard any more in further rows: a row
that only they liked is left out, a row that only they kept out comes in. The rows are gone through in the order of a salted
hash, so neither the person nor the time says which of theirs stay.

Small teams: of three raters each must decide more than 5 %, or nothing is left to learn from. So up to `FLOOR` rows are
always allowed, and `FAIR` (two) times an equal share among the regulars, those who decide `FLOOR` rows or more. With two
regulars there is no cap, with ten it is 20 %, from forty on it is 5 %. Whoever floods the ratings cannot widen it.

Nobody is charged for rows that the operator imported or that an admin approved in a review (`Caps.free`).
State: about 20 bytes for each row and 5 for each vote on it, and a few numbers for each person.
"""

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from training.raters import AUTHOR_CAP, RATER_CAP, CapRules, Label, Vote, Weights, tell_apart

if TYPE_CHECKING:
    import numpy as np

__all__ = ["AUTHOR_CAP", "FLOOR", "RATER_CAP", "Allowance", "CapRules", "Capped", "Caps", "Settled"]

FLOOR = 5
FAIR = 2.0
CLOSE = 0.01
"""How near (as a share of itself) an allowance comes to the largest that holds, from below."""
ROUNDS = 4
TOO_MUCH_BY_VOTES = "one person's ratings would decide more rows than one person may"
TOO_MUCH_BY_AUTHOR = "one person would have written more rows than one person may"
_UNITS = 2  # weights are halves
_ROUNDING = 1e-6

Votes = Sequence[Vote]


@dataclass(frozen=True, slots=True)
class Capped:
    """Somebody who would decide more rows than one person may: `wanted`, and how many they do decide (shares count)."""

    person: str
    wanted: float
    decides: float


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many rows one person may decide: `rows`, which is `share` of the `of` rows in the dataset, or the floor."""

    rows: int
    of: int
    share: float
    regulars: int


class Caps:
    """Takes all rows that a dataset could have, in any order, then settles who is heard where.

    A key names one row (such as the answer's id) and comes once. Give it what is left after every other rule, one row for a
    question, so that the shares are those of the dataset itself. A row that votes keep out (`Label.value` 0 or -1) belongs
    here too: if it was one person too many who kept it out, it comes in.
    """

    def __init__(
        self, weights: Weights, *, salt: str, rules: CapRules | None = None, regulars: int | None = None
    ) -> None:
        """`regulars`: how many there are, where these rows are but a part of those that people decide."""
        self._weights = weights
        self._regulars = regulars
        self._salt = blake2b(salt.encode(), digest_size=32).digest()
        self._rules = rules or CapRules()
        self._rated, self._written = _Rows(), _Rows()
        self._free = 0

    def rated(self, key: str, votes: Votes) -> None:
        """A row that stands or falls with these votes."""
        self._rated.add(self._place(key), self._weights.signed(votes))

    def rated_once(self, keys: Sequence[str], raters: Sequence[str], values: Sequence[int]) -> None:
        """Rows with one vote each, which most have: the same as `rated` for each of them."""
        weights = {rater: self._weights.weight(rater) for rater in set(raters)}
        liked = [number for number, rater in enumerate(raters) if weights[rater] * values[number] > 0]
        self._rated.add_liked_by_one(
            [self._place(keys[number]) for number in liked],
            [raters[number] for number in liked],
            [weights[raters[number]] * values[number] for number in liked],
        )

    def written(self, key: str, author: str) -> None:
        """A row whose answer this person wrote: a correction, a nomination, an entry of theirs."""
        self._written.add(self._place(key), [(author, 1.0)])

    def free(self, rows: int = 1) -> None:
        """Rows that count for the size of the dataset and for nobody: imports, rows approved in a review."""
        self._free += rows

    def settle(self) -> "Settled":
        """Who is heard in which rows. Both caps are shares of the whole dataset, so each depends a little on the other."""
        rater_cap, author_cap = self._rules.rater, self._rules.author
        words = self._settled(self._written, self._free + self._rated.rows_in, author_cap)
        votes = self._settled(self._rated, self._free + words.rows_in, rater_cap)
        for _ in range(ROUNDS):
            words = self._settled(self._written, self._free + votes.rows_in, author_cap)
            if votes.allowance.of == self._free + words.rows_in + votes.rows_in:
                break
            votes = self._settled(self._rated, self._free + words.rows_in, rater_cap)
        return Settled(self._weights, self._place, votes, words)

    def _settled(self, rows: "_Rows", others: int, cap: float) -> "_Outcome":
        return _settled(rows, others, cap, self._regulars)

    def _place(self, key: str) -> int:
        return int.from_bytes(blake2b(key.encode(), key=self._salt, digest_size=8).digest(), "big")


class Settled:
    """What became of every row."""

    def __init__(
        self, weights: Weights, place: Callable[[str], int], votes: "_Outcome", words: "_Outcome"
    ) -> None:
        self._weights, self._place = weights, place
        self._votes, self._words = votes, words
        self.allowed: Mapping[str, Allowance] = {"rated": votes.allowance, "written": words.allowance}
        self.capped: Mapping[str, tuple[Capped, ...]] = {"rated": votes.capped, "written": words.capped}

    def label(self, key: str, votes: Votes, asker: str = "") -> Label:
        """What the votes on a row say, heard as far as the cap allows. A liked row that was not given is left out."""
        said = self._weights.label(votes, asker)
        heard_in = self._votes.is_in(self._place(key))
        if heard_in is None:
            heard_in = False
        if heard_in == (said.value > 0):
            return said
        if heard_in:
            return self._weights.label([vote for vote in votes if vote.value > 0], asker)
        return Label(0, 0.0, TOO_MUCH_BY_VOTES, said.deciders)

    def keeps(self, key: str) -> bool:
        """Whether a written row stays. One that was not given does not."""
        return bool(self._words.is_in(self._place(key)))


class _Rows:
    """Rows with the votes on them, packed: `ends` says where the votes of each row end."""

    def __init__(self) -> None:
        self.places, self.ends = array("Q"), array("Q")
        self.people, self.weights = array("I"), array("b")
        self.liked = array("b")
        self.names: list[str] = []
        self.charged: Counter[int] = Counter()
        self.rows_in = 0
        self._numbers: dict[str, int] = {}

    def add(self, place: int, signed: Sequence[tuple[str, float]]) -> None:
        """A row; what nobody likes, or nobody whose word counts, could never be in and is not kept."""
        if all(weight <= 0 for _, weight in signed):
            return
        pattern = tuple(weight for _, weight in signed)
        outcome = tell_apart(pattern)
        for (person, weight), share in zip(signed, outcome.shares, strict=True):
            number = self._numbers.setdefault(person, len(self.names))
            if number == len(self.names):
                self.names.append(person)
            self.people.append(number)
            self.weights.append(round(weight * _UNITS))
            if share:
                self.charged[number] += share  # type: ignore[assignment]
        self.places.append(place)
        self.ends.append(len(self.people))
        self.liked.append(outcome.value > 0)
        self.rows_in += outcome.value > 0

    def add_liked_by_one(
        self, places: Sequence[int], people: Sequence[str], weights: Sequence[float]
    ) -> None:
        """Rows that one person each likes, and about which nobody else says anything: they decide all of it."""
        numbers = []
        for person in people:
            number = self._numbers.setdefault(person, len(self.names))
            if number == len(self.names):
                self.names.append(person)
            numbers.append(number)
        votes = len(self.people)
        self.places.extend(places)
        self.ends.extend(range(votes + 1, votes + len(numbers) + 1))
        self.people.extend(numbers)
        self.weights.extend([round(weight * _UNITS) for weight in weights])
        self.liked.extend([1] * len(numbers))
        self.charged.update(numbers)
        self.rows_in += len(numbers)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Which rows are in, by their places in ascending order."""

    places: "array[int]"
    ins: "array[int]"
    rows_in: int
    allowance: Allowance
    capped: tuple[Capped, ...]

    def is_in(self, place: int) -> bool | None:
        """None where there is no such row."""
        found = bisect_left(self.places, place)
        if found == len(self.places) or self.places[found] != place:
            return None
        return bool(self.ins[found])


def _settled(rows: _Rows, others: int, cap: float, known: int | None = None) -> _Outcome:
    """The outcome with the largest allowance that is no more than the share of what is then left."""
    regulars = sum(share >= FLOOR - _ROUNDING for share in rows.charged.values()) if known is None else known
    share = min(1.0, max(cap, FAIR / regulars if regulars else 1.0))
    hearing = _Hearing(rows)

    def most(rows_in: int) -> int:
        return max(FLOOR, int(share * (others + rows_in) + _ROUNDING))

    allowed = most(rows.rows_in)
    heard = hearing.with_allowance(allowed)
    while (bound := most(heard.rows_in)) < allowed:
        # A step of at least one part in a hundred, so that it comes to an end; it may miss the largest by that much.
        allowed = max(FLOOR, min(bound, int(allowed * (1 - CLOSE))))
        heard = hearing.with_allowance(allowed)
    allowance = Allowance(allowed, others + heard.rows_in, share, regulars)
    capped = tuple(
        Capped(rows.names[number], round(rows.charged[number], 1), round(decided, 1))
        for number, decided in sorted(heard.decided.items(), key=lambda each: rows.names[each[0]])
        if rows.charged[number] > allowed + _ROUNDING
    )
    return _Outcome(hearing.places, heard.ins, heard.rows_in, allowance, capped)


@dataclass(frozen=True, slots=True)
class _Heard:
    """The rows that are in, in the order of their places, and how much each of the busy people decided."""

    ins: "array[int]"
    rows_in: int
    decided: Mapping[int, float]


class _Hearing:
    """Goes through the rows in the order of their places and hears everybody until they decided as much as they may."""

    def __init__(self, rows: _Rows) -> None:
        import numpy as np  # here, because a dataset is made seldom and importing us should cost nothing

        self._rows = rows
        places = np.frombuffer(rows.places, dtype=np.uint64)
        self._order = np.argsort(places, kind="stable")
        self._ends = np.frombuffer(rows.ends, dtype=np.uint64).astype(np.int64)
        self._people = np.frombuffer(rows.people, dtype=np.uint32)
        self._votes = np.bincount(self._people, minlength=len(rows.names))
        self._liked = np.frombuffer(rows.liked, dtype=np.int8)[self._order]
        self.places = array("Q", places[self._order].tobytes())

    def with_allowance(self, allowance: int) -> _Heard:
        """Everybody may decide so many rows."""
        import numpy as np

        busy = self._votes > allowance  # who voted on no more rows cannot decide more
        ins = array("b", self._liked.tobytes())
        left = {int(number): float(allowance) for number in np.flatnonzero(busy)}
        touched = np.flatnonzero(self._touched(busy)[self._order])
        rows = self._order[touched]
        starts = np.where(rows > 0, self._ends[rows - 1], 0)
        for at, start, end in zip(touched.tolist(), starts.tolist(), self._ends[rows].tolist(), strict=True):
            if end - start > 1:
                ins[at] = self._hear(start, end, left)
            elif left[self._rows.people[start]] + _ROUNDING >= 1:  # only one vote, and it is for the answer
                left[self._rows.people[start]] -= 1
            else:
                ins[at] = False
        return _Heard(ins, sum(ins), {number: allowance - rest for number, rest in left.items()})

    def _touched(self, busy: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        """The rows on which somebody busy voted."""
        import numpy as np

        before = np.concatenate([[0], np.cumsum(busy[self._people])])
        starts = np.concatenate([[0], self._ends[:-1]])
        touched: np.ndarray[Any, Any] = before[self._ends] > before[starts]
        return touched

    def _hear(self, start: int, end: int, left: dict[int, float]) -> bool:
        """Whether the row with these votes is in, with those who may still decide; they are charged for it."""
        people = self._rows.people[start:end].tolist()
        weights = [weight / _UNITS for weight in self._rows.weights[start:end]]
        while weights:
            outcome = tell_apart(tuple(weights))
            shares = list(zip(people, outcome.shares, strict=True))
            gone = {person for person, share in shares if left.get(person, share) + _ROUNDING < share}
            if not gone:
                for person, share in shares:
                    if person in left:
                        left[person] -= share
                return outcome.value > 0
            weights = [weight for person, weight in zip(people, weights, strict=True) if person not in gone]
            people = [person for person in people if person not in gone]
        return False
