"""Receipts of forgettings: to who asked, and to the admin channel without the name; and the switch to a clean model."""

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from slack_bolt.async_app import AsyncApp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.errors import PublicError
from bot.privacy import Privacy, Receipt
from bot.slack import forgetting_text as words
from bot.slack.decisions import Decisions
from bot.slack.report_text import MODEL_GONE, buttons_for_admins
from bot.slack.trouble import UNREACHABLE, reason_of
from bot.slack.windows import tell
from storage.store import Store

KIND = "apprentice_forgetting"

Ack = Callable[..., Awaitable[Any]]
Json = dict[str, Any]

log = structlog.get_logger(__name__)


class Forgettings:
    """Tells what was forgotten, once each; listens to the button that switches."""

    def __init__(
        self,
        store: Store,
        client: AsyncWebClient,
        privacy: Privacy,
        decisions: Decisions,
        *,
        team: str,
        channel: str,
        admins: tuple[str, ...],
    ) -> None:
        self._store = store
        self._client = client
        self._privacy = privacy
        self._decisions = decisions
        self._team = team
        self._channel = channel
        self._admins = admins
        privacy.tell_person = self._tell_person

    def listen(self, app: AsyncApp) -> None:
        """Register the button."""
        app.action(words.SWITCH)(self.switch)

    async def tick(self) -> None:
        """Tell admins what was done since the last look. Cheap where nothing was."""
        for row in await self._store.untold_forgettings(self._team):
            if await self._store.claim_receipt(row.id):
                said, blocks = words.for_admins(row.done, row.undone, row.id)
                if not await self._post(said, blocks, row.id):
                    await self._store.receipt_not_given(row.id)
        gone = await self._privacy.delete_provider_files()
        if gone:
            await self._post(words.provider_files_gone([each.file_id for each in gone]), None, "")

    async def _post(self, said: str, blocks: list[Json] | None, work: str) -> bool:
        if not self._channel:
            return True
        metadata = {"event_type": KIND, "event_payload": {"work": work}}
        try:
            await self._client.chat_postMessage(
                channel=self._channel, text=said, blocks=blocks, metadata=metadata, unfurl_links=False
            )
        except (SlackApiError, *UNREACHABLE) as error:
            log.warning("a receipt was not posted", error=reason_of(error))
            return False
        return True

    async def _tell_person(self, person: str, receipt: Receipt) -> bool:
        return await tell(self._client, person, words.receipt(receipt.done, receipt.undone))

    async def switch(self, ack: Ack, body: Json, action: Json, respond: Ack) -> None:
        """*Switch to ...*: the last clean model answers, by the way that every promotion goes."""
        await ack()
        person = str((body.get("user") or {}).get("id") or "")
        if person not in self._admins:
            await _whisper(respond, buttons_for_admins(self._admins))
            return
        name = str(action.get("value", "")).rpartition(":")[2]
        version = await self._store.model_named(self._team, name) if name != "base" else None
        if version is None and name != "base":
            await _whisper(respond, MODEL_GONE)
            return
        try:
            reason = "the one before learned from words that were deleted since"
            said = await self._decisions.promote_named(person, name, version, reason=reason)
        except PublicError as error:
            said = str(error)
        await _whisper(respond, said)


async def _whisper(respond: Ack, said: str) -> None:
    await respond(text=said, response_type="ephemeral", replace_original=False)
