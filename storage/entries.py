"""The verified entries: added, looked up by id or by question, followed by whoever keeps an index of them.

Every transaction that writes or deletes entries of a workspace takes the next change number; the rows it wrote carry it.
Vectors of entries lie beside them and go with them.
"""

import asyncio
import hashlib
import re
import uuid
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import and_, delete, func, insert, tuple_, union_all, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.database import Database
from storage.identities import digest
from storage.records import Entry, EntryEmbedding, Keepsake, Review, new_id, now
from storage.tombstones import ENTRY, TombstoneStore
from storage.words import clean, clean_together

PAGE = 2000
HELD_OUT = "test"
FEW = 20
_AT_ONCE = 500  # parameters of one IN


@dataclass(frozen=True, slots=True)
class NewEntry:
    """A verified pair on its way into the store."""

    question: str
    answer: str
    source: str
    topic: str = ""
    thread: str = ""
    split: str = ""
    author: str = ""
    answer_id: str | None = None
    nomination_id: str | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import changed, in entries; in `struck` of those given, something was struck out before they were stored.

    `forgotten` were not taken in again, because they went with a person who is forgotten.
    """

    added: int
    updated: int
    unchanged: int
    struck: int = 0
    forgotten: int = 0


@dataclass(frozen=True, slots=True)
class EntriesStamp:
    """Where the entries of a workspace stand: the number of the last change, and of the last one that deleted any.

    `token` is another one where a restored backup went on to the same number by another way.
    """

    change: int = 0
    erased: int = 0
    token: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """What may be answered with: one entry that is not held out. `change` is the higher the newer it is."""

    id: str
    question: str
    answer: str
    source: str
    topic: str
    change: int


@dataclass(frozen=True, slots=True)
class Followed:
    """An entry as an index needs it."""

    id: str
    question: str
    held_out: bool
    change: int


@dataclass(frozen=True, slots=True)
class Vector:
    """A vector of an entry, 16-bit floats in a row; `number` stands for it in an index."""

    number: int
    vector: bytes


def question_hash(question: str) -> str:
    """A hash that is the same for questions that differ only in case, punctuation and spacing.

    Of what is stored: whoever has a question that was not stored yet hashes `storage.words.clean` of it.
    """
    plain = " ".join(re.findall(r"\w+", question.casefold()))
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()


class EntryStore(TombstoneStore):
    """Everything about verified entries."""

    database: Database

    async def _struck_out(self, team: str, given: Sequence[NewEntry]) -> tuple[dict[str, NewEntry], int]:
        key = await self.identity_key(team)
        if len(given) <= FEW:
            return _struck_out(given, key)
        # Patterns take a while for thousands of texts, and nobody else shall wait for them.
        return await asyncio.to_thread(_struck_out, given, key)

    async def add_entries(self, team: str, entries: Iterable[NewEntry]) -> Imported:
        """Add verified pairs; a question known already gets the newer answer.

        One transaction: give a few thousand at a time, or nobody else can write for long.
        """
        given = list(entries)
        wanted, struck = await self._struck_out(team, given)
        asked = len(wanted)
        told = {(key, entry.answer): (key, entry) for key, entry in wanted.items()}
        wanted = dict(await self.not_tombstoned(team, ENTRY, told))
        async with self.database.writing(alone=f"entries {team}") as session:
            known = await _known_rows(session, team, list(wanted))
            changed = [(row, wanted[key]) for key, row in known.items() if _differs(row, wanted[key])]
            if len(known) < len(wanted) or changed:
                change = await stamp_entries(session, team)
            fresh = [
                _entry_values(team, key, entry) | {"change": change}
                for key, entry in wanted.items()
                if key not in known
            ]
            connection = await session.connection()
            if fresh:
                await connection.execute(insert(Entry), fresh)
            for row, entry in changed:
                values = _changed_values(row, entry) | {"change": change}
                await connection.execute(update(Entry).where(col(Entry.id) == row.id).values(**values))
                # What was reviewed was another text.
                await connection.execute(delete(Review).where(col(Review.entry_id) == row.id))
        return Imported(
            len(fresh), len(changed), len(known) - len(changed), struck, forgotten=asked - len(wanted)
        )

    async def entry(self, team: str, question: str) -> Entry | None:
        """The verified entry for a question, however it is spelled in case and punctuation."""
        where = (col(Entry.team) == team, col(Entry.question_hash) == question_hash(clean(question)))
        async with self.database.reading() as session:
            return (await session.exec(select(Entry).where(*where))).first()

    async def entries_stamp(self, team: str) -> EntriesStamp:
        """Another one after every change of the entries, whichever process made it."""
        async with self.database.reading() as session:
            return _read_stamp(await session.get(Keepsake, _stamp_name(team)))

    async def entries(self, team: str) -> AsyncIterator[list[Entry]]:
        """Every verified entry of a workspace, in pages of at most 2,000, ordered by id."""
        last = ""
        while True:
            page = (
                select(Entry)
                .where(col(Entry.team) == team, col(Entry.id) > last)
                .order_by(col(Entry.id))
                .limit(PAGE)
            )
            async with self.database.reading() as session:
                rows = list((await session.exec(page)).all())
            if not rows:
                return
            yield rows
            last = rows[-1].id

    async def entries_since(self, team: str, change: int) -> AsyncIterator[list[Followed]]:
        """The entries written after a change, in pages of at most 2,000, in the order of their changes.

        -1 gives all of them. What is written meanwhile comes, too.
        """
        last = (change + 1, "")
        place = tuple_(col(Entry.change), col(Entry.id))
        columns: Any = (Entry.id, Entry.question, Entry.split, Entry.change)
        while True:
            page = select(*columns).where(col(Entry.team) == team, place > last)
            async with self.database.reading() as session:
                found = (
                    await session.exec(page.order_by(col(Entry.change), col(Entry.id)).limit(PAGE))
                ).all()
            if not found:
                return
            yield [Followed(row.id, row.question, row.split == HELD_OUT, row.change) for row in found]
            last = (found[-1].change, found[-1].id)

    async def entries_due(self, team: str, change: int, *, limit: int) -> int:
        """How many entries were written after a change, counted up to the limit."""
        due = select(Entry.id).where(col(Entry.team) == team, col(Entry.change) > change).limit(limit)
        async with self.database.reading() as session:
            return int((await session.exec(select(func.count()).select_from(due.subquery()))).one())

    async def newest_entries(self, team: str, *, after: int, limit: int) -> list[str]:
        """Ids of the entries that came after a change, the newest first."""
        wanted = (
            select(Entry.id)
            .where(col(Entry.team) == team, col(Entry.change) > after)
            .order_by(col(Entry.change).desc(), col(Entry.id).desc())
            .limit(limit)
        )
        async with self.database.reading() as session:
            return list((await session.exec(wanted)).all())

    async def known_entries(self, team: str, *, ids: Sequence[str], question: str) -> list[Known]:
        """These entries and the one with this very question, in any order; held-out ones never.

        Ids of what was deleted are fine.
        """
        columns: Any = (Entry.id, Entry.question, Entry.answer, Entry.source, Entry.topic, Entry.change)
        columns += (Entry.team, Entry.split)
        # SQLite would rather read the whole team than look up 64 ids, so the team is compared here.
        parts = [
            select(*columns).where(col(Entry.id).in_(ids)),
            select(*columns).where(
                col(Entry.team) == team, col(Entry.question_hash) == question_hash(clean(question))
            ),
        ]
        async with self.database.reading() as session:
            rows = (await (await session.connection()).execute(union_all(*parts))).all()
        return list(
            {row[0]: Known(*row[:6]) for row in rows if row[6] == team and row[7] != HELD_OUT}.values()
        )

    async def entry_ids(self, team: str, beginnings: Collection[str]) -> set[str]:
        """The entries whose question's hash begins with one of these, which are all of one length."""
        length = len(next(iter(beginnings), ""))
        wanted = sorted(beginnings)
        found: set[str] = set()
        async with self.database.reading() as session:
            for start in range(0, len(wanted), _AT_ONCE):
                part = wanted[start : start + _AT_ONCE]
                begins = func.substr(col(Entry.question_hash), 1, length).in_(part)
                rows = await session.exec(select(Entry.id).where(col(Entry.team) == team, begins))
                found.update(rows.all())
        return found

    async def entries_without_vector(self, team: str, model: str, *, limit: int) -> list[tuple[str, str]]:
        """Ids and questions of entries that this model has not seen yet, the newest first; held-out ones never."""
        seen = and_(col(EntryEmbedding.entry_id) == col(Entry.id), col(EntryEmbedding.model) == model)
        columns: Any = (Entry.id, Entry.question)
        wanted = (
            select(*columns)
            .outerjoin(EntryEmbedding, seen)
            .where(
                col(Entry.team) == team, col(Entry.split) != HELD_OUT, col(EntryEmbedding.number).is_(None)
            )
            .order_by(col(Entry.change).desc(), col(Entry.id))
            .limit(limit)
        )
        async with self.database.reading() as session:
            return [(row.id, row.question) for row in (await session.exec(wanted)).all()]

    async def keep_vectors(self, team: str, model: str, vectors: Sequence[tuple[str, int, bytes]]) -> None:
        """Keep (entry id, dim, vector) of each; nothing of entries deleted meanwhile, nothing twice."""
        async with self.database.writing(alone=f"entries {team}") as session:
            ids = [entry_id for entry_id, _, _ in vectors]
            there = set((await session.exec(select(Entry.id).where(col(Entry.id).in_(ids)))).all())
            rows = [
                {"entry_id": entry_id, "model": model, "dim": dim, "vector": vector}
                for entry_id, dim, vector in vectors
                if entry_id in there
            ]
            connection = await session.connection()
            add = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            if rows:
                await connection.execute(add(EntryEmbedding).on_conflict_do_nothing(), rows)

    async def vectors_since(self, team: str, model: str, number: int) -> AsyncIterator[list[Vector]]:
        """The vectors of a model that came after a number, in pages of at most 2,000, in order; -1 gives all."""
        last = number
        columns: Any = (EntryEmbedding.number, EntryEmbedding.vector)
        while True:
            page = (
                select(*columns)
                .join(Entry, col(Entry.id) == col(EntryEmbedding.entry_id))
                .where(col(Entry.team) == team, col(EntryEmbedding.model) == model)
                .where(col(EntryEmbedding.number) > last)
                .order_by(col(EntryEmbedding.number))
                .limit(PAGE)
            )
            async with self.database.reading() as session:
                found = (await session.exec(page)).all()
            if not found:
                return
            yield [Vector(row.number, row.vector) for row in found]
            last = found[-1].number

    async def vector_owners(self, numbers: Sequence[int]) -> dict[str, int]:
        """Entry id -> the number of its vector, for those of these numbers that are still there."""
        columns: Any = (EntryEmbedding.entry_id, EntryEmbedding.number)
        async with self.database.reading() as session:
            rows = await session.exec(select(*columns).where(col(EntryEmbedding.number).in_(numbers)))
            return {row.entry_id: row.number for row in rows.all()}


async def stamp_entries(session: AsyncSession, team: str, *, erased: bool = False) -> int:
    """The number of this change, told to whoever follows the entries. The caller writes alone and uses it once."""
    name = _stamp_name(team)
    before = _read_stamp(await session.get(Keepsake, name))
    change = before.change + 1
    value = f"{change} {change if erased else before.erased} {uuid.uuid4().hex[:8]}"
    await session.merge(Keepsake(name=name, value=value))
    return change


def _stamp_name(team: str) -> str:
    return f"entries-stamp:{team}"


def _read_stamp(kept: Keepsake | None) -> EntriesStamp:
    if kept is None:
        return EntriesStamp()
    change, erased, token = kept.value.split()
    return EntriesStamp(int(change), int(erased), token)


def _struck_out(entries: Sequence[NewEntry], key: bytes) -> tuple[dict[str, NewEntry], int]:
    """The entries as they may be stored, by the hash of their question, and in how many something was struck out."""
    wanted: dict[str, NewEntry] = {}
    struck = 0
    for entry in entries:
        question, answer = clean_together(entry.question, entry.answer)
        kept = replace(
            entry,
            question=question,
            answer=answer,
            source=clean(entry.source),
            topic=clean(entry.topic),
            thread=entry.thread
            if clean(entry.thread) == entry.thread
            else digest(key, "thread", entry.thread),
        )
        struck += kept != entry
        wanted[question_hash(question)] = kept
    return wanted, struck


async def _known_rows(session: AsyncSession, team: str, hashes: Sequence[str]) -> dict[str, Any]:
    columns: Any = (Entry.id, Entry.question_hash, Entry.answer, Entry.thread, Entry.split)
    known: dict[str, Any] = {}
    for start in range(0, len(hashes), _AT_ONCE):
        part = col(Entry.question_hash).in_(hashes[start : start + _AT_ONCE])
        rows = await session.exec(select(*columns).where(col(Entry.team) == team, part))
        known |= {row.question_hash: row for row in rows.all()}
    return known


def _differs(row: Any, entry: NewEntry) -> bool:
    return (row.answer, row.split) != (entry.answer, entry.split or row.split)


def _changed_values(row: Any, entry: NewEntry) -> dict[str, Any]:
    return {
        "answer": entry.answer,
        "source": entry.source,
        "author": entry.author,
        "topic": entry.topic,
        "thread": entry.thread or row.thread,
        "split": entry.split or row.split,
        "answer_id": entry.answer_id,
        "nomination_id": entry.nomination_id,
    }


def _entry_values(team: str, key: str, entry: NewEntry) -> dict[str, Any]:
    return {
        "id": new_id("e"),
        "team": team,
        "question": entry.question,
        "question_hash": key,
        "answer": entry.answer,
        "source": entry.source,
        "topic": entry.topic,
        "thread": entry.thread,
        "split": entry.split,
        "author": entry.author,
        "answer_id": entry.answer_id,
        "nomination_id": entry.nomination_id,
        "created_at": now(),
    }
