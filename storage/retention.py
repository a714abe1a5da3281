"""What is kept how long: rows whose time is over go, at most 1,000 in a transaction, so that others write in between.

Three classes. *Raw* is what makes a text personal again, and what nobody needs once an answer stands: placeholders' map,
single presses, drafts, what models were shown beyond the question. *Conversations* nobody rated. *Rated* ones: what examples
are made of, and their context with them. Verified answers and the golden set have no end.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Text, and_, cast, delete, exists, func, or_, tuple_, update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.database import Database
from storage.records import (
    Answer,
    Correction,
    Decision,
    Duel,
    DuelPick,
    Entry,
    GoldenItem,
    Nomination,
    Placeholder,
    Question,
    QuestionState,
    Rating,
    RatingEvent,
    Review,
)

AT_ONCE = 1000  # rows
CONTEXTS_AT_ONCE = 500
RAW = ("placeholders", "presses", "drafts", "contexts")
CONVERSATIONS = ("conversations", "proposals")
RATED = ("rated conversations",)
RETENTION = "retention"
_FINISHED = (QuestionState.ANSWERED, QuestionState.DROPPED)

Retiring = Callable[[AsyncSession, str, datetime], Any]


class RetentionStore:
    """Rows whose time is over."""

    database: Database

    async def retire_some(self, team: str, kind: str, before: datetime) -> int:
        """Let some rows of a kind go that are older than this; how many, 0 once there are none left."""
        async with self.database.writing() as session:
            return int(await _KINDS[kind](session, team, before))

    async def last_retention(self, team: str) -> Decision | None:
        """What the last night let go."""
        where = (col(Decision.team) == team, col(Decision.action) == RETENTION)
        newest = select(Decision).where(*where).order_by(col(Decision.decided_at).desc()).limit(1)
        async with self.database.reading() as session:
            return (await session.exec(newest)).first()


async def _placeholders(session: AsyncSession, team: str, before: datetime) -> int:
    key = (col(Placeholder.team), col(Placeholder.scope), col(Placeholder.digest))
    old = select(*key).where(col(Placeholder.team) == team, col(Placeholder.made_at) < before).limit(AT_ONCE)
    rows = [tuple(row) for row in (await session.exec(old)).all()]
    if rows:
        await session.exec(delete(Placeholder).where(tuple_(*key).in_(rows)))
    return len(rows)


async def _presses(session: AsyncSession, team: str, before: datetime) -> int:
    return await _delete(
        session, RatingEvent, col(RatingEvent.team) == team, col(RatingEvent.pressed_at) < before
    )


async def _drafts(session: AsyncSession, team: str, before: datetime) -> int:
    old = (col(Question.team) == team, col(Question.draft_ts) != "", col(Question.state).in_(_FINISHED))
    ids = (
        await session.exec(select(Question.id).where(*old, col(Question.asked_at) < before).limit(AT_ONCE))
    ).all()
    if ids:
        await session.exec(update(Question).where(col(Question.id).in_(ids)).values(draft_ts=""))
    return len(ids)


async def _contexts(session: AsyncSession, team: str, before: datetime) -> int:
    """Of a rated answer the conversation before it stays, because an example is made of it; the rest goes."""
    dialect = (await session.connection()).dialect.name
    length = func.jsonb_array_length if dialect == "postgresql" else func.json_array_length
    shown = cast(col(Answer.messages), Text)
    more = or_(shown.like('%"role": "system"%'), shown.like('%"verified": true%'))
    spoken = and_(length(col(Answer.messages)) > 1, ~_valued(Answer.id))
    columns: Any = (Answer.id, Answer.messages, _valued(Answer.id))
    old = (col(Answer.team) == team, col(Answer.created_at) < before, or_(more, spoken))
    rows = (await session.exec(select(*columns).where(*old).limit(CONTEXTS_AT_ONCE))).all()
    for answer_id, messages, valued in rows:
        kept = [turn for turn in messages[:-1] if turn["role"] != "system" and not turn.get("verified")]
        values = {"messages": [*(kept if valued else []), {**messages[-1], "role": "user"}]}
        await session.exec(update(Answer).where(col(Answer.id) == answer_id).values(**values))
    return len(rows)


async def _conversations(session: AsyncSession, team: str, before: datetime) -> int:
    return await _delete_questions(session, team, before, ~_question_valued())


async def _rated(session: AsyncSession, team: str, before: datetime) -> int:
    golden = exists().where(
        col(GoldenItem.answer_id) == col(Answer.id), col(Answer.question_id) == col(Question.id)
    )
    return await _delete_questions(session, team, before, and_(_question_valued(), ~golden))


async def _proposals(session: AsyncSession, team: str, before: datetime) -> int:
    old = (col(Nomination.nominated_at) < before, col(Nomination.state) != "taken")
    return await _delete(session, Nomination, col(Nomination.team) == team, *old)


async def _delete(session: AsyncSession, record: type[Any], *where: Any) -> int:
    ids = (await session.exec(select(record.id).where(*where).limit(AT_ONCE))).all()
    if ids:
        await session.exec(delete(record).where(record.id.in_(ids)))
    return len(ids)


async def _delete_questions(session: AsyncSession, team: str, before: datetime, which: Any) -> int:
    """With all that hangs on them, which is a few rows each."""
    old = (col(Question.team) == team, col(Question.asked_at) < before, col(Question.state).in_(_FINISHED))
    ids = (await session.exec(select(Question.id).where(*old, which).limit(AT_ONCE // 5))).all()
    if ids:
        await session.exec(delete(Question).where(col(Question.id).in_(ids)))
    return len(ids)


def _valued(answer_id: Any) -> Any:
    """Whether anybody rated, corrected, reviewed or verified an answer."""
    return or_(
        exists().where(col(Rating.answer_id) == col(answer_id), col(Rating.value) != 0),
        exists().where(col(Correction.answer_id) == col(answer_id)),
        exists().where(col(Entry.answer_id) == col(answer_id)),
        exists().where(col(Review.answer_id) == col(answer_id)),
        exists().where(col(GoldenItem.answer_id) == col(answer_id)),
    )


def _question_valued() -> Any:
    picked = exists().where(col(Duel.question_id) == col(Question.id), col(DuelPick.duel_id) == col(Duel.id))
    valued = exists().where(col(Answer.question_id) == col(Question.id), _valued(Answer.id))
    return or_(picked, valued)


_KINDS: Mapping[str, Retiring] = {
    "placeholders": _placeholders,
    "presses": _presses,
    "drafts": _drafts,
    "contexts": _contexts,
    "conversations": _conversations,
    "proposals": _proposals,
    "rated conversations": _rated,
}
