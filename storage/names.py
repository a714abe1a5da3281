"""The names of the workspace's own members, as keyed hashes: enough to recognise one in a text, too little to list them.

What counts as a name of a member is `storage.redaction_names`' rule; here are the rows, and the book over them that
redaction asks. A name is looked up by the keyed hash of its words (`storage.identities`).
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import delete, insert
from sqlmodel import col, select

from storage.forgetting_rows import person_digest
from storage.identities import IdentityStore, digest
from storage.records import Forgetting, MemberName, now
from storage.redaction import install, installed
from storage.redaction_names import HashedNames, name_keys

BEGINS = 0
"""`words` of a row that stands for the first word of names, not for a name."""


class MemberNames:
    """The book of names: who is meant by which words. It does not change; another list of names is another book."""

    def __init__(self, key: bytes, people: Mapping[str, str], beginnings: Collection[str]) -> None:
        """`people` maps the keyed hash of a name to the Slack id of its bearer, `beginnings` are those of first words."""
        self._key = key
        self._people = people
        self._beginnings = frozenset(beginnings)
        self._names = HashedNames(self._who, self._begins)
        self.mark = digest(key, *sorted(people)) if people else ""
        """Another one for another list of names."""

    def __len__(self) -> int:
        return len(self._people)

    def find(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Where names stand in a text, and whose: (start, end, Slack id)."""
        return self._names.find(text) if self._people else iter(())

    def _who(self, run: tuple[str, ...]) -> str | None:
        return self._people.get(_mark(self._key, run))

    def _begins(self, word: str) -> bool:
        return _first(self._key, word) in self._beginnings


def _mark(key: bytes, run: tuple[str, ...]) -> str:
    return digest(key, "name", *run)


def _first(key: bytes, word: str) -> str:
    return digest(key, "begins", word)


def _hashes(key: bytes, called: Iterable[str]) -> dict[str, int]:
    """The keyed hashes by which somebody with these names is found, and of how many words each is made."""
    runs = name_keys(called)
    return {_first(key, run[0]): BEGINS for run in runs} | {_mark(key, run): len(run) for run in runs}


class NameStore(IdentityStore):
    """The names of members."""

    async def keep_names(self, team: str, names: Mapping[str, Iterable[str]], *, all_of_them: bool) -> bool:
        """Keep the names of these people (Slack id -> every name they have); True if anything is different now.

        `all_of_them` says that there is nobody else: who is missing leaves the book. Somebody without a name, and somebody
        who was forgotten, is in no book.
        """
        key = await self.identity_key(team)
        async with self.database.writing(alone=f"names {team}") as session:
            forgotten = set((await session.exec(_forgotten(team))).all())
            wanted = {
                (marked, person): words
                for person, called in names.items()
                if person_digest(key, person) not in forgotten
                for marked, words in _hashes(key, called).items()
            }
            here = select(MemberName).where(col(MemberName.team) == team)
            if not all_of_them:
                here = here.where(col(MemberName.person).in_(list(names)))
            known = {(row.digest, row.person) for row in (await session.exec(here)).all()}
            connection = await session.connection()
            for marked, person in known - set(wanted):
                one = (col(MemberName.team) == team, col(MemberName.digest) == marked)
                await connection.execute(delete(MemberName).where(*one, col(MemberName.person) == person))
            moment = now()
            fresh = [
                {"team": team, "digest": place[0], "person": place[1], "words": words, "learned_at": moment}
                for place, words in wanted.items()
                if place not in known
            ]
            if fresh:
                await connection.execute(insert(MemberName), fresh)
        return bool(fresh) or bool(known - set(wanted))

    async def member_names(self, team: str) -> MemberNames:
        """The book of names of a workspace, as it is now."""
        columns: Any = (MemberName.digest, MemberName.person, MemberName.words)
        wanted = select(*columns).where(col(MemberName.team) == team).order_by(col(MemberName.person))
        async with self.database.reading() as session:
            rows = (await session.exec(wanted)).all()
        if not rows:
            return MemberNames(b"", {}, ())
        # Of two people with one name always the same of them is meant.
        people = {row.digest: row.person for row in reversed(rows) if row.words != BEGINS}
        beginnings = {row.digest for row in rows if row.words == BEGINS}
        return MemberNames(await self.identity_key(team), people, beginnings)


def _forgotten(team: str) -> Any:
    return select(Forgetting.digest).where(col(Forgetting.team) == team)


async def install_names(store: NameStore, team: str) -> None:
    """From now on the names of this workspace's members are struck out wherever something is, in this process."""
    book = await store.member_names(team)
    install(replace(installed(), names=book if len(book) else None))
