"""Clients that nobody here wrote work with the local workspace: Slack's SDKs for Python and for JavaScript, each as it is.

No part of the bot runs here. Each client drives the same small app, and the same person uses it.
"""

import asyncio
import os
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from bot_process import eventually
from slack_sdk.socket_mode import SocketModeClient as BuiltinClient
from slack_sdk.socket_mode.aiohttp import SocketModeClient as AiohttpClient
from slack_sdk.socket_mode.async_client import AsyncBaseSocketModeClient
from slack_sdk.socket_mode.client import BaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse
from slack_sdk.socket_mode.websockets import SocketModeClient as WebsocketsClient
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.client import WebClient

from bot.workspace import LocalWorkspace, Person
from bot.workspace.seed import APP_TOKEN, BOT_TOKEN, BOT_USER, TEAM_ID

Json = dict[str, Any]
HELP, CLEO = "C0HELP", "U0CLEO"
NODE_APP = Path(__file__).parent / "node"
OLDEST_NODE = 20
LIMIT_S = 60.0
STREAMED = ("**one** ", "two ", "three ", "four")


@pytest.fixture
async def workspace() -> AsyncIterator[LocalWorkspace]:
    """A fresh one. Slow machines may take longer than Slack's three seconds."""
    started = LocalWorkspace(port=0, ack_timeout_s=30, trigger_ttl_s=30)
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
async def cleo(workspace: LocalWorkspace) -> AsyncIterator[Person]:
    async with aiohttp.ClientSession() as session:
        yield Person(workspace.url, CLEO, session)


async def is_served(cleo: Person) -> None:
    """A mention is answered in its thread, a command with a button, the button with a modal that is checked, and a
    stream grows into one message."""
    asked = await cleo.post(HELP, "@apprentice hello")
    await _said(cleo, f"heard: <@{BOT_USER}> hello", thread_ts=asked)
    await cleo.command(HELP, "/apprentice", "lamps")
    shown = await cleo.wait_for_ephemeral(HELP, lambda one: one["text"] == "asked: lamps", timeout_s=LIMIT_S)
    await cleo.click(HELP, shown["ts"], "open-form")
    form = await cleo.wait_for_view(timeout_s=LIMIT_S)
    assert form["blocks"][0]["text"]["text"] == "About *lamps*"
    assert await cleo.submit(form["id"], {"words": "no"}) == {"errors": {"words": "Anything but no."}}
    assert await cleo.submit(form["id"], {"words": "a green one"}) == {"ok": True}
    await _said(cleo, f"<@{CLEO}> wrote a green one")
    asked = await cleo.post(HELP, "@apprentice stream an answer")
    grown = await _said(cleo, "".join(STREAMED), thread_ts=asked)
    assert [one["ts"] for one in await _from_app(cleo, asked)] == [grown["ts"]]


async def _said(cleo: Person, words: str, thread_ts: str | None = None) -> Json:
    """The app's finished message with these words."""

    def fits(one: Json) -> bool:
        return bool(one.get("user") == BOT_USER and one["text"] == words and not one.get("streaming"))

    return await cleo.wait_for_message(HELP, fits, thread_ts=thread_ts, timeout_s=LIMIT_S)


async def _from_app(cleo: Person, thread_ts: str) -> list[Json]:
    return [one for one in await cleo.messages(HELP, thread_ts) if one.get("user") == BOT_USER]


# --- slack_sdk's Socket Mode clients, without bolt ----------------------------------------------------------


@dataclass(frozen=True)
class Reaction:
    """What the small app does with a request: the payload of its acknowledgement, then one call."""

    ack: Json | None = None
    method: str = ""
    args: Mapping[str, Any] | None = None
    stream: Mapping[str, str] | None = None


def reaction(request: SocketModeRequest) -> Reaction:
    """The small app: the same as node/app.mjs."""
    payload = request.payload
    if request.type == "slash_commands":
        button = {
            "type": "button",
            "action_id": "open-form",
            "text": _plain("Open"),
            "value": payload["text"],
        }
        return Reaction(
            ack={"text": f"asked: {payload['text']}", "blocks": [{"type": "actions", "elements": [button]}]}
        )
    if request.type == "events_api" and payload["event"]["type"] == "app_mention":
        return _to_mention(payload["event"])
    if request.type == "interactive" and payload["type"] == "block_actions":
        view = form(payload["actions"][0]["value"], payload["channel"]["id"])
        return Reaction(method="views_open", args={"trigger_id": payload["trigger_id"], "view": view})
    if request.type == "interactive" and payload["type"] == "view_submission":
        return _to_form(payload)
    return Reaction()


def _to_mention(event: Json) -> Reaction:
    place = {"channel": event["channel"], "thread_ts": event["ts"]}
    if "stream" in event["text"]:
        return Reaction(stream={**place, "recipient_team_id": TEAM_ID, "recipient_user_id": event["user"]})
    return Reaction(method="chat_postMessage", args={**place, "text": f"heard: {event['text']}"})


def _to_form(payload: Json) -> Reaction:
    view, user = payload["view"], payload["user"]["id"]
    words = view["state"]["values"]["words"]["words"]["value"]
    if words.startswith("no"):
        return Reaction(ack={"response_action": "errors", "errors": {"words": "Anything but no."}})
    written = {"channel": view["private_metadata"], "text": f"<@{user}> wrote {words}"}
    return Reaction(method="chat_postMessage", args=written)


def form(asked: str, channel: str) -> Json:
    words = {"type": "plain_text_input", "action_id": "words"}
    return {
        "type": "modal",
        "callback_id": "form",
        "private_metadata": channel,
        "title": _plain("A form"),
        "submit": _plain("Send"),
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": f"About *{asked}*"}},
            {"type": "input", "block_id": "words", "label": _plain("Words"), "element": words},
        ],
    }


def _plain(words: str) -> Json:
    return {"type": "plain_text", "text": words}


async def react(client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
    """As the clients for asyncio run it."""
    does = reaction(request)
    await client.send_socket_mode_response(SocketModeResponse(request.envelope_id, does.ack))
    if does.method:
        await getattr(client.web_client, does.method)(**(does.args or {}))
    if does.stream:
        stream = await client.web_client.chat_stream(buffer_size=8, **does.stream)
        for words in STREAMED:
            await stream.append(markdown_text=words)
        await stream.stop()


def react_in_thread(client: BaseSocketModeClient, request: SocketModeRequest) -> None:
    """As the client with threads runs it."""
    does = reaction(request)
    client.send_socket_mode_response(SocketModeResponse(request.envelope_id, does.ack))
    if does.method:
        getattr(client.web_client, does.method)(**(does.args or {}))
    if does.stream:
        stream = client.web_client.chat_stream(buffer_size=8, **does.stream)
        for words in STREAMED:
            stream.append(markdown_text=words)
        stream.stop()


@pytest.mark.parametrize("kind", [AiohttpClient, WebsocketsClient], ids=["aiohttp", "websockets"])
async def test_an_asyncio_client_of_slack_sdk_serves_people(
    kind: Callable[..., Any], workspace: LocalWorkspace, cleo: Person
) -> None:
    """Both flavours: connect, hear, acknowledge with and without a payload, call, stream, reconnect when told to."""
    web = AsyncWebClient(token=BOT_TOKEN, base_url=f"{workspace.url}/api/")
    client = kind(app_token=APP_TOKEN, web_client=web, ping_interval=1)
    client.socket_mode_request_listeners.append(react)
    await client.connect()
    try:
        await is_served(cleo)
        await _connects_again(workspace, cleo, client.session_id)
    finally:
        await client.close()


async def test_the_client_with_threads_of_slack_sdk_serves_people(
    workspace: LocalWorkspace, cleo: Person
) -> None:
    """The builtin flavour, its own web socket and threads, with the synchronous WebClient."""
    web = WebClient(token=BOT_TOKEN, base_url=f"{workspace.url}/api/")
    client = BuiltinClient(app_token=APP_TOKEN, web_client=web, ping_interval=1)
    client.socket_mode_request_listeners.append(react_in_thread)
    await asyncio.to_thread(client.connect)
    try:
        await is_served(cleo)
    finally:
        await _closed(client)


async def _closed(client: BuiltinClient) -> None:
    """Its close may wait for ever for its own threads; in a daemon thread it keeps nobody from ending."""
    closing = threading.Thread(target=client.close, daemon=True)
    closing.start()
    await asyncio.to_thread(closing.join, 10)


async def _connects_again(
    workspace: LocalWorkspace, cleo: Person, session_id: Callable[[], Awaitable[str]]
) -> None:
    """Told to come again, as Slack tells every app every few hours, it comes, and nothing is lost."""
    before = await session_id()

    async def another() -> bool:
        return await session_id() != before

    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{workspace.url}/_control/disconnect", json={"reason": "refresh_requested"}) as asked,
    ):
        assert asked.status == 200
    await eventually(another, timeout_s=LIMIT_S, what="the client connects again")
    asked_ts = await cleo.post(HELP, "@apprentice again")
    await _said(cleo, f"heard: <@{BOT_USER}> again", thread_ts=asked_ts)


# --- slack_sdk's Web API clients ----------------------------------------------------------------------------


def calls(root: str, said: str) -> list[tuple[str, Json]]:
    """(method of the client, arguments) that a bot may want: all of them answer ok."""
    divider = {"type": "divider"}
    at = {"channel": HELP, "timestamp": root}
    home = {"type": "home", "blocks": [divider]}
    return [
        ("api_test", {}),
        ("auth_test", {}),
        ("team_info", {}),
        ("users_info", {"user": CLEO}),
        ("users_lookupByEmail", {"email": "ann@local-workspace.invalid"}),
        ("conversations_info", {"channel": HELP, "include_num_members": True}),
        ("conversations_members", {"channel": HELP, "limit": 2}),
        ("conversations_open", {"users": [CLEO], "return_im": True}),
        ("conversations_replies", {"channel": HELP, "ts": root, "include_all_metadata": True}),
        ("chat_update", {"channel": HELP, "ts": said, "text": "better", "blocks": [divider]}),
        ("chat_postEphemeral", {"channel": HELP, "user": CLEO, "text": "psst"}),
        ("chat_getPermalink", {"channel": HELP, "message_ts": said}),
        ("reactions_add", {**at, "name": "eyes"}),
        ("reactions_get", {**at, "full": True}),
        ("reactions_remove", {**at, "name": "eyes"}),
        ("assistant_threads_setStatus", {"channel_id": HELP, "thread_ts": root, "status": "is thinking"}),
        ("views_publish", {"user_id": CLEO, "view": home}),
        ("chat_delete", {"channel": HELP, "ts": said}),
    ]


UPLOAD: Json = {"filename": "a.csv", "content": "a,b\n1,2\n", "channel": HELP, "initial_comment": "Numbers"}


async def test_the_asyncio_web_client_of_slack_sdk_is_understood(
    workspace: LocalWorkspace, cleo: Person
) -> None:
    """Arguments as query, form and JSON, pages, a file in three steps, and a refusal with its error."""
    root = await cleo.post(HELP, "hello")
    client = AsyncWebClient(token=BOT_TOKEN, base_url=f"{workspace.url}/api/")
    said = await client.chat_postMessage(channel=HELP, text="hi", thread_ts=root)
    for method, args in calls(root, said["ts"]):
        assert (await getattr(client, method)(**args))["ok"], method
    pages = [page["members"] async for page in await client.users_list(limit=2)]
    assert len(pages) > 1
    assert CLEO in {user["id"] for page in pages for user in page}
    uploaded = await client.files_upload_v2(thread_ts=root, **UPLOAD)
    assert (await client.files_info(file=uploaded["file"]["id"]))["file"]["name"] == "a.csv"


async def test_the_synchronous_web_client_of_slack_sdk_is_understood(
    workspace: LocalWorkspace, cleo: Person
) -> None:
    """The same over urllib, in a thread."""
    root = await cleo.post(HELP, "hello")
    client = WebClient(token=BOT_TOKEN, base_url=f"{workspace.url}/api/")

    def use() -> tuple[list[list[Json]], str]:
        said = client.chat_postMessage(channel=HELP, text="hi", thread_ts=root)
        for method, args in calls(root, said["ts"]):
            assert getattr(client, method)(**args)["ok"], method
        pages = [page["members"] for page in client.users_list(limit=2)]
        uploaded = client.files_upload_v2(thread_ts=root, **UPLOAD)
        return pages, client.files_info(file=uploaded["file"]["id"])["file"]["name"]

    pages, name = await asyncio.to_thread(use)
    assert len(pages) > 1
    assert CLEO in {user["id"] for page in pages for user in page}
    assert name == "a.csv"


# --- Slack's SDKs for JavaScript ----------------------------------------------------------------------------


def _node() -> str:
    """The program node. Skips, and says what is missing."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here; Debian has it: apt-get install nodejs npm")
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    if int(told.strip().lstrip("v").partition(".")[0] or 0) < OLDEST_NODE:
        pytest.skip(f"Slack's SDKs want Node {OLDEST_NODE}, this is {told.strip()}")
    if not (NODE_APP / "node_modules" / "@slack" / "bolt").is_dir():
        pytest.skip("Slack's SDKs for JavaScript are not installed; `make test` does it where npm is")
    return node


@asynccontextmanager
async def node_app(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """node/app.mjs, connected."""
    known = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    tokens = {"SLACK_BOT_TOKEN": BOT_TOKEN, "SLACK_APP_TOKEN": APP_TOKEN, "SLACK_WORKSPACE_URL": url}
    process = await asyncio.create_subprocess_exec(
        _node(),
        "app.mjs",
        cwd=NODE_APP,
        env={**known, **tokens},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(LIMIT_S):
            line = (await process.stdout.readline()).decode().strip()
        assert line == f"ready {BOT_USER} {TEAM_ID}", line
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_slacks_sdks_for_javascript_serve_people(workspace: LocalWorkspace, cleo: Person) -> None:
    """@slack/bolt and @slack/web-api in Socket Mode: a mention, a command, a modal, a stream; no word on standard error."""
    async with node_app(workspace.url) as process:
        await is_served(cleo)
        process.terminate()
        _, complaints = await asyncio.wait_for(process.communicate(), LIMIT_S)
    assert complaints.decode() == ""
    assert process.returncode == 0
