"""What the store does for the guards: who is an expert, what is kept out of learning, and what the nightly look reads.

What is odd is decided in `training.guards`; here it is kept, told once, and decided by admins. A finding that was decided
stays decided: what an admin lifted is not found again.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, NamedTuple

from sqlalchemy import func
from sqlmodel import col, select, update

from storage.database import Database
from storage.records import Decision, Entry, Expert, Nomination, Quarantine, Rating, SplitPlace, now

PAGE = 4000
TELLING = timedelta(minutes=2)
"""Who set out to tell of a finding and did not within this time was killed; somebody else may."""

EXPERT_ADDED, EXPERT_REMOVED = "expert added", "expert removed"
LEARN, KEEP_OUT = "learn from it", "keep it out"

TOPIC, CLUSTER, KEY = "topic", "cluster", "key"
VOTES, WORDS = "votes", "words"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something odd: of which `kind`, what it is about, whose doing (`person`), in how many `rows`, and what was seen.

    `detail` holds numbers and no names. What `holds` is kept out of learning until an admin has looked.
    """

    kind: str
    subject: str
    person: str
    rows: int
    detail: str
    holds: bool = True


class Press(NamedTuple):
    """When somebody gave a rating that counts."""

    rater: str
    at: datetime


class FedEntry(NamedTuple):
    """A verified entry and who brought it in; `person` is "" for what the operator imported.

    `said_here` marks the correction of an answer, which is among the answers that may be learned from as well.
    """

    key: str
    topic: str
    question: str
    answer: str
    person: str
    said_here: bool


class GuardStore:
    """The guards' side of the store."""

    database: Database

    # --- Experts -----------------------------------------------------------------------------------------------

    async def experts(self, team: str) -> set[str]:
        """The people whose word counts more."""
        return {row.person for row in await self.expert_rows(team)}

    async def expert_rows(self, team: str) -> list[Expert]:
        """The same with who said so and when, the longest first."""
        wanted = select(Expert).where(col(Expert.team) == team)
        async with self.database.reading() as session:
            return list(
                (await session.exec(wanted.order_by(col(Expert.granted_at), col(Expert.person)))).all()
            )

    async def grant_expert(self, team: str, person: str, *, by: str) -> bool:
        """Somebody's word counts more from now on; False where it did already."""
        async with self.database.writing(alone=f"expert {team} {person}") as session:
            if await session.get(Expert, (team, person)) is not None:
                return False
            session.add(Expert(team=team, person=person, granted_by=by))
            session.add(Decision(team=team, actor=by, action=EXPERT_ADDED, subject=person))
            return True

    async def revoke_expert(self, team: str, person: str, *, by: str) -> bool:
        """Somebody's word counts like anybody's again; False where it did already."""
        async with self.database.writing(alone=f"expert {team} {person}") as session:
            known = await session.get(Expert, (team, person))
            if known is None:
                return False
            await session.delete(known)
            session.add(Decision(team=team, actor=by, action=EXPERT_REMOVED, subject=person))
            return True

    # --- Quarantine --------------------------------------------------------------------------------------------

    async def suspect(self, team: str, findings: Sequence[Finding]) -> int:
        """Keep what was found; how many of these are new. What waits for a decision gets the newest numbers."""
        fresh = 0
        async with self.database.writing(alone=f"quarantine {team}") as session:
            for found in findings:
                row = Quarantine(
                    team=team,
                    kind=found.kind,
                    subject=_subject(found),
                    person=found.person,
                    rows=found.rows,
                    detail=found.detail,
                    holds=found.holds,
                )
                where = (col(Quarantine.kind) == row.kind, col(Quarantine.subject) == row.subject)
                wanted = select(Quarantine).where(col(Quarantine.team) == team, *where)
                known = (await session.exec(wanted)).first()
                fresh += known is None
                if known is not None and not known.kept_by and not known.lifted_by:
                    known.rows, known.detail = found.rows, found.detail
                session.add(known or row)
        return fresh

    async def quarantine(self, team: str) -> list[Quarantine]:
        """Everything that was ever found, the newest first."""
        wanted = select(Quarantine).where(col(Quarantine.team) == team)
        newest = wanted.order_by(col(Quarantine.since).desc(), col(Quarantine.id))
        async with self.database.reading() as session:
            return list((await session.exec(newest)).all())

    async def quarantine_row(self, team: str, row_id: str) -> Quarantine | None:
        """One finding; None where it is not (any more) there."""
        async with self.database.reading() as session:
            row = await session.get(Quarantine, row_id)
        return row if row is not None and row.team == team else None

    async def quarantined(self, team: str) -> frozenset[tuple[str, str]]:
        """What may not be learned from now, for `training.guards.kept_out`: kind and what it is about.

        A cluster comes with the keys of all questions that ever belonged to it.
        """
        wanted = select(Quarantine).where(col(Quarantine.team) == team, col(Quarantine.holds).is_(True))
        async with self.database.reading() as session:
            rows = (await session.exec(wanted)).all()
            found = {(row.kind, _about(row)) for row in rows}
            clusters = sorted(subject for kind, subject in found if kind == CLUSTER)
            keys = select(SplitPlace.key).where(
                col(SplitPlace.team) == team, col(SplitPlace.cluster).in_(clusters)
            )
            if clusters:
                found |= {(KEY, key) for key in (await session.exec(keys)).all()}
        return frozenset(found)

    async def decide_quarantine(self, team: str, row_id: str, *, by: str, learn: bool) -> Quarantine | None:
        """An admin decides about a finding; the last decision counts. None where it is not there."""
        async with self.database.writing(alone=f"quarantine {team}") as session:
            row = await session.get(Quarantine, row_id)
            if row is None or row.team != team:
                return None
            row.holds = not learn
            row.kept_by, row.lifted_by = ("", by) if learn else (by, "")
            row.lifted_at = now() if learn else None
            session.add(row)
            action = LEARN if learn else KEEP_OUT
            session.add(Decision(team=team, actor=by, action=action, subject=row_id, detail=row.kind))
        return row

    async def to_tell(self, team: str) -> Quarantine | None:
        """A finding that the caller is to tell of, and nobody else; None where all were told.

        The caller says `told` when that is done, or `untold` where it failed; who does neither was killed in it.
        """
        waiting = (
            col(Quarantine.told_ts) == "",
            col(Quarantine.kept_by) == "",
            col(Quarantine.lifted_by) == "",
        )
        stale = col(Quarantine.told_at).is_(None) | (col(Quarantine.told_at) < now() - TELLING)
        wanted = select(Quarantine).where(col(Quarantine.team) == team, *waiting, stale)
        async with self.database.writing(alone=f"quarantine {team}") as session:
            row = (
                await session.exec(wanted.order_by(col(Quarantine.since), col(Quarantine.id)).limit(1))
            ).first()
            if row is not None:
                row.told_at = now()
                session.add(row)
        return row

    async def told(self, row_id: str, ts: str) -> None:
        """It was told, in the message `ts`."""
        async with self.database.writing() as session:
            await session.exec(update(Quarantine).where(col(Quarantine.id) == row_id).values(told_ts=ts))

    async def untold(self, row_id: str) -> None:
        """It could not be told; the next who tries may."""
        where = (col(Quarantine.id) == row_id, col(Quarantine.told_ts) == "")
        async with self.database.writing() as session:
            await session.exec(update(Quarantine).where(*where).values(told_at=None))

    # --- What the nightly look reads ---------------------------------------------------------------------------

    async def recent_presses(
        self, team: str, since: datetime, *, page: int = PAGE
    ) -> AsyncIterator[list[Press]]:
        """The ratings since then that still count, in pages, in no order that matters."""
        columns: Any = (Rating.id, Rating.rater, Rating.rated_at)
        where = (col(Rating.team) == team, col(Rating.rated_at) >= since, col(Rating.value) != 0)
        async for rows in self._pages(select(*columns).where(*where), col(Rating.id), page):
            yield [Press(row[1], row[2]) for row in rows]

    async def fed_entries(self, team: str, *, page: int = PAGE) -> AsyncIterator[list[FedEntry]]:
        """All verified entries in pages, with who brought them in."""
        columns: Any = (
            *(Entry.id, Entry.question_hash, Entry.topic, Entry.question, Entry.answer),
            *(func.coalesce(Nomination.nominator, Entry.author), col(Entry.answer_id).is_not(None)),
        )
        wanted = select(*columns).outerjoin(Nomination, col(Nomination.id) == col(Entry.nomination_id))
        async for rows in self._pages(wanted.where(col(Entry.team) == team), col(Entry.id), page):
            yield [FedEntry(row[1][:32], *row[2:]) for row in rows]

    async def crowded_clusters(self, team: str, *, at_least: int) -> dict[str, str]:
        """Question key -> cluster, of those clusters to which so many questions belong."""
        ours = col(SplitPlace.team) == team
        crowded = select(SplitPlace.cluster).where(ours).group_by(col(SplitPlace.cluster))
        crowded = crowded.having(func.count() >= at_least)
        wanted = select(SplitPlace.key, SplitPlace.cluster).where(ours, col(SplitPlace.cluster).in_(crowded))
        async with self.database.reading() as session:
            return dict((await session.exec(wanted)).all())

    async def _pages(self, wanted: Any, key: Any, page: int) -> AsyncIterator[list[Any]]:
        """Rows of plain columns in the order of their key, which comes first; a short transaction for each page."""
        last = ""
        while True:
            async with self.database.reading() as session:
                connection = await session.connection()
                rows = list(
                    (await connection.execute(wanted.where(key > last).order_by(key).limit(page))).all()
                )
            if rows:
                yield rows
            if len(rows) < page:
                return
            last = rows[-1][0]


def _subject(found: Finding) -> str:
    """A finding about a person stands under a hash: this column holds words, and an id could be taken for a name."""
    return _hash(found.person) if found.subject == found.person else found.subject


def _about(row: Quarantine) -> str:
    return row.person if row.subject == _hash(row.person) else row.subject


def _hash(person: str) -> str:
    return blake2b(person.encode(), digest_size=16).hexdigest()
