"""Slack over HTTP: signed requests are believed, others are not; redelivery and a slow database change nothing."""

import asyncio
import json
import socket
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from answer_rig import MODEL
from bot_process import HELP, Team, eventually, is_answer, quick_settings, rate, replies, team_at
from provider_standins import OpenAIServer, StandIn, served
from slack_sdk.signature import SignatureVerifier

from bot.app import Bot, start
from bot.errors import PublicError
from bot.settings import Policy, Settings
from bot.slack.access import REVOKED
from bot.slack.http_mode import EVENTS, HEALTH
from bot.workspace import LocalWorkspace
from bot.workspace.seed import BOT_TOKEN, BOT_USER

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
WAIT_S = 45.0
FORM = "application/x-www-form-urlencoded"

Json = dict[str, Any]


@dataclass
class Public:
    """A bot that is reached over HTTP, the people of its workspace, and a stranger's view of its port."""

    bot: Bot
    team: Team
    settings: Settings
    api: StandIn

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.http_port}"

    async def send(
        self,
        body: str,
        *,
        kind: str = "application/json",
        secret: str = SECRET,
        age_s: float = 0,
        **more: str,
    ) -> tuple[int, str]:
        """A request as Slack would make it; the status and the text of the answer."""
        at = str(int(time.time() - age_s))
        signature = SignatureVerifier(secret).generate_signature(timestamp=at, body=body)
        assert signature is not None
        headers = {
            "Content-Type": kind,
            "X-Slack-Request-Timestamp": at,
            "X-Slack-Signature": signature,
            **more,
        }
        async with self.team.http.post(self.url + EVENTS, data=body.encode(), headers=headers) as response:
            return response.status, await response.text()

    async def health(self) -> tuple[int, Json]:
        async with self.team.http.get(self.url + HEALTH) as response:
            return response.status, await response.json()

    async def questions(self) -> int:
        return (await self.bot.workshop.store.tally(self.bot.workshop.team)).questions

    async def answers(self, ts: str) -> list[Json]:
        return [each for each in await replies(self.team.cleo, ts) if is_answer(each)]

    async def answered(self, ts: str) -> Json:
        """The one answer in a thread."""
        found = await eventually(lambda: self.answers(ts), timeout_s=WAIT_S, what="it is answered")
        assert len(found) == 1
        return found[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def http_settings(folder: Path, workspace: LocalWorkspace, api: StandIn, port: int) -> Settings:
    return quick_settings(
        folder / "data",
        slack_bot_token=BOT_TOKEN,
        slack_signing_secret=SECRET,
        slack_api_url=f"{workspace.url}/api/",
        http_port=port,
        answer_policy=Policy.API_FIRST,
        openai_api_key="sk-right",
        openai_base_url=f"{api.url}/v1",
        openai_model=MODEL,
    )


@asynccontextmanager
async def public_bot(folder: Path) -> AsyncIterator[Public]:
    port = free_port()
    stand_in = StandIn(models={MODEL: None})
    workspace = LocalWorkspace(
        port=0, request_url=f"http://127.0.0.1:{port}{EVENTS}", signing_secret=SECRET, ack_timeout_s=3.0
    )
    await workspace.start()
    try:
        async with served(stand_in, OpenAIServer(stand_in).routes()) as api, team_at(workspace.url) as team:
            settings = http_settings(folder, workspace, api, port)
            bot = await start(settings)
            try:
                await eventually(lambda: connected(team), timeout_s=WAIT_S, what="the URL is verified")
                yield Public(bot, team, settings, api)
            finally:
                await bot.stop()
    finally:
        await workspace.stop()


async def connected(team: Team) -> bool:
    state = await team.cleo.state()
    return bool(state["connected"])


def mention(public: Public, ts: str, *, text: str = "Do you sell nails?", event_id: str = "Ev1") -> str:
    event = {
        "type": "app_mention",
        "user": "U0CLEO",
        "text": f"<@{BOT_USER}> {text}",
        "ts": ts,
        "channel": HELP,
    }
    team = public.bot.workshop.team
    return json.dumps({"type": "event_callback", "team_id": team, "event_id": event_id, "event": event})


async def test_a_conversation_over_http(tmp_path: Path) -> None:
    """The challenge is given back, a mention is answered, a command and a vote are taken, all by signed requests."""
    async with public_bot(tmp_path) as public:
        ts = await public.team.cleo.post(HELP, "@apprentice Do you sell nails?")
        answer = await public.answered(ts)
        await rate(public.team.cleo, answer, 1)
        await eventually(lambda: upvotes(public), timeout_s=WAIT_S, what="the vote is kept")
        await public.team.ann.command(HELP, "/apprentice", "status")
        await public.team.ann.wait_for_ephemeral(HELP, lambda message: "Answering now" in message["text"])


async def upvotes(public: Public) -> int:
    return (await public.bot.workshop.store.tally(public.bot.workshop.team)).thumbs_up


async def test_what_slack_did_not_sign_just_now_is_refused(tmp_path: Path) -> None:
    """401, and nothing is recorded: neither a forger nor somebody who replays an old request is believed."""
    wrongs: list[Json] = [
        {"secret": "another secret"},
        {"age_s": 301.0},
        {"age_s": -310.0},
        {"X-Slack-Signature": "v0=0123"},
        {"X-Slack-Request-Timestamp": "yesterday"},
    ]
    async with public_bot(tmp_path) as public:
        ts = await public.team.cleo.post(HELP, "no mention")
        form = urlencode(
            {"command": "/apprentice", "text": "ask why?", "user_id": "U0CLEO", "channel_id": HELP}
        )
        for wrong in wrongs:
            assert (await public.send(mention(public, ts), **wrong))[0] == 401, wrong
            assert (await public.send(form, kind=FORM, **wrong))[0] == 401, wrong
        assert await public.questions() == 0
        assert (await public.send(mention(public, ts)))[0] == 200
        assert await public.questions() == 1


async def test_the_challenge_is_given_back(tmp_path: Path) -> None:
    """Slack verifies the address before it sends anything; only with a signature."""
    async with public_bot(tmp_path) as public:
        body = json.dumps({"type": "url_verification", "challenge": "3eZbrw1a", "token": "x"})
        status, text = await public.send(body)
        assert (status, "3eZbrw1a" in text) == (200, True)
        assert (await public.send(body, secret="another secret"))[0] == 401


async def test_an_event_sent_four_times_is_answered_once(tmp_path: Path) -> None:
    """Slack's retries carry X-Slack-Retry-Num; whether the first arrived does not matter."""
    async with public_bot(tmp_path) as public:
        ts = await public.team.cleo.post(HELP, "no mention, so that only we tell of it")
        retries: list[Json] = [
            {},
            *({"X-Slack-Retry-Num": str(n), "X-Slack-Retry-Reason": "http_timeout"} for n in (1, 2, 3)),
        ]
        sent = await asyncio.gather(*(public.send(mention(public, ts), **retry) for retry in retries))
        assert [status for status, _ in sent] == [200] * 4
        await public.answered(ts)
        assert await public.questions() == 1
        assert len(public.api.requests) == 1


@pytest.mark.sqlite("its one writer at a time")
async def test_while_the_database_is_busy_nothing_is_acknowledged_that_is_not_kept(tmp_path: Path) -> None:
    """A writer holds the database longer than Slack waits: Slack sends it again, and it is answered once."""
    async with public_bot(tmp_path) as public:
        warm = await public.team.cleo.post(HELP, "@apprentice Are you there?")
        await public.answered(warm)
        async with busy_database(public):
            ts = await public.team.cleo.post(HELP, "@apprentice Do you sell nails?")
            await eventually(lambda: sent_again(public, ts), timeout_s=WAIT_S, what="Slack sends it again")
            assert await public.answers(ts) == []
        await public.answered(ts)
        nails = [each for each in public.api.requests if "nails" in str(each["messages"][-1]["content"])]
        assert len(nails) == 1


@asynccontextmanager
async def busy_database(public: Public) -> AsyncIterator[None]:
    """Somebody else writes and does not come to an end."""
    file = public.settings.data_dir / "apprentice.sqlite"
    connected = sqlite3.connect(file, isolation_level=None, timeout=30, check_same_thread=False)
    with closing(connected) as writer:
        await asyncio.to_thread(writer.execute, "BEGIN IMMEDIATE")
        try:
            yield
        finally:
            writer.execute("ROLLBACK")


async def sent_again(public: Public, ts: str) -> bool:
    async with public.team.http.get(f"{public.team.url}/_control/frames") as response:
        frames: list[Json] = (await response.json())["frames"]
    return any(ts in json.dumps(each["body"]) and each.get("retry_attempt") for each in frames)


@pytest.mark.sqlite("its one writer at a time")
async def test_a_database_that_is_slow_for_a_second_costs_no_redelivery(tmp_path: Path) -> None:
    """Kept first and acknowledged then, within the three seconds that Slack waits."""
    async with public_bot(tmp_path) as public:
        ts = await public.team.cleo.post(HELP, "no mention")
        async with busy_database(public):
            sending = asyncio.create_task(public.send(mention(public, ts)))
            done, _ = await asyncio.wait([sending], timeout=0.5)
            assert not done
        assert (await sending)[0] == 200
        assert await public.questions() == 1
        await public.answered(ts)


@pytest.mark.sqlite("the file is moved away")
async def test_health_says_which_part_is_down(tmp_path: Path) -> None:
    """200 only while questions can be answered; who asks learns the part and no detail."""
    async with public_bot(tmp_path) as public:
        fine = {"database": "ok", "slack": "ok", "models": "ok"}
        assert await public.health() == (200, {"ok": True, "parts": fine})
        public.bot.service.access.lose(REVOKED, seen_by="a test")
        assert await public.health() == (503, {"ok": False, "parts": {**fine, "slack": REVOKED}})
        public.bot.service.access.lost = None
        (public.settings.data_dir / "apprentice.sqlite").rename(tmp_path / "moved.sqlite")
        await public.bot.workshop.store.database.close()
        (public.settings.data_dir / "apprentice.sqlite").mkdir()
        status, told = await public.health()
        assert (status, told["parts"]) == (503, {**fine, "database": "down"})
        (public.settings.data_dir / "apprentice.sqlite").rmdir()
        (tmp_path / "moved.sqlite").rename(public.settings.data_dir / "apprentice.sqlite")
        assert (await public.health())[0] == 200


async def test_a_taken_port_and_a_missing_secret_are_named(tmp_path: Path) -> None:
    """At the start, with the setting to change."""
    workspace = LocalWorkspace(port=0)
    await workspace.start()
    try:
        with socket.socket() as taken:
            taken.bind(("0.0.0.0", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(PublicError, match=f"Port {port} is in use. Set HTTP_PORT"):
                await start(http_settings(tmp_path, workspace, StandIn(url="http://127.0.0.1:9"), port))
        settings = quick_settings(
            tmp_path / "data", slack_bot_token=BOT_TOKEN, slack_api_url=f"{workspace.url}/api/"
        )
        with pytest.raises(PublicError, match=r"SLACK_APP_TOKEN is not set.*SLACK_SIGNING_SECRET"):
            await start(settings)
    finally:
        await workspace.stop()


async def test_rubbish_is_refused_without_being_read(tmp_path: Path) -> None:
    """No signature, no text, no JSON, another path: a short answer and no traceback."""
    async with public_bot(tmp_path) as public:
        for body in (b"{", b"\xff\xfe", b"payload=%7B", b""):
            async with public.team.http.post(public.url + EVENTS, data=body) as response:
                assert response.status == 401
        for method, path, status in (("GET", EVENTS, 405), ("GET", "/", 404)):
            async with public.team.http.request(method, public.url + path) as response:
                assert response.status == status
        assert (await public.health())[0] == 200
