"""What the store keeps of channels and of messages proposed as examples."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from storage.database import Database
from storage.records import ChannelSettings, Decision, Nomination, now


class ChannelStore:
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

    async def nominate(self, nomination: Nomination) -> Nomination:
        """Keep a proposal; a second one by the same person for the same message replaces a waiting first."""
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
        """One of the authors says no: it is refused for good. None where it is gone."""
        return await self._settle(nomination_id, person, allowed=False)

    async def nomination_taken(self, nomination_id: str) -> None:
        """It became an entry."""
        async with self.database.writing() as session:
            row = await session.get(Nomination, nomination_id)
            if row is not None:
                row.state, row.settled_at = "taken", now()
                session.add(row)

    async def _settle(self, nomination_id: str, person: str, *, allowed: bool) -> Nomination | None:
        async with self.database.writing(alone=f"nomination {nomination_id}") as session:
            row = await session.get(Nomination, nomination_id)
            if row is None or person not in row.authors:
                return None
            if allowed:
                row.waiting_for = _without(row.waiting_for, person)
            elif row.state == "waiting":
                row.state, row.refused_by, row.settled_at = "refused", person, now()
            session.add(row)
        return row


def _settings(team: str, channel: str) -> Any:
    return select(ChannelSettings).where(
        col(ChannelSettings.team) == team, col(ChannelSettings.channel) == channel
    )


def _without(people: Sequence[str], person: str) -> list[str]:
    return [each for each in people if each != person]
