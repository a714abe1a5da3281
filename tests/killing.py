"""kill -9 at a random moment, again and again: `python killing.py SEED ROUNDS FOLDER` prints what it did as JSON.

A process that forks is quick enough for hundreds of kills: each child opens the store and writes, freezes or migrates until
it is killed. Afterwards, from outside, the file must be whole, everything that the child had acknowledged must be there, and
nothing half-made may be visible. What is not ends this process with a traceback that names the round.
"""

import asyncio
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

from old_rows import live_at, revisions

from storage.database import Database
from storage.entries import NewEntry
from storage.migrate import upgrade
from storage.store import Store
from storage.values import Message, Proposal
from training.datasets import freeze, verify

TEAM = "T1"
WEIGHTS = (160, 28, 12)  # writes, freezes, migrations: the last ones take a second each to look at
Work = Callable[[Path, int], Awaitable[None]]


def main(seed: int, rounds: int, folder: Path) -> dict[str, int]:
    """Kill as often as that; how often in what."""
    draw = random.Random(seed)
    told: Counter[str] = Counter()
    fork(prepare, folder, 0, None)
    needed = {"writes": 0.12}
    for number in range(rounds):
        kind = draw.choices(tuple(KINDS), weights=WEIGHTS)[0]
        work, check = KINDS[kind]
        place = folder
        if kind == "migrations":
            place = folder / f"{kind}.{number}"
            place.mkdir()
            shutil.copyfile(folder / f"{draw.choice(revisions())}.sqlite", place / "apprentice.sqlite")
        # The first of a kind is let live: it tells over which time the kills have to be strewn.
        since = time.monotonic()
        killed_after_s = draw.uniform(0, 1.2) * needed[kind] if kind in needed else None
        ended = fork(work, place, number, killed_after_s)
        needed.setdefault(kind, time.monotonic() - since)
        told[f"{kind} that ended first" if ended else kind] += 1
        check(place, number)
    return dict(told)


def fork(work: Work, folder: Path, number: int, killed_after_s: float | None) -> bool:
    """Carry out `work` in a child; whether it came to its end by itself."""
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(work(folder, number))  # type: ignore[arg-type]
        except BaseException as error:
            print(f"round {number}: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    if killed_after_s is not None:
        time.sleep(killed_after_s)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"round {number} ended with an error"
    return not os.WIFSIGNALED(status)


async def prepare(folder: Path, _number: int) -> None:
    """An empty store, and one of every earlier version with rows."""
    await (await Store.open(url_in(folder))).close()
    for revision in revisions():
        database = Database(f"sqlite:///{folder / f'{revision}.sqlite'}")
        await live_at(database, revision)
        await database.close()


async def write(folder: Path, number: int) -> None:
    """Ask, answer, rate, and say so each time, until killed."""
    store = await Store.open(url_in(folder))
    with (folder / "acknowledged").open("ab", buffering=0) as said:
        for count in range(10_000):
            ts = f"{number}.{count}"
            asked = await store.ask(
                team=TEAM, channel="C1", ts=ts, thread_ts=ts, asker="U1", text=f"What is {ts}?"
            )
            said.write(f"question {asked.question.id}\n".encode())
            proposals = [Proposal("This.", "local", "starter")]
            messages = [Message("user", asked.question.text)]
            answer = (await store.answer(asked.question, proposals, messages=messages)).answer
            said.write(f"answer {answer.id}\n".encode())
            await store.posted(answer.id, f"9{ts}")
            await store.rate(answer.id, team=TEAM, rater="U2", value=1)
            said.write(f"rating {answer.id}\n".encode())


async def freeze_once(folder: Path, number: int) -> None:
    """Something new is known, and all of it is frozen."""
    store = await Store.open(url_in(folder))
    fresh = [NewEntry(f"Where is tool {number}?", f"On shelf {number}.", source="handbook")]
    await store.add_entries(TEAM, fresh)
    await freeze(store, folder / "datasets", team=TEAM, salt="salt")
    await store.close()


def check_datasets(folder: Path, number: int) -> None:
    """Every dataset that can be seen is whole, and every one that the database knows can be seen."""
    check_writes(folder, number)
    seen = [each for each in (folder / "datasets").glob("*") if not each.name.startswith(".")]
    for each in seen:
        assert verify(each) == [], f"round {number}: {each.name} {verify(each)}"
    with closing(sqlite3.connect(folder / "apprentice.sqlite", timeout=30)) as opened:
        known = {row[0] for row in opened.execute("SELECT id FROM dataset_version")}
    assert known <= {each.name for each in seen}, f"round {number}: {known} are known"


def check_writes(folder: Path, number: int) -> None:
    """The file is whole, and has all that was acknowledged."""
    with closing(sqlite3.connect(folder / "apprentice.sqlite", timeout=30)) as opened:
        whole(opened, number)
        columns = (("question", "id"), ("answer", "id"), ("rating", "answer_id"))
        there = {
            table: {row[0] for row in opened.execute(f"SELECT {column} FROM {table}")}
            for table, column in columns
        }
    lines = (folder / "acknowledged").read_text().splitlines() if (folder / "acknowledged").exists() else []
    for line in lines:
        table, row = line.split()
        assert row in there[table], f"round {number}: the acknowledged {table} {row} is gone"


async def migrate(folder: Path, _number: int) -> None:
    """Bring an old version up to date."""
    database = Database(url_in(folder))
    await upgrade(database)
    await database.close()


def check_migration(folder: Path, number: int) -> None:
    """Whole wherever it stands, and the next start ends it, with the rows."""
    with closing(sqlite3.connect(folder / "apprentice.sqlite", timeout=30)) as opened:
        whole(opened, number)
    assert fork(migrate, folder, number, None)
    with closing(sqlite3.connect(folder / "apprentice.sqlite", timeout=30)) as opened:
        whole(opened, number)
        for table in ("question", "answer", "rating", "entry", "training_run"):
            (count,) = opened.execute(f"SELECT count(*) FROM {table}").fetchone()
            assert count == 2, f"round {number}: {count} rows of {table}"
    shutil.rmtree(folder)


def whole(opened: sqlite3.Connection, number: int) -> None:
    """Integrity and references."""
    assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",), f"round {number}"
    assert opened.execute("PRAGMA foreign_key_check").fetchall() == [], f"round {number}"


def url_in(folder: Path) -> str:
    """The store of a folder."""
    return f"sqlite:///{folder / 'apprentice.sqlite'}"


KINDS: dict[str, tuple[Work, Callable[[Path, int], None]]] = {
    "writes": (write, check_writes),
    "freezes": (freeze_once, check_datasets),
    "migrations": (migrate, check_migration),
}

if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))))
