"""Duels in Slack: two answers shown blind in a thread, picks, the end of it told in the same message.

What is compared and who won is decided in `bot.dueling`. Posting, closing and telling are separate steps, each of them
written down: what a crash or Slack leaves undone is done by the next `tick`.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from slack_bolt.async_app import AsyncApp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot import draws
from bot.dueling import ASKED, SAMPLED, Compared, Comparison, Draw, Dueling, outcome
from bot.errors import PublicError
from bot.slack import duel_blocks, text
from bot.slack.trouble import UNREACHABLE, reason_of
from bot.slack.whisper import Place, place_of, whisper
from bot.slack.windows import Ack, pressed_at, written
from storage.duels import DuelOrder, DuelShown
from storage.records import ChannelSettings, Question, now
from storage.store import Store

LONGEST_PAUSE_S = 60.0
OVER = {
    "message_not_found",
    "channel_not_found",
    "not_in_channel",
    "is_archived",
    "cant_update_message",
    "edit_window_closed",
    "invalid_blocks",
    "msg_too_long",
}
"""What Slack says of a message that will never tell the end of its duel, however often we try."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DuelRules:
    """When a duel closes: with this many picks, or after so many hours. In a direct message one pick closes it."""

    votes: int
    hours: float


class Duels:
    """Questions answered twice."""

    def __init__(
        self, store: Store, dueling: Dueling, client: AsyncWebClient, *, team: str, rules: DuelRules
    ) -> None:
        self._store = store
        self._dueling = dueling
        self._client = client
        self._team = team
        self._rules = rules
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, tuple[int, float]] = {}  # how often in a row, and when to try again

    def listen(self, app: AsyncApp) -> None:
        """Register the four buttons on a bolt app."""
        for action_id in duel_blocks.PICK_ACTIONS:
            app.action(action_id)(self.pick)

    async def draw(self, question: Question, settings: ChannelSettings) -> Draw | None:
        """Whether a question becomes a duel; None for one plain answer. A question drawn again is drawn the same."""
        if question.attempts > 1:
            known = await self._store.duel_of(question.id)
            if known is not None:
                return Draw(known.duel.origin, known.duel.probability)
            if question.draft_ts or await self._store.answer_to(question.id) is not None:
                return None
        if question.surface == "duel":
            return Draw(ASKED)
        rate = self._dueling.rate(settings)
        if rate <= 0:
            return None
        drawn = draws.share(await self._store.draw_salt(), "duel", question.id)
        return Draw(SAMPLED, rate) if drawn < rate else None

    async def hold(self, question: Question, draw: Draw) -> bool:
        """Show two answers in the question's thread. May be called again after a crash: what stands is found again.

        True as well where the question was deleted meanwhile. False where there are no two answers to show: then the
        question is answered as any other, with the one that is stored already if there is one. Raises PublicError for the
        asker, and what the client raises.
        """
        try:
            shown = await self._store.duel_of(question.id) or await self._begin(question, draw)
        except PublicError:
            if await self._store.question(question.id) is None:
                return True
            raise
        if shown is None:
            return False
        if shown.answer.posted_ts is None:
            await self._post(shown)
        return True

    async def _begin(self, question: Question, draw: Draw) -> DuelShown | None:
        if draw.origin == SAMPLED and await self._dueling.verified(question):
            return None
        await self._show_thinking(question)
        settings = await self._store.channel_settings(self._team, question.channel)
        compared = await self._dueling.compare(question, settings)
        if compared.comparison is not Comparison.TWO:
            await self._answered_by_one(question, draw, compared)
            return None
        first, second = compared.proposals
        swapped = draws.share(await self._store.draw_salt(), "order", question.id) < 0.5
        order = DuelOrder(
            draw.origin, draw.probability, swapped, closes_at=now() + timedelta(hours=self._rules.hours)
        )
        return await self._store.open_duel(question, first, second, messages=compared.messages, order=order)

    async def _answered_by_one(self, question: Question, draw: Draw, compared: Compared) -> None:
        if compared.proposals:
            await self._store.answer(question, compared.proposals, messages=compared.messages)
        if draw.origin == ASKED:
            said = duel_blocks.ALIKE if compared.comparison is Comparison.ALIKE else duel_blocks.ALONE
            await whisper(self._client, Place(question.channel, question.thread_ts), question.asker, said)

    async def _show_thinking(self, question: Question) -> None:
        with suppress(SlackApiError, *UNREACHABLE):
            await self._client.assistant_threads_setStatus(
                channel_id=question.channel, thread_ts=question.thread_ts, status=text.waiting(0)
            )

    async def _post(self, shown: DuelShown) -> None:
        question = shown.question
        messages = duel_blocks.open_messages(
            shown,
            votes=self._rules.votes,
            hours=self._rules.hours,
            direct=Place(question.channel).direct,
        )
        standing = await self._standing(question) if question.attempts > 1 else {}
        places = [await self._post_once(question, message, standing) for message in messages]
        await self._store.duel_posted(shown.duel.id, places[-1])
        await self._store.posted(shown.answer.id, places[-1], before=places[:-1])
        log.info("duel", duel=shown.duel.id, origin=shown.duel.origin)

    async def _post_once(
        self, question: Question, message: Mapping[str, Any], standing: Mapping[str, str]
    ) -> str:
        payload = message["metadata"]["event_payload"]
        if payload["part"] in standing:
            return standing[payload["part"]]
        sent = await self._client.chat_postMessage(
            channel=question.channel,
            thread_ts=question.thread_ts,
            unfurl_links=False,
            unfurl_media=False,
            **message,
        )
        return str(sent["ts"])

    async def _standing(self, question: Question) -> dict[str, str]:
        """Which parts of the duel an earlier attempt has posted, and where."""
        replies = await self._client.conversations_replies(
            channel=question.channel, ts=question.thread_ts, limit=200, include_all_metadata=True
        )
        return _parts_of(await self._store.duel_of(question.id), replies["messages"])

    async def pick(self, ack: Ack, body: dict[str, Any], action: dict[str, Any]) -> None:
        """One of the four buttons: kept before Slack is acknowledged, seen by nobody else; the last one counts."""
        duel_id, picker = str(action.get("value", "")), str(body["user"]["id"])
        pick = duel_blocks.PICK_ACTIONS[action["action_id"]]
        counted = await written(
            ack, self._store.pick(duel_id, picker=picker, pick=pick, at=pressed_at(action))
        )
        if not counted:
            known = await self._store.duel(duel_id)
            said = duel_blocks.CLOSED if known is not None else duel_blocks.GONE
            await whisper(self._client, place_of(body), picker, said)
            return
        due = await self._take_up_what_is_due()
        if duel_id not in due:
            await whisper(self._client, place_of(body), picker, duel_blocks.picked(pick))

    async def tick(self) -> None:
        """Close what is due, and tell the end of what is closed."""
        await self._take_up_what_is_due()

    async def _take_up_what_is_due(self) -> set[str]:
        due = await self._store.duels_due(self._team, votes=self._rules.votes)
        for shown in due:
            duel_id = shown.duel.id
            _, again_at = self._failures.get(duel_id, (0, 0.0))
            if duel_id not in self._ending and time.monotonic() >= again_at:
                task = asyncio.create_task(self._end(shown), name=f"duel-{duel_id}")
                self._ending[duel_id] = task
                task.add_done_callback(lambda _task, ended=duel_id: self._ending.pop(ended, None))  # type: ignore[misc]
        return {shown.duel.id for shown in due}

    async def stop(self) -> None:
        """Leave the rest to the next start."""
        tasks = list(self._ending.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _end(self, shown: DuelShown) -> None:
        duel_id = shown.duel.id
        try:
            if shown.open:
                await self._store.close_duel(duel_id, outcome)
            await self._tell(duel_id)
        except SlackApiError as error:
            reason = reason_of(error)
            if reason in OVER:
                log.info("nobody can be told how a duel ended", duel=duel_id, error=reason)
                await self._store.duel_revealed(duel_id)
            else:
                self._put_off(duel_id, reason)
        except UNREACHABLE as error:
            self._put_off(duel_id, reason_of(error))
        except Exception:
            log.exception("a duel was not ended", duel=duel_id)
            self._put_off(duel_id, "a bug")

    async def _tell(self, duel_id: str) -> None:
        shown = await self._store.duel(duel_id)
        if shown is None or shown.open:
            return
        message = duel_blocks.closed_message(shown)
        await self._client.chat_update(channel=shown.duel.channel, ts=shown.duel.posted_ts, **message)
        await self._store.duel_revealed(duel_id)
        self._failures.pop(duel_id, None)

    def _put_off(self, duel_id: str, why: str) -> None:
        failures, _ = self._failures.get(duel_id, (0, 0.0))
        pause_s = min(LONGEST_PAUSE_S, 2.0**failures)
        self._failures[duel_id] = (failures + 1, time.monotonic() + pause_s)
        log.warning("the end of a duel is told later", duel=duel_id, error=why, again_in_s=pause_s)


def _parts_of(shown: DuelShown | None, messages: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for message in messages:
        payload = (message.get("metadata") or {}).get("event_payload") or {}
        if shown is not None and payload.get("duel_id") == shown.duel.id:
            found[str(payload.get("part"))] = str(message["ts"])
    return found
