"""Rated answers written to SQLite while a trainer and a freeze are at work on the same two cores.

A rated answer is a question asked, an answer stored, marked as posted, and rated: four transactions, as the bot makes them.
They come at 200 a second for a minute (`WRITES_SECONDS` for a look in between), whether the ones before are done or not;
each of the four is timed from when it was due to begin until it is committed. Afterwards every one must be in the database.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from sqlalchemy import text

from bot.settings import HANDBOOK, STARTER, child_environment
from storage.store import Store
from storage.values import Message, Proposal
from tests.benchmarks.conversations import fill
from tests.benchmarks.figure import Figure
from training import rundir
from training.datasets import freeze
from training.finetuners import Order
from training.finetuners.local import LocalFineTuner
from training.formats.reading import read_faq

TEAM = "T1"
A_SECOND = 200
SECONDS = int(os.environ.get("WRITES_SECONDS", "60"))
THERE_BEFORE = 50_000  # conversations for the freeze to read
TOPICS = ("the printer", "my password", "a day off", "the van", "an invoice", "the door on floor two")


def writes() -> Iterator[Figure]:
    """How many rated answers a second were kept up with, how long a write took, how many were lost."""
    yield from asyncio.run(_writes())


async def _writes() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="apprentice-bench-") as folder:
        url = f"sqlite:///{folder}/apprentice.sqlite"
        await (await Store.open(url)).close()
        await asyncio.to_thread(fill, url, THERE_BEFORE)
        store = await Store.open(url)
        async with _trainer(Path(folder)), _freezing(url, Path(folder)):
            since = time.process_time()
            took, times = await _load(store)
            cpu_s = time.process_time() - since
            if not rundir.is_locked(Path(folder) / "run"):
                raise RuntimeError("the trainer ended before the load did: give it more epochs")
        lost = A_SECOND * SECONDS - await _kept(store)
        await store.close()
    times.sort()
    print(
        f"writes: p50 {times[len(times) // 2] * 1000:.1f} ms, longest {times[-1] * 1000:.0f} ms, "
        f"{cpu_s / (A_SECOND * SECONDS) * 1000:.1f} ms of CPU for each rated answer",
        file=sys.stderr,
    )
    return [
        Figure(
            "writes_per_s", round(A_SECOND * SECONDS / took, 1), "rated answers/s", A_SECOND * 0.98, "higher"
        ),
        Figure("writes_p99_ms", round(times[int(len(times) * 0.99)] * 1000, 1), "ms", 100, "lower"),
        Figure("writes_lost", lost, "rated answers", 0, "lower"),
    ]


async def _load(store: Store) -> tuple[float, list[float]]:
    """Seconds until the last was written, and the seconds that each write took."""
    times: list[float] = []
    since = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(A_SECOND * SECONDS):
            due = since + number / A_SECOND
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(_rated_answer(store, number, due, times))
    return time.perf_counter() - since, times


async def _rated_answer(store: Store, number: int, due: float, times: list[float]) -> None:
    ts = f"9{number:08d}.000100"

    def done() -> None:
        nonlocal due
        moment = time.perf_counter()
        times.append(moment - due)
        due = moment

    asked = await store.ask(
        team=TEAM,
        channel="C0LOAD",
        ts=ts,
        thread_ts=ts,
        asker=f"U{number % 400:05d}",
        text=f"What do I do about {TOPICS[number % 6]}, number {number}?",
    )
    done()
    proposal = Proposal(f"Write to the desk and name number {number}.", "local", "starter")
    answered = await store.answer(asked.question, [proposal], messages=[Message("user", asked.question.text)])
    done()
    await store.posted(answered.answer.id, f"{ts}1")
    done()
    await store.rate(answered.answer.id, team=TEAM, rater=f"U{number % 400:05d}", value=1)
    done()


async def _kept(store: Store) -> int:
    """Rated answers of the load that are in the database, whole."""
    query = (
        "SELECT count(*) FROM rating JOIN answer ON answer.id = rating.answer_id JOIN question "
        "ON question.id = answer.question_id WHERE question.channel = 'C0LOAD' AND question.state = 'answered'"
    )
    async with store.database.reading() as session:
        return int((await (await session.connection()).execute(text(query))).scalar_one())


@contextlib.asynccontextmanager
async def _trainer(folder: Path) -> AsyncIterator[None]:
    """A real one, on the handbook, for longer than the load lasts."""
    store = await Store.open(f"sqlite:///{folder}/handbook.sqlite")
    await store.add_entries(TEAM, read_faq(HANDBOOK, source="handbook").entries)
    frozen = await freeze(store, folder / "handbook", team=TEAM, salt="a salt for benches")
    await store.close()
    finetuner = LocalFineTuner(environment=child_environment())
    handle = await finetuner.launch(
        Order(
            run_id="bench",
            directory=folder / "run",
            base_model=str(STARTER),
            dataset_path=frozen.path,
            dataset_id=frozen.id,
            quantization="none",
            epochs=400,
        )
    )
    try:
        yield
    finally:
        await finetuner.cancel(handle)
        await asyncio.to_thread(_wait_for, folder / "run")


def _wait_for(directory: Path) -> None:
    while rundir.is_locked(directory):
        time.sleep(0.2)


@contextlib.asynccontextmanager
async def _freezing(url: str, folder: Path) -> AsyncIterator[None]:
    """One freeze after another in a process of its own."""

    async def again() -> None:
        for number in range(1000):
            command = ("-m", "tests.benchmarks.freeze_child", url, str(folder / f"datasets.{number}"))
            child = await asyncio.create_subprocess_exec(
                sys.executable, *command, stdout=asyncio.subprocess.DEVNULL
            )
            try:
                await child.wait()
            finally:
                if child.returncode is None:
                    child.kill()
                    await child.wait()

    going = asyncio.create_task(again())
    try:
        yield
    finally:
        going.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await going
