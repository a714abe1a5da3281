"""What was found to learn from, in a temporary file while a dataset is frozen, given back in the order of the questions.

SQLite, because it sorts and joins in bounded memory; nothing of it is synced, and the file goes when the freeze ends. Pages
are added as they come; `pick` chooses one example for each question, `keep` drops what the caps leave out, `examples` and
`preferences` give what was kept.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from storage.feedback import Vote
from storage.values import Message
from training.examples import Contender, Example, Preference, Weigh, choose

EXAMPLE, PREFERENCE = 0, 1
AT_ONCE = 5000
PRAGMAS = (
    "journal_mode=OFF",
    "synchronous=OFF",
    "locking_mode=EXCLUSIVE",
    "page_size=8192",
    "cache_size=-24000",
)
TABLES = """
CREATE TABLE item (
    kind INTEGER, key TEXT, rank INTEGER, age INTEGER, subject TEXT, question TEXT, thread TEXT, declared TEXT,
    asker TEXT, votes TEXT, writer TEXT, origin TEXT, authors TEXT, messages TEXT, chosen TEXT, rejected TEXT
);
CREATE TABLE picked (kind INTEGER, item INTEGER, rank INTEGER, declared TEXT, weight REAL);
CREATE TABLE kept (number INTEGER, kind INTEGER, item INTEGER, weight REAL);
"""
ADD = f"INSERT INTO item VALUES ({', '.join('?' * 16)})"

Strike = Callable[[str], str]
"""Strikes secrets and personal data out of a text."""


class Picked(NamedTuple):
    """The example that would count for a question, as far as caps decide about it.

    `weight` is 0 where it counts only if fewer people are heard who dislike it.
    """

    key: str
    rank: int
    weight: float
    votes: Sequence[Vote]
    asker: str
    writer: str


Judge = Callable[[str, int, float, str, str, str], float | str]
"""Tells the weight of an example, or why it is left out: its key, rank and weight, its votes as the spool keeps them, who
had asked, who wrote the answer."""


class Asked(NamedTuple):
    """A question of the dataset to be; `number` counts them in the order of their keys."""

    number: int
    key: str
    question: str
    thread: str
    declared: str


class KeptExample(NamedTuple):
    """An example that was kept. `messages` and `authors` are JSON already; the last message is the answer."""

    number: int
    subject: str
    origin: str
    authors: str
    messages: str
    thread: str
    declared: str
    weight: float


class KeptPreference(NamedTuple):
    """A preference that was kept; its texts are JSON already."""

    number: int
    subject: str
    origin: str
    authors: str
    messages: str
    chosen: str
    rejected: str


class Spool:
    """A file of examples and preferences. Used by one thread at a time."""

    def __init__(self, folder: Path, *, system: str = "", strike: Strike = str) -> None:
        self._file = folder / "spool.sqlite"
        self._system = [f'{{"content": {_quoted(system)}, "role": "system"}}'] if system else []
        self._strike = strike
        self._connection = sqlite3.connect(self._file, check_same_thread=False, isolation_level=None)
        for pragma in PRAGMAS:
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.executescript(TABLES)
        self.left_out: Counter[str] = Counter()

    def close(self) -> None:
        """Delete the file."""
        self._connection.close()
        self._file.unlink(missing_ok=True)

    def add(self, examples: Sequence[Example], preferences: Sequence[Preference]) -> None:
        """Keep a page of what was found."""
        rows = [self._example(each) for each in examples]
        rows += [self._preference(each) for each in preferences]
        self._connection.execute("BEGIN")
        self._connection.executemany(ADD, rows)
        self._connection.execute("COMMIT")

    def _example(self, each: Example) -> tuple[object, ...]:
        answer = f'{{"content": {_quoted(self._strike(each.answer.strip()))}, "role": "assistant"}}'
        messages = f"[{self._messages(each.turns)}, {answer}]"
        votes = " ".join([f"{vote.rater} {vote.value}" for vote in each.votes])
        return (
            *(EXAMPLE, each.key, each.rank, -each.said_at, each.id, each.question, each.thread, each.split),
            *(each.asker, votes, each.writer, each.origin, _names(each.authors), messages, "", ""),
        )

    def _preference(self, each: Preference) -> tuple[object, ...]:
        texts = (_quoted(self._strike(text.strip())) for text in (each.chosen, each.rejected))
        return (
            *(PREFERENCE, each.key, 0, -each.said_at, each.id, each.question, each.thread, *[""] * 4),
            *(each.origin, _names(each.authors), f"[{self._messages(each.turns)}]", *texts),
        )

    def _messages(self, turns: Sequence[Message]) -> str:
        """As `json.dumps` with sorted keys would write them, in a third of the time."""
        strike = self._strike
        told = [f'{{"content": {_quoted(strike(turn.content))}, "role": "{turn.role}"}}' for turn in turns]
        return ", ".join([*self._system, *told])

    def pick(self, weigh: Weigh) -> Iterator[list[Picked]]:
        """Pick one example of each question, in pages, as the votes stand without any caps; preferences go along."""
        self._connection.execute("CREATE INDEX item_order ON item (key, kind, rank, age, subject)")
        columns = "rowid, kind, key, rank, declared, asker, votes, writer"
        found = self._connection.execute(f"SELECT {columns} FROM item ORDER BY key, kind, rank, age, subject")
        picked: list[Picked] = []
        rows: list[tuple[object, ...]] = []
        for items in _by_question(found):
            chosen = choose(
                [
                    Contender(each[0], each[3], each[4], each[5], votes_in(each[6]))
                    for each in items
                    if each[1] == EXAMPLE
                ],
                weigh,
                self.left_out,
            )
            if chosen is not None:
                rows.append((EXAMPLE, chosen.place, chosen.rank, chosen.declared, chosen.weight))
                writer = items[0][7] if len(items) == 1 else next(i[7] for i in items if i[0] == chosen.place)
                picked.append(
                    Picked(items[0][2], chosen.rank, chosen.weight, chosen.votes, chosen.asker, writer)
                )
            rows += [(PREFERENCE, each[0], 0, "", 1.0) for each in items if each[1] == PREFERENCE]
            if len(rows) >= AT_ONCE:
                self._insert("picked", rows)
                yield picked
                picked, rows = [], []
        self._insert("picked", rows)
        yield picked

    def keep(self, judge: "Judge") -> Iterator[list[Asked]]:
        """Keep what `judge` lets through of what was picked; the questions that have anything left, in pages."""
        columns = "picked.kind, item, picked.rank, picked.declared, weight, key, question, thread, asker, votes, writer"
        joined = "picked CROSS JOIN item ON item.rowid = picked.item"
        found = self._connection.execute(f"SELECT {columns} FROM {joined} ORDER BY picked.rowid")
        number, last = -1, ""
        asked: list[Asked] = []
        kept: list[tuple[object, ...]] = []
        for kind, item, rank, declared, weight, key, question, thread, asker, votes, writer in found:
            if kind == EXAMPLE:
                weight = judge(key, rank, weight, votes, asker, writer)
                if isinstance(weight, str):
                    self.left_out[weight] += 1
                    continue
            if key != last:
                number, last = number + 1, key
                if len(asked) == AT_ONCE:
                    self._insert("kept", kept)
                    yield asked
                    asked, kept = [], []
                asked.append(Asked(number, key, question, thread, declared))
            kept.append((number, kind, item, weight))
        self._insert("kept", kept)
        if asked:
            yield asked

    def _insert(self, table: str, rows: Sequence[tuple[object, ...]]) -> None:
        if rows:
            self._connection.execute("BEGIN")
            self._connection.executemany(
                f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows
            )
            self._connection.execute("COMMIT")

    def examples(self) -> Iterator[KeptExample]:
        """The examples that were kept, in the order of their questions."""
        columns = "kept.number, subject, origin, authors, messages, thread, declared, weight"
        return map(KeptExample._make, self._kept(columns, EXAMPLE))

    def preferences(self) -> Iterator[KeptPreference]:
        """The preferences that were kept, in the order of their questions."""
        columns = "kept.number, subject, origin, authors, messages, chosen, rejected"
        return map(KeptPreference._make, self._kept(columns, PREFERENCE))

    def count(self) -> int:
        """How many examples were kept."""
        found = self._connection.execute(f"SELECT count(*) FROM kept WHERE kind = {EXAMPLE}").fetchone()
        return int(found[0])

    def until(self) -> str:
        """The day (UTC) on which the newest of what was kept was said, such as "2026-11-23"."""
        newest = "SELECT min(age) FROM kept CROSS JOIN item ON item.rowid = kept.item"
        age = self._connection.execute(newest).fetchone()[0] or 0
        return datetime.fromtimestamp(-age / 1_000_000, UTC).date().isoformat()

    def _kept(self, columns: str, kind: int) -> Iterator[tuple[object, ...]]:
        # CROSS JOIN: in the order in which they were kept, which is that of their questions.
        joined = "kept CROSS JOIN item ON item.rowid = kept.item"
        return self._connection.execute(
            f"SELECT {columns} FROM {joined} WHERE kept.kind = {kind} ORDER BY kept.rowid"
        )


def _by_question(found: Iterable[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """Rows with the same key, which is the third column."""
    group: list[tuple[Any, ...]] = []
    for row in found:
        if group and row[2] != group[0][2]:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def votes_in(kept: str) -> list[Vote]:
    """Votes as the spool keeps them: "U012 1 U034 -1"."""
    parts = kept.split(" ") if kept else []
    return [Vote(rater, int(value)) for rater, value in zip(parts[::2], parts[1::2], strict=True)]


_quoted: Callable[[str], str] = json.encoder.encode_basestring


@lru_cache(maxsize=10_000)
def _names(people: tuple[str, ...]) -> str:
    return json.dumps(people, ensure_ascii=False)
