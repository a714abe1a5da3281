"""What there is to learn from today, read from the store page by page through the rules of `training.examples`."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from storage.distilling import LearnableDistilled
from storage.learnable import Learnable, LearnableDuel, LearnableEntry
from storage.redaction import redact
from storage.store import Store
from storage.stretches import LaidOutAnew
from training.dataset_spool import KeptExample, Spool, Strike
from training.examples import RATED, Allowed, Example, Preference, Sieve, by_majority
from training.fitness import unfit_pair
from training.gathering_apart import Found as Apart
from training.gathering_apart import Part, read_apart
from training.golden import NEAR_GOLDEN, Untouched
from training.guards import counted
from training.languages import unwanted_pair
from training.raters import DISLIKED, Raters, Weights

T = TypeVar("T")
APART_FROM = 20_000
"""Answers from which on two processes read them: to start them takes as long as to read so many thousand."""


class Page(NamedTuple):
    """A page of what may be learned from."""

    examples: list[Example]
    preferences: list[Preference]


@dataclass(frozen=True, slots=True)
class Usable:
    """How many questions could be trained on, counted as far as somebody wanted to know; what else there was, by reason."""

    count: int
    left_out: Mapping[str, int]


async def allowed_today(
    store: Store, team: str, *, review_required: bool = False, languages: tuple[str, ...] = ()
) -> Allowed:
    """Who allowed what, and what was decided, at this moment."""
    return Allowed(
        consenting=frozenset(await store.consenting(team)),
        refusing=frozenset(await store.refusing(team)),
        nominated=await store.nominated(team),
        places=await store.learning_places(team),
        reviews=await store.reviewed(team),
        quarantine=await store.quarantined(team),
        review_required=review_required,
        languages=languages,
    )


class Sifting:
    """Takes pages through every rule that looks at one row alone; `raters` hears of all votes, also on what is left out."""

    def __init__(self, allowed: Allowed, experts: frozenset[str], golden: Sequence[str]) -> None:
        self.sieve = Sieve(allowed)
        self.raters = Raters(experts)
        self._untouched = Untouched(golden) if golden else None

    @property
    def left_out(self) -> Counter[str]:
        """What was left out so far, by reason."""
        return self.sieve.left_out

    def entries(self, page: list[LearnableEntry]) -> Page:
        """The entries of a page that may be learned from."""
        return self._fit(self.sieve.entries(page), [])

    def answers(self, page: list[Learnable]) -> Page:
        """The answers of a page that may be learned from."""
        quarantine = self.sieve.allowed.quarantine
        for said in page:
            self.raters.add(counted(said.votes, quarantine), said.asker)
        return self._fit(*self.sieve.answers(page))

    def distilled(self, page: list[LearnableDistilled]) -> Page:
        """What teachers said."""
        return self._fit(self.sieve.distilled(page), [])

    def duels(self, page: list[LearnableDuel]) -> Page:
        """What people preferred."""
        return self._fit([], self.sieve.duels(page))

    def _is_wanted(self, question: str, answer: str) -> bool:
        reason = unwanted_pair(question, answer, wanted=self.sieve.allowed.languages)
        self.left_out.update([reason] if reason else [])
        return not reason

    def _fit(self, found: list[Example], preferences: list[Preference]) -> Page:
        fit, languages = [], self.sieve.allowed.languages
        if languages:
            preferences = [each for each in preferences if self._is_wanted(each.question, each.chosen)]
        for each in found:
            question, answer = each.turns[-1].content, each.answer
            if reason := unfit_pair(question, answer) or unwanted_pair(question, answer, wanted=languages):
                self.left_out[reason] += 1
            else:
                fit.append(each)
        if self._untouched is None:
            return Page(fit, preferences)
        examples = self._untouched.of(fit)
        if near := len(fit) - len(examples):
            self.left_out[NEAR_GOLDEN] += near
        return Page(examples, self._untouched.of(preferences))


async def pages(store: Store, team: str, sieve: Sieve) -> AsyncIterator[Page]:
    """Everything that passes the sieve, which counts what does not."""
    async for entries in ahead(store.learnable_entries(team)):
        yield Page(await asyncio.to_thread(sieve.entries, entries), [])
    async for answers in ahead(store.learnable(team)):
        yield Page(*await asyncio.to_thread(sieve.answers, answers))
    async for distilled in ahead(store.learnable_distilled(team)):
        yield Page(await asyncio.to_thread(sieve.distilled, distilled), [])
    async for duels in ahead(store.learnable_duels(team)):
        yield Page([], await asyncio.to_thread(sieve.duels, duels))


@dataclass(frozen=True, slots=True)
class Heard:
    """What everybody's vote counts, and how many rows were left out, by reason."""

    weights: Weights
    left_out: Counter[str]


async def gather(
    store: Store, team: str, spool: Spool, allowed: Allowed, *, apart_from: int = APART_FROM
) -> Heard:
    """Everything that passes the rules goes into the spool. From so many answers on two processes read them.

    Raises PublicError where one of them ended early, OSError where the disk is full.
    """
    golden = tuple(await store.golden_questions(team))
    sifting = await asyncio.to_thread(Sifting, allowed, await experts_of(store, team), golden)
    async for entries in ahead(store.learnable_entries(team)):
        await asyncio.to_thread(_sifted, spool, sifting.entries, entries)
    found = await _gathered_apart(store, team, spool, sifting, golden, apart_from)
    if found is not None:
        for each in found:
            spool.join(each.file, each.columns)
            sifting.raters.join(each.raters)
            sifting.left_out.update(each.left_out)
    else:
        async for answers in ahead(store.learnable(team)):
            await asyncio.to_thread(_sifted, spool, sifting.answers, answers)
    async for distilled in ahead(store.learnable_distilled(team)):
        await asyncio.to_thread(_sifted, spool, sifting.distilled, distilled)
    async for duels in ahead(store.learnable_duels(team)):
        await asyncio.to_thread(_sifted, spool, sifting.duels, duels)
    return Heard(sifting.raters.weigh(), sifting.left_out)


def _sifted(spool: Spool, sift: Callable[[list[T]], Page], rows: list[T]) -> None:
    spool.add(*sift(rows))


async def _gathered_apart(
    store: Store, team: str, spool: Spool, sifting: Sifting, golden: tuple[str, ...], apart_from: int
) -> list[Apart] | None:
    """What two processes found; None where one reads everything.

    Another process sees no database in memory, and does not know the names that are struck out here.
    """
    if not store.seen_by_others or spool.strikes:
        return None
    while stretches := await store.answers_parted(fewest=apart_from):
        first, second = stretches
        told = Part(
            *(store.database.url, team, first, spool.beside("first"), spool.system, sifting.sieve.allowed),
            verbatim=sifting.sieve.verbatim,
            golden=golden,
        )
        try:
            return await read_apart([told, replace(told, stretch=second, file=spool.beside("second"))])
        except (
            LaidOutAnew
        ):  # somebody was forgotten meanwhile; it is seldom, and what was read is thrown away
            continue
    return None


async def ahead(source: AsyncIterator[list[T]]) -> AsyncIterator[list[T]]:
    """The same pages; the database already looks for the next one while this one is worked on."""
    following = asyncio.create_task(_next(source))
    try:
        while (page := await following) is not None:
            following = asyncio.create_task(_next(source))
            yield page
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def _next(source: AsyncIterator[list[T]]) -> list[T] | None:
    return await anext(source, None)


async def experts_of(store: Store, team: str) -> frozenset[str]:
    """Whose word counts more."""
    return frozenset(await store.experts(team))


async def count_usable(store: Store, team: str, *, enough: int, review_required: bool = False) -> Usable:
    """How many questions have an example that is not held out by declaration; counting stops at `enough`.

    A first look: what the raters' weights and the caps leave out, and what falls on the test side, is known when a dataset
    is frozen.
    """
    sieve = Sieve(await allowed_today(store, team, review_required=review_required))
    keys: set[str] = set()
    async for page in pages(store, team, sieve):
        for example in page.examples:
            if example.rank == RATED and by_majority(example.votes, example.asker).value <= 0:
                sieve.left_out[DISLIKED] += 1
            elif example.split != "test":
                keys.add(example.key)
        if len(keys) >= enough:
            break
    return Usable(len(keys), dict(sieve.left_out))


@dataclass(frozen=True, slots=True)
class Found:
    """How many examples there are, what was left out and why, and the examples themselves."""

    count: int
    left_out: Mapping[str, int]
    spool: Spool

    def examples(self) -> Iterator[KeptExample]:
        """The examples in the order of their questions."""
        return self.spool.examples()


@asynccontextmanager
async def gathered(store: Store, team: str, folder: Path) -> AsyncIterator[Found]:
    """Today's examples, one for each question, before weights and caps; `folder` is for a temporary file."""
    sieve = Sieve(await allowed_today(store, team))
    with tempfile.TemporaryDirectory(dir=folder) as bench:
        spool = Spool(Path(bench), strike=await strike_today(store))
        try:
            async for page in pages(store, team, sieve):
                await asyncio.to_thread(spool.add, page.examples, page.preferences)
            count = await asyncio.to_thread(_picked, spool)
            spool.left_out.update(sieve.left_out)
            yield Found(count, dict(spool.left_out), spool)
        finally:
            spool.close()


def _picked(spool: Spool) -> int:
    import numpy as np

    found = spool.pick(by_majority)
    spool.left_out[DISLIKED] += int((found.weights == 0).sum())
    for _ in spool.keep(found, np.asarray(found.weights)):
        pass
    return spool.count()


async def strike_today(store: Store) -> Strike:
    """What still has to be struck out: nothing where all rows were written under today's rules."""
    return str if await store.struck_with() else _redacted


def _redacted(text: str) -> str:
    return redact(text).text
