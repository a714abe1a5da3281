"""Rated conversations by the million, as a workspace might have them, written straight into a database.

Words follow Zipf's law over a made-up vocabulary, lengths are those of Slack (short questions, longer answers), a few
thousand people ask and fewer rate, one question in fifty is another wording of an earlier one, one in seven continues a
thread, one answer in twenty was corrected. Everything follows from the seed: the same rows come on either database.
"""

import hashlib
import json
import random
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg

from storage.database import sqlite_file

TEAM = "T1"
WORDS, ASKERS, RATERS, CHANNELS = 30_000, 4_000, 1_500, 120
AT_ONCE = 10_000
SYSTEM = (
    "You answer questions of a team in Slack. Be brief, say where it stands, and say so if you do not know."
)
BEGIN = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
COLUMNS: Mapping[str, str] = {
    "question": "id team channel ts thread_ts asker text surface place draft_ts state reason attempts claimed_by asked_at",
    "candidate": "id question_id kind model text source finish seconds tokens_in tokens_out cost_usd certainty features "
    "chosen created_at",
    "answer": "id question_id candidate_id team channel messages posted_ts posted_at route created_at",
    "rating": "id answer_id team rater value reason via rated_at",
    "correction": "id answer_id team author text reason may_train corrected_at",
}
Rows = dict[str, list[tuple[Any, ...]]]


@dataclass
class Workspace:
    """Makes conversations, page by page."""

    seed: int = 5
    _told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        self._numbers = np.random.default_rng(self.seed)
        self._vocabulary = _vocabulary(self._draw)
        shares = 1 / np.arange(1, WORDS + 1) ** 1.05
        self._cumulated = np.cumsum(shares / shares.sum())

    def pages(self, count: int) -> Iterator[Rows]:
        """So many conversations as rows of each table, in pages."""
        for start in range(0, count, AT_ONCE):
            yield self._page(start, min(AT_ONCE, count - start))

    def people(self) -> list[tuple[Any, ...]]:
        """Everybody's consent."""
        people = {f"U{number:05d}" for number in range(ASKERS)}
        return [
            (_id("y", number), TEAM, person, True, BEGIN, BEGIN, BEGIN)
            for number, person in enumerate(sorted(people))
        ]

    def _page(self, start: int, count: int) -> Rows:
        rows: Rows = {name: [] for name in COLUMNS}
        questions = self._texts(count, mean=14, least=3, most=70)
        answers = self._texts(count, mean=55, least=6, most=300)
        for number, (asked, answered) in enumerate(zip(questions, answers, strict=True), start=start):
            self._conversation(rows, number, self._worded(asked), answered)
        return rows

    def _worded(self, question: str) -> str:
        """A new question, or an old one with one word changed."""
        draw = self._draw
        if self._told and draw.random() < 0.02:
            words = draw.choice(self._told).split()
            words[draw.randrange(len(words))] = draw.choice(self._vocabulary)
            return " ".join(words)
        if len(question) > 60 and (len(self._told) < 20_000 or draw.random() < 0.01):
            self._told.append(question)
        return question

    def _texts(self, count: int, *, mean: int, least: int, most: int) -> list[str]:
        lengths = np.clip(self._numbers.lognormal(np.log(mean), 0.6, count).astype(int), least, most)
        places = np.searchsorted(self._cumulated, self._numbers.random(int(lengths.sum())))
        words = [self._vocabulary[place] for place in np.minimum(places, WORDS - 1).tolist()]
        ends = np.cumsum(lengths).tolist()
        return [" ".join(words[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)]

    def _conversation(self, rows: Rows, number: int, question: str, answer: str) -> None:
        draw = self._draw
        asker, at = f"U{int(draw.random() ** 2 * ASKERS):05d}", BEGIN + timedelta(seconds=17 * number)
        ts, channel = f"{at.timestamp():.6f}", f"C{draw.randrange(CHANNELS):03d}"
        messages = [{"role": "system", "content": SYSTEM}]
        thread = ts
        if rows["question"] and draw.random() < 0.14:
            before = rows["question"][-1]
            channel, thread = before[2], before[4]
            messages += [
                {"role": "user", "content": before[6]},
                {"role": "assistant", "content": rows["candidate"][-1][4]},
            ]
        messages.append({"role": "user", "content": question})
        q, c, a = (_id(prefix, number) for prefix in "qca")
        rows["question"].append(
            (
                q,
                TEAM,
                channel,
                ts,
                thread,
                asker,
                question,
                "mention",
                "channel",
                "",
                "answered",
                "",
                1,
                "",
                at,
            )
        )
        rows["candidate"].append(
            (c, q, "local", "starter", answer, "", "stop", 1.5, 90, 70, 0.0, 0.0, "{}", True, at)
        )
        told = json.dumps(messages)
        rows["answer"].append((a, q, c, TEAM, channel, told, f"{ts}9", at, "{}", at))
        self._votes(rows, number, a, at)

    def _votes(self, rows: Rows, number: int, answer: str, at: datetime) -> None:
        draw = self._draw
        count = 1 if draw.random() < 0.8 else 2 if draw.random() < 0.7 else 3
        for nth, rater in enumerate({int(draw.random() ** 1.5 * RATERS) for _ in range(count)}):
            value = 1 if draw.random() < 0.8 else -1
            rows["rating"].append(
                (_id("r", number, nth), answer, TEAM, f"U{rater:05d}", value, "", "button", at)
            )
        if draw.random() < 0.05:
            author = f"U{draw.randrange(400):05d}"
            better = " ".join(draw.choices(self._vocabulary[:4000], k=40))
            rows["correction"].append((_id("k", number), answer, TEAM, author, better, "", True, at))


def _vocabulary(draw: random.Random) -> list[str]:
    syllables = [
        first + vowel + last
        for first in "bdfgklmnprstvz"
        for vowel in "aeiou"
        for last in ("", "n", "r", "s")
    ]
    words: dict[str, None] = {}
    while len(words) < WORDS:
        words["".join(draw.choices(syllables, k=draw.choice((1, 2, 2, 3))))] = None
        words[f"{draw.choice(syllables)}{len(words)}"] = None
    return list(words)[:WORDS]


def _id(prefix: str, *numbers: int) -> str:
    """As random as real ids, and the same for the same number."""
    return f"{prefix}_{hashlib.blake2b(repr((prefix, *numbers)).encode(), digest_size=16).hexdigest()}"


CONSENT = "id team person granted asked_at shown_at decided_at"


def fill(url: str, count: int, *, seed: int = 5) -> None:
    """Write so many conversations into a migrated, empty database."""
    workspace = Workspace(seed)
    if url.startswith("sqlite"):
        _fill_sqlite(str(sqlite_file(url)), workspace, count)
    else:
        _fill_postgres(url, workspace, count)


def _fill_sqlite(file: str, workspace: Workspace, count: int) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-1000000", "foreign_keys=OFF"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")
        _insert(connection, "consent", CONSENT, workspace.people())
        for page in workspace.pages(count):
            for table, rows in page.items():
                _insert(connection, table, COLUMNS[table], rows)
        connection.execute("COMMIT")
        connection.execute("ANALYZE")
        connection.execute("PRAGMA journal_mode=WAL")


def _insert(
    connection: sqlite3.Connection, table: str, columns: str, rows: Sequence[tuple[Any, ...]]
) -> None:
    names = columns.split()
    plain = [tuple(_for_sqlite(value) for value in row) for row in rows]
    connection.executemany(
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})", plain
    )


def _for_sqlite(value: Any) -> Any:
    return value.strftime("%Y-%m-%d %H:%M:%S.%f") if isinstance(value, datetime) else value


def _fill_postgres(url: str, workspace: Workspace, count: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        _copy(connection, "consent", CONSENT, workspace.people())
        for page in workspace.pages(count):
            for table, rows in page.items():
                _copy(connection, table, COLUMNS[table], rows)
        connection.execute("ANALYZE")


def _copy(
    connection: "psycopg.Connection[Any]", table: str, columns: str, rows: Sequence[tuple[Any, ...]]
) -> None:
    names = ", ".join(columns.split())
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:  # type: ignore[arg-type]
        for row in rows:
            copy.write_row(row)
