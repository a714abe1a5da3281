"""A sentence that one person sees and nobody else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.slack.trouble import UNREACHABLE, reason_of

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where people look: a channel, and the thread in it ("" for none)."""

    channel: str
    thread_ts: str = ""

    @property
    def direct(self) -> bool:
        """Whether this is a conversation of one person with the bot."""
        return self.channel.startswith("D")


def place_of(body: Mapping[str, Any]) -> Place:
    """Where the message stands that somebody pressed a button of."""
    container, message = body.get("container") or {}, body.get("message") or {}
    channel = container.get("channel_id") or (body.get("channel") or {}).get("id") or ""
    thread_ts = message.get("thread_ts") or container.get("thread_ts") or message.get("ts")
    return Place(str(channel), str(thread_ts or ""))


async def whisper(
    client: AsyncWebClient, place: Place, person: str, words: str, *, blocks: Sequence[Mapping[str, Any]] = ()
) -> bool:
    """Say it to one person, in the thread; False, and a line in the log, where Slack does not take it."""
    extra: dict[str, Any] = {"blocks": list(blocks)} if blocks else {}
    if place.thread_ts and not place.direct:
        extra["thread_ts"] = place.thread_ts
    try:
        await client.chat_postEphemeral(channel=place.channel, user=person, text=words, **extra)
    except (SlackApiError, *UNREACHABLE) as error:
        log.info("no ephemeral message here", channel=place.channel, error=reason_of(error))
        return False
    return True
