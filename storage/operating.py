"""What the store does for operating: schedules, decisions, keepsakes, counts for `status`."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import func, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from storage.database import Database
from storage.records import (
    Answer,
    Canary,
    Candidate,
    Correction,
    Decision,
    Distillation,
    Entry,
    Evaluation,
    Forgetting,
    Keepsake,
    Question,
    QuestionState,
    Rating,
    Schedule,
    TrainingRun,
    now,
)


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of a workspace: questions asked, waiting and answered by whom, votes, corrections, verified entries."""

    questions: int
    waiting: int
    answered_by: dict[str, int]
    thumbs_up: int
    thumbs_down: int
    corrections: int
    entries: int


def wall_time(moment: datetime, timezone: str) -> str:
    """The minute that clocks in this zone show, such as "2026-11-23T03:00"; as text it sorts in order of time."""
    return moment.astimezone(ZoneInfo(timezone)).strftime("%Y-%m-%dT%H:%M")


class OperatingStore:
    """What operating the bot needs to remember."""

    database: Database

    async def keepsake(self, name: str, make: Callable[[], str]) -> str:
        """A value made once for this installation and kept for ever."""
        async with self.database.reading() as session:
            known = await session.get(Keepsake, name)
        if known is not None:
            return known.value
        try:
            async with self.database.writing() as session:
                session.add(Keepsake(name=name, value=make()))
        except IntegrityError:
            pass  # another process made it first: theirs counts
        async with self.database.reading() as session:
            kept = await session.get(Keepsake, name)
        if kept is None:
            raise RuntimeError(f"keepsake {name} vanished")
        return kept.value

    async def draw_salt(self) -> str:
        """What makes the draws of one installation its own (`bot.draws`); made once."""
        return await self.keepsake("draws", lambda: secrets.token_hex(16))

    async def change_keepsake(self, name: str, value: str) -> None:
        """Change a value that was made by `keepsake`."""
        async with self.database.writing() as session:
            await session.exec(update(Keepsake).where(col(Keepsake.name) == name).values(value=value))

    async def release_claims(self) -> None:
        """Free whatever a process that is no more had claimed. Only for the one process that owns the database."""
        async with self.database.writing() as session:
            for record in (Question, TrainingRun, Evaluation, Forgetting, Canary, Distillation):
                await session.exec(
                    update(record).where(col(record.lease_until).is_not(None)).values(lease_until=None)
                )

    async def decide(
        self, *, team: str, actor: str, action: str, subject: str = "", detail: str = ""
    ) -> None:
        """Write down who decided what."""
        async with self.database.writing() as session:
            session.add(Decision(team=team, actor=actor, action=action, subject=subject, detail=detail))

    async def decisions(self, team: str, *, limit: int = 100) -> list[Decision]:
        """The newest decisions first."""
        wanted = select(Decision).where(col(Decision.team) == team)
        async with self.database.reading() as session:
            return list(
                (await session.exec(wanted.order_by(col(Decision.decided_at).desc()).limit(limit))).all()
            )

    async def decision_on(self, team: str, subject: str, actions: tuple[str, ...]) -> Decision | None:
        """The newest decision about a subject, such as a run's report."""
        where = (
            col(Decision.team) == team,
            col(Decision.subject) == subject,
            col(Decision.action).in_(actions),
        )
        wanted = select(Decision).where(*where).order_by(col(Decision.decided_at).desc()).limit(1)
        async with self.database.reading() as session:
            return (await session.exec(wanted)).first()

    async def schedules(self) -> list[Schedule]:
        """All schedules."""
        async with self.database.reading() as session:
            return list((await session.exec(select(Schedule).order_by(col(Schedule.action)))).all())

    async def schedule(self, team: str, action: str) -> Schedule | None:
        """The schedule of an action."""
        where = (col(Schedule.team) == team, col(Schedule.action) == action)
        async with self.database.reading() as session:
            return (await session.exec(select(Schedule).where(*where))).first()

    async def set_schedule(
        self, *, team: str, action: str, cron: str, timezone: str, enabled: bool, by: str
    ) -> Schedule:
        """Set when an action happens. A new time counts from now on: what lies in the past is not caught up."""
        async with self.database.writing(alone=f"schedule {team} {action}") as session:
            where = (col(Schedule.team) == team, col(Schedule.action) == action)
            row = (await session.exec(select(Schedule).where(*where))).first()
            row = row or Schedule(team=team, action=action, cron=cron, timezone=timezone)
            if row.timezone != timezone:
                row.last_fired_local = ""  # a wall time of another zone; `changed_at` keeps the past away
            row.cron, row.timezone, row.enabled = cron, timezone, enabled
            row.changed_by, row.changed_at = by, now()
            session.add(row)
        return row

    async def fired(self, schedule_id: str, local: str) -> bool:
        """Claim one firing, named by its local wall time; True for exactly one caller, in order of time.

        The same wall time in autumn's double hour is one firing.
        """
        claim = (
            update(Schedule)
            .where(col(Schedule.id) == schedule_id, col(Schedule.last_fired_local) < local)
            .values(last_fired_local=local)
        )
        async with self.database.writing() as session:
            result: Any = await session.exec(claim)
            return int(result.rowcount) == 1

    async def tally(self, team: str) -> Tally:
        """Counts for `/apprentice status` and the doctor."""
        async with self.database.reading() as session:

            async def count(record: Any, *where: Any) -> int:
                rows = select(func.count()).select_from(record).where(record.team == team, *where)
                return int((await session.exec(rows)).one())

            by_kind = (
                select(Candidate.kind, func.count())
                .join(Answer, col(Answer.candidate_id) == col(Candidate.id))
                .where(col(Answer.team) == team, col(Answer.posted_ts).is_not(None))
                .group_by(Candidate.kind)
            )
            answered_by = {kind: int(number) for kind, number in (await session.exec(by_kind)).all()}
            waiting = (QuestionState.ASKED, QuestionState.ANSWERING)
            return Tally(
                questions=await count(Question),
                waiting=await count(Question, col(Question.state).in_(waiting)),
                answered_by=answered_by,
                thumbs_up=await count(Rating, col(Rating.value) > 0),
                thumbs_down=await count(Rating, col(Rating.value) < 0),
                corrections=await count(Correction),
                entries=await count(Entry),
            )
