"""What the local workspace sends has Slack's own shapes: held to Slack's types and to payloads from Slack's SDKs."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from jsonschema import Draft7Validator
from workspace_rig import Json, Rig, running, until

from bot.workspace.seed import APP_TOKEN

OPEN = {"/view/state/values", "/view/state/values/note-block", "/state/values"}
# Where the generated types are narrower than what Slack sends (null titles and state in payloads of its SDKs,
# thread_ts of a changed reply, free metadata).
GAPS = [
    re.compile(pattern)
    for pattern in (
        r"views\.\w+: view/(close|submit|previous_view_id): None is not of type",
        r"views\.\w+: view/state: .*'values' was unexpected",
        r"chat\.update: message: .*\('thread_ts' was unexpected\)",
        r"conversations\.replies: messages/\d+: .*\('client_msg_id' was unexpected\)",
        r"conversations\.history: channel_actions_ts: None",
        r"reactions\.get: message: .*'reply_count'",
        r".*/metadata/event_payload: ",
    )
]
EVENTS = (
    "message",
    "app_mention",
    "reaction_added",
    "reaction_removed",
    "message/message_changed",
    "message/message_deleted",
    "message/file_share",
    "app_home_opened",
    "member_joined_channel",
    "file_shared",
    "pin_added",
    "app_uninstalled",
    "tokens_revoked",
)
TYPED = "a *question* for <@U0APPRENTICE> about https://example.org/a?b=c&d :wave:"
SECTION = {"type": "section", "text": {"type": "mrkdwn", "text": "*hello*"}}
BUTTON = {"type": "button", "action_id": "go", "text": {"type": "plain_text", "text": "Go"}, "value": "1"}
MODAL: Json = {
    "type": "modal",
    "callback_id": "form",
    "notify_on_close": True,
    "title": {"type": "plain_text", "text": "Form"},
    "submit": {"type": "plain_text", "text": "Send"},
    "blocks": [
        {
            "type": "input",
            "block_id": "note-block",
            "label": {"type": "plain_text", "text": "Note"},
            "element": {"type": "plain_text_input", "action_id": "note"},
        }
    ],
}


class DeafApp:
    """Socket Mode without an SDK: acknowledges everything and keeps every envelope."""

    def __init__(self, rig: Rig) -> None:
        self.envelopes: list[Json] = []
        self.triggers: list[str] = []
        self._rig = rig

    async def listen(self) -> None:
        address = (await self._rig.api("apps.connections.open", token=APP_TOKEN))["url"]
        async with self._rig.session.ws_connect(address) as socket:
            async for message in socket:
                await self._keep(socket, message.json())

    async def _keep(self, socket: aiohttp.ClientWebSocketResponse, frame: Json) -> None:
        self.envelopes.append(frame)
        if "envelope_id" in frame:
            await socket.send_json({"envelope_id": frame["envelope_id"]})

    async def heard(self, kind: str, type_: str | None = None) -> Json:
        """The first envelope of this kind (and inner type)."""

        def look() -> Json | None:
            for frame in self.envelopes:
                payload = frame.get("payload", {})
                inner = payload.get("event", payload)
                told = (
                    f"{inner.get('type')}/{inner['subtype']}" if inner.get("subtype") else inner.get("type")
                )
                if frame["type"] == kind and type_ in (None, told):
                    return frame
            return None

        found = await until(look)
        assert found is not None
        return found


@pytest.fixture
async def workplace() -> AsyncIterator[tuple[Rig, DeafApp]]:
    async with running(connect=False) as rig:
        app = DeafApp(rig)
        task = asyncio.create_task(app.listen())
        await app.heard("hello")
        yield rig, app
        task.cancel()


@pytest.fixture(scope="session")
def answers(shared_data: Path) -> Json:
    schema: Json = json.loads((shared_data / "slack_schemas" / "web_api_responses.schema.json").read_text())
    return schema


@pytest.fixture(scope="session")
def block_kit(shared_data: Path) -> Json:
    schema: Json = json.loads((shared_data / "slack_schemas" / "block_kit.schema.json").read_text())
    return schema


@pytest.fixture(scope="session")
def required(shared_data: Path) -> dict[str, list[str]]:
    """Keys that Slack's own OpenAPI file demands in a successful answer, by method."""
    openapi = json.loads((shared_data / "slack_schemas" / "slack_web_openapi_v2.json").read_text())
    found: dict[str, list[str]] = {}
    for path, operations in openapi["paths"].items():
        for operation in operations.values():
            schema = operation["responses"].get("200", {}).get("schema", {})
            found[path.lstrip("/")] = schema.get("required", [])
    return found


@pytest.fixture(scope="session")
def samples(shared_data: Path) -> dict[str, list[Json]]:
    """Bodies of Slack's payloads by kind (`event_callback:message/message_changed`, `block_actions`, ...)."""
    found: dict[str, list[Json]] = {}
    for line in (shared_data / "slack_payloads" / "payloads.jsonl").read_text().splitlines():
        row = json.loads(line)
        found.setdefault(row["kind"], []).append(row["body"])
    return found


Call = Callable[..., Awaitable[Json]]


async def every_answer(rig: Rig, app: DeafApp) -> dict[str, Json]:
    """One successful answer per method of the Web API."""
    answers: dict[str, Json] = {}

    async def call(method: str, **args: Any) -> Json:
        token = APP_TOKEN if method == "apps.connections.open" else "xoxb-local-apprentice"
        answers[method] = await rig.api(method, token=token, **args)
        assert answers[method]["ok"], (method, answers[method])
        return answers[method]

    await who_and_what(call)
    asked = await rig.person("U0CLEO").post("C0HELP", TYPED)
    said = await messages(call, asked)
    await views_and_files(rig, app, call, asked, said)
    return answers


async def who_and_what(call: Call) -> None:
    await call("api.test")
    await call("apps.connections.open")
    await call("auth.test")
    await call("team.info")
    await call("bots.info", bot="B0APPRENTICE")
    await call("users.info", user="U0ANN")
    await call("users.list")
    await call("users.lookupByEmail", email="ann@local-workspace.invalid")
    await call("users.conversations", types="public_channel,private_channel,im")
    await call("conversations.list", types="public_channel,private_channel,im")
    await call("conversations.info", channel="C0HELP", include_num_members=True)
    await call("conversations.members", channel="C0HELP")
    await call("conversations.open", users="U0CLEO", return_im=True)
    await call("conversations.join", channel="C0HELP")


async def messages(call: Call, asked: str) -> Json:
    """The bot's message that has a button."""
    metadata = {"event_type": "answer", "event_payload": {"id": "1"}}
    blocks = [SECTION, {"type": "actions", "elements": [BUTTON]}]
    said = await call(
        "chat.postMessage", channel="C0HELP", text="hi", blocks=blocks, thread_ts=asked, metadata=metadata
    )
    await call("chat.update", channel="C0HELP", ts=said["ts"], text="hello", blocks=blocks)
    await call("chat.postEphemeral", channel="C0HELP", user="U0CLEO", text="psst")
    await call("chat.getPermalink", channel="C0HELP", message_ts=said["ts"])
    await call("reactions.add", channel="C0HELP", timestamp=asked, name="eyes")
    await call("reactions.get", channel="C0HELP", timestamp=asked)
    await call("reactions.remove", channel="C0HELP", timestamp=asked, name="eyes")
    recipient = {"recipient_team_id": "T0LOCAL", "recipient_user_id": "U0CLEO"}
    stream = await call("chat.startStream", channel="C0HELP", thread_ts=asked, **recipient)
    await call("chat.appendStream", channel="C0HELP", ts=stream["ts"], markdown_text="**so**")
    await call("chat.stopStream", channel="C0HELP", ts=stream["ts"], blocks=[SECTION])
    await call("assistant.threads.setStatus", channel_id="C0HELP", thread_ts=asked, status="is thinking")
    await call("assistant.threads.setTitle", channel_id="C0HELP", thread_ts=asked, title="A question")
    prompts = [{"title": "Ask", "message": "What can you do?"}]
    await call("assistant.threads.setSuggestedPrompts", channel_id="D0CLEO", prompts=prompts)
    await call("conversations.history", channel="C0HELP", limit=1)
    await call("conversations.replies", channel="C0HELP", ts=asked, include_all_metadata=True)
    return said


async def views_and_files(rig: Rig, app: DeafApp, call: Call, asked: str, said: Json) -> None:
    cleo = rig.person("U0CLEO")
    for method in ("views.open", "views.push"):
        await cleo.click("C0HELP", said["ts"], "go")
        app.triggers.append((await app.heard("interactive", "block_actions"))["payload"]["trigger_id"])
        app.envelopes.clear()
        view = await call(method, trigger_id=app.triggers[-1], view=MODAL)
    await call("views.update", view_id=view["view"]["id"], view=MODAL)
    await call("views.publish", user_id="U0CLEO", view={"type": "home", "blocks": [SECTION]})
    expected = await call("files.getUploadURLExternal", filename="a.txt", length=2)
    async with rig.session.post(expected["upload_url"], data=b"ab") as response:
        assert response.status == 200
    await call(
        "files.completeUploadExternal",
        files=[{"id": expected["file_id"]}],
        channel_id="C0HELP",
        thread_ts=asked,
    )
    await call("files.info", file=expected["file_id"])
    await call("chat.delete", channel="C0HELP", ts=said["ts"])


async def test_every_answer_has_slacks_shape(
    workplace: tuple[Rig, DeafApp], answers: Json, required: dict[str, list[str]], block_kit: Json
) -> None:
    """No key that Slack's types do not know, no value of another type, nothing missing that Slack demands."""
    complaints = []
    given = await every_answer(*workplace)
    for method, answer in given.items():
        complaints += [f"{method}: {key} is missing" for key in required.get(method, []) if key not in answer]
        bare, blocks = without_blocks(answer)
        complaints += [
            f"{method}: {complaint}" for complaint in errors(block_kit, "#/definitions/KnownBlock", blocks)
        ]
        if method in answers["methods"]:
            found = errors(answers, answers["methods"][method]["$ref"], [bare])
            complaints += [f"{method}: {complaint}" for complaint in found]
    surprising = [complaint for complaint in complaints if not any(gap.match(complaint) for gap in GAPS)]
    assert not surprising, "\n".join(surprising)
    assert len(given) >= 35


def errors(schema: Json, ref: str, values: list[Json]) -> list[str]:
    validator = Draft7Validator({"$ref": ref, "definitions": schema["definitions"]})
    found = [error for value in values for error in validator.iter_errors(value)]
    return [f"{'/'.join(map(str, error.path))}: {error.message[:200]}" for error in found]


def without_blocks(value: Any) -> tuple[Any, list[Json]]:
    """The value without any `blocks`, and the blocks (Slack's own types for them are newer than those of its answers)."""
    if isinstance(value, list):
        pairs = [without_blocks(item) for item in value]
        return [bare for bare, _ in pairs], [block for _, blocks in pairs for block in blocks]
    if not isinstance(value, dict):
        return value, []
    found: list[Json] = list(value.get("blocks", []))
    bare = {}
    for key, held in value.items():
        if key != "blocks":
            bare[key], more = without_blocks(held)
            found += more
    return bare, found


async def test_events_have_slacks_shape(
    workplace: tuple[Rig, DeafApp], samples: dict[str, list[Json]]
) -> None:
    """Every key of our events is in a payload of Slack's SDKs, with a value of the same type."""
    rig, app = workplace
    cleo = rig.person("U0CLEO")
    ts = await cleo.post("C0HELP", "@apprentice a _question_")
    await cleo.react("C0HELP", ts, "+1")
    await cleo.react("C0HELP", ts, "+1", remove=True)
    await cleo.edit("C0HELP", ts, "@apprentice a better question")
    await cleo.delete("C0HELP", ts)
    await cleo.open_home()
    await rig.control("invite", user="U0ANN", channel="C0ADMIN", invited="U0CLEO")
    await cleo.upload("C0HELP", {"a.txt": b"a"}, "a file")
    said = await rig.api("chat.postMessage", channel="C0HELP", text="the rules")
    await rig.api("pins.add", channel="C0HELP", timestamp=said["ts"])
    await app.heard("events_api", "file_shared")
    await rig.control("uninstall")
    complaints = []
    for kind in EVENTS:
        frame = await app.heard("events_api", kind)
        outer = [
            body
            for kind_, bodies in samples.items()
            if kind_.startswith("event_callback:")
            for body in bodies
        ]
        event, _ = without_blocks(frame["payload"]["event"])
        inner = [body["event"] for body in samples[f"event_callback:{kind}"]]
        complaints += [f"{kind}: {complaint}" for complaint in unknown(event, inner)]
        complaints += unknown({**frame["payload"], "event": {}}, outer)
        complaints += unknown({**frame, "payload": {}}, samples["events_api"])
    assert not complaints, "\n".join(complaints)


async def test_interactions_have_slacks_shape(
    workplace: tuple[Rig, DeafApp], samples: dict[str, list[Json]]
) -> None:
    """block_actions, view_submission, view_closed, message_action and slash commands as Slack sends them."""
    rig, app = workplace
    cleo = rig.person("U0CLEO")
    said = await rig.api(
        "chat.postMessage", channel="C0HELP", text="x", blocks=[{"type": "actions", "elements": [BUTTON]}]
    )
    await cleo.click("C0HELP", said["ts"], "go")
    trigger_id = (await app.heard("interactive", "block_actions"))["payload"]["trigger_id"]
    view = (await rig.api("views.open", trigger_id=trigger_id, view=MODAL))["view"]
    assert await cleo.submit(view["id"], {"note": "done"}) == {"ok": True}
    await cleo.shortcut("C0HELP", said["ts"], "train_add")
    trigger_id = (await app.heard("interactive", "message_action"))["payload"]["trigger_id"]
    view = (await rig.api("views.open", trigger_id=trigger_id, view=MODAL))["view"]
    await cleo.close_view(view["id"])
    await cleo.command("C0HELP", "/train", "now")
    complaints = []
    for kind in ("block_actions", "view_submission", "view_closed", "message_action"):
        frame = await app.heard("interactive", kind)
        known = samples[kind] + [
            row["payload"] for row in samples["interactive"] if row["payload"]["type"] == kind
        ]
        complaints += [f"{kind}: {complaint}" for complaint in unknown(frame["payload"], known)]
    command = await app.heard("slash_commands")
    payload = command["payload"]
    assert payload.pop("is_enterprise_install") == "false"  # a word, as in the form that HTTP sends
    complaints += unknown(payload, samples["slash_command"])
    assert not complaints, "\n".join(complaints)


def unknown(ours: Any, slacks: list[Any], where: str = "") -> list[str]:
    """Keys and types in `ours` that none of Slack's examples has. Parts with no example at that place are left alone."""
    if isinstance(ours, dict):
        examples = [one for one in slacks if isinstance(one, dict)]
        complaints = []
        for key, value in ours.items():
            held = [one[key] for one in examples if key in one]
            if examples and not held and where not in OPEN:
                complaints.append(f"{where}/{key} is unknown to Slack")
            complaints += unknown(value, held, f"{where}/{key}")
        return complaints
    if isinstance(ours, list):
        inside = [item for one in slacks if isinstance(one, list) for item in one]
        same = [item for item in inside if isinstance(item, dict)]
        return [
            complaint
            for item in ours
            for complaint in unknown(
                item, [one for one in same if one.get("type") == item.get("type")], f"{where}[]"
            )
            if isinstance(item, dict)
        ]
    kinds = {type(one) for one in slacks if one is not None}
    number = {int, float}
    fits = ours is None or not kinds or type(ours) in kinds or (type(ours) in number and kinds & number)
    return (
        []
        if fits
        else [f"{where} is {type(ours).__name__}, Slack sends {sorted(kind.__name__ for kind in kinds)}"]
    )
