"""What the store does for canaries: begun once, counted, ended once, whoever of several replicas looks."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import or_, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from storage.database import Database
from storage.errors import PublicError
from storage.records import Answer, Canary, CanaryState, Candidate, Question, Rating, now


@dataclass(frozen=True, slots=True)
class CanaryAnswer:
    """One posted answer of the canary or of what serves beside it. `version_id` None is the base.

    `votes` are what people think of it now: +1 or -1, when, and whether they were asked for it.
    """

    channel: str
    thread_ts: str
    version_id: str | None
    text: str
    seconds: float
    cost_usd: float
    votes: tuple["CanaryVote", ...] = ()


@dataclass(frozen=True, slots=True)
class CanaryVote:
    """One person's rating."""

    value: int
    rated_at: datetime
    solicited: bool


class CanaryStore:
    """Versions that answer a share of the threads."""

    database: Database

    async def begin_canary(
        self,
        *,
        team: str,
        version_id: str,
        against_id: str | None,
        share: float,
        specification: Mapping[str, Any],
        by: str,
        decision: str,
    ) -> tuple[Canary, bool]:
        """Let a version answer a share of the threads; the same `decision` begins one. (row, whether it is new)

        Raises PublicError while another one goes on: there is one at a time.
        """
        try:
            async with self.database.writing(alone="canary") as session:
                same = select(Canary).where(col(Canary.decision) == decision)
                if (known := (await session.exec(same)).first()) is not None:
                    return known, False
                if (await session.exec(_watching(team))).first() is not None:
                    raise PublicError(
                        "Another canary is being watched. Promote it or roll it back first; there is one at a time."
                    )
                row = Canary(
                    team=team,
                    version_id=version_id,
                    against_id=against_id,
                    share=share,
                    specification=dict(specification),
                    started_by=by,
                    decision=decision,
                )
                session.add(row)
            return row, True
        except IntegrityError:
            async with self.database.reading() as session:
                known = (await session.exec(same)).first()
            if known is None:
                raise
            return known, False

    async def canary(self, team: str) -> Canary | None:
        """The canary that is being watched; None where there is none."""
        async with self.database.reading() as session:
            row: Canary | None = (await session.exec(_watching(team))).first()
            return row

    async def canary_by_id(self, canary_id: str) -> Canary | None:
        """A canary by its id, whatever became of it."""
        async with self.database.reading() as session:
            return await session.get(Canary, canary_id)

    async def canaries(self, team: str) -> list[Canary]:
        """All canaries, oldest first."""
        wanted = select(Canary).where(col(Canary.team) == team).order_by(col(Canary.started_at))
        async with self.database.reading() as session:
            return list((await session.exec(wanted)).all())

    async def untold_canaries(self, team: str, since: datetime) -> list[Canary]:
        """Canaries that ended since then and of whose end nobody was told yet."""
        where = (col(Canary.team) == team, col(Canary.ended_at) > since, col(Canary.told) == "")
        async with self.database.reading() as session:
            return list((await session.exec(select(Canary).where(*where))).all())

    async def claim_canary(self, canary_id: str, *, worker: str, lease_s: float) -> bool:
        """Become the one who counts a canary and tells of it for `lease_s` seconds."""
        moment = now()
        free = or_(
            col(Canary.lease_until).is_(None),
            col(Canary.lease_until) < moment,
            col(Canary.claimed_by) == worker,
        )
        claim = update(Canary).where(col(Canary.id) == canary_id, free)
        async with self.database.writing() as session:
            taken: Any = await session.exec(
                claim.values(claimed_by=worker, lease_until=moment + timedelta(seconds=lease_s))
            )
            return int(taken.rowcount) == 1

    async def end_canary(self, canary_id: str, state: CanaryState, *, by: str, reason: str) -> bool:
        """End a canary that is being watched; True for the one caller who did it."""
        end = update(Canary).where(col(Canary.id) == canary_id, col(Canary.state) == CanaryState.WATCHING)
        async with self.database.writing() as session:
            ended: Any = await session.exec(
                end.values(state=state, ended_by=by, reason=reason, ended_at=now())
            )
            return int(ended.rowcount) == 1

    async def pass_canary(self, canary_id: str, reason: str) -> bool:
        """Note that a canary has been seen enough; True for the one caller who did it."""
        where = (
            col(Canary.id) == canary_id,
            col(Canary.state) == CanaryState.WATCHING,
            col(Canary.passed_at).is_(None),
        )
        async with self.database.writing() as session:
            passed: Any = await session.exec(
                update(Canary).where(*where).values(passed_at=now(), reason=reason)
            )
            return int(passed.rowcount) == 1

    async def note_on_canary(self, canary_id: str, **changes: Any) -> None:
        """Write what was counted, or where its report stands."""
        async with self.database.writing() as session:
            await session.exec(update(Canary).where(col(Canary.id) == canary_id).values(**changes))

    async def canary_failed(self, canary_id: str) -> None:
        """One more question that the version could not answer."""
        one_more = update(Canary).where(col(Canary.id) == canary_id).values(failures=col(Canary.failures) + 1)
        async with self.database.writing() as session:
            await session.exec(one_more)

    async def canary_answers(self, canary: Canary, kind: str = "local") -> list[CanaryAnswer]:
        """Both sides' answers, of this `kind` of model, posted since the canary began, oldest first, with their votes."""
        sides = [col(Candidate.version_id) == canary.version_id]
        if canary.against_id is None:
            sides.append(col(Candidate.version_id).is_(None))
        else:
            sides.append(col(Candidate.version_id) == canary.against_id)
        of_it = (
            col(Answer.team) == canary.team,
            col(Answer.created_at) >= canary.started_at,
            col(Candidate.kind) == kind,
            or_(*sides),
        )
        answers = (
            select(Answer.id, Question.channel, Question.thread_ts, Candidate)
            .join(Question, col(Question.id) == col(Answer.question_id))
            .join(Candidate, col(Candidate.id) == col(Answer.candidate_id))
            .where(*of_it)
            .order_by(col(Answer.created_at), col(Answer.id))
        )
        rated = (
            select(Rating)
            .join(Answer, col(Answer.id) == col(Rating.answer_id))
            .join(Candidate, col(Candidate.id) == col(Answer.candidate_id))
            .where(*of_it, col(Rating.value) != 0)
            .order_by(col(Rating.rated_at), col(Rating.id))
        )
        async with self.database.reading() as session:
            votes: dict[str, list[CanaryVote]] = {}
            for rating in (await session.exec(rated)).all():
                vote = CanaryVote(rating.value, rating.rated_at, rating.via == "solicited")
                votes.setdefault(rating.answer_id, []).append(vote)
            return [
                CanaryAnswer(
                    channel,
                    thread,
                    candidate.version_id,
                    candidate.text,
                    candidate.seconds,
                    candidate.cost_usd,
                    tuple(votes.get(answer_id, ())),
                )
                for answer_id, channel, thread, candidate in (await session.exec(answers)).all()
            ]


def _watching(team: str) -> Any:
    return select(Canary).where(col(Canary.team) == team, col(Canary.state) == CanaryState.WATCHING)
