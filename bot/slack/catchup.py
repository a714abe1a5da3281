"""What was said while Slack could not reach us: read once, and taken as if it had just been said.

Slack does not queue events for an app that is not there. After a start, and after a time without any connection, the
direct messages, channels and threads in which somebody asked lately are read from that moment on. What is found goes the
way of events, where a question already known stays one question. Texts that ask us nothing are not kept, and deletions
are not searched for.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.slack.trouble import UNREACHABLE, reason_of
from storage.records import Question, now
from storage.store import Store

LATELY = timedelta(days=1)
THREADS = 50
PAGE, PAGES = 200, 5
AT_ONCE, PACE_S = 10, 1.2
"""After so many calls there is a pause before each: conversations.history and .replies allow some fifty a minute."""
AGAIN_AFTER_S = (5.0, 30.0, 120.0, 600.0)
CLOCKS_APART = timedelta(seconds=5)
NOTE_EVERY = timedelta(seconds=15)
KEEPSAKE = "slack heard at"

Json = dict[str, Any]
Take = Callable[[Mapping[str, Any]], Awaitable[object]]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Caught:
    """What one look back came to: conversations and threads read, and messages handed on."""

    read: int
    taken: int


class CatchUp:
    """Looks back; `take` is given each message that may ask us something, as the event it would have been."""

    def __init__(
        self,
        store: Store,
        client: AsyncWebClient,
        *,
        team: str,
        bot_user: str,
        late_limit_s: float,
        take: Take,
        pace_s: float = PACE_S,
    ) -> None:
        self._store = store
        self._client = client
        self._team = team
        self._bot_user = bot_user
        self._late_limit = timedelta(seconds=late_limit_s)
        self._take = take
        self._pace_s = pace_s
        self._one_at_a_time = asyncio.Lock()
        self._noted: datetime | None = None

    async def note(self, heard_at: datetime, *, always: bool = False) -> None:
        """Slack could reach us then. Kept a few times a minute, so that the next start knows where to look back to."""
        if not always and self._noted is not None and heard_at - self._noted < NOTE_EVERY:
            return
        self._noted = heard_at
        await self._store.keepsake(KEEPSAKE, lambda: "")
        await self._store.change_keepsake(KEEPSAKE, heard_at.isoformat())

    async def after_start(self) -> None:
        """Look back to the moment when Slack could last reach us; a bot that never ran before looks at nothing."""
        kept = await self._store.keepsake(KEEPSAKE, lambda: "")
        if kept:
            await self.after_gap(datetime.fromisoformat(kept))

    async def after_gap(self, since: datetime) -> None:
        """Look back, and once more after a while where Slack is not reached."""
        for pause_s in (*AGAIN_AFTER_S, None):
            try:
                caught = await self.look_back(since)
            except UNREACHABLE as error:
                log.warning("what was missed could not be read", error=reason_of(error), again_in_s=pause_s)
                if pause_s is None:
                    return
                await asyncio.sleep(pause_s)
            else:
                log.info("looked for missed messages", since=since.isoformat(), **_counts(caught))
                return

    async def look_back(self, since: datetime) -> Caught:
        """Read what was said since then, at most as far back as late answers go. Raises what `UNREACHABLE` names."""
        async with self._one_at_a_time:
            oldest = max(since - CLOCKS_APART, now() - self._late_limit)
            threads = await self._store.asked_since(self._team, now() - LATELY, limit=THREADS)
            search = _Search(self._client, self._bot_user, _ts(oldest), self._pace_s)
            found = await search.everything(threads)
            for event in found:
                await self._take(event)
            return Caught(read=search.read, taken=len(found))


class _Search:
    """One look back."""

    def __init__(self, client: AsyncWebClient, bot_user: str, oldest: str, pace_s: float) -> None:
        self._client = client
        self._bot_user = bot_user
        self._oldest = oldest
        self._pace_s = pace_s
        self.read = 0

    async def everything(self, threads: Sequence[Question]) -> list[Json]:
        """The missed events, the oldest first."""
        known = {(each.channel, each.thread_ts) for each in threads}
        found: dict[tuple[str, str], Json] = {}
        for channel in dict.fromkeys(each.channel for each in threads):
            for root in await self._history(channel):
                self._add(found, channel, root, ours=_direct(channel))
                if self._asks(channel, root) and root.get("reply_count"):
                    known.add((channel, root["ts"]))
        for channel, thread_ts in sorted(known, key=lambda place: place[1], reverse=True):
            for message in await self._replies(channel, thread_ts):
                self._add(found, channel, message, ours=True)
        return [found[place] for place in sorted(found, key=lambda place: place[1])]

    def _add(self, found: dict[tuple[str, str], Json], channel: str, message: Json, *, ours: bool) -> None:
        by_a_person = message.get("user") and not message.get("bot_id") and message["user"] != self._bot_user
        if by_a_person and message["ts"] >= self._oldest and (ours or self._mentions(message)):
            found[channel, message["ts"]] = self._event(channel, message)

    def _event(self, channel: str, message: Json) -> Json:
        """The message as Slack would have told us of it: a mention where we are mentioned, else a message."""
        if self._mentions(message) and not _direct(channel):
            return {**message, "type": "app_mention", "channel": channel}
        kind = "im" if _direct(channel) else "channel"
        return {**message, "type": "message", "channel": channel, "channel_type": kind}

    def _asks(self, channel: str, message: Json) -> bool:
        return _direct(channel) or self._mentions(message)

    def _mentions(self, message: Json) -> bool:
        return f"<@{self._bot_user}>" in str(message.get("text", ""))

    async def _history(self, channel: str) -> list[Json]:
        """The roots of a conversation since the oldest moment."""
        return await self._pages("conversations_history", {"channel": channel})

    async def _replies(self, channel: str, thread_ts: str) -> list[Json]:
        return await self._pages("conversations_replies", {"channel": channel, "ts": thread_ts})

    async def _pages(self, method: str, where: Json) -> list[Json]:
        """Every page since the oldest moment, or nothing where Slack does not let us read it."""
        call = getattr(self._client, method)
        messages: list[Json] = []
        cursor: str | None = None
        for _ in range(PAGES):
            if self.read >= AT_ONCE:
                await asyncio.sleep(self._pace_s)
            self.read += 1
            try:
                page = await call(**where, oldest=self._oldest, limit=PAGE, cursor=cursor)
            except SlackApiError as error:
                log.info("a conversation cannot be read", **where, error=reason_of(error))
                return messages
            messages += page["messages"]
            cursor = (page.get("response_metadata") or {}).get("next_cursor") or None
            if cursor is None:
                return messages
        log.warning("more was said than is read", **where, read=len(messages))
        return messages


def _direct(channel: str) -> bool:
    return channel.startswith("D")


def _ts(moment: datetime) -> str:
    return f"{moment.astimezone(UTC).timestamp():.6f}"


def _counts(caught: Caught) -> dict[str, int]:
    return {"read": caught.read, "taken": caught.taken}
