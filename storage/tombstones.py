"""What was forgotten is not taken in again: keyed hashes of messages and entries that were deleted with a person.

A redelivery, a catch-up or another import of the same file meets its hash here. Nothing can be read back from it.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

from sqlalchemy import Connection, bindparam
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.identities import IdentityStore, digest, key_name
from storage.records import Keepsake, Tombstone, now

MESSAGE, ENTRY = "message", "entry"
_AT_ONCE = 500  # parameters of one IN
T = TypeVar("T")
_OF_TEAM = col(Tombstone.team) == bindparam("team")
_MARKED = select(Tombstone.digest).where(_OF_TEAM, col(Tombstone.digest) == bindparam("digest"))
_KEY_IF_ANY = select(Keepsake.value).where(
    col(Keepsake.name) == bindparam("name"), select(Tombstone.digest).where(_OF_TEAM).exists()
)
"""The key of the hashes, where there are any."""


def tombstone_of(key: bytes, kind: str, *parts: str) -> str:
    """The hash under which a message (channel, ts) or an entry (hash of its question, its answer) is remembered."""
    return digest(key, "tombstone", kind, *parts)


class TombstoneStore(IdentityStore):
    """What may not come back."""

    async def is_tombstoned(self, team: str, kind: str, *parts: str) -> bool:
        """Whether this message (channel, ts) or entry (hash of its question, its answer) was forgotten."""
        marked = tombstone_of(await self.identity_key(team), kind, *parts)
        async with self.database.reading() as session:
            return await session.get(Tombstone, (team, marked)) is not None

    async def not_tombstoned(self, team: str, kind: str, wanted: Mapping[tuple[str, str], T]) -> list[T]:
        """Those that were not forgotten, of many by their parts."""
        key = await self.identity_key(team)
        hashes = {tombstone_of(key, kind, *parts): each for parts, each in wanted.items()}
        marked, gone = list(hashes), set[str]()
        async with self.database.reading() as session:
            for start in range(0, len(marked), _AT_ONCE):
                part = col(Tombstone.digest).in_(marked[start : start + _AT_ONCE])
                rows = await session.exec(select(Tombstone.digest).where(col(Tombstone.team) == team, part))
                gone.update(rows.all())
        return [each for marked_as, each in hashes.items() if marked_as not in gone]


def was_forgotten(connection: Connection, team: str, kind: str, *parts: str) -> bool:
    """The same, asked in a transaction in one go. Where nothing was forgotten yet, nothing is hashed."""
    key = connection.execute(_KEY_IF_ANY, {"name": key_name(team), "team": team}).scalar()
    if key is None:
        return False
    marked = tombstone_of(bytes.fromhex(key), kind, *parts)
    return connection.execute(_MARKED, {"team": team, "digest": marked}).first() is not None


async def bury(session: AsyncSession, team: str, kind: str, marked: Iterable[str]) -> None:
    """Keep these hashes, each once."""
    moment = now()
    rows = [
        {"team": team, "digest": each, "kind": kind, "forgotten_at": moment} for each in sorted(set(marked))
    ]
    await _insert(session, rows)


async def _insert(session: AsyncSession, rows: Collection[Mapping[str, object]]) -> None:
    if not rows:
        return
    connection = await session.connection()
    add = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    await connection.execute(add(Tombstone).on_conflict_do_nothing(), [dict(row) for row in rows])
