"""Questions from Slack: recorded before Slack is acknowledged, answered in the thread, once.

Refuses to decide anything about models; the desk does. What was not answered when the bot died is answered late by `tick`.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.desk import Desk
from bot.errors import PublicError
from bot.slack import blocks, text
from bot.slack.trouble import UNREACHABLE, reason_of
from storage.asking import Answered
from storage.records import Question, now
from storage.store import Store

LEASE_MARGIN_S = 30.0
AGAIN_S, LONGEST_PAUSE_S = 1.0, 60.0
HOPELESS = {"channel_not_found", "not_in_channel", "is_archived", "thread_not_found", "restricted_action"}
THINKING = ["Thinking…", "Looking it up…", "Finding the right words…"]

log = structlog.get_logger(__name__)


class Questions:
    """Takes questions in and sees that each is answered."""

    def __init__(
        self,
        store: Store,
        desk: Desk,
        client: AsyncWebClient,
        *,
        team: str,
        bot_user: str,
        deadline_s: float,
        late_limit_s: float,
    ) -> None:
        self._store = store
        self._desk = desk
        self._client = client
        self._team = team
        self._bot_user = bot_user
        self._lease_s = deadline_s + LEASE_MARGIN_S
        self._late_limit = timedelta(seconds=late_limit_s)
        self._answering: dict[str, asyncio.Task[None]] = {}

    async def record(self, body: dict[str, Any], next_: Callable[[], Awaitable[None]]) -> None:
        """Global middleware: what is asked is in the database before Slack hears that we have it."""
        event = body.get("event") or {}
        asked = self._asked(event)
        if asked is not None:
            recorded = await self._store.ask(team=self._team, **asked)
            if recorded.new:
                self.start(recorded.question)
        elif deleted_ts := _deleted(event):
            await self._store.delete_question(self._team, event["channel"], deleted_ts)
        await next_()

    def _asked(self, event: Mapping[str, Any]) -> dict[str, str] | None:
        """What to record of an event; None where it asks us nothing."""
        direct = event.get("type") == "message" and event.get("channel_type") == "im"
        if not direct and event.get("type") != "app_mention":
            return None
        by_a_person = event.get("user") and not event.get("bot_id") and event.get("user") != self._bot_user
        if not by_a_person or event.get("subtype") not in {None, "file_share", "thread_broadcast"}:
            return None
        return {
            "channel": event["channel"],
            "ts": event["ts"],
            "thread_ts": event.get("thread_ts") or event["ts"],
            "asker": event["user"],
            "text": text.question_text(event.get("text") or "", self._bot_user),
            "surface": "dm" if direct else "mention",
        }

    def start(self, question: Question) -> None:
        """Answer in a task of our own, so that nobody waits for it."""
        if question.id in self._answering:
            return
        task = asyncio.create_task(self.answer(question), name=f"answer-{question.id}")
        self._answering[question.id] = task
        task.add_done_callback(lambda _task: self._answering.pop(question.id, None))

    async def tick(self) -> None:
        """Take up what is owed: questions left by a bot that died, or that Slack did not take."""
        for question in await self._store.owed_questions():
            if now() - question.asked_at > self._late_limit:
                await self._store.drop_question(question.id, "older than the limit for late answers")
            elif now() - question.asked_at > timedelta(seconds=AGAIN_S):
                self.start(question)

    async def stop(self, grace_s: float = 20.0) -> None:
        """Let answers in progress finish, for a while; the rest is answered after the next start."""
        tasks = list(self._answering.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def answer(self, question: Question) -> None:
        """Claim the question, answer it in its thread, once; whoever holds the claim is left alone."""
        if not await self._store.claim_question(question.id, worker=uuid.uuid4().hex, lease_s=self._lease_s):
            return
        try:
            await self._answer_claimed(question)
        except SlackApiError as error:
            reason = reason_of(error)
            log.warning("Slack refused an answer", question=question.id, error=reason)
            if reason in HOPELESS:
                await self._store.drop_question(question.id, f"Slack refused the answer: {reason}")
            else:
                await self._put_off(question)
        except UNREACHABLE as error:
            log.warning("Slack cannot be reached", question=question.id, error=str(error))
            await self._put_off(question)
        except Exception:
            log.exception("a question was not answered", question=question.id)
            raise

    async def _put_off(self, question: Question) -> None:
        """Again in some seconds, and later each time."""
        pause_s = min(LONGEST_PAUSE_S, 2.0 ** await self._attempts(question))
        await self._store.put_off_question(question.id, after_s=pause_s)

    async def _attempts(self, question: Question) -> int:
        known = await self._store.question(question.id)
        return known.attempts if known is not None else 0

    async def _answer_claimed(self, question: Question) -> None:
        refusal = self._desk.refusal(question.text)
        if refusal is not None:
            await self._say(question, refusal)
            await self._store.drop_question(question.id, "refused: " + refusal[:80])
            return
        await self._show_thinking(question)
        try:
            answered = await self._desk.answer(question)
        except PublicError as error:
            await self._say(question, str(error))
            await self._store.drop_question(question.id, str(error))
            return
        await self._post(answered)
        await self._ask_for_consent(question)

    async def _show_thinking(self, question: Question) -> None:
        try:
            await self._client.assistant_threads_setStatus(
                channel_id=question.channel,
                thread_ts=question.thread_ts,
                status="is thinking…",
                loading_messages=THINKING,
            )
        except SlackApiError as error:
            log.info("no status line here", error=reason_of(error))

    async def _post(self, answered: Answered) -> None:
        if answered.answer.posted_ts:
            return
        message = blocks.answer_message(answered)
        await self._store.posted(answered.answer.id, await self._post_once(answered.question, message))

    async def _say(self, question: Question, words: str) -> None:
        """A sentence in place of an answer."""
        payload = {"question_id": question.id}
        metadata = {"event_type": "apprentice_sentence", "event_payload": payload}
        await self._post_once(question, {"text": text.escape(words), "metadata": metadata})

    async def _post_once(self, question: Question, message: Mapping[str, Any]) -> str:
        """Post in the question's thread, unless an earlier attempt did and could not write that down; the message's ts."""
        if await self._attempts(question) > 1:
            standing = await self._standing(question, message["metadata"]["event_payload"])
            if standing is not None:
                return standing
        sent = await self._client.chat_postMessage(
            channel=question.channel, thread_ts=question.thread_ts, **message
        )
        return str(sent["ts"])

    async def _standing(self, question: Question, payload: Mapping[str, Any]) -> str | None:
        """Where the message with this payload stands in the question's thread."""
        replies = await self._client.conversations_replies(
            channel=question.channel,
            ts=question.thread_ts,
            oldest=question.ts,
            limit=200,
            include_all_metadata=True,
        )
        for message in replies["messages"]:
            if (message.get("metadata") or {}).get("event_payload") == payload:
                return str(message["ts"])
        return None

    async def _ask_for_consent(self, question: Question) -> None:
        if not await self._store.first_time_asked_for_consent(self._team, question.asker):
            return
        await self._client.chat_postEphemeral(
            channel=question.channel,
            user=question.asker,
            thread_ts=question.thread_ts if question.surface != "dm" else None,
            **blocks.consent_message(),
        )


def _deleted(event: Mapping[str, Any]) -> str | None:
    """The ts of a message that somebody deleted. One with replies, such as an answered question, leaves a tombstone."""
    if event.get("subtype") == "message_deleted":
        return event.get("deleted_ts")
    now_there = event.get("message") or {}
    if event.get("subtype") == "message_changed" and now_there.get("subtype") == "tombstone":
        return now_there.get("ts")
    return None
