"""What people say about answers: thumbs, better answers, consent, privacy.

Slack is acknowledged and the window opened first, the database written after: a trigger lives three seconds.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.privacy import Privacy
from bot.slack import blocks, text
from bot.slack.trouble import UNREACHABLE, reason_of
from storage.feedback import NewEntry
from storage.records import Entry
from storage.store import Store

log = structlog.get_logger(__name__)

Ack = Callable[..., Awaitable[Any]]


class Feedback:
    """Ratings, corrections and consent."""

    def __init__(
        self,
        store: Store,
        client: AsyncWebClient,
        privacy: Privacy,
        *,
        team: str,
        remember: Callable[[], Awaitable[None]],
        learn: Callable[[Entry], Awaitable[None]],
    ) -> None:
        self._store = store
        self._client = client
        self._privacy = privacy
        self._team = team
        self._remember = remember
        self._learn = learn

    async def rate(self, ack: Ack, body: dict[str, Any], action: dict[str, Any]) -> None:
        """A thumb: the last one counts. Thumbs-down opens the window for the better answer at once."""
        await ack()
        answer_id, _, value = str(action.get("value", "")).rpartition(":")
        rater, place = body["user"]["id"], _place(body)
        if value == "-1":
            await self._open_correction(body, answer_id, place)
        answered = await self._store.answered(answer_id)
        if answered is None:
            await self._whisper(place, rater, text.GONE)
            return
        pressed_at = datetime.fromtimestamp(float(action["action_ts"]), UTC)
        await self._store.rate(
            answer_id, team=self._team, rater=rater, value=1 if value == "1" else -1, at=pressed_at
        )
        if value == "1":
            await self._whisper(place, rater, text.THANKS)

    async def _open_correction(self, body: dict[str, Any], answer_id: str, place: dict[str, str]) -> None:
        answered = await self._store.answered(answer_id)
        if answered is None:
            return
        view = blocks.correction_view(
            answer_id,
            answered.question.text,
            answered.candidate.text,
            place=place,
            agreed=bool(await self._store.consent(self._team, body["user"]["id"])),
        )
        try:
            await self._client.views_open(trigger_id=body["trigger_id"], view=view)
        except (SlackApiError, *UNREACHABLE) as error:
            log.warning("the correction window did not open", error=reason_of(error))

    async def correct(self, ack: Ack, body: dict[str, Any], view: dict[str, Any]) -> None:
        """The window was sent: keep the reason and the better answer."""
        given = _given(view)
        if not given.better and not given.reason:
            await ack(response_action="errors", errors={blocks.BETTER: text.CORRECTION_EMPTY})
            return
        await ack()
        about = json.loads(view["private_metadata"])
        author = body["user"]["id"]
        answered = await self._store.answered(about["answer_id"])
        if answered is None:
            await self._whisper(about, author, text.GONE)
            return
        await self._store.rate(
            answered.answer.id, team=self._team, rater=author, value=-1, reason=given.reason
        )
        if not given.better:
            await self._whisper(about, author, text.THANKS)
            return
        may_train = given.may_train and await self._agreed(author)
        await self._store.correct(
            answered.answer.id,
            team=self._team,
            author=author,
            text=given.better,
            reason=given.reason,
            may_train=may_train,
        )
        if may_train and await self._store.consent(self._team, answered.question.asker):
            await self._verify(answered.question.text, given.better, author, answered.answer.id)
        await self._whisper(about, author, _thanks(given.may_train, may_train))

    async def _agreed(self, author: str) -> bool:
        """The ticked box is a yes of somebody who was never asked; who said no before has to take that back first."""
        decided = await self._store.consent(self._team, author)
        if decided is None:
            await self._store.set_consent(self._team, author, True)
        return decided is not False

    async def _verify(self, question: str, better: str, author: str, answer_id: str) -> None:
        """The better answer is what memory gives from now on."""
        entry = NewEntry(
            question=question, answer=better, source="a correction", author=author, answer_id=answer_id
        )
        await self._store.add_entries(self._team, [entry])
        verified = await self._store.entry(self._team, question)
        if verified is not None:
            await self._learn(verified)

    async def consent(self, ack: Ack, body: dict[str, Any], respond: Ack, granted: bool) -> None:
        """Yes or no to training with one's own words."""
        await ack()
        await self._store.set_consent(self._team, body["user"]["id"], granted)
        await respond(
            text=text.CONSENT_YES if granted else text.CONSENT_NO,
            replace_original=True,
            response_type="ephemeral",
        )

    async def forget_me(self, ack: Ack, body: dict[str, Any], respond: Ack) -> None:
        """Delete everything of the person who pressed."""
        await ack()
        receipt = await self._privacy.forget(body["user"]["id"], by=body["user"]["id"])
        await self._remember()
        await respond(
            text=text.forgotten(receipt.held, receipt.tainted),
            replace_original=True,
            response_type="ephemeral",
        )

    async def export_me(self, ack: Ack, body: dict[str, Any], respond: Ack) -> None:
        """Show the person who pressed everything that is held of them."""
        await ack()
        held = await self._store.held_words(self._team, body["user"]["id"])
        lines = [
            f"{name}: {row.get('text') or row.get('question') or row.get('value') or row.get('granted')}"
            for name, rows in held.items()
            for row in rows
        ]
        shown = text.escape("\n".join(lines))[:2800] or "Nothing."
        more = "\nThe whole of it: ask an admin for `apprentice export --person`." if len(lines) > 40 else ""
        await respond(text=f"```\n{shown}\n```{more}", response_type="ephemeral", replace_original=False)

    async def _whisper(self, place: Mapping[str, str], person: str, words: str) -> None:
        in_thread = place.get("thread_ts") and not place["channel"].startswith("D")
        try:
            await self._client.chat_postEphemeral(
                channel=place["channel"],
                user=person,
                text=words,
                thread_ts=place["thread_ts"] if in_thread else None,
            )
        except (SlackApiError, *UNREACHABLE) as error:
            log.info("no ephemeral message here", error=reason_of(error))


class _Given:
    """What was typed and ticked in the correction window."""

    def __init__(self, better: str, reason: str, may_train: bool) -> None:
        self.better = better
        self.reason = reason
        self.may_train = may_train


def _thanks(ticked: bool, may_train: bool) -> str:
    if may_train:
        return text.CORRECTED
    return text.CORRECTED_REFUSED_BEFORE if ticked else text.CORRECTED_NOT_TRAINED


def _given(view: Mapping[str, Any]) -> _Given:
    values = view["state"]["values"]
    better = (values.get(blocks.BETTER, {}).get(blocks.BETTER, {}).get("value") or "").strip()
    chosen = values.get(blocks.REASON, {}).get(blocks.REASON, {}).get("selected_option") or {}
    ticked = values.get(blocks.MAY_TRAIN, {}).get(blocks.MAY_TRAIN, {}).get("selected_options") or []
    return _Given(better, str(chosen.get("value", "")), bool(ticked))


def _place(body: Mapping[str, Any]) -> dict[str, str]:
    container, message = body.get("container") or {}, body.get("message") or {}
    channel = container.get("channel_id") or (body.get("channel") or {}).get("id") or ""
    return {"channel": channel, "thread_ts": message.get("thread_ts") or message.get("ts") or ""}
