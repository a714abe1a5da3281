"""What an admin may review: candidates for the next dataset in the order of what they are worth, a tier after the other.

A candidate is an answer that people corrected or liked, or an entry that came of what people wrote. Imports are not among
them: whoever imports has read them. Each tier is read by the newest first, with a place to go on from; what may not be
learned from anyway (no consent, a switch that is off, held out as golden) never comes up.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from sqlalchemy import and_, exists, func, or_
from sqlalchemy.orm import aliased
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.entries import HELD_OUT, question_hash
from storage.learnable import OFF
from storage.records import (
    Answer,
    Candidate,
    ChannelSettings,
    Consent,
    Correction,
    Entry,
    GoldenItem,
    GoldenState,
    Keepsake,
    Nomination,
    Question,
    Rating,
    Review,
)

RARE = 3
"""A topic with at most so many entries is rare: one more good answer there is worth more than elsewhere."""
KEY = 32  # digits of a question's hash

CORRECTED, DISPUTED, RARE_TOPIC, LIKED, PROPOSED = "correction", "disputed", "rare topic", "liked", "proposed"


@dataclass(frozen=True, slots=True)
class Reviewable:
    """A candidate with all that a reviewer needs; votes are counts, nobody reads whose.

    `why` is its tier, `before` the answer that a correction replaces, `given_by` the kind of model that gave it ("" for a
    person's), `place` where it stands in the order. `authors` are the people whose words it holds.
    """

    subject: str
    why: str
    question: str
    answer: str
    place: str
    at: datetime
    before: str = ""
    reason: str = ""
    up: int = 0
    down: int = 0
    given_by: str = ""
    source: str = ""
    topic: str = ""
    authors: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The question's key in datasets."""
        return question_hash(self.question)[:KEY]


@dataclass(frozen=True, slots=True)
class _Place:
    """A tier, and the last candidate of it that was read."""

    tier: int = 0
    at: datetime | None = None
    subject: str = ""

    @classmethod
    def read(cls, written: str) -> Self:
        if not written:
            return cls()
        tier, at, subject = written.split("/")
        return cls(int(tier), datetime.fromisoformat(at), subject)

    def __str__(self) -> str:
        return f"{self.tier}/{self.at.isoformat() if self.at else ''}/{self.subject}"


@dataclass(frozen=True, slots=True)
class _Barred:
    """What is not in SQL: keys of the golden set, and people who refuse that their words are learned from."""

    golden: frozenset[str]
    refusing: frozenset[str]

    def bars(self, found: Reviewable) -> bool:
        return found.key in self.golden or not self.refusing.isdisjoint(found.authors)


async def waiting(session: AsyncSession, team: str, *, limit: int, after: str) -> list[Reviewable]:
    """The next candidates that nobody reviewed, the most valuable first."""
    found: list[Reviewable] = []
    if await _switched_off(session, team):
        return found
    barred = await _barred(session, team)
    place = _Place.read(after)
    while place.tier < len(_TIERS) and len(found) < limit:
        tier = _TIERS[place.tier]
        wanted = tier.query(team, "").where(_unreviewed(team, tier.subject), *_behind(tier, place))
        rows = (
            await session.exec(wanted.order_by(tier.at.desc(), tier.subject).limit(limit - len(found)))
        ).all()
        read = [tier.row(place.tier, row) for row in rows]
        found += [each for each in read if not barred.bars(each)]
        place = _Place.read(read[-1].place) if read else _Place(place.tier + 1)
    return found


async def one(session: AsyncSession, team: str, subject: str) -> Reviewable | None:
    """A candidate by the id of its answer or entry, reviewed or not; None where it is none any more."""
    if await _switched_off(session, team):
        return None
    barred = await _barred(session, team)
    for number, tier in enumerate(_TIERS):
        row = (await session.exec(tier.query(team, subject).where(tier.subject == subject))).first()
        if row is not None:
            found = tier.row(number, row)
            return None if barred.bars(found) else found
    return None


async def owner_of(session: AsyncSession, team: str, subject: str) -> tuple[str | None, str | None]:
    """The answer or the entry with this id: (id, None) or (None, id), and (None, None) where it is neither."""
    answer = await session.get(Answer, subject) if subject else None
    if answer is not None and answer.team == team:
        return subject, None
    entry = await session.get(Entry, subject) if subject else None
    return (None, subject) if entry is not None and entry.team == team else (None, None)


async def _switched_off(session: AsyncSession, team: str) -> bool:
    kept = await session.get(Keepsake, f"learning:{team}")
    return kept is not None and kept.value == OFF


async def _barred(session: AsyncSession, team: str) -> _Barred:
    golden = select(GoldenItem.key).where(
        col(GoldenItem.team) == team, col(GoldenItem.state) != GoldenState.RETIRED
    )
    refusing = select(Consent.person).where(
        col(Consent.team) == team, col(Consent.granted).is_(False), col(Consent.decided_at).is_not(None)
    )
    return _Barred(
        frozenset((await session.exec(golden)).all()), frozenset((await session.exec(refusing)).all())
    )


@dataclass(frozen=True, slots=True)
class _Tier:
    """One kind of candidates: their query (of a team, for one candidate or all), what orders it, how a row of it is read."""

    query: Callable[[str, str], Any]
    subject: Any
    at: Any
    row: Callable[[int, Any], Reviewable]


def _behind(tier: _Tier, place: _Place) -> Iterator[Any]:
    if place.at is not None:
        yield or_(tier.at < place.at, and_(tier.at == place.at, tier.subject > place.subject))


def _unreviewed(team: str, subject: Any) -> Any:
    return ~exists().where(col(Review.team) == team, col(Review.subject) == subject)


def _consenting(team: str) -> Any:
    return select(Consent.person).where(col(Consent.team) == team, col(Consent.granted).is_(True))


def _no_learning(team: str) -> Any:
    """Channels where learning is switched off."""
    return select(ChannelSettings.channel).where(
        col(ChannelSettings.team) == team, col(ChannelSettings.learning).is_(False)
    )


# --- Answers ------------------------------------------------------------------------------------------------


def _votes(sign: int) -> Any:
    votes = select(func.count()).select_from(Rating).where(col(Rating.answer_id) == col(Answer.id))
    return votes.where(col(Rating.value) * sign > 0).correlate(Answer).scalar_subquery()


def _answers(team: str, *more: Any) -> Any:
    columns: Any = (
        *(Answer.id, Question.text, Question.asker, Question.asked_at, Candidate.text, Candidate.kind),
        *(Candidate.source, _votes(1), _votes(-1), *more),
    )
    return (
        select(*columns)
        .select_from(Answer)
        .join(Question, col(Question.id) == col(Answer.question_id))
        .join(Candidate, col(Candidate.id) == col(Answer.candidate_id))
        .where(
            col(Question.asker).in_(_consenting(team)),
            col(Question.channel).not_in(_no_learning(team)),
        )
    )


def _corrected(team: str, subject: str) -> Any:
    """Answers whose newest correction may be learned from."""
    newer = aliased(Correction)
    later = or_(
        col(newer.corrected_at) > col(Correction.corrected_at),
        and_(col(newer.corrected_at) == col(Correction.corrected_at), col(newer.id) > col(Correction.id)),
    )
    overtaken = exists().where(col(newer.answer_id) == col(Correction.answer_id), later)
    columns = (Correction.text, Correction.author, Correction.reason)
    written = select(Correction.answer_id).where(col(Correction.team) == team)
    return (
        _answers(team, *columns)
        .join(Correction, col(Correction.answer_id) == col(Answer.id))
        # By these few ids and not by the team of the question: SQLite would rather read every question of the team.
        .where(col(Answer.id).in_(_only(written, Correction, subject)))
        .where(col(Correction.may_train).is_(True), col(Correction.author).in_(_consenting(team)), ~overtaken)
    )


def _disputed(team: str, subject: str) -> Any:
    """Answers that more people liked than not, but not all."""
    against = select(Rating.answer_id).where(col(Rating.team) == team, col(Rating.value) < 0)
    return _liked_more(_answers(team)).where(col(Answer.id).in_(_only(against, Rating, subject)))


def _liked(team: str, _subject: str) -> Any:
    """Answers that people liked and nobody disliked."""
    against = exists().where(col(Rating.answer_id) == col(Answer.id), col(Rating.value) < 0)
    return _liked_more(_answers(team)).where(col(Question.team) == team, ~against)


def _liked_more(answers: Any) -> Any:
    votes = select(func.sum(col(Rating.value))).where(col(Rating.answer_id) == col(Answer.id))
    uncorrected = ~exists().where(col(Correction.answer_id) == col(Answer.id))
    return answers.where(votes.correlate(Answer).scalar_subquery() > 0, uncorrected)


def _only(ids: Any, record: Any, subject: str) -> Any:
    return ids.where(col(record.answer_id) == subject) if subject else ids


def _corrected_row(tier: int, row: Any) -> Reviewable:
    subject, question, asker, at, said, _, source, up, down, better, corrector, reason = row
    return Reviewable(
        subject=subject,
        why=CORRECTED,
        question=question,
        answer=better,
        place=str(_Place(tier, at, subject)),
        at=at,
        before=said,
        reason=reason,
        up=up,
        down=down,
        source=source,
        authors=tuple(sorted({asker, corrector})),
    )


def _rated_row(why: str) -> Callable[[int, Any], Reviewable]:
    def read(tier: int, row: Any) -> Reviewable:
        subject, question, asker, at, said, kind, source, up, down = row
        return Reviewable(
            subject=subject,
            why=why,
            question=question,
            answer=said,
            place=str(_Place(tier, at, subject)),
            at=at,
            up=up,
            down=down,
            given_by=kind,
            source=source,
            authors=(asker,),
        )

    return read


# --- Entries ------------------------------------------------------------------------------------------------


def _rare(team: str, _subject: str) -> Any:
    return _entries(team, rare=True)


def _common(team: str, _subject: str) -> Any:
    return _entries(team, rare=False)


def _entries(team: str, *, rare: bool) -> Any:
    """Entries made of what people wrote; those of an answer that is still there come up with the answer."""
    topics = select(Entry.topic).where(col(Entry.team) == team, col(Entry.topic) != "")
    few = topics.group_by(col(Entry.topic)).having(func.count() <= RARE)
    columns: Any = (
        *(Entry.id, Entry.question, Entry.answer, Entry.created_at, Entry.source, Entry.topic),
        *(Entry.author, Nomination.authors),
    )
    written = or_(
        col(Entry.nomination_id).is_not(None),
        and_(col(Entry.author) != "", col(Entry.author).in_(_consenting(team))),
    )
    channel = func.coalesce(col(Nomination.channel), "")
    return (
        select(*columns)
        .select_from(Entry)
        .outerjoin(Nomination, col(Nomination.id) == col(Entry.nomination_id))
        .where(
            col(Entry.team) == team,
            col(Entry.answer_id).is_(None),
            col(Entry.split) != HELD_OUT,
            written,
            channel.not_in(_no_learning(team)),
            col(Entry.topic).in_(few) if rare else col(Entry.topic).not_in(few),
        )
    )


def _entry_row(why: str) -> Callable[[int, Any], Reviewable]:
    def read(tier: int, row: Any) -> Reviewable:
        subject, question, answer, at, source, topic, author, authors = row
        return Reviewable(
            subject=subject,
            why=why,
            question=question,
            answer=answer,
            place=str(_Place(tier, at, subject)),
            at=at,
            source=source,
            topic=topic,
            authors=tuple(authors or ([author] if author else [])),
        )

    return read


_TIERS = (
    _Tier(_corrected, col(Answer.id), col(Question.asked_at), _corrected_row),
    _Tier(_disputed, col(Answer.id), col(Question.asked_at), _rated_row(DISPUTED)),
    _Tier(_rare, col(Entry.id), col(Entry.created_at), _entry_row(RARE_TOPIC)),
    _Tier(_liked, col(Answer.id), col(Question.asked_at), _rated_row(LIKED)),
    _Tier(_common, col(Entry.id), col(Entry.created_at), _entry_row(PROPOSED)),
)
"""The most valuable first."""
