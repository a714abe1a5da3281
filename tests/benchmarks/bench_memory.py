"""How fast and how right memory is, through the product's own store, index and retrieval.

Speed is measured with made-up entries, 10,000 and a million on both kinds of database; rightness with our own handbook, half
of whose answers are taken out of memory, so that half of the held-out paraphrases have no right answer there, and with the
held-out paraphrases of material that others wrote.
"""

import asyncio
import contextlib
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import psutil

from bot.errors import ModelUnavailable
from bot.models import Message
from bot.models.memory import NEAR_CERTAIN, Memory, NearestMemory
from storage.entries import NewEntry
from storage.store import Store
from tests.benchmarks.figure import Figure
from tests.postgres import PostgresServer, server_programs, server_user

HANDBOOK = Path(__file__).parents[2] / "bot" / "handbook" / "handbook.jsonl"
SHARED = Path(__file__).parents[3] / "shared" / "data"
TEAM = "T1"
ENTRIES = 10_000
MILLION = 1_000_000
QUESTIONS = 400
SHUFFLES = 8
AT_ONCE = 2_000


def speed() -> Iterator[Figure]:
    """Milliseconds to know 10,000 entries, to learn one more, and to find the nearest one, on SQLite."""
    return iter(asyncio.run(_collected(_speed())))


def million() -> Iterator[Figure]:
    """One lookup among a million verified answers, the worse of SQLite and PostgreSQL, and what a million takes."""
    return iter(asyncio.run(_million()))


def rightness() -> Iterator[Figure]:
    """How often a near-certain answer is right, and how many of the questions that memory knows it answers."""
    return iter(asyncio.run(_collected(_rightness())))


def others() -> Iterator[Figure]:
    """How many held-out paraphrases find their thread (StackFAQ) or their intent (BANKING77) first."""
    return iter(asyncio.run(_collected(_others())))


async def _collected(figures: AsyncIterator[Figure]) -> list[Figure]:
    return [figure async for figure in figures]


async def _speed() -> AsyncIterator[Figure]:
    rng = random.Random(7)
    questions = made_up_questions(rng, ENTRIES + QUESTIONS)
    with tempfile.TemporaryDirectory() as folder:
        async with _opened(f"sqlite:///{folder}/bench.sqlite") as store:
            await _add(store, questions[:ENTRIES])
            memory = Memory(store, team=TEAM, folder=Path(folder))

            async def know() -> None:
                await memory.refresh()
                await memory.finished()

            yield Figure("memory_replace_10k_ms", await _ms(know), "ms", 1000, "lower")
            added = []
            for n in range(30):
                await _add(store, [f"brand new {n}"])
                added.append(await _ms(memory.refresh))
            yield Figure("memory_add_ms", sorted(added)[len(added) // 2], "ms", 50, "lower")
            found = await _lookups(memory, questions[ENTRIES:])
            yield Figure("memory_nearest_10k_ms_p50", found[len(found) // 2], "ms", 15, "lower")
            yield Figure("memory_nearest_10k_ms_p99", found[int(len(found) * 0.99)], "ms", 30, "lower")


async def _million() -> list[Figure]:
    found: dict[str, dict[str, float]] = {}
    questions = made_up_questions(random.Random(7), MILLION + QUESTIONS)
    with tempfile.TemporaryDirectory() as folder:
        found["SQLite"] = await _among_a_million(f"sqlite:///{folder}/bench.sqlite", Path(folder), questions)
    with _postgres() as url, tempfile.TemporaryDirectory() as folder:
        if url:
            found["PostgreSQL"] = await _among_a_million(url, Path(folder), questions)
    for name, figures in found.items():
        print(f"{name}: {json.dumps(figures)}", file=sys.stderr)

    def worst(name: str) -> float:
        return max(figures[name] for figures in found.values())

    return [
        Figure("memory_lookup_p95_ms", worst("lookup_p95_ms"), "ms", 30, "lower"),
        Figure("memory_start_million_ms", worst("start_ms"), "ms", 1000, "lower"),
        Figure("memory_rss_million_mb", worst("rss_mb"), "MB", 400, "lower"),
        Figure("memory_import_million_s", worst("import_s"), "s", 600, "lower"),
    ]


async def _among_a_million(url: str, folder: Path, questions: Sequence[str]) -> dict[str, float]:
    async with _opened(url) as store:
        since = time.perf_counter()
        await _add(store, questions[:MILLION])
        imported = time.perf_counter()
        memory = Memory(store, team=TEAM, folder=folder)
        await memory.refresh()
        await memory.finished()
        indexed = time.perf_counter()
        await memory.close()
        before = psutil.Process().memory_info().rss
        memory = Memory(store, team=TEAM, folder=folder)
        start_ms = await _ms(memory.refresh)
        assert len(memory) == MILLION, memory.trouble
        lookups = await _lookups(memory, questions[MILLION:], times=1)
        rss = psutil.Process().memory_info().rss
    return {
        "import_s": round(imported - since, 1),
        "index_s": round(indexed - imported, 1),
        "start_ms": start_ms,
        "lookup_p50_ms": lookups[len(lookups) // 2],
        "lookup_p95_ms": lookups[int(len(lookups) * 0.95)],
        "lookup_p99_ms": lookups[int(len(lookups) * 0.99)],
        "rss_mb": round((rss - before) / 1e6, 1),
    }


async def _rightness() -> AsyncIterator[Figure]:
    rows = [json.loads(line) for line in HANDBOOK.read_text(encoding="utf-8").splitlines()]
    given, right, known = 0, 0, 0
    threads = sorted({row["thread"] for row in rows})
    for shuffle in range(SHUFFLES):
        kept = set(random.Random(shuffle).sample(threads, len(threads) // 2))
        entries = [
            NewEntry(row["question"], row["answer"], "")
            for row in rows
            if row["split"] == "train" and row["thread"] in kept
        ]
        async with _remembering(entries) as memory:
            for row in (row for row in rows if row["split"] == "test"):
                known += row["thread"] in kept
                matches = await memory.nearest(row["question"], 1)
                if matches and matches[0].certainty >= NEAR_CERTAIN:
                    given += 1
                    right += matches[0].entry.answer == row["answer"]
    yield Figure("memory_near_certain_right", round(right / max(given, 1), 4), "share", 0.97, "higher")
    yield Figure("memory_near_certain_answered", round(right / known, 4), "share", 0.10, "higher")


async def _others() -> AsyncIterator[Figure]:
    stackfaq, banking = SHARED / "stackfaq" / "qa.jsonl", SHARED / "banking77"
    if not stackfaq.exists() or not banking.is_dir():
        print(f"memory_top1_*: skipped, there is no {SHARED}", file=sys.stderr)
        return
    rows = _rows(stackfaq)
    train = [(row["question"], str(row["thread"])) for row in rows if row["split"] == "train"]
    test = [(row["question"], str(row["thread"])) for row in rows if row["split"] == "test"]
    yield Figure("memory_top1_stackfaq", await _top1(train, test), "share", 0.85, "higher")
    train, test = (
        [(row["question"], row["label"]) for row in _rows(banking / f"{name}.jsonl")]
        for name in ("train", "test")
    )
    yield Figure("memory_top1_banking77", await _top1(train, test), "share", 0.85, "higher")


async def _top1(train: Sequence[tuple[str, str]], test: Sequence[tuple[str, str]]) -> float:
    """The share of questions for which the memory arm's answer is the right one."""
    async with _remembering([NewEntry(question, label, "") for question, label in train]) as memory:
        arm, right = NearestMemory(memory), 0
        for question, label in test:
            with contextlib.suppress(ModelUnavailable):
                right += (await arm.answer([Message("user", question)])).text == label
    return round(right / len(test), 4)


def _rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@contextlib.asynccontextmanager
async def _remembering(entries: Sequence[NewEntry]) -> AsyncIterator[Memory]:
    with tempfile.TemporaryDirectory() as folder:
        async with _opened(f"sqlite:///{folder}/bench.sqlite") as store:
            for start in range(0, len(entries), AT_ONCE):
                await store.add_entries(TEAM, entries[start : start + AT_ONCE])
            memory = Memory(store, team=TEAM, folder=Path(folder))
            await memory.refresh()
            await memory.finished()
            yield memory


@contextlib.asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Store]:
    store = await Store.open(url)
    try:
        yield store
    finally:
        await store.close()


@contextlib.contextmanager
def _postgres() -> Iterator[str]:
    """The URL of an empty database of a server of our own; "" where this machine has no server programs."""
    programs = server_programs()
    if programs is None:
        print("PostgreSQL: not measured, there are no server programs here", file=sys.stderr)
        yield ""
        return
    home, user = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp")), server_user()
    if user is not None:
        shutil.chown(home, user)
    server = PostgresServer(programs, home, user)
    server.start()
    try:
        yield server.fresh()
    finally:
        server.stop()


async def _add(store: Store, questions: Sequence[str]) -> None:
    for start in range(0, len(questions), AT_ONCE):
        part = questions[start : start + AT_ONCE]
        await store.add_entries(TEAM, [NewEntry(question, f"answer to {question}", "") for question in part])


async def _lookups(memory: Memory, questions: Sequence[str], *, times: int = 3) -> list[float]:
    """Sorted. The best of `times`, because on a shared machine the slowest of many is somebody else's work."""
    found = []
    for question in questions:

        async def look(question: str = question) -> None:
            await memory.nearest(question, 5)

        found.append(min([await _ms(look) for _ in range(times)]))
    return sorted(found)


def made_up_questions(rng: random.Random, count: int) -> Sequence[str]:
    """Common words in every question and rarer ones after them, as questions to a help desk have. No two are the same."""
    common = "how do i can the my a in to is it for what why with when does not".split()  # noqa: SIM905
    rare = ["".join(rng.choices("abcdefghijklmnoprstuvwy", k=rng.randint(4, 9))) for _ in range(8_000)]
    ranks = list(accumulate(1 / (rank + 3) for rank in range(len(rare))))
    made: dict[str, None] = {}
    while len(made) < count:
        words = [
            *rng.choices(common, k=rng.randint(3, 7)),
            *rng.choices(rare, cum_weights=ranks, k=rng.randint(3, 8)),
        ]
        made[" ".join(words)] = None
    return list(made)


async def _ms(act: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await act()
    return round((time.perf_counter() - started) * 1000, 3)
