"""Debian's Chromium for the tests that look at a page, and a desk: a workspace, a small real Bolt app, and a page of it.

A test module takes the fixtures by name: `chromium, desk = chromium_fixture, desk_fixture`.
"""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, async_playwright, expect
from slack_bolt.adapter.socket_mode.async_handler import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

from bot.workspace import LocalWorkspace, Person

Json = dict[str, Any]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BROWSER_ARGS = [
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here; Debian has it: apt-get install chromium"
)
on_the_page = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module"), needs_chromium]

BOT_TOKEN, APP_TOKEN = "xoxb-local-apprentice", "xapp-local-apprentice"
HELP, ADMIN = "C0HELP", "C0ADMIN"
PATIENCE_MS = 30_000
Build = Callable[[AsyncWebClient, list[Json]], AsyncApp]


def plain(text: str) -> Json:
    return {"type": "plain_text", "text": text}


def mrkdwn(text: str) -> Json:
    return {"type": "mrkdwn", "text": text}


RATING: Json = {
    "type": "context_actions",
    "elements": [
        {
            "type": "feedback_buttons",
            "action_id": "rate",
            "positive_button": {"text": plain("Good answer"), "value": "up"},
            "negative_button": {"text": plain("Bad answer"), "value": "down"},
        }
    ],
}
CORRECTION: Json = {
    "type": "modal",
    "callback_id": "correct",
    "title": plain("Improve this answer"),
    "submit": plain("Save"),
    "close": plain("Cancel"),
    "blocks": [
        {
            "type": "input",
            "block_id": "why",
            "label": plain("What is wrong?"),
            "element": {
                "type": "radio_buttons",
                "action_id": "reason",
                "options": [
                    {"text": plain("Wrong"), "value": "wrong"},
                    {"text": plain("Old"), "value": "old"},
                ],
            },
        },
        {
            "type": "input",
            "block_id": "fix",
            "label": plain("The better answer"),
            "element": {
                "type": "plain_text_input",
                "action_id": "better",
                "multiline": True,
                "max_length": 300,
            },
        },
    ],
}
PROMOTE: Json = {
    "type": "actions",
    "elements": [
        {
            "type": "button",
            "action_id": "promote",
            "text": plain("Promote"),
            "style": "primary",
            "value": "14",
            "confirm": {
                "title": plain("Promote run 14?"),
                "text": plain("Everybody gets its answers."),
                "confirm": plain("Promote"),
                "deny": plain("Not now"),
            },
        }
    ],
}


@dataclass
class Desk:
    """A workspace with an app that notes what it was told, and a way to look at it."""

    workspace: LocalWorkspace
    client: AsyncWebClient
    socket: Any
    session: aiohttp.ClientSession
    told: list[Json]
    page: Page

    async def visit(self, user: str, channel: str = HELP) -> Page:
        """The page, as `user`, in `channel`, with everything loaded."""
        await self.page.goto("about:blank")
        await self.page.goto(f"{self.workspace.url}/#{user}/{channel}")
        await expect(self.see("composer")).to_be_visible(timeout=PATIENCE_MS)
        return self.page

    def see(self, testid: str) -> Locator:
        return self.page.get_by_test_id(testid)

    def person(self, user: str) -> Person:
        return Person(self.workspace.url, user, self.session)


def tiny_app(client: AsyncWebClient, told: list[Json]) -> AsyncApp:
    """Rates, corrects, promotes and trains, and does nothing but note it."""
    app = AsyncApp(client=client)

    @app.action("rate")
    async def rated(ack: Any, body: Json, client: AsyncWebClient) -> None:
        await ack()
        told.append({"rated": body["actions"][0]["value"], "by": body["user"]["id"]})
        if body["actions"][0]["value"] == "down":
            await client.views_open(trigger_id=body["trigger_id"], view=CORRECTION)

    @app.view("correct")
    async def corrected(ack: Any, view: Json) -> None:
        values = view["state"]["values"]
        if "worse" in values["fix"]["better"]["value"]:
            await ack(response_action="errors", errors={"fix": "That is not better than the answer."})
            return
        await ack()
        told.append(
            {"reason": values["why"]["reason"]["selected_option"]["value"], **values["fix"]["better"]}
        )

    @app.action("promote")
    async def promoted(ack: Any, body: Json, respond: Any) -> None:
        told.append({"promoted": body["actions"][0]["value"]})
        await ack()
        await respond("Promoted.", response_type="ephemeral", replace_original=False)

    @app.event("message")
    @app.event("app_mention")
    @app.event("app_home_opened")
    @app.event("reaction_added")
    @app.event("reaction_removed")
    async def heard() -> None:
        """Nothing to do: only acknowledged."""

    @app.command("/train")
    async def train(ack: Any, command: Json) -> None:
        await ack(f"Asked for: *{command['text']}*")

    return app


@asynccontextmanager
async def opened(
    chromium: Browser, *, app: Build = tiny_app, manifest: Json | None = None, **context: Any
) -> AsyncIterator[Desk]:
    """A desk that fails its test if the page logged an error. `context` is the browser window's (viewport, ...)."""
    workspace, told = LocalWorkspace(port=0, manifest=manifest), list[Json]()
    await workspace.start()
    client = AsyncWebClient(token=BOT_TOKEN, base_url=f"{workspace.url}/api/")
    socket: Any = AsyncSocketModeHandler(app(client, told), APP_TOKEN)
    await socket.connect_async()
    window = await chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, **context})
    page = await window.new_page()
    page.set_default_timeout(PATIENCE_MS)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    try:
        async with aiohttp.ClientSession() as session:
            yield Desk(workspace, client, socket, session, told, page)
    finally:
        await window.close()
        await socket.close_async()
        await workspace.stop()
    assert complaints == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium_fixture() -> AsyncIterator[Browser]:
    """One browser for a module's tests; what is expected of a page may take `PATIENCE_MS` on a slow machine."""
    expect.set_options(timeout=PATIENCE_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=BROWSER_ARGS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def desk_fixture(chromium: Browser) -> AsyncIterator[Desk]:
    async with opened(chromium) as ready:
        yield ready
