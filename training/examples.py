"""Which pairs of question and answer may be learned from: the rules of consent and of what counts as approved.

Pure: takes what people said and what they allowed, returns examples. An example exists only with the opt-in of everybody
whose words it holds; an answer counts when it was corrected, or when more people liked it than did not.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from storage.entries import question_hash
from storage.feedback import Feedback
from storage.records import Entry
from storage.values import Message

FROM_CORRECTION, FROM_RATING, FROM_ENTRY = "correction", "rating", "entry"
_RANK = {FROM_CORRECTION: 0, FROM_RATING: 1, FROM_ENTRY: 2}


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation that ends in a question, and the answer that should follow it.

    `turns` holds user and assistant messages only, the question last. `key` is the same for questions that differ in case,
    punctuation or spacing; `thread` joins phrasings of one question; `split` is "test" or "train" where it was declared.
    """

    id: str
    key: str
    turns: tuple[Message, ...]
    answer: str
    origin: str
    thread: str
    split: str = ""
    authors: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """The question itself."""
        return self.turns[-1].content


@dataclass(frozen=True, slots=True)
class Gathered:
    """The examples there are, and why other feedback did not become one (reason -> how many)."""

    examples: tuple[Example, ...]
    left_out: dict[str, int]


def gather(
    feedback: Sequence[Feedback],
    entries: Iterable[Entry],
    *,
    consenting: Collection[str],
    refusing: Collection[str] = (),
    nominated: Mapping[str, tuple[str, ...]] | None = None,
) -> Gathered:
    """Every example that may be learned from, one for each question; a correction beats a rating beats an import.

    `nominated` tells whose words an entry holds that came of a nomination, by the nomination's id. Everybody there has
    allowed it; who is `refusing` by now has thought better of it.
    """
    allowed = _Allowed(frozenset(consenting), frozenset(refusing), nominated or {})
    left_out: Counter[str] = Counter()
    found: dict[str, Example] = {}
    declared = {}
    for example in [
        *(_from_entry(entry, allowed, left_out) for entry in entries),
        *(_from_feedback(said, consenting, left_out) for said in feedback),
    ]:
        if example is None:
            continue
        if example.split:
            declared[example.key] = example.split
        known = found.get(example.key)
        if known is None or _RANK[example.origin] <= _RANK[known.origin]:
            found[example.key] = example
    kept = tuple(_with_split(example, declared) for _, example in sorted(found.items()))
    return Gathered(kept, dict(left_out))


def _with_split(example: Example, declared: dict[str, str]) -> Example:
    split = declared.get(example.key, example.split)
    if split == example.split:
        return example
    return Example(
        example.id,
        example.key,
        example.turns,
        example.answer,
        example.origin,
        example.thread,
        split,
        example.authors,
    )


@dataclass(frozen=True, slots=True)
class _Allowed:
    """Who allowed what."""

    consenting: frozenset[str]
    refusing: frozenset[str]
    nominated: Mapping[str, tuple[str, ...]]

    def authors_of(self, entry: Entry) -> tuple[str, ...] | None:
        """Whose words an entry holds; None where one of them does not allow it."""
        if entry.nomination_id is not None:
            authors = self.nominated.get(entry.nomination_id)
            return None if authors is None or self.refusing.intersection(authors) else authors
        if not entry.author:
            return ()
        return (entry.author,) if entry.author in self.consenting else None


def _from_entry(entry: Entry, allowed: _Allowed, left_out: Counter[str]) -> Example | None:
    authors = allowed.authors_of(entry)
    if authors is None:
        left_out["its author has not agreed"] += 1
        return None
    return Example(
        id=entry.id,
        key=entry.question_hash,
        turns=(Message("user", entry.question),),
        answer=entry.answer,
        origin=FROM_ENTRY,
        thread=entry.thread or entry.question_hash,
        split=entry.split,
        authors=authors,
    )


def _from_feedback(said: Feedback, consenting: Collection[str], left_out: Counter[str]) -> Example | None:
    if said.asker not in consenting:
        left_out["the person who asked has not agreed"] += 1
        return None
    chosen = _chosen_answer(said, consenting, left_out)
    if chosen is None:
        return None
    answer, origin, authors = chosen
    turns = tuple(_conversation(said))
    return Example(
        id=said.answer_id,
        key=question_hash(said.question),
        turns=turns,
        answer=answer,
        origin=origin,
        thread=said.thread,
        authors=authors,
    )


def _chosen_answer(
    said: Feedback, consenting: Collection[str], left_out: Counter[str]
) -> tuple[str, str, tuple[str, ...]] | None:
    if said.correction is not None:
        if said.may_train and said.corrector in consenting:
            return said.correction, FROM_CORRECTION, tuple(sorted({said.asker, said.corrector}))
        left_out["the person who corrected has not agreed"] += 1
        return None
    if sum(vote.value for vote in said.votes) > 0:
        return said.text, FROM_RATING, (said.asker,)
    left_out["disliked, and nobody wrote a better answer"] += 1
    return None


def _conversation(said: Feedback) -> list[Message]:
    """What was said before the question, and the question; not what else the model read."""
    earlier = [
        Message(turn["role"], turn["content"])  # type: ignore[arg-type]
        for turn in said.messages
        if turn["role"] != "system" and not turn.get("verified")
    ]
    return [*earlier[:-1], Message("user", said.question)] if earlier else [Message("user", said.question)]
