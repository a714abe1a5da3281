"""How long it takes to forget one person in a store of 100,000 conversations, of which 1 % are theirs; then the byte search.

Generated through the tables (Core, in bulk): a question, two candidates with one answer, three quarters of them rated, every
tenth corrected by somebody, every twentieth corrected one verified and shown to models of others. A frozen dataset, memory's
index, an evaluation and a backup lie beside it.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from bot.backups import back_up
from bot.models.memory import Memory
from bot.privacy import Privacy, PrivacyRules
from storage.database import sqlite_file
from storage.entries import NewEntry, question_hash
from storage.records import Answer, Candidate, Consent, Correction, Entry, Question, Rating, now
from storage.store import Store
from tests.benchmarks.figure import Figure
from training.datasets import freeze

TEAM, PERSON, MARK = "T1", "U0FORGETME7", "wanderquill"
CONVERSATIONS, PEOPLE, AT_ONCE = 100_000, 100, 2_000
BAR_S = 60.0


def forget() -> Iterator[Figure]:
    """Seconds from asking to the receipt, on SQLite, and how many traces the search of every byte found."""
    yield from asyncio.run(_forget(CONVERSATIONS))


async def _forget(count: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = await Store.open(f"sqlite:///{folder / 'apprentice.sqlite'}")
        memory = Memory(store, team=TEAM, folder=folder / "memory")
        try:
            await conversations(store, count)
            await memory.refresh_wholly()
            await freeze(store, folder / "datasets", team=TEAM, salt="s")
            back_up(folder, sqlite_file(store.database.url), folder / "backups" / "old.tar")
            rules = PrivacyRules(folder=folder, remember=memory.refresh_wholly)
            privacy = Privacy(store, team=TEAM, rules=rules)
            since = time.monotonic()
            receipt = await privacy.forget(PERSON, by=PERSON)
            took = time.monotonic() - since
            size = _size(folder)
            print(
                f"forgotten in {took:.1f} s: {receipt.done}; {size / 1e6:,.0f} MB searched", file=sys.stderr
            )
            left = traces(folder)
            print(f"left: {left[:10]}", file=sys.stderr)
        finally:
            await memory.close()
            await store.close()
        whole = receipt.finished and receipt.done.get("questions", 0) == count // PEOPLE
        return [
            Figure("forget_s", took if whole else float("inf"), "s", BAR_S, "lower"),
            Figure("forgotten_traces", len(left), "traces", 0, "lower"),
        ]


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def traces(folder: Path) -> list[str]:
    """The files under a folder in which the person's id or words still stand."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return [
        f"{file.relative_to(folder)}: {word}"
        for file in files
        for word in (PERSON, MARK)
        if word.encode() in file.read_bytes()
    ]


async def conversations(store: Store, count: int) -> None:
    """Everybody has as many; those of the one person hold a word of theirs."""
    moment = now()
    async with store.database.writing() as session:
        connection = await session.connection()
        agreed = [
            {
                "id": f"y{n}",
                "team": TEAM,
                "person": _person(n),
                "granted": True,
                "asked_at": moment,
                "decided_at": moment,
            }
            for n in range(PEOPLE)
        ]
        await connection.execute(insert(Consent), agreed)
    for start in range(0, count, AT_ONCE):
        await _page(store, range(start, min(start + AT_ONCE, count)), moment)
    await store.add_entries(TEAM, [NewEntry("The newest?", "This.", "the wiki")])


async def _page(store: Store, numbers: range, moment: Any) -> None:
    rows: dict[Any, list[dict[str, Any]]] = {
        kind: [] for kind in (Question, Candidate, Answer, Rating, Correction, Entry)
    }
    for n in numbers:
        _conversation(rows, n, moment - timedelta(minutes=n % 100_000))
    async with store.database.writing() as session:
        connection = await session.connection()
        for record, values in rows.items():
            if values:
                await connection.execute(insert(record), values)


def _person(n: int) -> str:
    return PERSON if n % PEOPLE == 0 else f"U0PERSON{n % PEOPLE:03d}"


def _conversation(rows: dict[Any, list[dict[str, Any]]], n: int, at: Any) -> None:
    asker, helper = _person(n), _person(n + 1)
    mark = f" {MARK}" if asker == PERSON else ""
    question = f"How do I set up machine {n} in room {n % 977} with profile {n * 7919 % 10_007}?{mark}"
    text = f"Open panel {n % 31}, choose profile {n * 7919 % 10_007}, then wait for lamp {n % 17}.{mark}"
    thread = str(1000.0 + n // 2)  # two questions to a thread
    rows[Question].append(
        {"id": f"q{n}", "team": TEAM, "channel": "C1", "ts": f"{n}.0", "thread_ts": thread, "asker": asker}
        | {"text": question, "surface": "mention", "place": "channel", "draft_ts": "", "state": "answered"}
        | {"reason": "", "attempts": 1, "claimed_by": "", "asked_at": at}
    )
    for c in range(2):
        rows[Candidate].append(
            {
                "id": f"c{n}-{c}",
                "question_id": f"q{n}",
                "kind": "local",
                "model": "starter",
                "text": f"{text} {c}",
            }
            | {
                "source": "",
                "finish": "stop",
                "seconds": 1.0,
                "tokens_in": 9,
                "tokens_out": 9,
                "cost_usd": 0.0,
            }
            | {"certainty": 0.0, "features": {}, "chosen": c == 0, "created_at": at}
        )
    shown = f"Be kind. Verified answers: {text * 4}" if n % 3 == 0 and not mark else "Be kind."
    messages = [{"role": "system", "content": shown}, {"role": "user", "content": question}]
    rows[Answer].append(
        {"id": f"a{n:07d}", "question_id": f"q{n}", "candidate_id": f"c{n}-0", "team": TEAM, "channel": "C1"}
        | {"messages": messages, "posted_ts": f"9{n}.0", "route": {}, "created_at": at}
    )
    if n % 4:
        rows[Rating].append(
            {"id": f"r{n}", "answer_id": f"a{n:07d}", "team": TEAM, "rater": helper, "value": 1, "reason": ""}
            | {"via": "button", "rated_at": at}
        )
    if n % 10 == 0 or n % 100 == 99:
        _corrected(rows, n, at, helper, question)


def _corrected(rows: dict[Any, list[dict[str, Any]]], n: int, at: Any, helper: str, question: str) -> None:
    mark = f" {MARK}" if helper == PERSON else ""
    better = f"Machine {n} wants key {n % 89} first, and then profile {n * 31 % 991}.{mark}"
    rows[Correction].append(
        {
            "id": f"k{n}",
            "answer_id": f"a{n:07d}",
            "team": TEAM,
            "author": helper,
            "text": better,
            "reason": "",
        }
        | {"may_train": True, "corrected_at": at}
    )
    if n % 20 == 0 or n % 100 == 99:
        rows[Entry].append(
            {"id": f"e{n}", "team": TEAM, "question": question, "question_hash": question_hash(question)}
            | {
                "answer": better,
                "source": "a correction",
                "topic": "",
                "thread": "",
                "split": "",
                "author": helper,
            }
            | {"answer_id": f"a{n:07d}", "nomination_id": None, "created_at": at, "change": 1}
        )
