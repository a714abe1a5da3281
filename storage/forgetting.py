"""What is held of one person, and how it is forgotten."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import String, and_, cast, delete, func, or_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.database import Database
from storage.entries import PAGE, stamp_entries
from storage.feedback import consent_row
from storage.records import (
    Answer,
    Candidate,
    Consent,
    Correction,
    Duel,
    DuelPick,
    Entry,
    Nomination,
    Question,
    Rating,
    RatingEvent,
    Solicitation,
)

QUOTABLE = 20  # characters


@dataclass(frozen=True, slots=True)
class Holdings:
    """How many rows hold a person's words or votes."""

    questions: int
    ratings: int
    corrections: int
    entries: int
    consent: bool | None


class ForgettingStore:
    """Everything of one person."""

    database: Database

    async def holdings(self, team: str, person: str) -> Holdings:
        """What is held of a person."""
        async with self.database.reading() as session:
            return await _holdings(session, team, person)

    async def held_words(self, team: str, person: str) -> dict[str, list[dict[str, Any]]]:
        """Everything a person wrote or voted, and what was answered to them, for them to read (ids, texts, times)."""
        asked = select(Question.id).where(col(Question.team) == team, col(Question.asker) == person)
        answers = select(Answer, Candidate).join(Candidate, col(Candidate.id) == col(Answer.candidate_id))
        found: dict[str, list[dict[str, Any]]] = {}
        async with self.database.reading() as session:
            for name, (record, where) in _held(team, person).items():
                rows = (await session.exec(select(record).where(where))).all()
                found[name] = [row.model_dump(mode="json") for row in rows]
            answered = (await session.exec(answers.where(col(Answer.question_id).in_(asked)))).all()
            found["answers"] = [
                {**answer.model_dump(mode="json"), "text": said.text, "model": said.model}
                for answer, said in answered
            ]
        return found

    async def forget(self, team: str, person: str) -> Holdings:
        """Delete every row that holds a person's words or votes; returns what was deleted.

        What others said about this person's questions goes with the questions. Others' answers in the same threads stay,
        without the history that quoted them.
        """
        async with self.database.writing(alone=f"entries {team}") as session:
            held = await _holdings(session, team, person)
            await _unquote(session, team, person)
            for record, where in _held(team, person).values():
                await session.exec(delete(record).where(where))
            if held.entries:
                await stamp_entries(session, team, erased=True)
        return held


def _held(team: str, person: str) -> dict[str, tuple[type[Any], Any]]:
    """Where a person's words and votes lie, those first that refer to others."""
    asked = select(Question.id).where(col(Question.team) == team, col(Question.asker) == person)
    answered = select(Answer.id).where(col(Answer.question_id).in_(asked))
    here = select(Duel.id).join(Question, col(Question.id) == col(Duel.question_id))
    quoted = cast(col(Nomination.authors), String).contains(f'"{person}"')
    nominated = and_(col(Nomination.team) == team, or_(col(Nomination.nominator) == person, quoted))
    taken = select(Nomination.id).where(nominated)
    verified = or_(
        col(Entry.author) == person, col(Entry.answer_id).in_(answered), col(Entry.nomination_id).in_(taken)
    )
    in_team = col(DuelPick.duel_id).in_(here.where(col(Question.team) == team))
    return {
        "entries": (Entry, and_(col(Entry.team) == team, verified)),
        "nominations": (Nomination, nominated),
        "picks": (DuelPick, and_(col(DuelPick.picker) == person, in_team)),
        "presses": (RatingEvent, and_(col(RatingEvent.team) == team, col(RatingEvent.rater) == person)),
        "requests": (Solicitation, and_(col(Solicitation.team) == team, col(Solicitation.person) == person)),
        "corrections": (Correction, and_(col(Correction.team) == team, col(Correction.author) == person)),
        "ratings": (Rating, and_(col(Rating.team) == team, col(Rating.rater) == person)),
        "questions": (Question, and_(col(Question.team) == team, col(Question.asker) == person)),
        "consent": (Consent, and_(col(Consent.team) == team, col(Consent.person) == person)),
    }


async def _holdings(session: AsyncSession, team: str, person: str) -> Holdings:
    held = _held(team, person)

    async def count(name: str) -> int:
        record, where = held[name]
        return int((await session.exec(select(func.count()).select_from(record).where(where))).one())

    consent = (await session.exec(consent_row(team, person))).first()
    return Holdings(
        questions=await count("questions"),
        ratings=await count("ratings"),
        corrections=await count("corrections"),
        entries=await count("entries"),
        consent=consent.granted if consent and consent.decided_at else None,
    )


async def _unquote(session: AsyncSession, team: str, person: str) -> None:
    """Cut a person's words out of what models were shown when they answered others."""
    held, words = _held(team, person), set[str]()
    for name, columns in (
        ("questions", ("text",)),
        ("corrections", ("text",)),
        ("entries", ("question", "answer")),
    ):
        record, where = held[name]
        for row in (await session.exec(select(record).where(where))).all():
            words |= {getattr(row, column) for column in columns}
    last = ""
    while words:
        page = select(Answer).where(col(Answer.team) == team, col(Answer.id) > last).order_by(col(Answer.id))
        answers = (await session.exec(page.limit(PAGE))).all()
        if not answers:
            return
        last = answers[-1].id
        for answer in answers:
            kept = without_words(answer.messages, words)
            if kept != answer.messages:
                answer.messages = kept
                session.add(answer)
        await session.flush()
        session.expunge_all()


def without_words(messages: Sequence[dict[str, str]], words: Collection[str]) -> list[dict[str, str]]:
    """The messages without system prompts that quote these words, and without a history that holds them.

    The question itself, which comes last, always stays.
    """
    *before, question = messages
    prompts = [turn for turn in before if turn["role"] == "system" and not _quotes(turn["content"], words)]
    history = [turn for turn in before if turn["role"] != "system"]
    if any(_quotes(turn["content"], words) for turn in history):
        history = []
    return [*prompts, *history, question]


def _quotes(content: str, words: Collection[str]) -> bool:
    """A short text counts as quoted only where it is all there is: "hi" is in "this"."""
    return content in words or any(len(text) >= QUOTABLE and text in content for text in words)
