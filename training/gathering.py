"""What there is to learn from today, read from the store page by page through the rules of `training.examples`."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from storage.learnable import Learnable
from storage.redaction import redact
from storage.store import Store
from training.dataset_spool import KeptExample, Spool, Strike
from training.examples import RATED, Allowed, Example, Preference, Sieve, by_majority
from training.guards import counted
from training.raters import DISLIKED, Raters

T = TypeVar("T")


class Page(NamedTuple):
    """A page of what may be learned from."""

    examples: list[Example]
    preferences: list[Preference]


@dataclass(frozen=True, slots=True)
class Usable:
    """How many questions could be trained on, counted as far as somebody wanted to know; what else there was, by reason."""

    count: int
    left_out: Mapping[str, int]


async def allowed_today(store: Store, team: str, *, review_required: bool = False) -> Allowed:
    """Who allowed what, and what was decided, at this moment."""
    return Allowed(
        consenting=frozenset(await store.consenting(team)),
        refusing=frozenset(await store.refusing(team)),
        nominated=await store.nominated(team),
        places=await store.learning_places(team),
        reviews=await store.reviewed(team),
        quarantine=await store.quarantined(team),
        review_required=review_required,
    )


async def pages(store: Store, team: str, sieve: Sieve, raters: Raters | None = None) -> AsyncIterator[Page]:
    """Everything that passes the sieve, which counts what does not. `raters` hears of all votes, also on what does not."""
    async for entries in _ahead(store.learnable_entries(team)):
        yield Page(await asyncio.to_thread(sieve.entries, entries), [])
    async for answers in _ahead(store.learnable(team)):
        yield await asyncio.to_thread(_sifted, answers, sieve, raters)
    async for duels in _ahead(store.learnable_duels(team)):
        yield Page([], await asyncio.to_thread(sieve.duels, duels))


async def _ahead(source: AsyncIterator[list[T]]) -> AsyncIterator[list[T]]:
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


def _sifted(answers: list[Learnable], sieve: Sieve, raters: Raters | None) -> Page:
    quarantine = sieve.allowed.quarantine
    if raters is not None:
        for said in answers:
            raters.add(counted(said.votes, quarantine), said.asker)
    return Page(*sieve.answers(answers))


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
    for _ in spool.pick(by_majority):
        pass

    def judge(_key: str, _rank: int, weight: float, *_rest: str) -> float | str:
        return weight or DISLIKED

    for _ in spool.keep(judge):
        pass
    return spool.count()


async def strike_today(store: Store) -> Strike:
    """What still has to be struck out: nothing where all rows were written under today's rules."""
    return str if await store.struck_with() else _redacted


def _redacted(text: str) -> str:
    return redact(text).text
