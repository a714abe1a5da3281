"""Where each question belongs, for ever: train, validation, test or retired. Written in short transactions.

A row is written before the first dataset that holds its question becomes visible. What was ever trained on stays out of the
test side and the other way round, which `training.splits` sees to; here the rows are kept.
"""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, text
from sqlmodel import col, select

from storage.database import Database
from storage.records import SplitPlace, now

PAGE = 5000
AT_ONCE = 500  # rows of one transaction: others, who wait for it, write meanwhile


class Place(NamedTuple):
    """The place of one question; `key` is the first 32 digits of its hash."""

    key: str
    split: str
    cluster: str


class PlaceStore:
    """Places of questions."""

    database: Database

    async def split_places(self, team: str) -> AsyncIterator[list[Place]]:
        """All places of a workspace in the order of their keys, in pages."""
        last = ""
        columns: Any = (SplitPlace.key, SplitPlace.split, SplitPlace.cluster)
        while True:
            page = select(*columns).where(col(SplitPlace.team) == team, col(SplitPlace.key) > last)
            async with self.database.reading() as session:
                connection = await session.connection()
                rows = (await connection.execute(page.order_by(col(SplitPlace.key)).limit(PAGE))).all()
            if not rows:
                return
            yield [Place(*row) for row in rows]
            last = rows[-1][0]

    async def place(self, team: str, places: Sequence[Place]) -> None:
        """Keep these places, each for good: one that is known is changed only to "retired".

        One transaction: give at most `AT_ONCE`, and let others write in between.
        """
        if not places:
            return
        moment = now()
        columns = {name: [getattr(each, name) for each in places] for name in Place._fields}
        at = f"{moment.replace(tzinfo=None):%Y-%m-%d %H:%M:%S.%f}"

        def work(connection: Connection) -> None:
            if connection.dialect.name == "postgresql":
                connection.execute(_ALL_ON_POSTGRES, {"team": team, "placed_at": moment, **columns})
            else:
                connection.exec_driver_sql(_ALL_ON_SQLITE, (team, at, json.dumps(places)))

        await self.database.at_once(work, alone=f"places {team}")


_UNLESS_RETIRED = (
    "ON CONFLICT (team, key) DO UPDATE SET split = excluded.split, cluster = excluded.cluster "
    "WHERE excluded.split = 'retired' AND split_place.split <> 'retired'"
)
# One statement with all of them: each further step would wait for the interpreter, which the rest of a freeze keeps busy.
_ALL_ON_SQLITE = (
    "INSERT INTO split_place (team, key, split, cluster, placed_at) "
    "SELECT ?1, json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), ?2 "
    "FROM json_each(?3) WHERE true "
    f"{_UNLESS_RETIRED}"
)
_ALL_ON_POSTGRES = text(
    "INSERT INTO split_place (team, key, split, cluster, placed_at) "
    "SELECT :team, given.key, given.split, given.cluster, :placed_at "
    "FROM unnest(CAST(:key AS text[]), CAST(:split AS text[]), CAST(:cluster AS text[])) AS given(key, split, cluster) "
    f"{_UNLESS_RETIRED}"
)
