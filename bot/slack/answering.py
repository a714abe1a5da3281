"""One question, from its claim to the answer that stands in its thread, once.

It shows that the bot is at work, streams what is written, obeys Stop, and finds its own messages again after a crash. It
decides nothing about models; the desk does.
"""

import asyncio
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.desk import Desk, QuestionDeleted, Stopped, Watch
from bot.errors import PublicError
from bot.slack import text
from bot.slack.answer_blocks import answer_messages, asked_message
from bot.slack.draft import Draft
from bot.slack.feedback_blocks import consent_message
from bot.slack.places import Places
from bot.slack.trouble import UNREACHABLE, reason_of
from bot.slack.whisper import Place, whisper
from storage.asking import Answered, Taken
from storage.records import ChannelSettings, Question
from storage.store import Store

LEASE_MARGIN_S = 30.0
AT_ONCE = (
    16  # answers on their way together; beyond it questions wait as rows, and Slack is acknowledged in time
)
LONGEST_PAUSE_S = 60.0
PATIENT_S = 3.0  # before somebody without a seat is told how many are ahead
QUICK_S = 0.3  # an answer that is there sooner needs no status line
LOOK_S = 1.0
RENEW_S = 90.0  # Slack clears a status after two minutes
HOPELESS = {"channel_not_found", "not_in_channel", "is_archived", "thread_not_found", "restricted_action"}
THINKING = ["Thinking…", "Looking it up…", "Finding the right words…"]
PROCESSING, ACTIVE = "processing", "active"
COMMAND = "command:"

log = structlog.get_logger(__name__)


class Duelling(Protocol):
    """Whether a question is answered twice, blind; and the doing of it."""

    async def draw(self, question: Question, settings: ChannelSettings) -> Any | None:
        """What the draw decided; None for one plain answer."""

    async def hold(self, question: Question, draw: Any) -> bool:
        """Show two answers; False where there is one only. May be called again after a crash. Raises PublicError."""


class Soliciting(Protocol):
    """Who is asked for a rating."""

    async def chance(self, settings: ChannelSettings) -> float | None:
        """How likely a rating is asked for in such a channel; None where nobody is asked."""

    async def after(self, answered: Answered, chance: float) -> None:
        """An answer was posted, with this chance of being asked about."""


@dataclass(eq=False)
class _Live:
    """An answer on its way."""

    question: Question
    watch: Watch
    draft: Draft
    since: float


class Answering:
    """Answers claimed questions in their threads."""

    def __init__(
        self,
        store: Store,
        desk: Desk,
        client: AsyncWebClient,
        *,
        team: str,
        bot_user: str,
        deadline_s: float,
        duels: Duelling | None = None,
        solicitor: Soliciting | None = None,
    ) -> None:
        self._store = store
        self._desk = desk
        self._client = client
        self._team = team
        self._bot_user = bot_user
        self._lease_s = deadline_s + LEASE_MARGIN_S
        self._places = Places(client)
        self._duels = duels
        self._solicitor = solicitor
        self._live: dict[str, _Live] = {}
        self._seats = asyncio.Semaphore(AT_ONCE)
        self._line: list[str] = []  # questions that wait for a seat, the first one first
        self._sessions: set[str] = set()  # questions whose thread shows Slack's own Stop button
        self._without_sessions: set[bool] = set()  # refused in direct messages (True), in channels (False)

    async def answer(self, question: Question) -> None:
        """Claim the question and answer it; whoever holds the claim is left alone."""
        waiting = asyncio.create_task(self._show_waiting(question)) if self._seats.locked() else None
        try:
            async with self._seats:
                if waiting is not None:
                    waiting.cancel()
                await self._answer_seated(question)
        finally:
            if waiting is not None:
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)

    async def _answer_seated(self, question: Question) -> None:
        taken = await self._store.take_question(question.id, worker=uuid.uuid4().hex, lease_s=self._lease_s)
        if taken is None:
            return
        claimed = taken.question
        try:
            await self._answer_claimed(claimed, taken)
        except SlackApiError as error:
            reason = reason_of(error)
            log.warning("Slack refused an answer", question=question.id, error=reason)
            if reason in HOPELESS:
                await self._store.drop_question(question.id, f"Slack refused the answer: {reason}")
            else:
                await self._put_off(claimed)
        except UNREACHABLE as error:
            log.warning("Slack cannot be reached", question=question.id, error=str(error))
            await self._put_off(claimed)
        except Exception:
            log.exception("a question was not answered", question=question.id)
            raise

    def stop(self, channel: str, thread_ts: str) -> bool:
        """Somebody pressed Stop in this thread; True if an answer was being written there."""
        found = [
            live
            for live in self._live.values()
            if (live.question.channel, live.question.thread_ts) == (channel, thread_ts)
        ]
        for live in found:
            live.watch.stopped.set()
        return bool(found)

    async def _put_off(self, question: Question) -> None:
        """Again in some seconds, and later each time."""
        await self._store.put_off_question(question.id, after_s=min(LONGEST_PAUSE_S, 2.0**question.attempts))

    async def _answer_claimed(self, question: Question, taken: Taken) -> None:
        settings = taken.settings
        if not question.thread_ts:
            question = await self._with_its_message(question)
        if not question.place:
            question.place = await self._place_of(question)
        refusal = self._desk.refusal(question.text)
        if refusal is not None:
            await self._say(question, refusal)
            await self._store.drop_question(question.id, "refused: " + refusal[:80])
            return
        draw = await self._duels.draw(question, settings) if self._duels is not None else None
        held = draw is not None and await self._held(question, draw)
        told = held or await self._answer_plainly(
            question, settings, first=question.attempts == 1 and draw is None
        )
        if told and not taken.asked_for_consent:
            await self._ask_for_consent(question)

    async def _place_of(self, question: Question) -> str:
        """What its event did not say is kept: distilling, judging and the digest take an unknown place for private."""
        kind = await self._places.kind(question.channel)
        if kind:
            await self._store.note_place(question.id, kind)
        return kind

    async def _held(self, question: Question, draw: Any) -> bool:
        """Whether the question needs no plain answer any more."""
        if self._duels is None:
            return False
        try:
            return await self._duels.hold(question, draw)
        except PublicError as error:
            await self._say(question, str(error))
            await self._store.drop_question(question.id, str(error))
            return True

    async def _answer_plainly(self, question: Question, settings: ChannelSettings, *, first: bool) -> bool:
        """False where the question was deleted meanwhile, so that there is nobody to talk to."""
        draft = self._draft(question)
        live = _Live(question, Watch(draft.write, draft.restart), draft, time.monotonic())
        self._live[question.id] = live
        progress = asyncio.create_task(self._show_progress(live), name=f"progress-{question.id}")
        try:
            answered = await self._desk.answer(question, watch=live.watch, channel=settings, first=first)
            progress.cancel()
            await self._post(answered, draft, settings)
        except QuestionDeleted:
            await draft.abandon()
            return False
        except (PublicError, Stopped) as error:
            await draft.abandon()
            await self._store.draft_stands(question.id, "")
            await self._say(question, text.STOPPED_EMPTY if isinstance(error, Stopped) else str(error))
            await self._store.drop_question(question.id, str(error) or "stopped")
        finally:
            self._live.pop(question.id, None)
            progress.cancel()
            await asyncio.gather(progress, return_exceptions=True)
            await self._end_session(question)
        return True

    async def _post(self, answered: Answered, draft: Draft, settings: ChannelSettings) -> None:
        if answered.answer.posted_ts:
            return
        messages = answer_messages(answered, feedback=settings.feedback)
        status = ACTIVE if answered.question.id in self._sessions else ""
        posted = await draft.finish(messages, session_status=status)
        if status and draft.ended_session:
            self._sessions.discard(answered.question.id)
        chance = await self._solicitor.chance(settings) if self._solicitor is not None else None
        await self._store.posted(
            answered.answer.id, posted.ts, before=posted.before, solicit_probability=chance
        )
        if self._solicitor is not None and chance is not None:
            await self._solicitor.after(answered, chance)

    def _draft(self, question: Question) -> Draft:
        async def stands(ts: str) -> None:
            await self._store.draft_stands(question.id, ts)

        async def look(payload: Mapping[str, Any] | None) -> str | None:
            return await self._standing(question, payload)

        return Draft(
            self._client,
            question,
            self._team,
            stands,
            look,
            ts=question.draft_ts,
            looks_first=question.attempts > 1,
            striker=partial(self._store.striker, question),
        )

    async def _with_its_message(self, question: Question) -> Question:
        """What was asked by a command gets a message that shows it, in whose thread it is answered."""
        twice = question.surface == "duel"
        message = asked_message(question.asker, question.text, question.id, twice=twice)
        ts = None
        if question.attempts > 1:
            recent = await self._client.conversations_history(
                channel=question.channel, limit=100, include_all_metadata=True
            )
            ts = _with_payload(recent["messages"], message["metadata"]["event_payload"])
        if ts is None:
            sent = await self._client.chat_postMessage(channel=question.channel, **message)
            ts = str(sent["ts"])
        await self._store.place_question(question.id, ts)
        question.ts = question.thread_ts = ts
        return question

    async def _show_waiting(self, question: Question) -> None:
        """Where a question has no seat yet and waits for more than a moment, its asker reads how many are ahead."""
        self._line.append(question.id)
        try:
            await asyncio.sleep(PATIENT_S)
            while question.thread_ts:
                ahead = AT_ONCE + self._line.index(question.id)
                if not await self._set_status(question, text.waiting(ahead)):
                    return
                await asyncio.sleep(RENEW_S)
        finally:
            self._line.remove(question.id)

    async def _show_progress(self, live: _Live) -> None:
        """A status line until the answer is being written, and Slack's own Stop button; none for a quick answer."""
        await asyncio.sleep(QUICK_S)
        await self._begin_session(live.question)
        shown, renewed = "", 0.0
        while not live.draft.begun:
            words = text.waiting(self._ahead_of(live))
            if words != shown or time.monotonic() - renewed > RENEW_S:
                if not await self._set_status(live.question, words):
                    return
                shown, renewed = words, time.monotonic()
            await asyncio.sleep(LOOK_S)

    def _ahead_of(self, live: _Live) -> int:
        """Questions that came before and of whose answers nothing is to be seen yet."""
        return sum(1 for other in self._live.values() if other.since < live.since and not other.draft.begun)

    async def _set_status(self, question: Question, words: str) -> bool:
        try:
            await self._client.assistant_threads_setStatus(
                channel_id=question.channel,
                thread_ts=question.thread_ts,
                status=words,
                loading_messages=THINKING,
            )
        except (SlackApiError, *UNREACHABLE) as error:
            log.info("no status line here", channel=question.channel, error=reason_of(error))
            return False
        return True

    async def _begin_session(self, question: Question) -> None:
        direct = question.surface == "dm"
        if direct in self._without_sessions:
            return
        try:
            await self._client.agents_sessions_setStatus(
                channel_id=question.channel,
                thread_ts=question.thread_ts,
                status=PROCESSING,
                initiator_user_id=question.asker,
            )
        except SlackApiError as error:
            log.info("no Stop button here", channel=question.channel, error=reason_of(error))
            self._without_sessions.add(direct)
        except UNREACHABLE as error:
            log.info("no Stop button this time", channel=question.channel, error=str(error))
        else:
            self._sessions.add(question.id)

    async def _end_session(self, question: Question) -> None:
        if question.id not in self._sessions:
            return
        self._sessions.discard(question.id)
        with suppress(SlackApiError, *UNREACHABLE):
            await self._client.agents_sessions_setStatus(
                channel_id=question.channel, thread_ts=question.thread_ts, status=ACTIVE
            )

    async def _say(self, question: Question, words: str) -> None:
        """A sentence in place of an answer."""
        payload = {"question_id": question.id}
        if question.attempts > 1 and await self._standing(question, payload) is not None:
            return
        metadata = {"event_type": "apprentice_sentence", "event_payload": payload}
        await self._client.chat_postMessage(
            channel=question.channel,
            thread_ts=question.thread_ts,
            text=text.escape(words),
            metadata=metadata,
        )

    async def _standing(self, question: Question, payload: Mapping[str, Any] | None) -> str | None:
        """Where the message with this payload stands in the question's thread.

        Without a payload: a message of ours that was begun for this question, and whose beginning nobody wrote down. A
        message gets its payload when it is complete.
        """
        replies = await self._client.conversations_replies(
            channel=question.channel,
            ts=question.thread_ts,
            oldest=question.ts,
            limit=200,
            include_all_metadata=True,
        )
        if payload is not None:
            return _with_payload(replies["messages"], payload)
        known = await self._store.answers_posted_at(self._team, question.channel, question.thread_ts)
        ours = [
            str(message["ts"])
            for message in replies["messages"]
            if message.get("user") == self._bot_user and not message.get("metadata")
        ]
        return next((ts for ts in ours if ts > question.ts and ts not in known), None)

    async def _ask_for_consent(self, question: Question) -> None:
        if not await self._store.may_learn(self._team, question.channel):
            return  # nothing is learned here, so nobody is asked whether it may be
        if not await self._store.first_time_asked_for_consent(self._team, question.asker):
            return
        place, asked = Place(question.channel, question.thread_ts), consent_message()
        if await whisper(self._client, place, question.asker, asked["text"], blocks=asked["blocks"]):
            await self._store.consent_shown(self._team, question.asker)


def _with_payload(messages: Iterable[Mapping[str, Any]], payload: Mapping[str, Any]) -> str | None:
    for message in messages:
        if (message.get("metadata") or {}).get("event_payload") == payload:
            return str(message["ts"])
    return None
