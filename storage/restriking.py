"""Words that were stored before a rule or a name was known are struck out again, a page at a time.

Every column of words is read in the order of its table's key; what the rules of today would not store is written anew. How
far that went lies in a keepsake, so a restart goes on there. A question that changed takes its hash, its place in a split,
and what refers to it by its hash along: what was held out stays held out.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Table, delete, tuple_, update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.entries import HELD_OUT, question_hash, stamp_entries
from storage.operating import OperatingStore
from storage.records import Entry, EntryEmbedding, GoldenItem, Keepsake, Record, Review, SplitPlace
from storage.words import OF_WORDS, clean_json, rules_mark

KEPT = "struck-with"
PAGE = 500
KEY_DIGITS = 32
RETIRED = "retired"

Changes = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Struck:
    """How a page went: the rows that were looked at and changed, and whether it was the last."""

    rows: int
    changed: int
    done: bool


@dataclass(frozen=True, slots=True)
class _Standing:
    """How far the striking went: with which rules, in which table, after which key; `table` is "" when all is done."""

    mark: str
    table: str
    after: tuple[Any, ...] = ()

    def as_text(self) -> str:
        return json.dumps({"mark": self.mark, "table": self.table, "after": self.after})


def tables_of_words() -> list[Table]:
    """Every table that has a column of words, by name."""
    tables = Record.metadata.tables
    return [tables[name] for name in sorted(tables) if _words_of(tables[name])]


class RestrikingStore(OperatingStore):
    """Strikes out again."""

    async def struck_with(self) -> bool:
        """Whether all that is stored is struck out with the rules and names of now."""
        return await self._standing() == _Standing(rules_mark(), "")

    async def strike_again(self, *, page: int = PAGE) -> Struck:
        """Go over the next page of what was stored with other rules; nothing to do where `struck_with`."""
        standing = await self._standing()
        mark = rules_mark()
        if standing.mark != mark:
            standing = _Standing(mark, tables_of_words()[0].name)
        if not standing.table:
            return Struck(0, 0, done=True)
        table = Record.metadata.tables[standing.table]
        keys, wanted = await self._page(table, standing.after, page)
        changed = await self._write(table, wanted) if wanted else 0
        after = _after(table, keys, page, mark)
        await self._stands(after)
        return Struck(len(keys), changed, done=not after.table)

    async def _page(
        self, table: Table, after: tuple[Any, ...], page: int
    ) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """The keys of the next rows, and of those among them that would be stored otherwise today."""
        key, words = list(table.primary_key.columns), _words_of(table)
        wanted: Any = select(*key, *words).order_by(*key).limit(page)
        if after:
            wanted = wanted.where(tuple_(*key) > tuple(after))
        async with self.database.reading() as session:
            rows = (await (await session.connection()).execute(wanted)).all()
        places = len(key)
        # Patterns take a while, and nobody who asks something shall wait for them.
        stale = await asyncio.to_thread(_stale, [tuple(row) for row in rows], places)
        return [tuple(row[:places]) for row in rows], stale

    async def _write(self, table: Table, keys: Sequence[tuple[Any, ...]]) -> int:
        """Write these rows as they would be stored today, from what stands in them by now."""
        if table.name == "entry":
            return sum([await self._write_entry(str(key[0])) for key in keys])
        async with self.database.writing() as session:
            return sum([await _strike_row(session, table, key) for key in keys])

    async def _write_entry(self, entry_id: str) -> int:
        async with self.database.reading() as session:
            entry = await session.get(Entry, entry_id)
        if entry is None:
            return 0
        async with self.database.writing(alone=f"entries {entry.team}") as session:
            return await _strike_entry(session, entry_id)

    async def _standing(self) -> _Standing:
        kept = await self.keepsake(KEPT, lambda: _Standing("", "").as_text())
        found = json.loads(kept)
        return _Standing(found["mark"], found["table"], tuple(found["after"]))

    async def _stands(self, standing: _Standing) -> None:
        async with self.database.writing() as session:
            await session.merge(Keepsake(name=KEPT, value=standing.as_text()))


def _words_of(table: Table) -> list[Column[Any]]:
    return [column for column in table.columns if isinstance(column.type, OF_WORDS)]


def _after(table: Table, keys: Sequence[tuple[Any, ...]], page: int, mark: str) -> _Standing:
    """Where to go on: in this table, in the next one, or nowhere."""
    if len(keys) == page:
        return _Standing(mark, table.name, keys[-1])
    names = [each.name for each in tables_of_words()]
    rest = names[names.index(table.name) + 1 :]
    return _Standing(mark, rest[0] if rest else "")


def _stale(rows: Sequence[tuple[Any, ...]], places: int) -> list[tuple[Any, ...]]:
    return [row[:places] for row in rows if any(clean_json(value) != value for value in row[places:])]


async def _strike_row(session: AsyncSession, table: Table, key: tuple[Any, ...]) -> int:
    held, changes = await _changes_of(session, table, key)
    if not changes:
        return 0
    if table.name == "question" and "text" in changes:
        await _move_key(session, held["team"], held["text"], changes["text"])
    if table.name == "golden_item" and "question" in changes:
        changes |= await _golden_key(session, held["team"], changes["question"])
    await (await session.connection()).execute(update(table).where(*_is(table, key)).values(changes))
    return 1


async def _strike_entry(session: AsyncSession, entry_id: str) -> int:
    """An entry takes its new hash; where the workspace has that question already, the newer of the two stays."""
    held, changes = await _changes_of(session, _ENTRY, (entry_id,))
    if not changes:
        return 0
    team, erased = str(held["team"]), False
    if "question" in changes:
        await _move_key(session, team, held["question"], changes["question"])
        changes["question_hash"] = question_hash(changes["question"])
        same = (col(Entry.team) == team, col(Entry.question_hash) == changes["question_hash"])
        other = (await session.exec(select(Entry).where(*same, col(Entry.id) != entry_id))).first()
        erased = other is not None
        if other is not None:
            newer_stays = other.change > held["change"]
            held_out = HELD_OUT in (other.split, held["split"])
            await session.exec(delete(Entry).where(col(Entry.id) == (entry_id if newer_stays else other.id)))
            if newer_stays:
                changes = {}
                entry_id = other.id
            if held_out:
                changes["split"] = HELD_OUT
        await session.exec(delete(EntryEmbedding).where(col(EntryEmbedding.entry_id) == entry_id))
    changes["change"] = await stamp_entries(session, team, erased=erased)
    await (await session.connection()).execute(update(_ENTRY).where(_ENTRY.c.id == entry_id).values(changes))
    return 1


async def _changes_of(
    session: AsyncSession, table: Table, key: tuple[Any, ...]
) -> tuple[Mapping[str, Any], Changes]:
    """A row, and its columns that change; read once more where nobody else can write it meanwhile."""
    connection = await session.connection()
    row = (
        (await connection.execute(table.select().where(*_is(table, key)).with_for_update()))
        .mappings()
        .first()
    )
    if row is None:
        return {}, {}
    held = dict(row)
    names = [column.name for column in _words_of(table)]
    return held, {name: struck for name in names if (struck := clean_json(held[name])) != held[name]}


async def _move_key(session: AsyncSession, team: str, before: str, after: str) -> None:
    """A question has other words now: what is known of it by its hash stays known."""
    old, new = question_hash(before)[:KEY_DIGITS], question_hash(after)[:KEY_DIGITS]
    if old == new:
        return
    place, there = await session.get(SplitPlace, (team, old)), await session.get(SplitPlace, (team, new))
    if place is not None and there is None:
        session.add(SplitPlace(team=team, key=new, split=place.split, cluster=place.cluster))
    elif place is not None and there is not None and there.split != place.split:
        there.split = RETIRED  # it was learned from here and held out there: neither any more
        session.add(there)
    await session.flush()
    named = (col(Review.team) == team, col(Review.key) == old)
    await session.exec(update(Review).where(*named).values(key=new))


async def _golden_key(session: AsyncSession, team: str, question: str) -> Changes:
    """The new key of a golden item; none where another item has it."""
    key = question_hash(question)[:KEY_DIGITS]
    taken = select(GoldenItem.id).where(col(GoldenItem.team) == team, col(GoldenItem.key) == key)
    return {} if (await session.exec(taken)).first() is not None else {"key": key}


def _is(table: Table, key: tuple[Any, ...]) -> list[Any]:
    return [column == value for column, value in zip(table.primary_key.columns, key, strict=True)]


_ENTRY: Table = Record.metadata.tables["entry"]
