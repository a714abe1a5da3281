"""Tells the admin channel before a provider switches off the model that is configured, or a fine-tune that is promoted.

Three months, one month, one week and one day ahead, and when it is gone; each of these is told once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol, runtime_checkable

import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.errors import ModelUnavailable
from bot.slack.blocks import section
from bot.slack.trouble import UNREACHABLE, reason_of
from storage.records import now
from storage.store import Store

Served = Callable[[], Awaitable[Sequence[tuple[str, object]]]]
"""The fine-tunes that are promoted, with their versions' names."""
AHEAD_DAYS = (90, 30, 7, 1, 0)
SETTINGS: Mapping[str, str] = {"openai": "OPENAI_MODEL", "gemini": "GEMINI_MODEL"}

log = structlog.get_logger(__name__)


@runtime_checkable
class Ending(Protocol):
    """An API model that may be told when it ends."""

    @property
    def kind(self) -> str:
        """ "openai" or "gemini"."""

    @property
    def label(self) -> str:
        """The model's name."""

    async def ends_on(self) -> date | None:
        """The day on which the provider switches it off; None where it does not say. Raises ModelUnavailable."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A model ends; `level` is the number of AHEAD_DAYS that has been reached, `version` a fine-tune's name, else ""."""

    kind: str
    model: str
    ends: date
    level: int
    left_days: int
    version: str = ""


def due(model: Ending, ends: date, today: date, version: str = "") -> Notice | None:
    """What is to be told today of a model that ends then; None while it is far away. Pure."""
    left = max(0, (ends - today).days)
    reached = [level for level in AHEAD_DAYS if left <= level]
    return Notice(model.kind, model.label, ends, min(reached), left, version) if reached else None


def words(notice: Notice) -> str:
    """What admins read."""
    when = f"{notice.ends.day} {notice.ends:%B %Y}"
    name, remedy = notice.model, f"Set {SETTINGS.get(notice.kind, 'its setting')} to another model"
    if notice.version:
        name, remedy = (
            f"{notice.version} ({notice.model})",
            "Promote another version, or `/apprentice rollback`",
        )
    elif notice.left_days == 0:
        remedy += " and restart me"
    if notice.left_days == 0:
        return f":hourglass: {name} was to be switched off on {when}. {remedy}; until then the other models answer."
    days = "tomorrow" if notice.left_days == 1 else f"in {notice.left_days} days"
    restart = "" if notice.version else ", and restart me"
    return (
        f":hourglass: {name} will be switched off by its provider on {when}, {days}. {remedy} before{restart}. "
        f"`/apprentice distil {notice.version or notice.kind}` keeps what it knows: the local model learns its answers to "
        "your questions."
    )


class Shutdowns:
    """Asks the providers now and then, and posts what nobody posted before."""

    def __init__(
        self,
        store: Store,
        client: AsyncWebClient,
        models: Mapping[str, object],
        *,
        team: str,
        channel: str,
        served: Served | None = None,
    ) -> None:
        self._store = store
        self._client = client
        self._models = [("", model) for model in models.values() if isinstance(model, Ending)]
        self._served = served
        self._team = team
        self._channel = channel
        self._looking: asyncio.Task[None] | None = None

    def tick(self) -> None:
        """Look, in a task of our own: a provider may take its time."""
        if self._channel and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self.look(), name="shutdowns")

    async def stop(self) -> None:
        """Leave off."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def look(self) -> None:
        """Ask each provider once, and tell."""
        served = await self._served() if self._served is not None else ()
        models = [*self._models, *((name, model) for name, model in served if isinstance(model, Ending))]
        for version, model in models:
            try:
                ends = await model.ends_on()
            except ModelUnavailable as error:
                log.info("the end of a model is not known", model=model.label, why=str(error))
                continue
            found = due(model, ends, now().date(), version) if ends is not None else None
            if found is not None:
                await self._tell(found)

    async def _tell(self, notice: Notice) -> None:
        key = (self._team, f"end:{notice.kind}:{notice.model}", notice.ends.isoformat(), notice.level)
        if not await self._store.notice(*key):
            return
        said = words(notice)
        try:
            posted = await self._client.chat_postMessage(
                channel=self._channel, text=said, blocks=[section(said)]
            )
        except (SlackApiError, *UNREACHABLE) as error:
            log.warning("the end of a model was not told", model=notice.model, error=reason_of(error))
            await self._store.unnoticed(*key)
            return
        await self._store.noticed(*key, str(posted["ts"]))
