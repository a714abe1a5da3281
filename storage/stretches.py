"""All answers parted into stretches that several processes read at once, each in the order in which it lies on disk.

SQLite's tables lie in the order of writing, and what belongs to an answer was written at about the same time: to go along
costs a third of looking up ids, which are random. PostgreSQL is read in the order of ids, which it looks up many at a time.
"""

from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database import Database


class Stretch(NamedTuple):
    """The answers behind one place and up to another, "" for the beginning and the end. Only this module can read places."""

    after: str
    until: str
    layout: str


class LaidOutAnew(Exception):
    """The database was written anew meanwhile (VACUUM): the places of a stretch are not what they were. Part it again."""


class Nearby(NamedTuple):
    """A page of a stretch of SQLite: what was said about its answers, and where the next page begins, None at the end.

    Rows (number, id, rater, value), by rater within an answer, and (number, id, author, text, may_train), the newest last.
    """

    votes: list[Any]
    corrections: list[Any]
    until: str | None


async def halves(database: Database, *, fewest: int) -> tuple[Stretch, Stretch] | None:
    """All answers in two stretches; None where there are fewer than so many."""
    async with database.reading() as session:
        connection = await session.connection()
        layout = await _layout(connection)
        count = (await connection.execute(text("SELECT count(*) FROM answer"))).scalar_one()
        if count < max(2, fewest):
            return None
        place = "CAST(rowid AS TEXT)" if layout else "id"
        order = "rowid" if layout else "id"
        half = text(f"SELECT {place} FROM answer ORDER BY {order} LIMIT 1 OFFSET :offset")
        middle = (await connection.execute(half, {"offset": count // 2 - 1})).scalar_one()
    return Stretch("", middle, layout), Stretch(middle, "", layout)


async def nearby(connection: AsyncConnection, stretch: Stretch, last: str, *, page: int) -> Nearby:
    """The page of a stretch that begins behind `last`."""
    first, end = int(last or 0), int(stretch.until or 0) or await _last(connection)
    between = (first, min(end, first + page))
    votes = (await connection.exec_driver_sql(_VOTES, between)).all()
    corrections = (await connection.exec_driver_sql(_CORRECTIONS, between)).all()
    return Nearby(list(votes), list(corrections), str(between[1]) if between[1] < end else None)


async def unchanged(connection: AsyncConnection, stretch: Stretch) -> None:
    """Raises LaidOutAnew where a page that was just read may not be what it seems."""
    if await _layout(connection) != stretch.layout:
        raise LaidOutAnew


async def _last(connection: AsyncConnection) -> int:
    return int((await connection.exec_driver_sql("SELECT coalesce(max(rowid), 0) FROM answer")).scalar_one())


async def _layout(connection: AsyncConnection) -> str:
    """Another one after each VACUUM, which may renumber rows; "" where rows are found by their ids."""
    if connection.dialect.name != "sqlite":
        return ""
    return str((await connection.exec_driver_sql("PRAGMA schema_version")).scalar_one())


_WITHIN = "answer.rowid > ? AND answer.rowid <= ?"
_VOTES = (
    "SELECT answer.rowid, answer.id, rating.rater, rating.value FROM answer "
    f"CROSS JOIN rating ON rating.answer_id = answer.id WHERE {_WITHIN} AND rating.value != 0 "
    "ORDER BY answer.rowid, rating.rater"
)
_CORRECTIONS = (
    "SELECT answer.rowid, answer.id, correction.author, correction.text, correction.may_train FROM answer "
    f"CROSS JOIN correction ON correction.answer_id = answer.id WHERE {_WITHIN} "
    "ORDER BY answer.rowid, correction.corrected_at, correction.id"
)
