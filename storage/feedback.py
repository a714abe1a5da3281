"""What people said about answers, what they allowed, and what is verified."""

import hashlib
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from storage.database import Database
from storage.records import (
    Answer,
    Candidate,
    Consent,
    Correction,
    Decision,
    Entry,
    Question,
    Rating,
    new_id,
    now,
)

PAGE = 2000


@dataclass(frozen=True, slots=True)
class NewEntry:
    """A verified pair on its way into the store."""

    question: str
    answer: str
    source: str
    topic: str = ""
    thread: str = ""
    split: str = ""
    author: str = ""
    answer_id: str | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import changed, in entries."""

    added: int
    updated: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's rating of an answer."""

    rater: str
    value: int


@dataclass(frozen=True, slots=True)
class Feedback:
    """Everything said about one posted answer, with who said it."""

    answer_id: str
    question: str
    asker: str
    thread: str
    messages: tuple[dict[str, str], ...]
    text: str
    kind: str
    votes: tuple[Vote, ...]
    correction: str | None
    corrector: str
    may_train: bool
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class Holdings:
    """How many rows hold a person's words or votes."""

    questions: int
    ratings: int
    corrections: int
    entries: int
    consent: bool | None


def question_hash(question: str) -> str:
    """A hash that is the same for questions that differ only in case, punctuation and spacing."""
    plain = " ".join(re.findall(r"\w+", question.casefold()))
    return hashlib.sha256(plain.encode()).hexdigest()


class FeedbackStore:
    """Ratings, corrections, consent and verified entries."""

    database: Database

    async def rate(self, answer_id: str, *, team: str, rater: str, value: int, reason: str = "") -> None:
        """Set a person's rating of an answer; the last one wins. `value` is +1 or -1."""
        async with self.database.writing() as session:
            where = (col(Rating.answer_id) == answer_id, col(Rating.rater) == rater)
            known = (await session.exec(select(Rating).where(*where).with_for_update())).first()
            row = known or Rating(answer_id=answer_id, team=team, rater=rater, value=value)
            row.value, row.rated_at, row.reason = value, now(), reason or (row.reason if known else "")
            session.add(row)

    async def withdraw_rating(self, answer_id: str, *, rater: str) -> bool:
        """Take a rating back; True if there was one."""
        where = (col(Rating.answer_id) == answer_id, col(Rating.rater) == rater)
        async with self.database.writing() as session:
            return _rows(await session.exec(delete(Rating).where(*where))) > 0

    async def rating_of(self, answer_id: str, *, rater: str) -> Rating | None:
        """This person's rating of this answer."""
        where = (col(Rating.answer_id) == answer_id, col(Rating.rater) == rater)
        async with self.database.reading() as session:
            return (await session.exec(select(Rating).where(*where))).first()

    async def correct(
        self,
        answer_id: str,
        *,
        team: str,
        author: str,
        text: str,
        reason: str = "",
        may_train: bool = False,
    ) -> Correction:
        """Keep the better answer somebody wrote; a second one by the same person replaces the first."""
        async with self.database.writing() as session:
            where = (col(Correction.answer_id) == answer_id, col(Correction.author) == author)
            known = (await session.exec(select(Correction).where(*where))).first()
            row = known or Correction(answer_id=answer_id, team=team, author=author, text=text)
            row.text, row.reason, row.may_train, row.corrected_at = text, reason, may_train, now()
            session.add(row)
        return row

    async def consent(self, team: str, person: str) -> bool | None:
        """True or False as the person decided; None while they have not."""
        async with self.database.reading() as session:
            row = (await session.exec(_consent(team, person))).first()
            return row.granted if row and row.decided_at else None

    async def set_consent(self, team: str, person: str, granted: bool) -> None:
        """Write down what a person decided about their own words."""
        async with self.database.writing() as session:
            row = (await session.exec(_consent(team, person))).first()
            row = row or Consent(team=team, person=person, granted=granted)
            row.granted, row.decided_at = granted, now()
            session.add(row)
            session.add(
                Decision(
                    team=team, actor=person, action="consent", detail="given" if granted else "withdrawn"
                )
            )

    async def first_time_asked_for_consent(self, team: str, person: str) -> bool:
        """True exactly once per person: the caller then asks them."""
        try:
            async with self.database.writing() as session:
                session.add(Consent(team=team, person=person, granted=False))
            return True
        except IntegrityError:
            return False

    async def add_entries(self, team: str, entries: Iterable[NewEntry]) -> Imported:
        """Add verified pairs; a question known already gets the newer answer. One transaction."""
        wanted = {question_hash(entry.question): entry for entry in entries}
        async with self.database.writing() as session:
            known: dict[str, Entry] = {}
            hashes = list(wanted)
            for start in range(0, len(hashes), 500):
                part = select(Entry).where(
                    col(Entry.team) == team, col(Entry.question_hash).in_(hashes[start : start + 500])
                )
                known |= {row.question_hash: row for row in (await session.exec(part)).all()}
            fresh = [_entry_values(team, key, entry) for key, entry in wanted.items() if key not in known]
            changed = [(row, wanted[key]) for key, row in known.items() if _differs(row, wanted[key])]
            connection = await session.connection()
            if fresh:
                await connection.execute(insert(Entry), fresh)
            for row, entry in changed:
                values: dict[str, Any] = {
                    "answer": entry.answer,
                    "source": entry.source,
                    "author": entry.author,
                }
                values |= {"topic": entry.topic, "thread": entry.thread or row.thread}
                values |= {"split": entry.split or row.split, "answer_id": entry.answer_id}
                await connection.execute(update(Entry).where(col(Entry.id) == row.id).values(**values))
        return Imported(len(fresh), len(changed), len(known) - len(changed))

    async def entries(self, team: str) -> AsyncIterator[list[Entry]]:
        """Every verified entry of a workspace, in pages of at most 2,000, ordered by id."""
        last = ""
        while True:
            page = (
                select(Entry)
                .where(col(Entry.team) == team, col(Entry.id) > last)
                .order_by(col(Entry.id))
                .limit(PAGE)
            )
            async with self.database.reading() as session:
                rows = list((await session.exec(page)).all())
            if not rows:
                return
            yield rows
            last = rows[-1].id

    async def feedback(self, team: str) -> list[Feedback]:
        """All rated or corrected answers of a workspace, oldest first."""
        wanted = (
            select(Question, Answer, Candidate)
            .join(Answer, col(Answer.question_id) == col(Question.id))
            .join(Candidate, col(Answer.candidate_id) == col(Candidate.id))
            .where(
                col(Question.team) == team,
                col(Answer.id).in_(select(Rating.answer_id).union(select(Correction.answer_id))),
            )
            .order_by(col(Question.asked_at), col(Question.id))
        )
        async with self.database.reading() as session:
            rows = list((await session.exec(wanted)).all())
            votes: dict[str, list[Vote]] = {}
            ratings = select(Rating).where(col(Rating.team) == team).order_by(col(Rating.rater))
            for rating in (await session.exec(ratings)).all():
                votes.setdefault(rating.answer_id, []).append(Vote(rating.rater, rating.value))
            corrections: dict[str, Correction] = {}
            newest = select(Correction).where(col(Correction.team) == team)
            for correction in (await session.exec(newest.order_by(col(Correction.corrected_at)))).all():
                corrections[correction.answer_id] = correction
        return [_feedback(*row, votes, corrections) for row in rows]

    async def consenting(self, team: str) -> set[str]:
        """The people whose words may become training data."""
        async with self.database.reading() as session:
            rows = await session.exec(
                select(Consent.person).where(col(Consent.team) == team, col(Consent.granted).is_(True))
            )
            return set(rows.all())

    async def holdings(self, team: str, person: str) -> Holdings:
        """What is held of a person."""
        async with self.database.reading() as session:

            async def count(record: type[Any], who: Any) -> int:
                rows = select(func.count()).select_from(record).where(record.team == team, who == person)
                return int((await session.exec(rows)).one())

            questions = await count(Question, col(Question.asker))
            ratings = await count(Rating, col(Rating.rater))
            corrections = await count(Correction, col(Correction.author))
            entries = await count(Entry, col(Entry.author))
        return Holdings(questions, ratings, corrections, entries, await self.consent(team, person))

    async def held_words(self, team: str, person: str) -> dict[str, list[dict[str, Any]]]:
        """Everything a person wrote or voted, for them to read (ids, texts, times)."""
        found: dict[str, list[dict[str, Any]]] = {}
        columns: Sequence[tuple[str, type[Any], Any]] = (
            ("questions", Question, col(Question.asker)),
            ("ratings", Rating, col(Rating.rater)),
            ("corrections", Correction, col(Correction.author)),
            ("entries", Entry, col(Entry.author)),
            ("consent", Consent, col(Consent.person)),
        )
        async with self.database.reading() as session:
            for name, record, who in columns:
                rows = (await session.exec(select(record).where(record.team == team, who == person))).all()
                found[name] = [row.model_dump(mode="json") for row in rows]
        return found

    async def forget(self, team: str, person: str) -> Holdings:
        """Delete every row that holds a person's words or votes; returns what was deleted."""
        held = await self.holdings(team, person)
        async with self.database.writing() as session:
            for record, who in (
                (Entry, col(Entry.author)),
                (Correction, col(Correction.author)),
                (Rating, col(Rating.rater)),
                (Question, col(Question.asker)),
                (Consent, col(Consent.person)),
            ):
                await session.exec(delete(record).where(col(record.team) == team, who == person))
        return held


def _consent(team: str, person: str) -> Any:
    return select(Consent).where(col(Consent.team) == team, col(Consent.person) == person)


def _rows(result: object) -> int:
    return int(getattr(result, "rowcount", 0) or 0)


def _differs(row: Entry, entry: NewEntry) -> bool:
    return (row.answer, row.split) != (entry.answer, entry.split or row.split)


def _entry_values(team: str, key: str, entry: NewEntry) -> dict[str, Any]:
    return {
        "id": new_id("e"),
        "team": team,
        "question": entry.question,
        "question_hash": key,
        "answer": entry.answer,
        "source": entry.source,
        "topic": entry.topic,
        "thread": entry.thread,
        "split": entry.split,
        "author": entry.author,
        "answer_id": entry.answer_id,
        "created_at": now(),
    }


def _feedback(
    question: Question,
    answer: Answer,
    candidate: Candidate,
    votes: dict[str, list[Vote]],
    corrections: dict[str, Correction],
) -> Feedback:
    correction = corrections.get(answer.id)
    return Feedback(
        answer_id=answer.id,
        question=question.text,
        asker=question.asker,
        thread=f"{question.channel}/{question.thread_ts}",
        messages=tuple(answer.messages),
        text=candidate.text,
        kind=candidate.kind,
        votes=tuple(votes.get(answer.id, ())),
        correction=correction.text if correction else None,
        corrector=correction.author if correction else "",
        may_train=bool(correction and correction.may_train),
        asked_at=question.asked_at,
    )
