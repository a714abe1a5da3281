"""Payloads from the tests of Slack's own SDKs go through the running bot: the right answer, or polite silence.

The rule says for each kind what has to come of it; the bot is started as people start it, and gets every payload over its
own Socket Mode connection.
"""

import asyncio
import json
import logging
import re
import sqlite3
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from bot_process import APPRENTICE, HELP, Team, bot_in_here
from on_postgres import database_url, query
from slack_bolt.async_app import AsyncApp
from slack_bolt.request.async_request import AsyncBoltRequest
from structlog.testing import capture_logs

from bot.app import Bot
from bot.slack import unclaimed
from bot.workspace.delivery import NotAcknowledged
from bot.workspace.socket_mode import SocketHub
from storage.entries import NewEntry

Json = dict[str, Any]
PATIENCE_S = 30.0
SUGGESTIONS = {"block_suggestion", "dialog_suggestion"}
INTERACTIVE = SUGGESTIONS | {
    "block_actions",
    "dialog_cancellation",
    "dialog_submission",
    "interactive_message",
    "message_action",
    "shortcut",
    "view_closed",
    "view_submission",
    "workflow_step_edit",
}
OF_THE_CONNECTION = {"hello", "disconnect"}
ENDS_THE_APP = {"app_uninstalled", "tokens_revoked"}


class Outcome(StrEnum):
    """What comes of a payload."""

    QUESTION = "a question is recorded"
    COMMAND = "a command is answered with a sentence"
    OPTIONS = "a menu is told that there are no options"
    SILENCE = "acknowledged, and nothing else"
    CONNECTION = "a frame of the connection itself, which asks for no acknowledgement"
    NOTHING = "not even acknowledged"
    CHALLENGE = "the challenge is sent back, over HTTP only"


@dataclass(frozen=True)
class Row:
    """One line of payloads.jsonl."""

    kind: str
    body: Json

    @property
    def envelope(self) -> tuple[str, Json]:
        """As Socket Mode carries it: the envelope's type and its payload."""
        if "envelope_id" in self.body:
            return str(self.body["type"]), self.body["payload"]
        if self.kind in INTERACTIVE:
            return "interactive", self.body
        if self.kind == "slash_command":
            return "slash_commands", self.body
        if self.kind.startswith("event_callback:"):
            return "events_api", self.body
        return "events_api", {"type": "event_callback", "event": self.body}

    @property
    def event(self) -> Json:
        kind, payload = self.envelope
        return dict(payload.get("event") or {}) if kind == "events_api" else {}

    @property
    def outcome(self) -> Outcome:
        """The rule. People's mentions and direct messages are questions; what else we hear of is not for us to answer."""
        if self.kind in OF_THE_CONNECTION:
            return Outcome.CONNECTION
        if self.kind == "url_verification":
            return Outcome.CHALLENGE
        kind, payload = self.envelope
        if kind == "slash_commands":
            return Outcome.COMMAND if "command" in payload else Outcome.SILENCE
        if payload.get("type") in SUGGESTIONS:
            return Outcome.OPTIONS
        return Outcome.QUESTION if _asks(self.event) else Outcome.SILENCE


def _asks(event: Mapping[str, Any]) -> bool:
    direct = event.get("type") == "message" and event.get("channel_type") == "im"
    addressed = direct or event.get("type") == "app_mention"
    by_a_person = bool(event.get("user")) and not event.get("bot_id") and not event.get("subtype")
    return addressed and by_a_person and bool(event.get("ts"))


@pytest.fixture(scope="session")
def rows(shared_data: Path) -> list[Row]:
    """Those that end the app's stay in the workspace last, and before them nothing that the order matters for."""
    text = (shared_data / "slack_payloads" / "payloads.jsonl").read_text(encoding="utf-8")
    read = [Row(line["kind"], line["body"]) for line in map(json.loads, text.splitlines())]
    return sorted(read, key=lambda row: row.event.get("type") in ENDS_THE_APP)


@dataclass
class Trouble:
    """What went wrong without anybody having been told."""

    told: list[str] = field(default_factory=list)


class _Kept(logging.Handler):
    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self.records = records

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def listening_for_trouble() -> Iterator[Trouble]:
    """Errors that bolt, slack_sdk or we ourselves log, exceptions of tasks, and what bolt calls unhandled."""
    trouble, records = Trouble(), list[logging.LogRecord]()
    handler = _Kept(records)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: trouble.told.append(str(context)))
    logging.getLogger().addHandler(handler)
    try:
        with capture_logs() as ours:
            yield trouble
    finally:
        logging.getLogger().removeHandler(handler)
        loop.set_exception_handler(None)
    wrong = [one for one in records if one.levelno >= logging.ERROR or "nhandled" in one.getMessage()]
    trouble.told += [one.getMessage() for one in wrong]
    trouble.told += [str(one) for one in ours if one["log_level"] in {"error", "critical"}]


def hub_of(bot: Bot) -> SocketHub:
    """Slack's end of the bot's connections. A slow machine may acknowledge late; lateness is measured elsewhere."""
    assert bot.workspace is not None
    assert bot.workspace._running is not None
    hub = bot.workspace._running.services.outbox.transport
    assert isinstance(hub, SocketHub)
    hub._ack_timeout_s = PATIENCE_S
    return hub


@dataclass(frozen=True)
class Desk:
    """The bot under test, and what is seen of it from outside."""

    bot: Bot
    hub: SocketHub
    database: Path

    def questions(self) -> set[tuple[str, str]]:
        """(channel, ts) of every question that the bot has in its database."""
        if elsewhere := database_url(f"sqlite:///{self.database}"):
            return {(row[0], row[1]) for row in query(elsewhere, "SELECT channel, ts FROM question")}
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30)) as database:
            return {(channel, ts) for channel, ts in database.execute("SELECT channel, ts FROM question")}

    async def seen_after(self, row: Row) -> Outcome:
        """Deliver a row, wait for its acknowledgement, and say what came of it."""
        if row.kind in OF_THE_CONNECTION:
            assert await self.hub._live()[0].send(row.body)
            return Outcome.CONNECTION
        if row.kind == "url_verification":
            return await self._challenged(row)
        known = self.questions()
        try:
            acked = await self.hub.request(*row.envelope)
        except NotAcknowledged:
            return Outcome.NOTHING
        if self.questions() - known:
            return Outcome.QUESTION
        return _said(acked)

    async def _challenged(self, row: Row) -> Outcome:
        app = AsyncApp(token="xoxb-none", signing_secret="x", request_verification_enabled=False)
        unclaimed.listen(app)
        request = AsyncBoltRequest(body=json.dumps(row.body), headers={"content-type": ["application/json"]})
        answer = await app.async_dispatch(request)
        assert (answer.status, row.body["challenge"] in answer.body) == (200, True)
        return Outcome.CHALLENGE


def _said(acked: Json) -> Outcome:
    if acked == {"options": []}:
        return Outcome.OPTIONS
    if acked.get("text"):
        return Outcome.COMMAND
    assert acked == {}, acked
    return Outcome.SILENCE


ANSWERS = {"Hi there!": "Hello! What may I find out for you?", "hey": "Hey you."}
"""What people of the SDKs' tests say to their bots, as our memory knows it."""


@pytest.fixture
async def desk(tmp_path: Path, rows: Sequence[Row]) -> AsyncIterator[tuple[Desk, Team]]:
    """A running bot whose memory knows what is asked; at the end it has stopped without a word of trouble."""
    with listening_for_trouble() as trouble:
        async with bot_in_here(tmp_path / "data") as (bot, team):
            shop = bot.workshop
            as_written = {row.event["text"]: "Hello." for row in rows if row.outcome is Outcome.QUESTION}
            known = {**as_written, **ANSWERS}
            await shop.store.add_entries(
                shop.team, [NewEntry(*pair, source="a test") for pair in known.items()]
            )
            await shop.remember()
            yield Desk(bot, hub_of(bot), tmp_path / "data" / "apprentice.sqlite"), team
    assert trouble.told == []


async def test_every_payload_of_slack_has_the_right_outcome(
    desk: tuple[Desk, Team], rows: Sequence[Row]
) -> None:
    """Each row is acknowledged and has the outcome of the rule, as often as the file has such rows; nothing is raised."""
    bot, _ = desk
    wrong, seen, asked = [], Counter[Outcome](), set[tuple[str, str]]()
    for row in rows:
        expected = row.outcome
        if expected is Outcome.QUESTION:
            place = (row.event["channel"], row.event["ts"])
            expected = Outcome.SILENCE if place in asked else expected  # the same message again
            asked.add(place)
        came = await bot.seen_after(row)
        seen[came] += 1
        if came is not expected:
            wrong.append(f"{row.kind}: {came}, not {expected}: {json.dumps(row.body)[:300]}")
    assert not wrong, "\n".join(wrong)
    assert seen.total() == len(rows)
    assert seen[Outcome.QUESTION] == len(asked) == len(bot.questions()) > 2
    assert seen[Outcome.COMMAND] == sum(row.kind in {"slash_command", "slash_commands"} for row in rows) - 1
    assert seen[Outcome.OPTIONS] == sum(row.kind in SUGGESTIONS for row in rows)
    assert seen[Outcome.CONNECTION] == sum(row.kind in OF_THE_CONNECTION for row in rows)
    assert seen[Outcome.SILENCE] > len(rows) / 2


async def test_a_mention_of_slacks_own_tests_is_answered(
    desk: tuple[Desk, Team], rows: Sequence[Row]
) -> None:
    """The rows that are questions, said to our bot by somebody of our workspace, get the right reply, and one only."""
    bot, team = desk
    questions = [row for row in rows if row.outcome is Outcome.QUESTION]
    for row in questions:
        ts = await team.cleo.post(HELP, "(somebody speaks to the bot)")
        words = re.sub(r"<@[UW]\w+>", f"<@{APPRENTICE}>", row.event["text"])
        event = {**row.event, "channel": HELP, "user": "U0CLEO", "text": words, "ts": ts, "event_ts": ts}
        kind, payload = row.envelope
        again = {**payload, "event_id": f"Ev{uuid.uuid4().hex[:9]}", "event": event}
        assert await bot.hub.request(kind, again) == {}
        expected = ANSWERS.get(words.partition("> ")[2], "I am listening. Write your question after my name")
        reply = await team.ann.wait_for_message(HELP, _finished, thread_ts=ts, timeout_s=PATIENCE_S)
        assert reply["text"].startswith(expected)
        assert [one["ts"] for one in await team.ann.messages(HELP, ts) if _finished(one)] == [reply["ts"]]
    assert len(questions) > 3


def _finished(message: Json) -> bool:
    said = message.get("user") == APPRENTICE and not message.get("ephemeral")
    return bool(said and not message.get("streaming"))


async def test_what_is_not_for_this_bot_is_said_kindly(desk: tuple[Desk, Team]) -> None:
    """An unknown command gets a sentence that names it; an unknown button, window, shortcut and event are acknowledged."""
    bot, _ = desk
    user = {"id": "U0CLEO"}
    told = await bot.hub.request("slash_commands", {"command": "/<!here>", "text": "", "user_id": "U0CLEO"})
    assert told["response_type"] == "ephemeral"
    assert told["text"].startswith("I do not know `/&lt;!here&gt;`.")
    action = {"action_id": "of-last-year", "block_id": "b", "type": "button", "value": "x"}
    for payload in (
        {"type": "block_actions", "user": user, "actions": [action]},
        {"type": "view_submission", "user": user, "view": {"type": "modal", "callback_id": "of-last-year"}},
        {"type": "view_closed", "user": user, "view": {"type": "modal", "callback_id": "of-last-year"}},
        {"type": "message_action", "user": user, "callback_id": "of-last-year"},
        {"type": "shortcut", "user": user, "callback_id": "of-last-year"},
        {"type": "of_next_year", "user": user},
        {},
    ):
        assert await bot.hub.request("interactive", payload) == {}
    assert (
        await bot.hub.request("events_api", {"type": "event_callback", "event": {"type": "of_next_year"}})
        == {}
    )
