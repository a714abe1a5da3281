"""What happened in a time, a line for each question: for weekly digests and reports. Reads only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func
from sqlmodel import col, select

from storage.database import Database
from storage.records import Answer, Candidate, Question, Rating, Spend
from storage.records_said import Solicitation

PIECE = 500


@dataclass(frozen=True, slots=True)
class AskedRow:
    """A question of the time, and what became of it.

    `kind` ("memory", "local" or an API's), `seconds` from the question to its posted answer, and `answer_id` are empty where
    none was posted. `vote` is the mean of all ratings (-1..1), `askers_vote` the asker's own; `chance` that of asking them
    for it (None: nobody drew), `solicited` whether they were asked.
    """

    id: str
    asker: str
    channel: str
    thread: str
    place: str
    state: str
    text: str
    asked_at: datetime
    answer_id: str = ""
    posted_at: datetime | None = None
    kind: str = ""
    model: str = ""
    seconds: float | None = None
    cost_usd: float = 0.0
    vote: float | None = None
    askers_vote: int | None = None
    chance: float | None = None
    solicited: bool = False


class DigestStore:
    """Questions of a time."""

    database: Database

    async def asked_between(self, team: str, since: datetime, until: datetime) -> list[AskedRow]:
        """The questions asked in [since, until), oldest first."""
        wanted = (
            select(Question, Answer, Candidate)
            .outerjoin(Answer, col(Answer.question_id) == col(Question.id))
            .outerjoin(Candidate, col(Answer.candidate_id) == col(Candidate.id))
            .where(
                col(Question.team) == team, col(Question.asked_at) >= since, col(Question.asked_at) < until
            )
            .order_by(col(Question.asked_at), col(Question.id))
        )
        async with self.database.reading() as session:
            found: Sequence[Any] = (await session.exec(wanted)).all()
            rows: list[AskedRow] = []
            for start in range(0, len(found), PIECE):
                piece = found[start : start + PIECE]
                answers = [answer.id for _question, answer, _candidate in piece if answer is not None]
                beside = _Beside(
                    costs=dict((await session.exec(_costs([question.id for question, *_ in piece]))).all()),
                    votes=dict((await session.exec(_votes(answers))).all()),
                    own={row.answer_id: row for row in (await session.exec(_own(answers))).all()},
                    asked=set((await session.exec(_asked(answers))).all()),
                )
                rows += [_row(question, answer, candidate, beside) for question, answer, candidate in piece]
        return rows


@dataclass(frozen=True, slots=True)
class _Beside:
    costs: dict[str | None, float]
    votes: dict[str, float]
    own: dict[str, Rating]
    asked: set[str]


def _costs(questions: Sequence[str]) -> Any:
    spent = select(Spend.question_id, func.sum(Spend.cost_usd)).where(col(Spend.question_id).in_(questions))
    return spent.group_by(col(Spend.question_id))


def _votes(answers: Sequence[str]) -> Any:
    votes = select(Rating.answer_id, func.avg(Rating.value))
    return votes.where(col(Rating.answer_id).in_(answers), col(Rating.value) != 0).group_by(
        col(Rating.answer_id)
    )


def _own(answers: Sequence[str]) -> Any:
    """The ratings by those who asked."""
    return (
        select(Rating)
        .join(Answer, col(Answer.id) == col(Rating.answer_id))
        .join(Question, col(Question.id) == col(Answer.question_id))
        .where(col(Rating.answer_id).in_(answers), col(Rating.value) != 0)
        .where(col(Rating.rater) == col(Question.asker))
    )


def _asked(answers: Sequence[str]) -> Any:
    return select(Solicitation.answer_id).where(col(Solicitation.answer_id).in_(answers))


def _row(question: Question, answer: Answer | None, candidate: Candidate | None, beside: _Beside) -> AskedRow:
    asked: dict[str, Any] = {
        "id": question.id,
        "asker": question.asker,
        "channel": question.channel,
        "thread": f"{question.channel}/{question.thread_ts or question.ts}",
        "place": question.place,
        "state": str(question.state),
        "text": question.text,
        "asked_at": question.asked_at,
        "cost_usd": float(beside.costs.get(question.id) or 0.0),
    }
    if answer is None or candidate is None or answer.posted_at is None:
        return AskedRow(**asked)
    vote, own = beside.votes.get(answer.id), beside.own.get(answer.id)
    return AskedRow(
        **asked,
        answer_id=answer.id,
        posted_at=answer.posted_at,
        kind=candidate.kind,
        model=candidate.model,
        seconds=max(0.0, (answer.posted_at - question.asked_at).total_seconds()),
        vote=None if vote is None else float(vote),
        askers_vote=None if own is None else own.value,
        chance=answer.solicit_probability,
        solicited=answer.id in beside.asked,
    )
