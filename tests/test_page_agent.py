"""The agent view on the page: prompts, conversations, a plan that grows, and the Stop button."""

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
from browser import Desk, Json, chromium_fixture, on_the_page, opened
from playwright.async_api import Browser, expect
from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

chromium = chromium_fixture
pytestmark = on_the_page

DIRECT = "D0CLEO"
EVENTS = ["message.im", "message.channels", "app_home_opened", "app_context_changed", "agent_session_stopped"]
MANIFEST: Json = {
    "display_information": {"name": "Apprentice"},
    "features": {
        "agent_view": {
            "agent_description": "Answers our questions",
            "suggested_prompts": [{"title": "What can you do?", "message": "What can you help me with?"}],
        },
        "app_home": {"home_tab_enabled": False, "messages_tab_enabled": True},
        "bot_user": {"display_name": "apprentice", "always_online": True},
        "shortcuts": [
            {"name": "Ask", "type": "global", "callback_id": "ask", "description": "Ask from anywhere"}
        ],
    },
    "oauth_config": {
        "scopes": {
            "bot": ["assistant:write", "chat:write", "commands", "im:history", "im:write", "channels:history"]
        }
    },
    "settings": {
        "event_subscriptions": {"bot_events": EVENTS},
        "interactivity": {"is_enabled": True},
        "socket_mode_enabled": True,
    },
}


def agent(client: AsyncWebClient, told: list[Json]) -> AsyncApp:
    """Notes what people do with it; on Stop it says that it is no longer at work."""
    app = AsyncApp(client=client)

    @app.event("agent_session_stopped")
    async def stopped(event: Json, client: AsyncWebClient) -> None:
        told.append(event)
        await at_work(client, event["thread_ts"], "active")

    @app.event("app_context_changed")
    async def looked(event: Json) -> None:
        told.append(event)

    @app.shortcut("ask")
    async def asked(ack: Any, shortcut: Json) -> None:
        told.append(shortcut)
        await ack()

    @app.event("message")
    @app.event("app_home_opened")
    async def heard() -> None:
        """Nothing to do: only acknowledged."""

    return app


async def at_work(client: AsyncWebClient, thread_ts: str, status: str, **more: str) -> None:
    """Say what the app is doing in a thread."""
    await client.api_call(
        "agents.sessions.setStatus",
        json={"channel_id": DIRECT, "thread_ts": thread_ts, "status": status, **more},
    )


@pytest_asyncio.fixture(loop_scope="module")
async def desk(chromium: Browser) -> AsyncIterator[Desk]:
    async with opened(chromium, app=agent, manifest=MANIFEST) as ready:
        yield ready


async def test_prompts_begin_conversations_and_history_lists_them(desk: Desk) -> None:
    """A prompt of the manifest is one click; its thread opens and stands in the history under its title."""
    page = await desk.visit("U0CLEO", DIRECT)
    await expect(desk.see("tab-home")).to_have_count(0)
    await desk.see("prompt-0").click()
    await expect(desk.see("thread-pane").get_by_test_id("message")).to_contain_text("help me with")
    ts = str(await desk.see("thread-pane").get_by_test_id("message").get_attribute("data-ts"))
    await at_work(desk.client, ts, "processing", title="What it can do")
    await desk.see("tab-history").click()
    entry = desk.see(f"history-{ts}")
    await expect(entry).to_contain_text("What it can do")
    await expect(entry).to_contain_text("at work")
    await page.reload()
    await expect(entry).to_contain_text("What it can do")
    await entry.click()
    await expect(desk.see("thread-pane")).to_contain_text("What it can do")


async def test_stop_is_there_while_the_app_is_at_work(desk: Desk) -> None:
    """Stop stands in the thread and in the direct message, reaches the app with its stream, and goes away."""
    ts = await desk.person("U0CLEO").post(DIRECT, "a long question")
    page = await desk.visit("U0CLEO", f"{DIRECT}/{ts}")
    stop = desk.see("thread-composer-stop")
    await expect(desk.see("thread-composer")).to_be_visible()
    await expect(stop).to_be_hidden()
    stream = await desk.client.chat_startStream(
        channel=DIRECT, thread_ts=ts, recipient_team_id="T0LOCAL", recipient_user_id="U0CLEO"
    )
    await at_work(desk.client, ts, "processing")
    await expect(desk.see("composer-stop")).to_be_visible()
    await stop.focus()
    await page.keyboard.press("Enter")
    await expect(stop).to_be_hidden()
    await expect(desk.see("thread-composer")).to_be_focused()
    [event] = [one for one in desk.told if one["type"] == "agent_session_stopped"]
    assert event["thread_ts"] == ts
    assert event["streaming_message_ts"] == [stream["ts"]]


async def test_a_plan_grows_in_place(desk: Desk) -> None:
    """Tasks change state and text is added in the message that is there; what the reader unfolded stays unfolded."""
    ts = await desk.person("U0CLEO").post(DIRECT, "compare them")
    page = await desk.visit("U0CLEO", f"{DIRECT}/{ts}")
    stream = await desk.client.chat_startStream(
        channel=DIRECT, thread_ts=ts, recipient_team_id="T0LOCAL", recipient_user_id="U0CLEO"
    )

    async def add(*chunks: Json) -> None:
        await desk.client.chat_appendStream(channel=DIRECT, ts=str(stream["ts"]), chunks=list(chunks))

    task = {"type": "task_update", "id": "1", "title": "Reading", "details": "The handbook"}
    await add({"type": "plan_update", "title": "Comparing"}, {**task, "status": "in_progress"})
    await add({"type": "markdown_text", "text": "First **words**"})
    pane = desk.see("thread-pane")
    await expect(pane.get_by_test_id("plan")).to_contain_text("0 of 1")
    await pane.get_by_test_id("task-1").locator("summary").click()
    await expect(pane.get_by_test_id("task-1")).to_contain_text("The handbook")
    article = page.locator(f'#thread [data-ts="{stream["ts"]}"]')
    await article.evaluate("node => { node.kept = node.querySelector('strong').kept = true; }")
    await add({"type": "markdown_text", "text": " and then\n\n- more"}, {**task, "status": "complete"})
    await expect(article).to_contain_text("more")
    await expect(pane.get_by_test_id("plan")).to_contain_text("1 of 1")
    await expect(pane.get_by_test_id("task-1")).to_have_attribute("data-status", "complete")
    await expect(pane.get_by_test_id("task-1").get_by_text("The handbook")).to_be_visible()
    assert await article.evaluate("node => node.kept && node.querySelector('strong').kept")
    await desk.client.chat_stopStream(channel=DIRECT, ts=str(stream["ts"]))
    await expect(article).not_to_have_attribute("aria-busy", "true")


async def test_a_global_shortcut_and_what_one_looks_at_reach_the_app(desk: Desk) -> None:
    """The shortcut menu stands beside the message box; the agent hears which channel is in view."""
    await desk.visit("U0CLEO")
    await desk.see("composer-shortcuts").click()
    await desk.see("global-shortcut-ask").click()
    await desk.see("channel-general").click()
    await expect(desk.see("channel-general")).to_have_attribute("aria-current", "page")
    await desk.see("composer-shortcuts").click()
    await desk.see("global-shortcut-ask").click()
    await expect(desk.see("menu")).to_have_count(0)

    async def heard() -> set[str]:
        return {str(one.get("callback_id") or one["type"]) for one in desk.told}

    for _ in range(300):
        if await heard() == {"ask", "app_context_changed"}:
            break
        await desk.page.wait_for_timeout(100)
    assert await heard() == {"ask", "app_context_changed"}
