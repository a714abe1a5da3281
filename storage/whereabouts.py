"""Where the words of a dataset's rows were said, so that those of private places stay on this machine; their topics, and who
stands behind their answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import col, select

from storage.database import Database
from storage.records import (
    Answer,
    ChannelSettings,
    Correction,
    Duel,
    Entry,
    GoldenItem,
    Nomination,
    Question,
    Rating,
)

_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """`place` is Slack's kind of conversation as `Question.place`, "" where nobody knows it any more; `policy` what an admin
    chose for its channel, "" where nothing. What was written down or imported was said nowhere (`said` is false)."""

    said: bool = True
    place: str = ""
    policy: str = ""
    topic: str = ""


class WhereaboutsStore:
    """Places of what rows of datasets were made from."""

    database: Database

    async def whereabouts(self, team: str, subjects: Sequence[str]) -> dict[str, Whereabouts]:
        """By subject (the id of an Answer, an Entry, a Duel or a golden item). Who is gone was said somewhere."""
        found = {subject: Whereabouts() for subject in subjects}
        policies = await self._policies(team)
        for start in range(0, len(subjects), _AT_ONCE):
            part = list(subjects[start : start + _AT_ONCE])
            for subject, whereabouts in (await self._of(part, policies)).items():
                found[subject] = whereabouts
        return found

    async def vouchers(self, team: str, subjects: Sequence[str]) -> dict[str, str]:
        """By subject the person who wrote its answer, or else was the first to like it; who has nobody is left out."""
        found: dict[str, str] = {}
        for start in range(0, len(subjects), _AT_ONCE):
            found |= await self._vouchers(team, list(subjects[start : start + _AT_ONCE]))
        return found

    async def _vouchers(self, team: str, subjects: list[str]) -> dict[str, str]:
        liked: Any = select(col(Rating.answer_id), col(Rating.rater)).where(
            col(Rating.team) == team, col(Rating.answer_id).in_(subjects), col(Rating.value) > 0
        )
        wrote: Any = select(col(Correction.answer_id), col(Correction.author)).where(
            col(Correction.team) == team, col(Correction.answer_id).in_(subjects)
        )
        entered: Any = select(col(Entry.id), col(Entry.author)).where(
            col(Entry.team) == team, col(Entry.id).in_(subjects), col(Entry.author) != ""
        )
        golden = select(GoldenItem).where(col(GoldenItem.team) == team, col(GoldenItem.id).in_(subjects))
        found: dict[str, str] = {}
        async with self.database.reading() as session:
            for wanted in (
                liked.order_by(col(Rating.rated_at).desc(), col(Rating.id).desc()),
                wrote.order_by(col(Correction.corrected_at), col(Correction.id)),
                entered,
            ):
                found.update(dict((await session.exec(wanted)).all()))
            for item in (await session.exec(golden)).all():
                if people := [*item.authors, *item.approvals]:
                    found[item.id] = people[0]
        return found

    async def _policies(self, team: str) -> dict[str, str]:
        wanted = select(ChannelSettings.channel, ChannelSettings.policy).where(
            col(ChannelSettings.team) == team
        )
        async with self.database.reading() as session:
            return dict((await session.exec(wanted)).all())

    async def _of(self, subjects: list[str], policies: dict[str, str]) -> dict[str, Whereabouts]:
        of_question: Any = (col(Question.place), col(Question.channel))
        answers = select(col(Answer.id), *of_question).join(Question, col(Question.id) == Answer.question_id)
        duels = select(col(Duel.id), *of_question).join(Question, col(Question.id) == Duel.question_id)
        entries: Any = select(
            col(Entry.id), col(Entry.topic), col(Entry.answer_id), col(Entry.author), *of_question
        )
        entries = (
            entries.outerjoin(Answer, col(Answer.id) == Entry.answer_id)
            .outerjoin(Question, col(Question.id) == Answer.question_id)
            .where(col(Entry.id).in_(subjects))
        )
        nominated = (
            select(col(Entry.id), col(Nomination.channel))
            .join(Nomination, col(Nomination.id) == Entry.nomination_id)
            .where(col(Entry.id).in_(subjects))
        )
        golden = select(col(GoldenItem.id)).where(col(GoldenItem.id).in_(subjects))
        found: dict[str, Whereabouts] = {}
        async with self.database.reading() as session:
            for wanted, ids in ((answers, col(Answer.id)), (duels, col(Duel.id))):
                for subject, place, channel in (await session.exec(wanted.where(ids.in_(subjects)))).all():
                    found[subject] = Whereabouts(place=place, policy=policies.get(channel, ""))
            for subject, topic, answer, author, place, channel in (await session.exec(entries)).all():
                said = bool(answer or author)
                found[subject] = Whereabouts(said, place or "", policies.get(channel or "", ""), topic)
            for subject, channel in (await session.exec(nominated)).all():
                topic = found[subject].topic if subject in found else ""
                found[subject] = Whereabouts(True, "", policies.get(channel, ""), topic)
            for subject in (await session.exec(golden)).all():
                found[subject] = Whereabouts(said=False)
        return found
