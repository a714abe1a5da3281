"""Which questions are put to a teacher, so that a local model can learn its answers. Pure.

Those that people allowed to be learned from, whose words may leave this machine, to which nobody of the team gave an answer,
and which no model is measured by: an API model's answer is worth its price only where there is none of a person, and what is
held out stays held out.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from storage.distilling import Asked
from training.examples import ASKER, EARLIER, REJECTED, SWITCHED_OFF, Allowed, by_majority, key_of
from training.fitness import unfit_pair
from training.golden import NEAR_GOLDEN, Untouched

PRIVATE = "it was asked in a private place, whose words stay here"
HAS_ANSWER = "people gave or liked an answer to it already"
HELD_OUT = "it is held out, to measure models by"
DISLIKED = "people disliked this model's answer to it"
ASKED_BEFORE = "this model was asked it before"
TOO_MANY = "more questions than were wanted"


def _would_be_held_out(key: str, salt: str) -> bool:
    """Whether a dataset would draw a place on the test side for a question that has none yet, and nothing like it."""
    from training.splits import TEST_SHARE, place

    return place(key, salt=salt) < TEST_SHARE


@dataclass(frozen=True, slots=True)
class Limits:
    """What is known of the workspace. `held_out` and `answered` are keys of questions; `done` those the teacher was asked.

    `stays_here` tells of a channel and its kind whether what is said there stays on this machine.
    """

    allowed: Allowed
    stays_here: Callable[[str, str], bool]
    held_out: Collection[str] = frozenset()
    answered: Collection[str] = frozenset()
    done: Collection[str] = frozenset()
    golden: Untouched | None = None
    salt: str = ""


class Wanted(NamedTuple):
    """A question that is put to the teacher. `times` is how often it was asked; `own`: it was the teacher who answered."""

    key: str
    answer_id: str
    times: int
    asked_at: int
    own: bool


@dataclass(slots=True)
class _Case:
    times: int = 0
    newest: Wanted | None = None
    answered: bool = False
    disliked: bool = False


class _Question(NamedTuple):
    key: str
    question: str


@dataclass(slots=True)
class Choosing:
    """Looks at every question once, page by page; `chosen` gives those that are asked most, the newest of them first."""

    kind: str
    model: str
    limits: Limits
    left_out: Counter[str] = field(default_factory=Counter)
    _cases: dict[str, _Case] = field(default_factory=dict)

    def look(self, page: Iterable[Asked]) -> None:
        """A page of questions."""
        rows = [(key_of(each.question), each) for each in page]
        fit = [(key, each) for key, each in rows if not self._out(self._why_not(key, each))]
        for key, each in self._untouched(fit):
            self._count(key, each)

    def _out(self, reason: str) -> bool:
        self.left_out.update([reason] if reason else [])
        return bool(reason)

    def _why_not(self, key: str, asked: Asked) -> str:
        limits, allowed = self.limits, self.limits.allowed
        review = allowed.reviews.get(asked.answer_id)
        if not allowed.places.allows(asked.channel):
            return SWITCHED_OFF
        if asked.asker not in allowed.consenting:
            return ASKER
        if not allowed.all_agreed(asked.earlier):
            return EARLIER
        if review is not None and review.state == "rejected":
            return REJECTED
        if limits.stays_here(asked.channel, asked.place):
            return PRIVATE
        if key in limits.answered or review is not None:
            return HAS_ANSWER
        if key in limits.held_out or _would_be_held_out(key, limits.salt):
            return HELD_OUT
        if key in limits.done:
            return ASKED_BEFORE
        return unfit_pair(asked.question, "answer")

    def _untouched(self, rows: list[tuple[str, Asked]]) -> list[tuple[str, Asked]]:
        golden = self.limits.golden
        if golden is None or not rows:
            return rows
        kept = {each.key for each in golden.of([_Question(key, asked.question) for key, asked in rows])}
        self.left_out.update({NEAR_GOLDEN: sum(key not in kept for key, _ in rows)})
        return [(key, asked) for key, asked in rows if key in kept]

    def _count(self, key: str, asked: Asked) -> None:
        case = self._cases.setdefault(key, _Case())
        own = (asked.kind, asked.model) == (self.kind, self.model) and bool(asked.text.strip())
        liked = by_majority(asked.votes, asked.asker).value if asked.votes else 0
        case.times += 1
        case.answered |= asked.corrected or liked > 0
        case.disliked |= own and any(vote.value < 0 for vote in asked.votes)
        # Its own answer costs nothing; of several the newest counts.
        newest = case.newest
        if newest is None or (own, asked.asked_at) > (newest.own, newest.asked_at):
            case.newest = Wanted(key, asked.answer_id, 0, asked.asked_at, own)

    def chosen(self, most: int) -> list[Wanted]:
        """At most so many; what was left out is counted by now."""
        found = []
        for case in self._cases.values():
            if case.answered or case.disliked:
                self.left_out[HAS_ANSWER if case.answered else DISLIKED] += case.times
            elif case.newest is not None:
                found.append(case.newest._replace(times=case.times))
        found.sort(key=lambda each: (-each.times, -each.asked_at, each.key))
        self.left_out.update({TOO_MANY: len(found[most:])})
        return found[:most]
