"""What the store keeps of channels and of messages proposed as examples."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import or_
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from storage.database import Database
from storage.entries import stamp_entries
from storage.learnable import OFF
from storage.placeholders import PlaceholderStore, scope_of
from storage.records import (
    Answer,
    AnswerPart,
    ChannelSettings,
    Decision,
    Keepsake,
    Nomination,
    Question,
    now,
)

LEARNING = "learning"


class ChannelStore(PlaceholderStore):
    """Settings of channels, and nominations."""

    database: Database

    async def channel_settings(self, team: str, channel: str) -> ChannelSettings:
        """What holds in a channel; the defaults where nobody decided anything."""
        async with self.database.reading() as session:
            row = (await session.exec(_settings(team, channel))).first()
        return row or ChannelSettings(team=team, channel=channel)

    async def channels_with_settings(self, team: str) -> list[ChannelSettings]:
        """Every channel for which somebody decided something."""
        wanted = select(ChannelSettings).where(col(ChannelSettings.team) == team)
        async with self.database.reading() as session:
            return list((await session.exec(wanted.order_by(col(ChannelSettings.channel)))).all())

    async def set_channel(self, team: str, channel: str, *, by: str, **changes: Any) -> ChannelSettings:
        """Change what holds in a channel; `changes` are fields of `ChannelSettings`."""
        async with self.database.writing(alone=f"channel {team} {channel}") as session:
            row = (await session.exec(_settings(team, channel))).first()
            row = row or ChannelSettings(team=team, channel=channel)
            for name, value in changes.items():
                setattr(row, name, value)
            row.changed_by, row.changed_at = by, now()
            session.add(row)
            told = ", ".join(f"{name}={value!r}" for name, value in sorted(changes.items()))
            session.add(Decision(team=team, actor=by, action="channel", subject=channel, detail=told))
        return row

    async def set_learning(self, team: str, channel: str | None, on: bool, by: str) -> None:
        """Whether what is said in a channel (None: anywhere) may become training data, from the next dataset on.

        A channel learns only where the workspace does, too.
        """
        if channel is not None:
            await self.set_channel(team, channel, by=by, learning=on)
            return
        name = f"{LEARNING}:{team}"
        async with self.database.writing(alone=name) as session:
            await session.merge(Keepsake(name=name, value="on" if on else OFF))
            detail = f"learning={on!r}"
            session.add(Decision(team=team, actor=by, action="channel", subject="everywhere", detail=detail))

    async def may_learn(self, team: str, channel: str) -> bool:
        """Whether what is said in this channel may become training data."""
        async with self.database.reading() as session:
            kept = await session.get(Keepsake, f"{LEARNING}:{team}")
            row = (await session.exec(_settings(team, channel))).first()
        return (kept is None or kept.value != OFF) and (row is None or row.learning)

    async def nominate(self, nomination: Nomination, *, thread_ts: str = "") -> Nomination:
        """Keep a proposal; a second one by the same person for the same message replaces a waiting first.

        `thread_ts` is the thread in which the message stands, "" where it stands alone.
        """
        nomination.question, nomination.answer, nomination.topic = await self.strike(
            nomination.team,
            scope_of(nomination.channel, thread_ts or nomination.ts),
            *(nomination.question, nomination.answer, nomination.topic),
        )
        try:
            async with self.database.writing() as session:
                session.add(nomination)
            return nomination
        except IntegrityError:
            pass
        async with self.database.writing(alone=f"nomination {nomination.channel} {nomination.ts}") as session:
            where = (
                col(Nomination.team) == nomination.team,
                col(Nomination.channel) == nomination.channel,
                col(Nomination.ts) == nomination.ts,
                col(Nomination.nominator) == nomination.nominator,
            )
            known = (await session.exec(select(Nomination).where(*where))).first()
            if known is None:
                raise RuntimeError(f"nomination {nomination.id} neither stored nor known")
            for name in ("question", "answer", "topic", "authors", "waiting_for", "state", "refused_by"):
                setattr(known, name, getattr(nomination, name))
            known.nominated_at, known.settled_at = now(), None
            session.add(known)
        return known

    async def nomination(self, nomination_id: str) -> Nomination | None:
        """A nomination by its opaque id."""
        async with self.database.reading() as session:
            return await session.get(Nomination, nomination_id)

    async def allow_nomination(self, nomination_id: str, person: str) -> Nomination | None:
        """One of the authors agrees; the row as it stands then. None where it is gone."""
        return await self._settle(nomination_id, person, allowed=True)

    async def refuse_nomination(self, nomination_id: str, person: str) -> Nomination | None:
        """One of the authors says no: it is refused for good, and its words are deleted. None where it is gone."""
        return await self._settle(nomination_id, person, allowed=False)

    async def nomination_taken(self, nomination_id: str) -> bool:
        """It became an entry; True for exactly one caller."""
        async with self.database.writing(alone=f"nomination {nomination_id}") as session:
            row = await session.get(Nomination, nomination_id)
            if row is None or row.state != "waiting":
                return False
            row.state, row.settled_at = "taken", now()
            session.add(row)
            return True

    async def refused_at(self, team: str, channel: str, ts: str) -> bool:
        """Whether somebody said no to this message as an example before."""
        where = (*_nominations_at(team, channel, ts), col(Nomination.state) == "refused")
        async with self.database.reading() as session:
            return (await session.exec(select(Nomination.id).where(*where).limit(1))).first() is not None

    async def delete_nominations_at(self, team: str, channel: str, ts: str) -> bool:
        """A message is gone, and with it what was proposed or verified of it; True if there was any.

        Of a question that is what was proposed of its answer, too: to be called before the question is deleted.
        """
        question = (col(Question.team) == team, col(Question.channel) == channel, col(Question.ts) == ts)
        answers = (
            select(AnswerPart.ts)
            .join(Answer, col(Answer.id) == col(AnswerPart.answer_id))
            .join(Question, col(Question.id) == col(Answer.question_id))
            .where(*question)
        )
        place = (col(Nomination.team) == team, col(Nomination.channel) == channel)
        gone = or_(col(Nomination.ts) == ts, col(Nomination.ts).in_(answers))
        async with self.database.writing(alone=f"entries {team}") as session:
            found = list((await session.exec(select(Nomination).where(*place, gone))).all())
            for nomination in found:
                await session.delete(nomination)
            if any(nomination.state == "taken" for nomination in found):
                await stamp_entries(session, team, erased=True)
            return bool(found)

    async def nominated(self, team: str) -> dict[str, tuple[str, ...]]:
        """Whose words the examples hold that became one of a nomination, by the nomination's id."""
        wanted = select(Nomination).where(col(Nomination.team) == team, col(Nomination.state) == "taken")
        async with self.database.reading() as session:
            return {row.id: tuple(row.authors) for row in (await session.exec(wanted)).all()}

    async def _settle(self, nomination_id: str, person: str, *, allowed: bool) -> Nomination | None:
        async with self.database.writing(alone=f"nomination {nomination_id}") as session:
            row = await session.get(Nomination, nomination_id)
            if row is None or person not in row.authors:
                return None
            if allowed:
                row.waiting_for = _without(row.waiting_for, person)
            elif row.state == "waiting":
                row.state, row.refused_by, row.settled_at = "refused", person, now()
                row.question = row.answer = row.topic = ""
            session.add(row)
        return row


def _nominations_at(team: str, channel: str, ts: str) -> tuple[Any, ...]:
    return (col(Nomination.team) == team, col(Nomination.channel) == channel, col(Nomination.ts) == ts)


def _settings(team: str, channel: str) -> Any:
    return select(ChannelSettings).where(
        col(ChannelSettings.team) == team, col(ChannelSettings.channel) == channel
    )


def _without(people: Sequence[str], person: str) -> list[str]:
    return [each for each in people if each != person]
