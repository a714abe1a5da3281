"""The golden set in Slack: what waits for a second person, approved or declined with a button. For admins and experts."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from slack_bolt.async_app import AsyncApp

from bot.errors import PublicError
from bot.slack import review_blocks as words
from bot.slack.reviews import Reviewers
from bot.slack.windows import Ack, written
from storage.records import GoldenItem, GoldenState
from storage.store import Store

COMMAND, VERB = "/apprentice", "golden"
LISTED = 20


class Goldens:
    """Lists what was proposed, and keeps what the second person decides."""

    def __init__(self, store: Store, reviewers: Reviewers, *, team: str) -> None:
        self._store = store
        self._reviewers = reviewers
        self._team = team

    def listen(self, app: AsyncApp) -> None:
        """Register what belongs to the golden set. To be called before anybody else listens to the command."""
        app.command(COMMAND, matchers=[_about_golden])(self.command)
        app.action(words.GOLDEN_APPROVE)(self.approve)
        app.action(words.GOLDEN_RETIRE)(self.retire)

    async def command(self, ack: Ack, body: dict[str, Any], respond: Ack) -> None:
        """`/apprentice golden`"""
        await ack()
        person = str(body["user_id"])
        if await self._reviewers.may(person):
            await respond(**await self._listing(person))
        else:
            await respond(text=self._reviewers.refusal(f"{COMMAND} {VERB}"))

    async def approve(self, ack: Ack, body: dict[str, Any], action: dict[str, Any], respond: Ack) -> None:
        """The second person stands behind it."""
        await self._decide(ack, body, action, respond, self._store.approve_golden, words.APPROVED_GOLDEN)

    async def retire(self, ack: Ack, body: dict[str, Any], action: dict[str, Any], respond: Ack) -> None:
        """It is not to be golden."""
        await self._decide(ack, body, action, respond, self._store.retire_golden, words.DECLINED_GOLDEN)

    async def _decide(
        self,
        ack: Ack,
        body: Mapping[str, Any],
        action: Mapping[str, Any],
        respond: Ack,
        decide: Callable[[str, str, str], Awaitable[GoldenItem]],
        done: str,
    ) -> None:
        person = str(body["user"]["id"])
        if not await self._reviewers.may(person):
            await ack()
            refusal = self._reviewers.refusal(f"{COMMAND} {VERB}")
            await respond(text=refusal, response_type="ephemeral", replace_original=False)
            return

        async def deciding() -> str:
            try:
                item = await decide(self._team, str(action.get("value", "")), person)
            except PublicError as error:
                return str(error)
            return words.ONE_MORE if item.state is GoldenState.PROPOSED else done

        note = await written(ack, deciding())
        listing = await self._listing(person, note=note)
        await respond(**listing, response_type="ephemeral", replace_original=True)

    async def _listing(self, person: str, *, note: str = "") -> dict[str, Any]:
        proposed = await self._store.golden_items(self._team, GoldenState.PROPOSED, limit=LISTED)
        return words.golden_message(proposed, await self._store.golden_tally(self._team), person, note=note)


async def _about_golden(body: dict[str, Any]) -> bool:
    parts = (body.get("text") or "").split()
    return bool(parts) and parts[0].lower() == VERB
