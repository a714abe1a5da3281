"""What kind of conversation a channel is, asked of Slack once and remembered for a while.

A mention does not say whether it stands in a private channel, and whose words may leave this machine depends on it.
"""

import time

import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.slack.trouble import UNREACHABLE, reason_of

REMEMBERED_S = 600.0  # a public channel can be made private
UNSAID_S = 60.0  # before Slack is asked again where it did not say
MOST = 10_000

log = structlog.get_logger(__name__)


class Places:
    """Kinds of conversations: "channel", "group" (a private channel), "im", "mpim"."""

    def __init__(self, client: AsyncWebClient) -> None:
        self._client = client
        self._known: dict[str, tuple[str, float]] = {}

    async def kind(self, channel: str) -> str:
        """The kind of a conversation; "" where Slack does not say, which is asked again soon."""
        if channel.startswith("D"):
            return "im"
        known = self._known.get(channel)
        if known is not None and time.monotonic() - known[1] < (REMEMBERED_S if known[0] else UNSAID_S):
            return known[0]
        try:
            told = await self._client.conversations_info(channel=channel)
        except (SlackApiError, *UNREACHABLE) as error:
            log.warning(
                "Slack does not say what kind of channel this is", channel=channel, error=reason_of(error)
            )
            kind = ""
        else:
            kind = _kind(told.get("channel") or {})
        while len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[channel] = (kind, time.monotonic())
        return kind


def _kind(channel: dict[str, object]) -> str:
    if channel.get("is_im"):
        return "im"
    if channel.get("is_mpim"):
        return "mpim"
    return "group" if channel.get("is_private") or channel.get("is_group") else "channel"
