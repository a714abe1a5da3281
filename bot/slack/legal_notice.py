"""The note on the legal basis, posted once to the admin channel of real Slack, with a button for whoever has read it."""

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from slack_bolt.async_app import AsyncApp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot import legal
from bot.slack.blocks import Block, button, context, section
from bot.slack.report_text import buttons_for_admins
from bot.slack.trouble import UNREACHABLE, reason_of
from storage.records import Decision
from storage.store import Store
from storage.values import who

READ = "legal_note_read"
DUE, POSTED = "due", "posted"

Ack = Callable[..., Awaitable[Any]]
Json = dict[str, Any]

log = structlog.get_logger(__name__)


class LegalNotice:
    """Posts the note, and listens to its button."""

    def __init__(
        self, store: Store, client: AsyncWebClient, *, team: str, channel: str, admins: tuple[str, ...]
    ) -> None:
        """Without a `channel` it is only in the terminal."""
        self._store = store
        self._client = client
        self._team = team
        self._channel = channel
        self._admins = admins
        self._done = not channel

    def listen(self, app: AsyncApp) -> None:
        """Register the button."""
        app.action(READ)(self.read)

    async def tick(self) -> None:
        """Post it where nobody did before. Cheap once that is known."""
        if self._done:
            return
        name = f"{legal.SUBJECT}:{self._team}"
        if await self._store.keepsake(name, lambda: DUE) != DUE:
            self._done = True
            return
        decision = await legal.acknowledged(self._store, self._team)
        if decision is None and not await self._post():
            return
        await self._store.change_keepsake(name, POSTED)
        self._done = True

    async def _post(self) -> bool:
        blocks = note_blocks(None)
        try:
            await self._client.chat_postMessage(
                channel=self._channel, text=legal.TITLE, blocks=blocks, unfurl_links=False
            )
        except (SlackApiError, *UNREACHABLE) as error:
            log.warning("the note on the legal basis was not posted", error=reason_of(error))
            return False
        return True

    async def read(self, ack: Ack, body: Json, respond: Ack) -> None:
        """*We have read this*."""
        await ack()
        person = str((body.get("user") or {}).get("id") or "")
        if person not in self._admins:
            said = buttons_for_admins(self._admins)
            await respond(text=said, response_type="ephemeral", replace_original=False)
            return
        decision = await legal.acknowledge(self._store, self._team, by=person)
        await respond(text=legal.TITLE, blocks=note_blocks(decision), replace_original=True)


def note_blocks(read: Decision | None) -> list[Block]:
    """The note, with the button, or with who has read it."""
    shown: list[Block] = [section(f"*{legal.TITLE}*"), *(section(each) for each in legal.NOTE)]
    if read is not None:
        at = f"{read.decided_at:%Y-%m-%d %H:%M}"
        return [*shown, context(f"Read by {who(read.actor)} on {at} UTC.")]
    until = context("Until somebody has read it, no dataset is frozen and nothing is trained.")
    press = {**button("We have read this", READ, "read"), "style": "primary"}
    return [*shown, until, {"type": "actions", "elements": [press]}]
