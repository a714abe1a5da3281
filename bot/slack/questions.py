"""Questions from Slack: recorded before Slack is acknowledged, then answered in tasks of our own.

What was not answered when the bot died is taken up by `tick`. It refuses to decide anything about models, and to keep
anything that was not said to the bot.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import timedelta
from typing import Any

import structlog

from bot.slack import text
from bot.slack.answering import COMMAND, Answering
from storage.records import Question, QuestionState, now
from storage.store import Store

AGAIN_S = 1.0
REMEMBERED = 1000
BY_PEOPLE = {None, "file_share", "thread_broadcast"}

Ack = Callable[..., Awaitable[Any]]

log = structlog.get_logger(__name__)


class Questions:
    """Takes questions in and sees that each is answered."""

    def __init__(
        self, store: Store, answering: Answering, *, team: str, bot_user: str, late_limit_s: float
    ) -> None:
        self._store = store
        self._answering = answering
        self._team = team
        self._bot_user = bot_user
        self._late_limit = timedelta(seconds=late_limit_s)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._recorded: dict[tuple[str, str], asyncio.Future[bool]] = {}

    async def record(self, body: dict[str, Any], next_: Callable[[], Awaitable[None]]) -> None:
        """Global middleware: what is asked is in the database before Slack hears that we have it."""
        event = body.get("event") or {}
        await self.take(event)
        if deleted_ts := _deleted(event):
            await self._store.delete_nominations_at(self._team, event["channel"], deleted_ts)
            await self._store.delete_question(self._team, event["channel"], deleted_ts)
        await next_()

    async def take(self, event: Mapping[str, Any]) -> bool:
        """Record what an event asks, once, and begin to answer it; True if it is a question nobody had recorded."""
        asked = await self._asked(event)
        if asked is None:
            return False
        mine = await self._first_to_record((asked["channel"], asked["ts"]))
        if mine is None:
            return False
        kept = False
        try:
            if _is_stranger(event, self._team):
                await self._store.never_learn_from(self._team, asked["asker"])
            recorded = await self._store.ask(team=self._team, **asked)
            kept = True
        finally:
            mine.set_result(kept)
        if recorded.new:
            self.start(recorded.question)
        return recorded.new

    async def _first_to_record(self, place: tuple[str, str]) -> asyncio.Future[bool] | None:
        """To be told whether the message was recorded; None once it was, as Slack tells of a mention twice or more."""
        while (earlier := self._recorded.get(place)) is not None:
            if await asyncio.shield(earlier):
                return None
            if self._recorded.get(place) is earlier:
                del self._recorded[place]
        while len(self._recorded) >= REMEMBERED:
            del self._recorded[next(iter(self._recorded))]
        mine: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._recorded[place] = mine
        return mine

    async def _asked(self, event: Mapping[str, Any]) -> dict[str, str] | None:
        """What to record of an event; None where it asks us nothing."""
        by_a_person = event.get("user") and not event.get("bot_id") and event.get("user") != self._bot_user
        if not by_a_person or event.get("subtype") not in BY_PEOPLE:
            return None
        surface = await self._surface(event)
        if surface is None:
            return None
        return {
            "channel": event["channel"],
            "ts": event["ts"],
            "thread_ts": event.get("thread_ts") or event["ts"],
            "asker": event["user"],
            "text": text.question_text(event.get("text") or "", self._bot_user),
            "surface": surface,
            "place": str(event.get("channel_type") or ""),
        }

    async def _surface(self, event: Mapping[str, Any]) -> str | None:
        """Where a person speaks to us: "dm", "mention", "follow-up" in a thread of ours; None where they do not."""
        if "channel" not in event or "ts" not in event:
            return None
        if event.get("type") == "app_mention":
            return "mention"
        if event.get("type") != "message":
            return None
        if event.get("channel_type") == "im":
            return "dm"
        said = event.get("text") or ""
        if f"<@{self._bot_user}>" in said or f"<@{self._bot_user}|" in said:
            return "mention"
        return "follow-up" if await self._follows_up(event, said) else None

    async def _follows_up(self, event: Mapping[str, Any], said: str) -> bool:
        """A reply in a thread where we were asked, in a channel that wants it so, to nobody else by name."""
        thread_ts = event.get("thread_ts")
        if not thread_ts or thread_ts == event["ts"] or text.begins_with_mention(said):
            return False
        channel = str(event["channel"])
        if not await self._store.knows_thread(self._team, channel, str(thread_ts)):
            return False
        return (await self._store.channel_settings(self._team, channel)).follow_ups

    async def command(
        self, ack: Ack, body: Mapping[str, Any], respond: Ack, words: str, *, surface: str = "command"
    ) -> None:
        """`/apprentice ask <question>`: the question is shown in the channel and answered in its thread."""
        if not words.strip():
            await ack(text=text.NO_QUESTION, response_type="ephemeral")
            return
        question = await self.record_command(body, words, surface=surface)
        await ack()
        self._own(question, self._answer_command(question, respond))

    async def _answer_command(self, question: Question, respond: Ack) -> None:
        await self._answering.answer(question)
        known = await self._store.question(question.id)
        if known is not None and known.state is QuestionState.DROPPED and not known.thread_ts:
            await respond(text=text.NOT_HERE, response_type="ephemeral", replace_original=False)

    async def record_command(self, body: Mapping[str, Any], words: str, *, surface: str) -> Question:
        """What a slash command asks, in the database before Slack is acknowledged."""
        recorded = await self._store.ask(
            team=self._team,
            channel=str(body["channel_id"]),
            ts=f"{COMMAND}{body['trigger_id']}",
            thread_ts="",
            asker=str(body["user_id"]),
            text=text.unescape(words).strip(),
            surface=surface,
        )
        return recorded.question

    async def stopped(self, event: Mapping[str, Any]) -> None:
        """Somebody pressed Slack's Stop button (`agent_session_stopped`)."""
        found = self._answering.stop(str(event.get("channel")), str(event.get("thread_ts")))
        log.info("stop was pressed", channel=event.get("channel"), by=event.get("user"), found=found)

    def start(self, question: Question) -> None:
        """Answer in a task of our own, so that nobody waits for it."""
        if question.id not in self._tasks:
            self._own(question, self._answering.answer(question))

    def _own(self, question: Question, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=f"answer-{question.id}")
        self._tasks[question.id] = task
        task.add_done_callback(lambda _task: self._tasks.pop(question.id, None))

    async def tick(self) -> None:
        """Take up what is owed: questions left by a bot that died, or that Slack did not take."""
        for question in await self._store.owed_questions():
            if now() - question.asked_at > self._late_limit:
                await self._store.drop_question(question.id, "older than the limit for late answers")
            elif now() - question.asked_at > timedelta(seconds=AGAIN_S):
                self.start(question)

    async def stop(self, grace_s: float = 20.0) -> None:
        """Let answers in progress finish, for a while; the rest is answered after the next start."""
        tasks = list(self._tasks.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


def _is_stranger(event: Mapping[str, Any], team: str) -> bool:
    """Whether somebody of another workspace said it, in a channel that both share (Slack Connect)."""
    theirs = event.get("user_team") or event.get("team")
    return bool(event.get("is_stranger")) or (bool(theirs) and theirs != team)


def _deleted(event: Mapping[str, Any]) -> str | None:
    """The ts of a message that somebody deleted. One with replies, such as an answered question, leaves a tombstone."""
    if event.get("subtype") == "message_deleted":
        return event.get("deleted_ts")
    now_there = event.get("message") or {}
    if event.get("subtype") == "message_changed" and now_there.get("subtype") == "tombstone":
        return now_there.get("ts")
    return None
