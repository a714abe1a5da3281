"""Memory: answers that people verified (approved, corrected or imported), found again by the words of the question.

An index on disk (`memory_index`) picks the entries that may fit, the database gives them as they are now, and a comparison
of the two questions says how certain the best one is. It knows words, not meanings: it never guesses, and passes a question
on when in doubt.
"""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from bot.errors import ModelUnavailable
from bot.models import Message, Meter, OnText, Proposal
from bot.models.memory_index import Index, IndexUnusable
from bot.models.memory_keeper import Keeper
from bot.models.memory_meaning import Meaning
from bot.models.memory_words import Rarity, Words, likeness, read, same_matter
from storage.entries import Known
from storage.store import Store

NEAR_CERTAIN = 0.62
"""From this certainty on an answer is given as it stands.

Measured with half of the answers taken out of memory, so that half of the held-out paraphrases had no right answer there
(share right / share of the answerable ones that it answers): our handbook 99 % / 10 % (`tests/benchmarks/bench_memory.py`
measures it again). An earlier index gave 100 % / 5 % on StackFAQ's web-applications help desk, and on our handbook 91 % /
18 % at 0.5. BANKING77, 77 intents of one bank that share most of their words, is beyond words alone: 94 % / 23 %.
"""
_CANDIDATES = 32
_VOTERS = 10
_MEANING = 0.7
"""What meaning weighs beside words."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """A verified answer to a question; `source` tells people where it comes from, `topic` may be empty."""

    id: str
    question: str
    answer: str
    source: str = ""
    topic: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """An entry near a question. `score` (0..1) is how alike the questions are; `certainty` (0..1) is how sure memory is
    that the entry's answer is the right one, which also depends on how near another answer's question comes."""

    entry: Entry
    score: float
    certainty: float


@dataclass(frozen=True, slots=True)
class _Read:
    """An entry with the words of its question; `age` is the higher the newer it is."""

    entry: Entry
    words: Words
    age: tuple[int, str]


class Memory:
    """Verified answers of a workspace, and which of them is nearest to a question.

    `near_certain` is the certainty from which an answer is given as it stands; see NEAR_CERTAIN for what it is worth.
    The entries stay in the database; `folder` takes what is derived from them and may be deleted at any time.
    """

    def __init__(
        self,
        store: Store,
        *,
        team: str,
        folder: Path,
        near_certain: float = NEAR_CERTAIN,
        meaning: Meaning | None = None,
    ) -> None:
        if not 0 < near_certain <= 1:
            raise ValueError(f"near_certain must be above 0 and at most 1, not {near_certain}")
        self.near_certain = near_certain
        self._store = store
        self._team = team
        self._keeper = Keeper(store, team=team, folder=folder / team)
        self._meaning = meaning

    def __len__(self) -> int:
        """How many verified answers can be found, as far as is known without asking the database."""
        return (len(self._keeper.index) if self._keeper.index else 0) + len(self._keeper.fresh)

    @property
    def trouble(self) -> str:
        """Why the index could not be written, in words for people; "" where it could."""
        return self._keeper.trouble

    async def refresh(self) -> None:
        """Take over what changed in the database, whoever changed it. Cheap where nothing did.

        What was deleted is never answered with, refreshed or not. After a large change the new answers are found a little
        later, and meanwhile the old ones are.
        """
        await self._keeper.refresh()
        if self._meaning is not None:
            self._meaning.refresh(self._keeper.stamp)

    async def finished(self) -> None:
        """Wait until everything that `refresh` began is done."""
        await self._keeper.finished()
        if self._meaning is not None:
            await self._meaning.finished()

    async def refresh_wholly(self) -> bool:
        """Write what changed, and wait for it; True once nothing of deleted entries is in the files of the index."""
        await self.refresh()
        await self.finished()
        await self.refresh()
        return self._keeper.holds_nothing_deleted

    async def close(self) -> None:
        """Stop what is being written."""
        await self._keeper.close()
        if self._meaning is not None:
            await self._meaning.close()

    async def nearest(
        self,
        question: str,
        k: int = 1,
        *,
        exclude: Collection[str] = (),
        may_leave: bool = False,
        meter: Meter | None = None,
    ) -> list[Match]:
        """The `k` entries nearest to the question, nearest first; fewer where fewer share a word with it.

        Any text is fine: it is taken as words, never as a query language. Of equally near entries the very question leads,
        then the newer one. Entries with an id in `exclude` are as if they did not exist. Where the operator named a model
        for embeddings and `may_leave` allows the question to go there, entries that mean the same in other words count, too.
        """
        hidden = frozenset(exclude)
        asked = await asyncio.to_thread(read, question)
        index = self._keeper.index
        found = await self._found(index, asked, hidden)
        close = await self._meaning.near(question, meter=meter) if self._meaning and may_leave else {}
        ids = [*found, *self._keeper.fresh, *close]
        rows = await self._store.known_entries(self._team, ids=ids, question=question)
        rows = [row for row in rows if row.id not in hidden]
        return await asyncio.to_thread(_ranked, asked, rows, index, k, close)

    async def _found(self, index: Index | None, asked: Words, hidden: frozenset[str]) -> list[str]:
        if index is None:
            return []
        try:
            return await asyncio.to_thread(_candidates, index, asked, hidden)
        except IndexUnusable as error:
            log.warning("the memory's index could not be read and is built anew", why=str(error))
            await self._keeper.distrust()
            return []


class MemoryModel:
    """The AnswerModel that gives a verified answer as it stands, or lets the next model try."""

    kind = "memory"
    label = "memory"

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def answer(
        self, messages: Sequence[Message], *, on_text: OnText | None = None, meter: Meter | None = None
    ) -> Proposal:
        """Answer the last question if memory is near certain of it and has not said the same in this conversation before.

        Raises ModelUnavailable otherwise: who asks again did not want to hear it again.
        """
        started = time.perf_counter()
        match = (await _nearest_to_last_question(self._memory, messages, 1))[0]
        if match.certainty < self._memory.near_certain:
            raise ModelUnavailable(f"memory is not certain enough ({match.certainty:.2f})")
        if any(message.role == "assistant" and match.entry.answer in message.content for message in messages):
            raise ModelUnavailable("memory has given this answer in this conversation already")
        return await _proposal(match, started, on_text)


class NearestMemory:
    """The memory arm of an evaluation: the answer of what is nearest, however far away it is.

    The nearest ten entries vote with the fourth power of their scores, because many paraphrases of one answer know better
    than one chance resemblance: measured on StackFAQ 95 % right instead of 92 %, on our handbook 66 % instead of 62 %.
    `exclude` names entries that must not answer, such as those made from the held-out examples themselves.
    """

    kind = "memory"
    label = "memory"

    def __init__(self, memory: Memory, *, exclude: Collection[str] = ()) -> None:
        self._memory = memory
        self._exclude = frozenset(exclude)

    async def answer(
        self, messages: Sequence[Message], *, on_text: OnText | None = None, meter: Meter | None = None
    ) -> Proposal:
        """Answer the last question. Raises ModelUnavailable if no entry shares a word with it."""
        started = time.perf_counter()
        matches = await _nearest_to_last_question(self._memory, messages, _VOTERS, self._exclude)
        return await _proposal(_elected(matches), started, on_text)


async def _nearest_to_last_question(
    memory: Memory, messages: Sequence[Message], k: int, exclude: Collection[str] = ()
) -> list[Match]:
    question = next((message.content for message in reversed(messages) if message.role == "user"), "")
    matches = await memory.nearest(question, k, exclude=exclude)
    if not matches:
        raise ModelUnavailable("memory knows nothing near this question")
    return matches


def _elected(matches: Sequence[Match]) -> Match:
    votes: dict[str, float] = {}
    for match in matches:
        votes[match.entry.answer] = votes.get(match.entry.answer, 0.0) + match.score**4
    return max(matches, key=lambda match: (votes[match.entry.answer], match.score))


async def _proposal(match: Match, started: float, on_text: OnText | None) -> Proposal:
    seconds = time.perf_counter() - started
    if on_text is not None:
        await on_text(match.entry.answer)
    return Proposal(
        match.entry.answer,
        "memory",
        "memory",
        seconds=seconds,
        source=match.entry.source,
        certainty=match.certainty,
    )


def _candidates(index: Index, asked: Words, hidden: frozenset[str]) -> list[str]:
    """The best by the index, without those that are hidden: however many of them lead, others are found, too."""
    limit = _CANDIDATES
    while True:
        found = index.search(asked.bag, limit)
        ids = [entry_id for entry_id in found if entry_id not in hidden]
        if len(ids) >= _CANDIDATES or len(found) < limit:
            return ids[:_CANDIDATES]
        limit = min(4 * limit, _CANDIDATES + len(hidden))


def _ranked(
    asked: Words, rows: Sequence[Known], index: Index | None, k: int, close: Mapping[str, float]
) -> list[Match]:
    """How certain one may be is told by the words alone; meaning only says what comes first."""
    known = [_understood(row) for row in rows]
    rarity = _rarity(index, asked, known)
    alike = [(one, likeness(asked, one.words, rarity)) for one in known]
    alike.sort(key=lambda pair: (pair[1], pair[0].words.inorder == asked.inorder, pair[0].age), reverse=True)
    ranked = [(one, by_words, _score(one, by_words, close)) for one, by_words in alike]
    ranked.sort(key=lambda each: each[2], reverse=True)
    return [
        Match(one.entry, score, _certainty(asked, one, by_words, alike, rarity))
        for one, by_words, score in ranked[:k]
        if score > 0
    ]


def _score(one: _Read, by_words: float, close: Mapping[str, float]) -> float:
    """How near it is by words and, where it can be told, by meaning; what is not among the close is no closer than those."""
    if not close:
        return by_words
    cosine = close.get(one.entry.id, min(close.values()))
    return min(1.0, (1 - _MEANING) * by_words + _MEANING * max(0.0, cosine))


def _certainty(
    asked: Words, one: _Read, by_words: float, alike: Sequence[tuple[_Read, float]], rarity: Rarity
) -> float:
    return _unrivalled(one, by_words, alike) * same_matter(asked, one.words, rarity) if by_words else 0.0


def _understood(row: Known) -> _Read:
    entry = Entry(row.id, row.question, row.answer, row.source, row.topic)
    return _Read(entry, read(row.question), (row.change, row.id))


def _rarity(index: Index | None, asked: Words, known: Sequence[_Read]) -> Rarity:
    words = asked.bag.union(*(one.words.bag for one in known))
    return Rarity(dict.fromkeys(words, 0), 0) if index is None else index.rarity(words)


def _unrivalled(known: _Read, score: float, alike: Sequence[tuple[_Read, float]]) -> float:
    """Midway between how alike the questions are and how much nearer this one is than any with another answer.

    The same question with an older answer is no rival: the newer answer has replaced it.
    """
    rival = next(
        (
            other_score
            for other, other_score in alike
            if other.entry.answer != known.entry.answer
            and not (other.words.inorder == known.words.inorder and other.age < known.age)
        ),
        0.0,
    )
    if rival >= score:
        return 0.0
    return (score + (score - rival) / (1 - rival)) / 2
