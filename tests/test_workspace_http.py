"""Delivery by signed HTTP requests: an unmodified slack_bolt app behind aiohttp, and an app that misbehaves."""

import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from slack_bolt.app.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient
from workspace_rig import FEEDBACK, Json, corrections_modal, until

from bot.errors import PublicError
from bot.workspace import LocalWorkspace, Workspace
from bot.workspace.http_delivery import HttpDelivery
from bot.workspace.seed import BOT_TOKEN

SECRET = "a-signing-secret"


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    """The application on a port of its own; its address."""
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, shutdown_timeout=1)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def delivering_to(url: str, **options: Any) -> AsyncIterator[tuple[LocalWorkspace, Workspace]]:
    """A workspace whose app is behind this request URL, once the URL is verified."""
    workspace = LocalWorkspace(
        port=0, request_url=url, signing_secret=SECRET, **{"ack_timeout_s": 10.0, **options}
    )
    await workspace.start()
    try:
        async with aiohttp.ClientSession() as session:
            control = Workspace(workspace.url, session)
            running = workspace._running
            assert running is not None
            transport = running.services.outbox.transport
            assert isinstance(transport, HttpDelivery)
            await until(lambda: transport.count, timeout_s=30)
            yield workspace, control
    finally:
        await workspace.stop()


async def test_a_bolt_app_is_told_everything_by_signed_requests() -> None:
    """Verification, events, commands, buttons, modals with errors, global shortcuts: as Bolt answers them over HTTP."""
    app = AsyncApp(client=AsyncWebClient(token=BOT_TOKEN), signing_secret=SECRET)
    submitted: list[Json] = []

    @app.event("app_mention")
    async def answer(event: Json, client: AsyncWebClient) -> None:
        await client.chat_postMessage(
            channel=event["channel"], thread_ts=event["ts"], text="Hello", blocks=FEEDBACK
        )

    @app.command("/train")
    async def train(ack: Any, command: Json) -> None:
        await ack(f"Training on {command['text']}")

    @app.action("rate")
    async def rated(ack: Any, body: Json, client: AsyncWebClient) -> None:
        await ack()
        await client.views_open(trigger_id=body["trigger_id"], view=corrections_modal())

    @app.view("correct")
    async def corrected(ack: Any, view: Json) -> None:
        better = view["state"]["values"]["better-block"]["better"]["value"]
        if better == "no no no":
            await ack(response_action="errors", errors={"better-block": "Say more."})
        else:
            submitted.append(view)
            await ack()

    async with (
        served(app.web_app(path="/slack/events")) as url,
        delivering_to(f"{url}/slack/events") as (_, control),
    ):
        app.client.base_url = f"{control.url}/api/"
        cleo = control.person("U0CLEO")
        asked = await cleo.post("C0HELP", "@apprentice hello?")
        said = await cleo.wait_for_message("C0HELP", lambda one: one["text"] == "Hello", asked)
        assert (await cleo.command("C0HELP", "/train", "tea"))["text"] == "Training on tea"
        await cleo.click("C0HELP", said["ts"], "rate", "down-1")
        modal = await cleo.wait_for_view(timeout_s=30)
        refused = await cleo.submit(modal["id"], {"why": "wrong", "better": "no no no"})
        assert refused == {"errors": {"better-block": "Say more."}}
        assert await cleo.submit(modal["id"], {"why": "wrong", "better": "a better answer"}) == {"ok": True}
        assert len(submitted) == 1
        assert await cleo.views() == []
        kinds = {frame["kind"] for frame in await control.frames() if frame["transport"] == "http"}
        assert {"url_verification", "events_api", "slash_commands", "interactive", "HTTP 200"} <= kinds


class Misbehaving:
    """An app that gives challenges back and answers everything else with the next of its statuses, 200 at last."""

    def __init__(self, *statuses: int, headers: dict[str, str] | None = None) -> None:
        self.statuses = list(statuses)
        self.headers = headers or {}
        self.events: list[tuple[Json, dict[str, str]]] = []
        self.unsigned = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/slack/events", self._answer)
        return app

    def heard_more_than(self, count: int) -> bool:
        return len(self.events) > count

    async def _answer(self, request: web.Request) -> web.Response:
        text = await request.text()
        at = request.headers["X-Slack-Request-Timestamp"]
        digest = hmac.new(SECRET.encode(), f"v0:{at}:{text}".encode(), hashlib.sha256).hexdigest()
        signed = request.headers["X-Slack-Signature"] == f"v0={digest}"
        self.unsigned += not signed or abs(time.time() - int(at)) > 300
        if request.content_type != "application/json":
            return web.Response(status=500)
        body = await request.json()
        if body["type"] == "url_verification":
            return web.Response(text=body["challenge"])
        self.events.append((body, dict(request.headers)))
        status = self.statuses.pop(0) if self.statuses else 200
        return web.Response(status=status, headers=self.headers)


async def test_an_event_that_fails_is_sent_again_three_times() -> None:
    """At once, after a minute and after five, numbered and with the reason; each time newly signed, the same event."""
    app = Misbehaving(500, 503, 500, 500)
    async with served(app.app()) as url, delivering_to(f"{url}/slack/events") as (workspace, control):
        await control.person("U0CLEO").post("C0HELP", "hello")
        await until(lambda: len(app.events) == 2, timeout_s=30)
        for seconds in (61, 301):
            await until(lambda: workspace.clock.pending, timeout_s=30)
            heard = len(app.events)
            await control.advance(seconds)
            await until(partial(app.heard_more_than, heard), timeout_s=30)
        await until(lambda: not workspace.clock.pending, timeout_s=30)
        await control.advance(1000)
        assert len(app.events) == 4
        assert len({body["event_id"] for body, _ in app.events}) == 1
        retries = [
            (headers.get("X-Slack-Retry-Num"), headers.get("X-Slack-Retry-Reason"))
            for _, headers in app.events
        ]
        assert retries == [(None, None), ("1", "http_error"), ("2", "http_error"), ("3", "http_error")]
        assert app.unsigned == 0


async def test_an_app_may_refuse_retries() -> None:
    """X-Slack-No-Retry: 1 ends it after the first failure."""
    app = Misbehaving(500, headers={"X-Slack-No-Retry": "1"})
    async with served(app.app()) as url, delivering_to(f"{url}/slack/events") as (_, control):
        cleo = control.person("U0CLEO")
        await cleo.post("C0HELP", "first")
        await until(lambda: len(app.events) == 1, timeout_s=30)
        await cleo.post("C0HELP", "second")
        await until(lambda: len(app.events) == 2, timeout_s=30)
        assert [body["event"]["text"] for body, _ in app.events] == ["first", "second"]


async def test_a_command_that_fails_is_told_to_the_person_and_not_repeated() -> None:
    """Slack shows the failure; commands are sent once."""
    app = Misbehaving()
    async with served(app.app()) as url, delivering_to(f"{url}/slack/events") as (_, control):
        with pytest.raises(PublicError, match="http_service_error"):
            await control.person("U0CLEO").command("C0HELP", "/train", "now")
        sent = [frame for frame in await control.frames() if frame["kind"] == "slash_commands"]
        assert len(sent) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"request_url": "slack/events", "signing_secret": "s"}, "must be a web address"),
        ({"request_url": "http://127.0.0.1:1/slack/events"}, "needs a signing secret"),
    ],
)
def test_a_bad_request_url_is_named(options: Json, words: str) -> None:
    """What is wrong is said before anything starts."""
    with pytest.raises(PublicError, match=words):
        LocalWorkspace(port=0, **options)
