"""What people said about answers, what they allowed, and what is verified."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from storage.database import Database
from storage.placeholders import PlaceholderStore
from storage.records import (
    Answer,
    Candidate,
    Consent,
    Correction,
    Decision,
    Question,
    Rating,
    RatingEvent,
    Review,
    Solicitation,
    new_id,
    now,
)
from storage.rows import insert_rows, insert_values, new_row, table_of

_THIS: Any = bindparam("this")
_OF_BOTH: Any = (Answer.team, Rating.id, Rating.value, Rating.reason, Rating.via, Rating.rated_at)
_THEIRS = and_(col(Rating.answer_id) == col(Answer.id), col(Rating.rater) == bindparam("by"))
_KNOWN = select(*_OF_BOTH).outerjoin(Rating, _THEIRS).where(col(Answer.id) == _THIS)
"""The workspace of an answer, with what a person thought of it until now."""
_CHANGED = update(table_of(Rating)).where(col(Rating.id) == _THIS)

PAGE = 2000
QUOTABLE = 20  # characters
ASK_AGAIN = timedelta(days=1)


class Press(StrEnum):
    """What became of a press: it counts; it was made before what counts, or came twice; the answer is not there."""

    COUNTS = "counts"
    OVERTAKEN = "overtaken"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's rating of an answer."""

    rater: str
    value: int


@dataclass(frozen=True, slots=True)
class Rated:
    """One person's rating with what was asked and answered."""

    rating: Rating
    question: Question
    candidate: Candidate


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


class FeedbackStore(PlaceholderStore):
    """Ratings, corrections, consent and verified entries."""

    database: Database

    async def rate(
        self,
        answer_id: str,
        *,
        team: str,
        rater: str,
        value: int,
        reason: str = "",
        at: datetime | None = None,
        via: str = "button",
    ) -> Press:
        """Set a person's rating of an answer; the last one wins. `value` is +1 or -1, or 0 to take the vote back.

        `at` is when it was pressed (None: now): presses that overtake one another still end with the last. Every press is
        kept beside the rating that counts; the same press delivered again is kept once.
        """
        pressed_at = at or now()
        (reason,) = await self.strike_about(answer_id, reason)
        press = new_row(
            Rating,
            answer_id=answer_id,
            team=team,
            rater=rater,
            value=value,
            reason=reason,
            via=via,
            rated_at=pressed_at,
        )
        return await self.database.at_once(
            partial(_press, press, is_timed=at is not None), alone=f"rating {answer_id} {rater}"
        )

    async def withdraw_rating(
        self,
        answer_id: str,
        *,
        rater: str,
        value: int | None = None,
        at: datetime | None = None,
        via: str = "button",
    ) -> bool:
        """Take a rating back; True if there was one. With `value`, only a vote of that value: another one stays.

        A vote that was given before `at` and arrives after it does not count any more.
        """
        taken_at = at or now()
        press = new_row(
            Rating, answer_id=answer_id, team="", rater=rater, value=0, via=via, rated_at=taken_at
        )
        return await self.database.at_once(
            partial(_take_back, press, value), alone=f"rating {answer_id} {rater}"
        )

    async def rating_of(self, answer_id: str, *, rater: str) -> Rating | None:
        """This person's rating of this answer; None where there is none or it was taken back."""
        async with self.database.reading() as session:
            row = (await session.exec(_rating(answer_id, rater))).first()
            return row if row is not None and row.value != 0 else None

    async def ratings_by(self, team: str, person: str, *, limit: int = 10) -> list[Rated]:
        """What a person thinks of which answers, the newest first."""
        wanted = (
            select(Rating, Question, Candidate)
            .join(Answer, col(Answer.id) == col(Rating.answer_id))
            .join(Question, col(Question.id) == col(Answer.question_id))
            .join(Candidate, col(Candidate.id) == col(Answer.candidate_id))
            .where(col(Rating.team) == team, col(Rating.rater) == person, col(Rating.value) != 0)
            .order_by(col(Rating.rated_at).desc())
            .limit(limit)
        )
        async with self.database.reading() as session:
            return [Rated(*row) for row in (await session.exec(wanted)).all()]

    async def solicit(self, answer_id: str, *, team: str, person: str, probability: float, day: str) -> bool:
        """Claim the one request for a rating that a person gets on a day; True exactly once."""
        row = Solicitation(answer_id=answer_id, team=team, person=person, probability=probability, day=day)
        try:
            async with self.database.writing() as session:
                session.add(row)
            return True
        except IntegrityError:
            return False

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
        text, reason = await self.strike_about(answer_id, text, reason)
        async with self.database.writing(alone=f"correction {answer_id} {author}") as session:
            where = (col(Correction.answer_id) == answer_id, col(Correction.author) == author)
            known = (await session.exec(select(Correction).where(*where))).first()
            row = known or Correction(answer_id=answer_id, team=team, author=author, text=text)
            row.text, row.reason, row.may_train, row.corrected_at = text, reason, may_train, now()
            session.add(row)
            # What was reviewed was another text: whoever was approved once must not be able to slip in the next.
            await session.exec(delete(Review).where(col(Review.answer_id) == answer_id))
        return row

    async def consent(self, team: str, person: str) -> bool | None:
        """True or False as the person decided; None while they have not."""
        async with self.database.reading() as session:
            row = (await session.exec(consent_row(team, person))).first()
            return row.granted if row and row.decided_at else None

    async def set_consent(self, team: str, person: str, granted: bool) -> None:
        """Write down what a person decided about their own words."""
        async with self.database.writing(alone=f"consent {team} {person}") as session:
            row = (await session.exec(consent_row(team, person))).first()
            row = row or Consent(team=team, person=person, granted=granted)
            row.granted, row.decided_at = granted, now()
            session.add(row)
            session.add(
                Decision(
                    team=team, actor=person, action="consent", detail="given" if granted else "withdrawn"
                )
            )

    async def never_learn_from(self, team: str, person: str) -> None:
        """Somebody of another workspace is not asked: their words never become training data."""
        async with self.database.writing(alone=f"consent {team} {person}") as session:
            row = (await session.exec(consent_row(team, person))).first()
            if row is None or row.granted or row.decided_at is None:
                row = row or Consent(team=team, person=person, granted=False)
                row.granted, row.decided_at = False, now()
                session.add(row)

    async def first_time_asked_for_consent(self, team: str, person: str) -> bool:
        """True for exactly one caller, who then asks the person and says so with `consent_shown`.

        Where that never followed, the asking got lost, and after a day somebody else is told to ask.
        """
        async with self.database.writing(alone=f"consent {team} {person}") as session:
            row = (await session.exec(consent_row(team, person))).first()
            if row is not None and (row.decided_at or row.shown_at or now() - row.asked_at < ASK_AGAIN):
                return False
            row = row or Consent(team=team, person=person, granted=False)
            row.asked_at = now()
            session.add(row)
            return True

    async def consent_shown(self, team: str, person: str) -> None:
        """The question for consent stands before the person: nobody asks it again."""
        async with self.database.writing(alone=f"consent {team} {person}") as session:
            row = (await session.exec(consent_row(team, person))).first()
            if row is not None:
                row.shown_at = now()
                session.add(row)

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
            ratings = select(Rating).where(col(Rating.team) == team, col(Rating.value) != 0)
            for rating in (await session.exec(ratings.order_by(col(Rating.rater)))).all():
                votes.setdefault(rating.answer_id, []).append(Vote(rating.rater, rating.value))
            corrections: dict[str, Correction] = {}
            newest = select(Correction).where(col(Correction.team) == team)
            for correction in (await session.exec(newest.order_by(col(Correction.corrected_at)))).all():
                corrections[correction.answer_id] = correction
        return [_feedback(*row, votes, corrections) for row in rows]

    async def refusing(self, team: str) -> set[str]:
        """The people who said that their words may not become training data."""
        async with self.database.reading() as session:
            said_no = (col(Consent.granted).is_(False), col(Consent.decided_at).is_not(None))
            rows = await session.exec(select(Consent.person).where(col(Consent.team) == team, *said_no))
            return set(rows.all())

    async def consenting(self, team: str) -> set[str]:
        """The people whose words may become training data."""
        async with self.database.reading() as session:
            rows = await session.exec(
                select(Consent.person).where(col(Consent.team) == team, col(Consent.granted).is_(True))
            )
            return set(rows.all())


def _press(press: Rating, connection: Connection, *, is_timed: bool) -> Press:
    known = connection.execute(_KNOWN, {"this": press.answer_id, "by": press.rater}).first()
    if known is None:
        return Press.GONE
    if (known.rated_at, known.value, known.via) == (press.rated_at, press.value, press.via):
        return Press.OVERTAKEN
    _keep_press(press, connection)
    if is_timed and known.rated_at is not None and press.rated_at < known.rated_at:
        return Press.OVERTAKEN
    if known.value == press.value:
        press.reason = press.reason or known.reason  # of the other thumb it would be the wrong reason
    _count(press, known.id, connection)
    return Press.COUNTS


def _take_back(press: Rating, value: int | None, connection: Connection) -> bool:
    known = connection.execute(_KNOWN, {"this": press.answer_id, "by": press.rater}).first()
    if known is None:
        return False
    if known.id is not None and (known.rated_at > press.rated_at or value not in {None, known.value}):
        return False
    press.team = known.team
    there_was = bool(known.value)
    if there_was:
        _keep_press(press, connection)
    _count(press, known.id, connection)
    return there_was


def _count(press: Rating, known: str | None, connection: Connection) -> None:
    """From now on this is what the person thinks; `known` is the id of what they thought before."""
    if known is None:
        insert_rows(connection, press)
        return
    values = {"value": press.value, "reason": press.reason, "via": press.via, "rated_at": press.rated_at}
    connection.execute(_CHANGED, {"this": known, **values})


def _keep_press(press: Rating, connection: Connection) -> None:
    kept = {"answer_id": press.answer_id, "team": press.team, "rater": press.rater, "value": press.value}
    when = {"via": press.via, "pressed_at": press.rated_at}
    insert_values(connection, RatingEvent, {"id": new_id("press"), **kept, **when})


def _rating(answer_id: str, rater: str) -> Any:
    return select(Rating).where(col(Rating.answer_id) == answer_id, col(Rating.rater) == rater)


def consent_row(team: str, person: str) -> Any:
    """The query for what a person decided."""
    return select(Consent).where(col(Consent.team) == team, col(Consent.person) == person)


def _rows(result: object) -> int:
    return int(getattr(result, "rowcount", 0) or 0)


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
