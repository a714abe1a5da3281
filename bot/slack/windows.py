"""Windows (modals): opened before anything is read, because a trigger lives three seconds; filled in afterwards.

And what people press is written down before Slack hears that we have it, as long as the database is quick enough for that.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.slack.trouble import UNREACHABLE, reason_of

ACK_S = 1.5  # of the three seconds that Slack waits

Ack = Callable[..., Awaitable[Any]]
T = TypeVar("T")

log = structlog.get_logger(__name__)


async def written(ack: Ack, writing: Coroutine[Any, Any, T]) -> T:
    """Acknowledge once `writing` is done, or after ACK_S where it takes longer; what it returns.

    Where it fails at once, Slack is not acknowledged: the person sees that it did not work and presses again.
    """
    task = asyncio.create_task(writing)
    await asyncio.wait([task], timeout=ACK_S)
    if task.done():
        task.result()
    await ack()
    return await task


async def open_window(client: AsyncWebClient, body: Mapping[str, Any], view: Mapping[str, Any]) -> str:
    """Open a modal for who pressed; its id, or "" and a line in the log where Slack does not take it."""
    try:
        opened = await client.views_open(trigger_id=str(body.get("trigger_id") or ""), view=dict(view))
    except (SlackApiError, *UNREACHABLE) as error:
        log.warning("a window did not open", window=view.get("callback_id"), error=reason_of(error))
        return ""
    return str(opened["view"]["id"])


async def fill_window(client: AsyncWebClient, view_id: str, view: Mapping[str, Any]) -> None:
    """Show more in a window. One that was closed or sent meanwhile stays as it is."""
    if not view_id:
        return
    try:
        await client.views_update(view_id=view_id, view=dict(view))
    except (SlackApiError, *UNREACHABLE) as error:
        log.info("a window was not filled in", window=view.get("callback_id"), error=reason_of(error))


async def tell(
    client: AsyncWebClient, person: str, words: str, *, blocks: list[dict[str, Any]] | None = None
) -> bool:
    """Write to one person directly; False, and a line in the log, where that is not possible."""
    try:
        channel = await direct_channel(client, person)
        await client.chat_postMessage(channel=channel, text=words, blocks=blocks, unfurl_links=False)
    except (SlackApiError, *UNREACHABLE) as error:
        log.warning("somebody could not be written to", error=reason_of(error))
        return False
    return True


async def direct_channel(client: AsyncWebClient, person: str) -> str:
    """The conversation of one person with the bot. Raises SlackApiError."""
    opened = await client.conversations_open(users=person)
    return str(opened["channel"]["id"])


def pressed_at(action: Mapping[str, Any]) -> datetime:
    """When a button was pressed, by Slack's clock."""
    return datetime.fromtimestamp(float(action["action_ts"]), UTC)


def values_of(view: Mapping[str, Any]) -> dict[str, Any]:
    """What was filled in, by action id: a text, an option's value, a list of values; None for nothing."""
    given: dict[str, Any] = {}
    for actions in view["state"]["values"].values():
        for action_id, held in actions.items():
            if "selected_options" in held:
                given[action_id] = [option["value"] for option in held["selected_options"] or []]
            elif "selected_option" in held:
                given[action_id] = (held["selected_option"] or {}).get("value")
            else:
                given[action_id] = held.get("value")
    return given
