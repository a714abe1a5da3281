"""Where an answer or an entry came from: the message, and the people behind it. Nothing of what they wrote."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import or_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.database import Database
from storage.entries import question_hash
from storage.records import (
    Answer,
    Candidate,
    Correction,
    DistilledAnswer,
    Entry,
    Nomination,
    Question,
    Rating,
    Review,
)


@dataclass(frozen=True, slots=True)
class Traced:
    """An answer or an entry: where it was said ("" for what was imported), by what model, and who had part in it, by role.

    `key` is the question's whole hash. `ts` is the question's message, `answered_ts` the answer's.
    """

    subject: str
    kind: str
    key: str
    channel: str
    ts: str
    thread_ts: str
    answered_ts: str
    said_at: datetime
    source: str
    people: tuple[tuple[str, str], ...]


class TracingStore:
    """From a row back to what was said."""

    database: Database

    async def trace(self, team: str, ref: str, *, ts: str = "") -> list[Traced]:
        """The answers and entries that `ref` names: the id of an answer, an entry or a question, or with `ts` a channel.

        `ts` may be the question's message or the answer's.
        """
        asked = or_(col(Answer.id) == ref, col(Question.id) == ref)
        if ts:
            asked = (col(Question.channel) == ref) & or_(col(Question.ts) == ts, col(Answer.posted_ts) == ts)
        answers = (
            select(Question, Answer, Candidate)
            .join(Answer, col(Answer.question_id) == col(Question.id))
            .join(Candidate, col(Candidate.id) == col(Answer.candidate_id))
            .where(col(Question.team) == team, asked)
        )
        async with self.database.reading() as session:
            said = (await session.exec(answers)).all()
            ids = [answer.id for _, answer, _ in said]
            found = [await _answer(session, *row) for row in said]
            wanted = or_(col(Entry.id) == ref, col(Entry.answer_id).in_(ids))
            entries = (await session.exec(select(Entry).where(col(Entry.team) == team, wanted))).all()
            found += [await _entry(session, entry) for entry in entries]
            of_teachers = or_(col(DistilledAnswer.id) == ref, col(DistilledAnswer.answer_id).in_(ids))
            taught = (
                select(DistilledAnswer, Question)
                .join(Answer, col(Answer.id) == col(DistilledAnswer.answer_id))
                .join(Question, col(Question.id) == col(Answer.question_id))
                .where(col(DistilledAnswer.team) == team, of_teachers)
            )
            found += [_distilled(*row) for row in (await session.exec(taught)).all()]
        return found


async def _answer(session: AsyncSession, question: Question, answer: Answer, candidate: Candidate) -> Traced:
    ratings = select(Rating.rater).where(col(Rating.answer_id) == answer.id, col(Rating.value) != 0)
    corrections = select(Correction.author).where(col(Correction.answer_id) == answer.id)
    people = [("asked", question.asker)]
    people += [("rated", rater) for rater in sorted((await session.exec(ratings)).all())]
    people += [("corrected", author) for author in sorted((await session.exec(corrections)).all())]
    return Traced(
        subject=answer.id,
        kind="answer",
        key=question_hash(question.text),
        channel=question.channel,
        ts=question.ts,
        thread_ts=question.thread_ts,
        answered_ts=answer.posted_ts or "",
        said_at=question.asked_at,
        source=candidate.model,
        people=(*people, *await _reviewers(session, answer.id)),
    )


def _distilled(said: DistilledAnswer, question: Question) -> Traced:
    """What a teacher said to a question: it stands in no message."""
    shown = [("was quoted to it", person) for person in said.people if person != question.asker]
    return Traced(
        subject=said.id,
        kind="distilled answer",
        key=question_hash(question.text),
        channel=question.channel,
        ts=question.ts,
        thread_ts=question.thread_ts,
        answered_ts="",
        said_at=said.said_at,
        source=said.teacher,
        people=(("asked", question.asker), *shown),
    )


async def _entry(session: AsyncSession, entry: Entry) -> Traced:
    place: Sequence[Any] = ("", "", "")
    people = [("wrote", entry.author)] if entry.author else []
    if entry.answer_id:
        columns: Any = (Question.channel, Question.ts, Question.thread_ts, Question.asker)
        of_answer = select(*columns).join(Answer, col(Answer.question_id) == col(Question.id))
        asked = (await session.exec(of_answer.where(col(Answer.id) == entry.answer_id))).first()
        if asked is not None:
            place = asked[:3]
            people.append(("asked", asked[3]))
    elif entry.nomination_id:
        nomination = await session.get(Nomination, entry.nomination_id)
        if nomination is not None:
            place = (nomination.channel, nomination.ts, nomination.ts)
            people.append(("proposed", nomination.nominator))
            people += [("wrote", author) for author in nomination.authors]
    return Traced(
        subject=entry.id,
        kind="entry",
        key=entry.question_hash,
        channel=place[0],
        ts=place[1],
        thread_ts=place[2],
        answered_ts="",
        said_at=entry.created_at,
        source=entry.source,
        people=(*people, *await _reviewers(session, entry.id)),
    )


async def _reviewers(session: AsyncSession, subject: str) -> list[tuple[str, str]]:
    reviews = select(Review.state, Review.by).where(col(Review.subject) == subject)
    return [(state, by) for state, by in (await session.exec(reviews)).all()]
