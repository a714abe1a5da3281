"""What the store does for the router: what people thought of which answers, fitted routers, what answers cost."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.database import Database
from storage.records import (
    Answer,
    Candidate,
    Correction,
    Duel,
    Question,
    Rating,
    RouterVersion,
    Spend,
)


@dataclass(frozen=True, slots=True)
class Judged:
    """A posted candidate, or one of a duel, and what people said of it; what a router learns from.

    `features` are those of the local candidate for the same question, whoever was posted. `votes` are +1 and -1, one for
    each person; `corrected` says that somebody wrote a better answer. `duel` is "" or how the candidate came out of a duel:
    "won", "lost", "tie" or "both bad". `route` is the Answer's.
    """

    question_id: str
    question: str
    channel: str
    thread: str
    kind: str
    model: str
    asked_at: datetime
    features: Mapping[str, float] = field(default_factory=dict)
    p_good: float | None = None
    votes: Mapping[str, int] = field(default_factory=dict)
    corrected: bool = False
    duel: str = ""
    route: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PostedAnswer:
    """A posted answer as the report counts it: who gave it, what its question cost (US dollars), how it was rated.

    `cost_usd` holds all billed calls of the question, also those whose answer was not posted. `vote` is the mean of the
    votes, None where nobody voted.
    """

    question_id: str
    kind: str
    model: str
    thread: str
    cost_usd: float
    p_good: float | None
    vote: float | None
    tokens_in: int
    tokens_out: int
    route: Mapping[str, Any]


class RoutingStore:
    """The router's side of the store."""

    database: Database

    async def judged(self, team: str, *, limit: int = 20_000) -> list[Judged]:
        """The newest answers of which people said something, and both sides of decided duels; oldest first."""
        return [*await self._rated(team, limit), *await self._fought(team, limit)]

    async def _rated(self, team: str, limit: int) -> list[Judged]:
        said = select(Rating.answer_id).where(col(Rating.value) != 0).union(select(Correction.answer_id))
        wanted = (
            select(Question, Answer, Candidate)
            .join(Answer, col(Answer.question_id) == col(Question.id))
            .join(Candidate, col(Answer.candidate_id) == col(Candidate.id))
            .where(col(Question.team) == team, col(Answer.id).in_(said))
            .where(col(Question.id).not_in(select(Duel.question_id)))
            .order_by(col(Question.asked_at).desc())
            .limit(limit)
        )
        async with self.database.reading() as session:
            rows = list((await session.exec(wanted)).all())
            ratings = select(Rating).where(col(Rating.team) == team, col(Rating.value) != 0)
            votes: dict[str, dict[str, int]] = {}
            for rating in (await session.exec(ratings)).all():
                votes.setdefault(rating.answer_id, {})[rating.rater] = rating.value
            better = select(Correction.answer_id).where(col(Correction.team) == team)
            corrected = set((await session.exec(better)).all())
            asked = wanted.with_only_columns(col(Question.id))
            seen = await _local_features(session, asked)
        return [
            _judged(
                question,
                candidate,
                seen.get(question.id, {}),
                answer=answer,
                votes=votes.get(answer.id, {}),
                corrected=answer.id in corrected,
            )
            for question, answer, candidate in reversed(rows)
        ]

    async def _fought(self, team: str, limit: int) -> list[Judged]:
        wanted = (
            select(Duel, Question, Candidate)
            .join(Question, col(Question.id) == col(Duel.question_id))
            .join(Candidate, col(Candidate.id).in_([col(Duel.candidate_a), col(Duel.candidate_b)]))
            .where(col(Question.team) == team, col(Duel.outcome) != "")
            .order_by(col(Question.asked_at).desc())
            .limit(limit)
        )
        async with self.database.reading() as session:
            rows = list((await session.exec(wanted)).all())
            seen = await _local_features(session, wanted.with_only_columns(col(Question.id)))
        return [
            _judged(question, candidate, seen.get(question.id, {}), duel=_came_out(duel, candidate))
            for duel, question, candidate in reversed(rows)
        ]

    async def posted_since(self, team: str, since: datetime, *, limit: int = 20_000) -> list[PostedAnswer]:
        """The newest answers posted since then, oldest first."""
        cost = (
            select(Spend.question_id, func.sum(Spend.cost_usd))
            .where(col(Spend.team) == team, col(Spend.spent_at) >= since)
            .group_by(col(Spend.question_id))
        )
        vote = (
            select(Rating.answer_id, func.avg(Rating.value))
            .where(col(Rating.team) == team, col(Rating.value) != 0)
            .group_by(col(Rating.answer_id))
        )
        wanted = (
            select(Question, Answer, Candidate)
            .join(Answer, col(Answer.question_id) == col(Question.id))
            .join(Candidate, col(Answer.candidate_id) == col(Candidate.id))
            .where(col(Question.team) == team, col(Answer.posted_at) >= since)
            .order_by(col(Answer.posted_at).desc())
            .limit(limit)
        )
        async with self.database.reading() as session:
            rows = list((await session.exec(wanted)).all())
            costs: dict[str | None, float] = dict((await session.exec(cost)).all())
            votes: dict[str, float] = dict((await session.exec(vote)).all())
        return [_posted(*row, costs.get(row[0].id), votes.get(row[1].id)) for row in reversed(rows)]

    async def router(self, team: str) -> RouterVersion | None:
        """The router that decides; None while there is only the conservative threshold."""
        where = (col(RouterVersion.team) == team, col(RouterVersion.serving).is_(True))
        wanted = select(RouterVersion).where(*where).order_by(col(RouterVersion.sequence).desc()).limit(1)
        async with self.database.reading() as session:
            return (await session.exec(wanted)).first()

    async def newest_router(self, team: str) -> RouterVersion | None:
        """The router fitted last, whether it was taken or not."""
        wanted = select(RouterVersion).where(col(RouterVersion.team) == team)
        async with self.database.reading() as session:
            return (await session.exec(wanted.order_by(col(RouterVersion.sequence).desc()).limit(1))).first()

    async def keep_router(
        self,
        team: str,
        *,
        serving: bool,
        labels: int,
        parameters: Mapping[str, Any],
        scores: Mapping[str, Any],
        reason: str,
    ) -> RouterVersion:
        """Keep a fitted router; with `serving` it decides from now on."""
        async with self.database.writing(alone=f"router {team}") as session:
            newest = select(func.max(RouterVersion.sequence)).where(col(RouterVersion.team) == team)
            row = RouterVersion(
                team=team,
                sequence=int((await session.exec(newest)).one() or 0) + 1,
                serving=serving,
                labels=labels,
                parameters=dict(parameters),
                scores=dict(scores),
                reason=reason,
            )
            session.add(row)
        return row


async def _local_features(session: AsyncSession, questions: Any) -> dict[str, Mapping[str, float]]:
    """What was seen of the local answers to these questions; of several, the one that tells most."""
    wanted = (
        select(Candidate.question_id, Candidate.features)
        .where(col(Candidate.kind) == "local", col(Candidate.question_id).in_(questions))
        .order_by(col(Candidate.created_at))
    )
    found: dict[str, Mapping[str, float]] = {}
    for question_id, features in (await session.exec(wanted)).all():
        if len(features) > len(found.get(question_id, {})):
            found[question_id] = features
    return found


def _judged(
    question: Question,
    candidate: Candidate,
    features: Mapping[str, float],
    *,
    answer: Answer | None = None,
    votes: Mapping[str, int] | None = None,
    corrected: bool = False,
    duel: str = "",
) -> Judged:
    return Judged(
        question_id=question.id,
        question=question.text,
        channel=question.channel,
        thread=f"{question.channel}/{question.thread_ts}",
        kind=candidate.kind,
        model=candidate.model,
        asked_at=question.asked_at,
        features=features,
        p_good=candidate.p_good,
        votes=votes or {},
        corrected=corrected,
        duel=duel,
        route=answer.route if answer is not None else {},
    )


def _came_out(duel: Duel, candidate: Candidate) -> str:
    if duel.outcome in {"tie", "both bad"}:
        return duel.outcome
    mine = "a" if candidate.id == duel.candidate_a else "b"
    return "won" if duel.outcome == mine else "lost"


def _posted(
    question: Question, answer: Answer, candidate: Candidate, usd: float | None, vote: float | None
) -> PostedAnswer:
    return PostedAnswer(
        question_id=question.id,
        kind=candidate.kind,
        model=candidate.model,
        thread=f"{question.channel}/{question.thread_ts}",
        cost_usd=float(usd or 0.0),
        p_good=candidate.p_good,
        vote=None if vote is None else float(vote),
        tokens_in=candidate.tokens_in,
        tokens_out=candidate.tokens_out,
        route=answer.route,
    )
