"""Which questions and answers may be learned from: the rules of consent, of switches, of reviews, and of what is approved.

Pure: takes pages of what people said and what they allowed, gives examples and preferences. An example exists only with the
opt-in of everybody whose words it holds; an answer counts when it was corrected, approved by a reviewer, or liked by more
people than disliked it. Whatever is left out is counted with its reason.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from storage.distilling import LearnableDistilled
from storage.feedback import Vote
from storage.learnable import Learnable, LearnableDuel, LearnableEntry, LearningPlaces, Reviewed, spoken
from storage.values import Message
from training.guards import Quarantine, counted, kept_out
from training.raters import DISLIKED, Label
from training.wording import KEY_DIGITS, wording

FROM_CORRECTION, FROM_RATING, FROM_ENTRY, FROM_DUEL = "correction", "rating", "entry", "duel"
DISTILLED_FROM = "distilled"
REVIEWED, CORRECTED, RATED, VERIFIED, DISTILLED = range(5)
"""How much an example counts beside others of the same question; the lowest wins."""

SWITCHED_OFF = "learning is switched off where it was said"
ASKER = "the person who asked has not agreed"
CORRECTOR = "the person who corrected has not agreed"
AUTHOR = "its author has not agreed"
EARLIER = "somebody who wrote earlier in the thread has not agreed"
REJECTED = "a reviewer rejected it"
UNREVIEWED = "nobody has reviewed it yet"
ANOTHER = "the same question has a better or newer answer"


class Example(NamedTuple):
    """A conversation that ends in a question, and the answer that should follow it.

    `id` is the Answer's or the Entry's. `turns` holds user and assistant messages only, the question last. `key` is the same
    for questions that differ in case, punctuation or spacing; `thread` joins phrasings of one question; `split` is "test" or
    "train" where it was declared. `votes` still have to be weighed where `rank` is RATED; `writer` is who wrote the answer,
    "" where nobody of the team did. `said_at` is in microseconds since 1970, `compared` the question as `training.wording`
    gives it, "" where nobody needed it yet.
    """

    id: str
    key: str
    turns: tuple[Message, ...]
    answer: str
    origin: str
    thread: str
    split: str = ""
    authors: tuple[str, ...] = ()
    rank: int = VERIFIED
    said_at: int = 0
    asker: str = ""
    votes: tuple[Vote, ...] = ()
    writer: str = ""
    compared: str = ""

    @property
    def question(self) -> str:
        """The question itself."""
        return self.turns[-1].content


class Preference(NamedTuple):
    """A conversation that ends in a question, with an answer that people prefer and one that they do not.

    `id` is the Answer's or the Duel's.
    """

    id: str
    key: str
    turns: tuple[Message, ...]
    chosen: str
    rejected: str
    origin: str
    thread: str
    authors: tuple[str, ...]
    said_at: int = 0
    compared: str = ""

    @property
    def question(self) -> str:
        """The question itself."""
        return self.turns[-1].content


@dataclass(frozen=True, slots=True)
class Allowed:
    """Who allowed what, and what was decided about single candidates.

    `nominated` tells whose words an entry holds that came of a nomination, by the nomination's id. Everybody there has
    allowed it; who is `refusing` by now has thought better of it. `reviews` is by the id of the answer or entry,
    `quarantine` what an admin has to look at first (`training.guards`). With `review_required` what people said here counts
    only once somebody approved it; who imports a file has read it. `languages` are the codes of those that datasets
    are made from, any where there are none.
    """

    consenting: Collection[str]
    refusing: Collection[str] = frozenset()
    nominated: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    places: LearningPlaces = field(default_factory=LearningPlaces)
    reviews: Mapping[str, Reviewed] = field(default_factory=dict)
    quarantine: Quarantine = frozenset()
    review_required: bool = False
    languages: tuple[str, ...] = ()

    def all_agreed(self, people: Iterable[str]) -> bool:
        """Whether each of them opted in."""
        return all(person in self.consenting for person in people)


Weigh = Callable[[Sequence[Vote], str], Label]
"""Weighs the votes on an answer, given who had asked."""


def by_majority(votes: Sequence[Vote], _asker: str) -> Label:
    """Everybody's vote counts the same."""
    total = sum(vote.value for vote in votes)
    return Label((total > 0) - (total < 0), 1.0, DISLIKED if total <= 0 else "", ())


def key_of(question: str) -> str:
    """What names a question: the same for questions that differ in case, punctuation or spacing."""
    return wording(question).key


class Sieve:
    """Lets through what may be learned from, page by page; the entries first, then answers and duels."""

    def __init__(self, allowed: Allowed) -> None:
        self.allowed = allowed
        self.verbatim: dict[bytes, tuple[str, ...] | None] = {}
        self.left_out: Counter[str] = Counter()

    def entries(self, page: Iterable[LearnableEntry]) -> list[Example]:
        """The entries of a page that may be learned from."""
        return [example for entry in page if (example := self._entry(entry)) is not None]

    def answers(self, page: Iterable[Learnable]) -> tuple[list[Example], list[Preference]]:
        """The answers of a page that may be learned from, and what was preferred to them."""
        examples, preferences = [], []
        for said in page:
            if (example := self._answer(said)) is not None:
                examples.append(example)
                if (preference := _improved(said, example)) is not None:
                    preferences.append(preference)
        return examples, preferences

    def distilled(self, page: Iterable[LearnableDistilled]) -> list[Example]:
        """What teachers said to questions that may be learned from."""
        return [example for said in page if (example := self._distilled(said)) is not None]

    def duels(self, page: Iterable[LearnableDuel]) -> list[Preference]:
        """What the people who opted in preferred."""
        return [preference for duel in page if (preference := self._duel(duel)) is not None]

    def _out(self, reason: str) -> None:
        self.left_out[reason] += 1

    def _entry(self, entry: LearnableEntry) -> Example | None:
        authors = self._authors_of(entry)
        if entry.author or entry.nomination_id:
            self.verbatim[_mark(entry.answer)] = authors
        review = self.allowed.reviews.get(entry.id)
        reason = self._why_not_entry(entry, authors, review)
        if reason or authors is None:
            self._out(reason)
            return None
        question, answer, rank, key = entry.question, entry.answer, VERIFIED, entry.key[:KEY_DIGITS]
        if review is not None:
            question, answer, rank = review.question or question, review.answer or answer, REVIEWED
            authors, key = _with_reviewer(authors, review), review.key or key
        return Example(
            *(entry.id, key, (Message("user", question),), answer, FROM_ENTRY),
            thread=entry.thread or entry.key,
            split=entry.split,
            authors=authors,
            rank=rank,
            said_at=entry.created_at,
            writer=entry.author or (authors[0] if authors else ""),
        )

    def _why_not_entry(
        self, entry: LearnableEntry, authors: tuple[str, ...] | None, review: Reviewed | None
    ) -> str:
        said_here = bool(entry.author or entry.nomination_id or entry.channel)
        if said_here and not self.allowed.places.allows(entry.channel):
            return SWITCHED_OFF
        if authors is None:
            return AUTHOR
        if entry.asker and entry.asker not in self.allowed.consenting:
            return ASKER
        reason = self._why_not_reviewed(review, said_here=said_here)
        if reason or review is not None:
            return reason
        return kept_out(entry.topic, "", authors, self.allowed.quarantine, key=entry.key[:KEY_DIGITS])

    def _authors_of(self, entry: LearnableEntry) -> tuple[str, ...] | None:
        """Whose words an entry holds; None where one of them does not allow it."""
        allowed = self.allowed
        if entry.nomination_id is not None:
            authors = allowed.nominated.get(entry.nomination_id)
            return None if authors is None or not authors_still(authors, allowed.refusing) else authors
        if not entry.author:
            return (entry.asker,) if entry.asker else ()
        if entry.author not in allowed.consenting:
            return None
        return tuple(sorted({entry.author, entry.asker} - {""}))

    def _answer(self, said: Learnable) -> Example | None:
        review = self.allowed.reviews.get(said.answer_id)
        reason = self._why_not_said(said) or self._why_not_reviewed(review)
        if reason:
            self._out(reason)
            return None
        question, answer, origin, rank = said.question, said.text, FROM_RATING, RATED
        authors = {said.asker, *said.earlier}
        if said.correction is not None:
            if not said.may_train or said.corrector not in self.allowed.consenting:
                self._out(CORRECTOR)
                return None
            answer, origin, rank = said.correction, FROM_CORRECTION, CORRECTED
            authors.add(said.corrector)
        elif said.kind == "memory":
            quoted = self.verbatim.get(_mark(said.text), ())
            if quoted is None:
                self._out(AUTHOR)
                return None
            authors.update(quoted)
        if review is not None:
            question, answer, rank = review.question or question, review.answer or answer, REVIEWED
            authors.update(_with_reviewer((), review))
        key, compared = wording(
            said.question
        )  # an edit moves nothing out of the split where the question belongs
        if review is None and (reason := self._why_quarantined(key, origin, said)):
            self._out(reason)
            return None
        return Example(
            *(said.answer_id, key, conversation(said.messages, question), answer, origin),
            thread=said.thread,
            authors=tuple(sorted(authors)),
            rank=rank,
            said_at=said.asked_at,
            asker=said.asker,
            votes=said.votes
            if not self.allowed.quarantine
            else tuple(counted(said.votes, self.allowed.quarantine)),
            writer=said.corrector,
            compared=compared if question == said.question else "",
        )

    def _distilled(self, said: LearnableDistilled) -> Example | None:
        """A person's own answer counts more; and nobody has read this one, so that where reviews are required it waits."""
        key, compared = wording(said.question)
        reason = self._why_not_distilled(said) or kept_out(
            "", "", (said.asker,), self.allowed.quarantine, key=key
        )
        if reason:
            self._out(reason)
            return None
        return Example(
            *(said.id, key, conversation(said.messages, said.question), said.text, DISTILLED_FROM),
            thread=said.thread,
            authors=tuple(sorted({said.asker, *said.people})),
            rank=DISTILLED,
            said_at=said.asked_at,
            asker=said.asker,
            compared=compared,
        )

    def _why_not_distilled(self, said: LearnableDistilled) -> str:
        if not self.allowed.places.allows(said.channel):
            return SWITCHED_OFF
        if said.asker not in self.allowed.consenting:
            return ASKER
        if not self.allowed.all_agreed(said.people):
            return AUTHOR
        review = self.allowed.reviews.get(said.answer_id)
        if review is not None and review.state == "rejected":
            return REJECTED
        return UNREVIEWED if self.allowed.review_required else ""

    def _why_quarantined(self, key: str, origin: str, said: Learnable) -> str:
        authors = (said.asker, said.corrector) if origin == FROM_CORRECTION else (said.asker,)
        return kept_out("", "", authors, self.allowed.quarantine, key=key)

    def _why_not_said(self, said: Learnable | LearnableDuel) -> str:
        if not self.allowed.places.allows(said.channel):
            return SWITCHED_OFF
        if said.asker not in self.allowed.consenting:
            return ASKER
        return "" if not said.earlier or self.allowed.all_agreed(said.earlier) else EARLIER

    def _why_not_reviewed(self, review: Reviewed | None, *, said_here: bool = True) -> str:
        if review is None:
            return UNREVIEWED if self.allowed.review_required and said_here else ""
        if review.state == "rejected":
            return REJECTED
        return AUTHOR if review.state == "edited" and review.by in self.allowed.refusing else ""

    def _duel(self, duel: LearnableDuel) -> Preference | None:
        review = self.allowed.reviews.get(duel.answer_id)
        reason = self._why_not_said(duel) or self._why_not_reviewed(review)
        if reason:
            self._out(reason)
            return None
        tally = Counter(pick for picker, pick in duel.picks.items() if picker in self.allowed.consenting)
        ahead = tally["a"] - tally["b"]
        if ahead == 0 or duel.text_a.strip() == duel.text_b.strip():
            self._out("nobody who opted in preferred one of the two answers")
            return None
        chosen, rejected = (duel.text_a, duel.text_b) if ahead > 0 else (duel.text_b, duel.text_a)
        return Preference(
            *(
                duel.duel_id,
                key_of(duel.question),
                conversation(duel.messages, duel.question),
                chosen,
                rejected,
            ),
            origin=FROM_DUEL,
            thread=duel.thread,
            authors=tuple(sorted({duel.asker, *duel.earlier})),
            said_at=duel.asked_at,
        )


def authors_still(authors: Iterable[str], refusing: Collection[str]) -> bool:
    """Whether none of them has thought better of it."""
    return not any(author in refusing for author in authors)


class Contender(NamedTuple):
    """An example among those of one question: where it lies, and what is needed to choose."""

    place: int
    rank: int
    declared: str
    asker: str
    votes: Sequence[Vote]


class Chosen(NamedTuple):
    """The example that counts for a question, its weight, and the split that was declared for the question.

    `weight` is 0 where it would count only if fewer people were heard who dislike it.
    """

    place: int
    rank: int
    declared: str
    weight: float
    asker: str
    votes: Sequence[Vote]


def choose(group: Sequence[Contender], weigh: Weigh, left_out: Counter[str]) -> Chosen | None:
    """The one example of those of one question that counts, given the best and newest first; None where none does.

    A split that any of them declares holds for the question. Where none is liked, it is the best that anybody liked at all.
    """
    chosen, hoped, weight = None, None, 1.0
    for each in group:
        if chosen is not None:
            left_out[ANOTHER] += 1
        elif each.rank != RATED:
            chosen = each
        elif (label := weigh(each.votes, each.asker)).value > 0:
            chosen, weight = each, label.weight
        elif hoped is None and any(vote.value > 0 for vote in each.votes):
            hoped = each
        else:
            left_out[label.reason or DISLIKED] += 1
    if hoped is not None and chosen is not None:
        left_out[DISLIKED] += 1
    best = chosen or hoped
    if best is None:
        return None
    declared = best.declared or next((each.declared for each in group if each.declared), "")
    return Chosen(best.place, best.rank, declared, weight if chosen else 0.0, best.asker, best.votes)


def _improved(said: Learnable, example: Example) -> Preference | None:
    """The correction is preferred to what it corrects."""
    if example.origin != FROM_CORRECTION or said.correction is None:
        return None
    if example.answer.strip() == said.text.strip() or not said.text.strip():
        return None
    return Preference(
        *(said.answer_id, example.key, example.turns, example.answer, said.text, FROM_CORRECTION),
        thread=said.thread,
        authors=example.authors,
        said_at=said.asked_at,
        compared=example.compared,
    )


def _with_reviewer(authors: Iterable[str], review: Reviewed) -> tuple[str, ...]:
    return tuple(sorted({*authors, review.by} if review.state == "edited" else authors))


def conversation(messages: Sequence[Mapping[str, Any]], question: str) -> tuple[Message, ...]:
    """What was said before the question, and the question; not what else the model read."""
    asked = Message("user", question)
    if len(messages) < 2:
        return (asked,)
    earlier = [Message(turn["role"], turn["content"]) for turn in spoken(messages)]
    return (*earlier[:-1], asked)


def _mark(text: str) -> bytes:
    return hashlib.blake2b(text.strip().encode("utf-8", "surrogatepass"), digest_size=8).digest()
