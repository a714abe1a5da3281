"""Consent and privacy: yes or no to training, what is held of a person, sent to them, deleted.

The same buttons stand in messages, where the answer comes to the person alone, and in Home, which is drawn anew.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from slack_bolt.async_app import AsyncApp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.privacy import Privacy
from bot.slack import blocks, feedback_blocks, forgetting_text, text
from bot.slack.feedback_blocks import notice_view
from bot.slack.trouble import UNREACHABLE, reason_of
from bot.slack.windows import Ack, direct_channel, fill_window, open_window, tell, written
from storage.store import Store

COMMAND, VERB = "/apprentice", "privacy"
DELETE_TITLE = "Delete everything"
FORGET_S = 60.0  # then the receipt comes as a message of its own

log = structlog.get_logger(__name__)


class Consents:
    """What a person allows, and what they may ask of us."""

    def __init__(
        self,
        store: Store,
        client: AsyncWebClient,
        privacy: Privacy,
        *,
        team: str,
        remember: Callable[[], Awaitable[None]],
        refresh_home: Callable[[str], Awaitable[None]],
    ) -> None:
        self._store = store
        self._client = client
        self._privacy = privacy
        self._team = team
        self._remember = remember
        self._refresh_home = refresh_home

    def listen(self, app: AsyncApp) -> None:
        """Register what belongs to consent. To be called before anybody else listens to the command."""
        app.action(f"{blocks.CONSENT}_yes")(self.allow)
        app.action(f"{blocks.CONSENT}_no")(self.refuse)
        app.action(feedback_blocks.FORGET_ME)(self.forget_me)
        app.action(feedback_blocks.EXPORT_ME)(self.export_me)
        app.command(COMMAND, matchers=[_about_privacy])(self.command)

    async def allow(self, ack: Ack, body: dict[str, Any], respond: Ack) -> None:
        """Yes to training with one's own words."""
        await self._decide(ack, body, respond, granted=True)

    async def refuse(self, ack: Ack, body: dict[str, Any], respond: Ack) -> None:
        """No to training with one's own words."""
        await self._decide(ack, body, respond, granted=False)

    async def _decide(self, ack: Ack, body: Mapping[str, Any], respond: Ack, *, granted: bool) -> None:
        person = body["user"]["id"]
        if self._is_stranger(body):
            await ack()
            await _replace(respond, text.STRANGER)
            return
        before = await written(ack, self._decided(person, granted))
        if _in_home(body):
            await self._refresh_home(person)
            if before and not granted:
                await tell(self._client, person, text.CONSENT_WITHDRAWN)
        else:
            await _replace(respond, _said_of_consent(before, granted))

    def _is_stranger(self, body: Mapping[str, Any]) -> bool:
        """Somebody of another workspace, in a channel that both share."""
        theirs = (body.get("user") or {}).get("team_id")
        return bool(theirs) and theirs != self._team

    async def _decided(self, person: str, granted: bool) -> bool | None:
        """Write it down; what they had decided before."""
        before = await self._store.consent(self._team, person)
        await self._store.set_consent(self._team, person, granted)
        return before

    async def command(self, ack: Ack, body: dict[str, Any], respond: Ack) -> None:
        """`/apprentice privacy [yes | no | export | delete]`"""
        person, words = str(body["user_id"]), (body.get("text") or "").split()[1:]
        verb = words[0].lower() if words else ""
        if verb in {"yes", "no"}:
            before = await written(ack, self._decided(person, verb == "yes"))
            await respond(text=_said_of_consent(before, verb == "yes"))
            return
        await ack()
        if verb == "":
            held = await self._store.holdings(self._team, person)
            await respond(**feedback_blocks.privacy_message(text.privacy(held), agreed=held.consent))
        elif verb == "export":
            await respond(text=await self._export(person))
        elif verb == "delete":
            await respond(**feedback_blocks.delete_message())
        else:
            await respond(text=feedback_blocks.PRIVACY_USAGE)

    async def export_me(self, ack: Ack, body: dict[str, Any], respond: Ack) -> None:
        """Send the person who pressed everything that is held of them."""
        await ack()
        person = body["user"]["id"]
        if _in_home(body):
            window = await open_window(
                self._client, body, notice_view("Everything of yours", feedback_blocks.ONE_MOMENT)
            )
            await fill_window(
                self._client, window, notice_view("Everything of yours", await self._export(person))
            )
            return
        said = await self._export(person)
        await respond(text=said, response_type="ephemeral", replace_original=False)

    async def _export(self, person: str) -> str:
        """Send it as a file into their direct messages; what to say where they asked for it."""
        held = await self._store.held_words(self._team, person)
        if not any(held.values()):
            return feedback_blocks.NOTHING_HELD
        content = json.dumps({"person": person, **held}, ensure_ascii=False, indent=2)
        try:
            await self._client.files_upload_v2(
                channel=await direct_channel(self._client, person),
                content=content,
                filename=f"apprentice-{person}.json",
                title="Everything that Apprentice holds of you",
                initial_comment=feedback_blocks.EXPORT_COMMENT,
            )
        except (SlackApiError, *UNREACHABLE) as error:
            log.warning("an export was not taken as a file", error=reason_of(error))
            return feedback_blocks.exported_text(content)
        return feedback_blocks.EXPORTED

    async def forget_me(self, ack: Ack, body: dict[str, Any], respond: Ack) -> None:
        """Delete everything of the person who pressed, and say what that was."""
        await ack()
        person = body["user"]["id"]
        if not _in_home(body):
            await _replace(respond, await self._forget(person))
            return
        deleting = notice_view(DELETE_TITLE, feedback_blocks.DELETING)
        window = await open_window(self._client, body, deleting)
        said = await self._forget(person)
        if window:
            await fill_window(self._client, window, notice_view(DELETE_TITLE, said))
        else:
            await tell(self._client, person, said)
        await self._refresh_home(person)

    async def _forget(self, person: str) -> str:
        receipt = await self._privacy.forget(person, by=person, wait_s=FORGET_S)
        await self._remember()
        return forgetting_text.receipt(receipt.done, receipt.undone, finished=receipt.finished)


async def _about_privacy(body: dict[str, Any]) -> bool:
    words = (body.get("text") or "").split()
    return bool(words) and words[0].lower() == VERB


def _said_of_consent(before: bool | None, granted: bool) -> str:
    if granted:
        return text.CONSENT_YES
    return text.CONSENT_WITHDRAWN if before else text.CONSENT_NO


def _in_home(body: Mapping[str, Any]) -> bool:
    return bool((body.get("view") or {}).get("type") == "home")


async def _replace(respond: Ack, words: str) -> None:
    await respond(text=words, replace_original=True, response_type="ephemeral")
