"""A local workspace with a real, unmodified slack_bolt app connected to it, for the tests of both."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp
from slack_bolt.adapter.socket_mode.async_handler import AsyncSocketModeHandler
from slack_bolt.app.async_app import AsyncApp
from slack_sdk.http_retry.async_handler import AsyncRetryHandler
from slack_sdk.http_retry.builtin_async_handlers import AsyncRateLimitErrorRetryHandler
from slack_sdk.web.async_client import AsyncWebClient

from bot.workspace import LocalWorkspace, Person
from bot.workspace.seed import APP_TOKEN, BOT_TOKEN, BOT_USER

Json = dict[str, Any]
T = TypeVar("T")

FEEDBACK: list[Json] = [
    {
        "type": "context_actions",
        "elements": [
            {
                "type": "feedback_buttons",
                "action_id": "rate",
                "positive_button": {"text": {"type": "plain_text", "text": "Good"}, "value": "up-1"},
                "negative_button": {"text": {"type": "plain_text", "text": "Bad"}, "value": "down-1"},
            }
        ],
    }
]


@dataclass
class Rig:
    """One workspace, one app; `events` collects what a catch-all listener of the app hears."""

    workspace: LocalWorkspace
    session: aiohttp.ClientSession
    app: AsyncApp
    client: AsyncWebClient
    events: list[Json] = field(default_factory=list)
    handlers: list[AsyncSocketModeHandler] = field(default_factory=list)

    def person(self, user: str) -> Person:
        return Person(self.workspace.url, user, self.session)

    async def connect(self, *, ping_interval: float = 5) -> AsyncSocketModeHandler:
        """One more Socket Mode connection of the app."""
        handler = AsyncSocketModeHandler(self.app, APP_TOKEN, ping_interval=ping_interval)
        self.handlers.append(handler)
        await handler.connect_async()  # type: ignore[no-untyped-call]
        return handler

    async def disconnect(self) -> None:
        while self.handlers:
            await self.handlers.pop().close_async()  # type: ignore[no-untyped-call]

    async def control(self, route: str, **body: Any) -> Json:
        async with self.session.post(f"{self.workspace.url}/_control/{route}", json=body) as response:
            answer: Json = await response.json()
            return answer

    async def api(self, method: str, *, token: str | None = BOT_TOKEN, **args: Any) -> Json:
        """A raw Web API call, without any SDK."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        address = f"{self.workspace.url}/api/{method}"
        async with self.session.post(address, json=args, headers=headers) as response:
            answer: Json = await response.json()
            return answer

    def heard(self, kind: str, **keys: Any) -> list[Json]:
        """The inner events of this type with these values."""
        inner = [event for event in self.events if event["type"] == kind]
        return [event for event in inner if all(event.get(key) == value for key, value in keys.items())]


@asynccontextmanager
async def running(*, connect: bool = True, listen: bool = True, **options: Any) -> AsyncIterator[Rig]:
    """A started workspace and an app that hears itself too. `listen` adds a listener that collects every event."""
    workspace = LocalWorkspace(port=options.pop("port", 0), **options)
    await workspace.start()
    try:
        async with aiohttp.ClientSession() as session:
            rig = _rig(workspace, session)
            if listen:
                _listen(rig)
            try:
                if connect:
                    await rig.connect()
                yield rig
            finally:
                await rig.disconnect()
    finally:
        await workspace.stop()


def _rig(workspace: LocalWorkspace, session: aiohttp.ClientSession) -> Rig:
    retries: list[AsyncRetryHandler] = [AsyncRateLimitErrorRetryHandler(max_retry_count=2)]
    client = AsyncWebClient(
        token=BOT_TOKEN, base_url=f"{workspace.url}/api/", session=session, retry_handlers=retries
    )
    return Rig(workspace, session, AsyncApp(client=client, ignoring_self_events_enabled=False), client)


def _listen(rig: Rig) -> None:
    async def collect(body: Json, next: Callable[[], Awaitable[None]]) -> None:  # noqa: A002
        if body.get("type") == "event_callback":
            rig.events.append(body["event"])
        await next()

    async def nothing() -> None:
        pass

    rig.app.use(collect)
    for kind in (
        "message",
        "app_mention",
        "reaction_added",
        "reaction_removed",
        "app_home_opened",
        "member_joined_channel",
    ):
        rig.app.event(kind)(nothing)


async def until(look: Callable[[], T], *, timeout_s: float = 10) -> T:
    """What `look` returns once it is true-ish. Raises TimeoutError."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if found := look():
            return found
        await asyncio.sleep(0.01)
    raise TimeoutError("It did not happen in time.")


def option(value: str) -> Json:
    return {"text": {"type": "plain_text", "text": value.title()}, "value": value}


def corrections_modal(**more: Any) -> Json:
    return {
        "type": "modal",
        "callback_id": "correct",
        "title": {"type": "plain_text", "text": "Correct it"},
        "submit": {"type": "plain_text", "text": "Send"},
        "private_metadata": "answer-1",
        "blocks": [
            input_block("why", {"type": "radio_buttons", "options": [option("wrong"), option("outdated")]}),
            input_block("better", {"type": "plain_text_input", "multiline": True, "min_length": 5}),
            input_block(
                "topic", {"type": "static_select", "options": [option("hr"), option("it")]}, optional=True
            ),
            input_block("consent", {"type": "checkboxes", "options": [option("train")]}, optional=True),
        ],
        **more,
    }


def input_block(name: str, element: Json, *, optional: bool = False) -> Json:
    return {
        "type": "input",
        "block_id": f"{name}-block",
        "label": {"type": "plain_text", "text": name.title()},
        "element": {**element, "action_id": name},
        "optional": optional,
    }


def button_row(action_id: str) -> list[Json]:
    button = {"type": "button", "action_id": action_id, "text": {"type": "plain_text", "text": "Go"}}
    return [{"type": "actions", "elements": [button]}]


def finished(text: str) -> Callable[[Json], bool]:
    """A bot's message with this text that is not being streamed any more."""
    return lambda one: one["text"] == text and one["user"] == BOT_USER and "streaming" not in one
