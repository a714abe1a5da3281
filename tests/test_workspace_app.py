"""What an app's manifest decides: scopes, events, commands, shortcuts, prompts, the Home tab; a bad one is refused."""

import copy
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from workspace_rig import Json, Rig, running, until

from bot.errors import PublicError
from bot.workspace import LocalWorkspace
from bot.workspace.manifest import app_of, read_manifest

MANIFEST: Json = {
    "display_information": {"name": "Helper"},
    "features": {
        "agent_view": {
            "agent_description": "Answers questions.",
            "suggested_prompts": [{"title": "Ask", "message": "What can you do?"}],
        },
        "app_home": {"home_tab_enabled": False, "messages_tab_enabled": True},
        "bot_user": {"display_name": "helper"},
        "slash_commands": [{"command": "/help-me", "description": "Help", "usage_hint": "[topic]"}],
        "shortcuts": [
            {"name": "Save it", "type": "message", "callback_id": "save", "description": "Save a message"},
            {"name": "Ask it", "type": "global", "callback_id": "ask", "description": "Ask something"},
        ],
    },
    "oauth_config": {"scopes": {"bot": ["chat:write", "commands", "channels:history", "app_mentions:read"]}},
    "settings": {
        "event_subscriptions": {"bot_events": ["app_mention", "message.im"]},
        "interactivity": {"is_enabled": True},
        "socket_mode_enabled": True,
    },
}


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running(manifest=MANIFEST) as rig:
        yield rig


@pytest.mark.parametrize(
    ("method", "args", "needed"),
    [
        ("reactions.add", {"channel": "C0HELP", "timestamp": "1.2", "name": "eyes"}, "reactions:write"),
        ("users.info", {"user": "U0ANN"}, "users:read"),
        ("users.lookupByEmail", {"email": "x@y.z"}, "users:read.email"),
        ("conversations.history", {"channel": "D0CLEO"}, "im:history"),
        ("conversations.history", {"channel": "C0ADMIN"}, "groups:history"),
        ("conversations.list", {"types": "public_channel,im"}, "channels:read,im:read"),
        ("conversations.open", {"users": "U0ANN"}, "im:write"),
        ("conversations.open", {"users": "U0ANN,U0BEN"}, "mpim:write"),
        ("conversations.create", {"name": "new"}, "channels:manage"),
        ("files.getUploadURLExternal", {"filename": "a", "length": 1}, "files:write"),
        (
            "assistant.threads.setTitle",
            {"channel_id": "D0CLEO", "thread_ts": "1.2", "title": "x"},
            "assistant:write",
        ),
        ("chat.postMessage", {"channel": "C0HELP", "text": "x", "username": "A"}, "chat:write.customize"),
    ],
)
async def test_a_call_without_its_scope_is_refused(rig: Rig, method: str, args: Json, needed: str) -> None:
    """missing_scope with what is needed and what there is, as Slack answers."""
    answer = await rig.api(method, **args)
    assert (answer["error"], answer["needed"]) == ("missing_scope", needed)
    assert answer["provided"] == "chat:write,commands,channels:history,app_mentions:read"


async def test_granted_scopes_are_enough_and_told_in_a_header(rig: Rig) -> None:
    """chat:write posts; x-oauth-scopes lists what the manifest asks for."""
    async with rig.session.post(
        f"{rig.workspace.url}/api/chat.postMessage",
        json={"channel": "C0HELP", "text": "hello"},
        headers={"Authorization": "Bearer xoxb-local-apprentice"},
    ) as response:
        assert (await response.json())["ok"]
        assert response.headers["x-accepted-oauth-scopes"] == "chat:write"
        assert response.headers["x-oauth-scopes"] == "chat:write,commands,channels:history,app_mentions:read"
    assert (await rig.api("conversations.history", channel="C0HELP"))["ok"]


async def test_only_subscribed_events_arrive(rig: Rig) -> None:
    """app_mention and message.im are subscribed to; message.channels and reactions are not."""
    cleo = rig.person("U0CLEO")
    asked = await cleo.post("C0HELP", "@helper hello")
    await cleo.react("C0HELP", asked, "eyes")
    await cleo.post("C0HELP", "and something else")
    await cleo.post("D0CLEO", "the last one")
    await until(lambda: rig.heard("message"), timeout_s=30)
    assert [(event["type"], event.get("channel")) for event in rig.events] == [
        ("app_mention", "C0HELP"),
        ("message", "D0CLEO"),
    ]


async def test_posted_metadata_is_told_to_who_asked_for_it() -> None:
    """message_metadata_posted, only where the manifest names it."""
    events = ["message_metadata_posted"]
    manifest = with_value(MANIFEST, "settings.event_subscriptions.bot_events", events)
    async with running(manifest=manifest) as rig:
        metadata = {"event_type": "answered", "event_payload": {"id": "1"}}
        said = await rig.api("chat.postMessage", channel="C0HELP", text="x", metadata=metadata)
        await until(lambda: rig.heard("message_metadata_posted"), timeout_s=30)
        event = rig.heard("message_metadata_posted")[0]
        assert (event["metadata"], event["message_ts"]) == (metadata, said["ts"])


async def test_the_page_is_told_what_the_manifest_says(rig: Rig) -> None:
    """Commands, both kinds of shortcut, prompts, the name, and that there is no Home tab."""
    state = await rig.person("U0CLEO").state()
    assert [one["command"] for one in state["commands"]] == ["/help-me"]
    assert [one["callback_id"] for one in state["shortcuts"]] == ["save"]
    assert [one["callback_id"] for one in state["global_shortcuts"]] == ["ask"]
    assert state["agent"] == {
        "description": "Answers questions.",
        "prompts": [{"title": "Ask", "message": "What can you do?"}],
    }
    assert (state["app"]["name"], state["home_tab"], state["can_stop"]) == ("helper", False, False)
    with pytest.raises(PublicError, match="not_enabled"):
        await rig.person("U0CLEO").open_home()
    view = {"type": "home", "blocks": []}
    assert (await rig.api("views.publish", user_id="U0CLEO", view=view))["error"] == "not_enabled"


async def test_shortcuts_that_are_not_in_the_manifest_do_not_exist(rig: Rig) -> None:
    """A global shortcut reaches the app without a channel; another callback_id is refused."""
    heard: list[Json] = []

    @rig.app.shortcut("ask")
    async def ask(ack: Any, body: Json) -> None:
        heard.append(body)
        await ack()

    cleo = rig.person("U0CLEO")
    await cleo.global_shortcut("ask")
    await until(lambda: heard, timeout_s=30)
    assert heard[0]["type"] == "shortcut"
    assert "channel" not in heard[0]
    assert heard[0]["trigger_id"]
    with pytest.raises(PublicError, match="shortcut_not_found"):
        await cleo.global_shortcut("save")


async def test_without_the_email_scope_nobody_sees_an_address() -> None:
    """users:read alone shows people without their e-mail address, as in Slack."""
    manifest = with_value(MANIFEST, "oauth_config.scopes.bot", ["users:read"])
    del manifest["features"]["slash_commands"], manifest["features"]["shortcuts"]
    async with running(manifest=manifest, connect=False) as rig:
        assert "email" not in (await rig.api("users.info", user="U0ANN"))["user"]["profile"]
    async with running(connect=False) as rig:
        assert (await rig.api("users.info", user="U0ANN"))["user"]["profile"]["email"]


def with_value(manifest: Json, path: str, value: Any) -> Json:
    """A copy with another value at a dotted path; None takes the key away."""
    changed = copy.deepcopy(manifest)
    *parents, last = path.split(".")
    held = changed
    for name in parents:
        held = held[name]
    if value is None:
        del held[last]
    else:
        held[last] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("display_information", None, "lacks display_information"),
        ("display_information.name", None, "lacks display_information.name"),
        ("display_information.name", "x" * 36, "display_information.name has 36 characters"),
        ("features", ["x"], "features must be an object"),
        ("features.slash_commands", {"a": 1}, "features.slash_commands must be a list"),
        (
            "features.slash_commands",
            [{"command": "help", "description": "x"}],
            r"slash_commands\[0\].command must",
        ),
        (
            "features.slash_commands",
            [{"command": "/help"}],
            r"lacks features.slash_commands\[0\].description",
        ),
        (
            "features.shortcuts",
            [{"type": "odd", "callback_id": "x"}],
            r"shortcuts\[0\].type must be message or",
        ),
        ("features.agent_view.agent_description", "x" * 301, "at most 300"),
        ("features.app_home.home_tab_enabled", "yes", "home_tab_enabled must be true or false"),
        ("oauth_config.scopes.bot", ["chat:write"], "lacks `commands`"),
        ("oauth_config.scopes.bot", "chat:write", "oauth_config.scopes.bot must be a list"),
        ("settings.event_subscriptions.bot_events", [1], "bot_events must be a list of strings"),
    ],
)
def test_a_bad_manifest_is_refused_by_its_key(path: str, value: Any, words: str) -> None:
    """The sentence names the key, before the workspace starts."""
    with pytest.raises(PublicError, match=words):
        LocalWorkspace(port=0, manifest=with_value(MANIFEST, path, value))


def test_a_manifest_is_read_from_yaml_and_json(tmp_path: Path) -> None:
    """Both give the same app; what cannot be read is named with its file."""
    as_json, as_yaml = tmp_path / "manifest.json", tmp_path / "manifest.yaml"
    as_json.write_text(json.dumps(MANIFEST))
    as_yaml.write_text("# our app\n" + json.dumps(MANIFEST, indent=1))
    assert app_of(read_manifest(as_json)) == app_of(read_manifest(as_yaml))
    for name, content in (("list.json", "[1]"), ("broken.yaml", "a: [1"), ("broken.json", "{")):
        bad = tmp_path / name
        bad.write_text(content)
        with pytest.raises(PublicError, match=name):
            read_manifest(bad)
    with pytest.raises(PublicError, match="cannot be read"):
        read_manifest(tmp_path / "missing.yaml")


def test_the_manifest_of_slacks_own_schema_tests_is_taken(shared_data: Path) -> None:
    """Slack's example of a valid manifest makes an app here too."""
    example = read_manifest(
        shared_data / "slack_schemas" / "manifest" / "tests_manifests_v2_manifest.valid.json"
    )
    assert app_of(example).name


def test_our_own_manifest_is_taken() -> None:
    """deploy/slack-manifest.yaml describes the app that the local workspace runs."""
    ours = app_of(read_manifest(Path(__file__).parent.parent / "deploy" / "slack-manifest.yaml"))
    assert "chat:write" in ours.scopes
    assert ours.hears("app_mention")
