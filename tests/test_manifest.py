"""The Slack app that people install is the one that the code needs: no scope, event or command more, and none less."""

import ast
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from jsonschema import Draft7Validator
from slack_sdk.web.async_client import AsyncWebClient

from bot.slack import blocks, listeners
from bot.workspace.seed import DEFAULT_COMMANDS

ROOT = Path(__file__).parent.parent
MANIFEST = ROOT / "deploy" / "slack-manifest.yaml"

HISTORY = frozenset({"channels:history", "groups:history", "im:history", "mpim:history"})

SCOPES_OF_METHOD: Mapping[str, frozenset[str]] = {
    "auth_test": frozenset(),
    "assistant_threads_setStatus": frozenset({"chat:write"}),
    "chat_postEphemeral": frozenset({"chat:write"}),
    "chat_postMessage": frozenset({"chat:write"}),
    "chat_update": frozenset({"chat:write"}),
    "conversations_history": HISTORY,
    "conversations_replies": HISTORY,
    "views_open": frozenset(),
}
"""Bot scopes by Web API method, as docs.slack.dev/reference/methods states them (2026-11). A method that is called for the
first time gets its row here, and its scopes a place in the manifest, which makes people install the app again."""

SCOPES_OF_EVENT: Mapping[str, frozenset[str]] = {
    "app_mention": frozenset({"app_mentions:read"}),
    "message.im": frozenset({"im:history"}),
}
"""Scopes by event type, as docs.slack.dev/reference/events states them."""

SUBSCRIBED_AS: Mapping[str, str] = {"app_mention": "app_mention", "message": "message.im"}
"""What an event that bolt hears is called in a subscription: of messages only the direct ones are ours."""

SCOPES_OF_FEATURE: Mapping[str, frozenset[str]] = {
    "slash_commands": frozenset({"commands"}),
    "agent_view": frozenset({"assistant:write"}),
    "app_home": frozenset(),
    "bot_user": frozenset(),
}


@cache
def manifest() -> dict[str, Any]:
    """The manifest, as Slack would read it."""
    read: dict[str, Any] = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    return read


def slack_files() -> Iterator[ast.Module]:
    """What may speak to Slack."""
    for file in [*sorted((ROOT / "bot" / "slack").glob("*.py")), ROOT / "bot" / "app.py"]:
        yield ast.parse(file.read_text(encoding="utf-8"))


@cache
def web_api() -> frozenset[str]:
    """The Web API's methods, by the names that the SDK gives them."""
    return frozenset(
        name for name in vars(AsyncWebClient) if "_" in name.strip("_") and not name.startswith("_")
    ) - {"api_call"}


def called() -> set[str]:
    """Methods that are called by name or named in a string for a later call."""
    names: set[str] = set()
    for tree in slack_files():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                names.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names.add(node.value)
    return names & web_api()


def test_the_manifest_fits_slacks_schema(shared_data: Path) -> None:
    """Slack takes it as it is: checked with the schema that Slack publishes for manifests of version 2."""
    file = shared_data / "slack_schemas" / "manifest" / "schemas_manifest.schema.2.0.0.json"
    if not file.exists():
        pytest.skip("the manifest's schema is not beside this checkout")
    schema = Draft7Validator(json.loads(file.read_text(encoding="utf-8")))
    problems = [f"{'/'.join(map(str, each.path))}: {each.message}" for each in schema.iter_errors(manifest())]
    assert problems == []
    assert list(schema.iter_errors(manifest() | {"features": {"bot_user": {}}})), "the schema refuses nothing"


def test_every_method_that_is_called_has_its_scopes_written_down() -> None:
    """A new call cannot slip in without anybody asking what it needs."""
    assert called() == set(SCOPES_OF_METHOD)


def test_nothing_is_sent_to_slack_by_a_shortcut() -> None:
    """Bolt's own helpers (say, set_status ...) and raw calls would pass the table above unseen."""
    helpers = {"say", "say_stream", "set_status", "set_title", "set_suggested_prompts", "complete", "fail"}
    found = set()
    for file in (ROOT / "bot" / "slack").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.arg) and node.arg in helpers:
                found.add(f"{file.name}:{node.lineno} takes {node.arg}")
            elif isinstance(node, ast.Attribute) and node.attr == "api_call":
                found.add(f"{file.name}:{node.lineno} calls api_call")
    assert found == set()


def test_the_scopes_are_those_that_are_needed() -> None:
    """Exactly: a scope too few breaks a feature after the installation, a scope too many is a door left open."""
    needed = {scope for method in called() for scope in SCOPES_OF_METHOD[method]}
    needed |= {scope for event in subscribed() for scope in SCOPES_OF_EVENT[event]}
    needed |= {scope for feature in manifest()["features"] for scope in SCOPES_OF_FEATURE[feature]}
    asked: list[str] = manifest()["oauth_config"]["scopes"]["bot"]
    assert set(asked) == needed
    assert asked == sorted(set(asked))
    assert set(manifest()["oauth_config"]["scopes"]) == {"bot"}, "nothing is done in a person's name"


def subscribed() -> list[str]:
    """Events that Slack is asked for."""
    events: list[str] = manifest()["settings"]["event_subscriptions"]["bot_events"]
    return events


def test_slack_is_asked_for_what_is_recorded() -> None:
    """Every event that is listened to for a purpose arrives, and no other: channels are not read along."""
    assert sorted(subscribed()) == sorted(SUBSCRIBED_AS[event] for event in listeners.RECORDED)
    assert not {event for event in subscribed() if event.startswith(("message.channels", "message.groups"))}
    assert set(listeners.UNUSED).isdisjoint(subscribed())


def registered(kind: str) -> set[str]:
    """Names for which a listener is registered: `app.command("/train")` and the like."""
    source = (ROOT / "bot" / "slack" / "listeners.py").read_text(encoding="utf-8")
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"app.{kind}":
            names.add(value_of(node.args[0]))
    return names


def value_of(node: ast.expr) -> str:
    """A name that blocks or listeners use: a string, or a constant of `bot.slack.blocks`, perhaps in an f-string."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Attribute | ast.Name):
        return str(getattr(blocks, node.attr if isinstance(node, ast.Attribute) else node.id))
    assert isinstance(node, ast.JoinedStr), ast.unparse(node)
    parts = [part.value if isinstance(part, ast.FormattedValue) else part for part in node.values]
    return "".join(value_of(part) for part in parts)


def test_every_command_is_installed_and_answered() -> None:
    """The same commands in Slack, in the local workspace and in the code."""
    offered = {each["command"] for each in manifest()["features"]["slash_commands"]}
    assert offered == registered("command") == {each.command for each in DEFAULT_COMMANDS}
    assert offered


def test_every_button_is_listened_to() -> None:
    """Interactivity is on, and each action id that a message or window carries has a listener."""
    assert manifest()["settings"]["interactivity"] == {"is_enabled": True}
    source = (ROOT / "bot" / "slack" / "blocks.py").read_text(encoding="utf-8")
    buttons = {
        value_of(node.args[1])
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "_button"
    }
    assert len(buttons) > 4
    assert buttons | {blocks.RATE} == registered("action")
    assert registered("view") == {blocks.CORRECTION_VIEW}


def test_a_direct_message_can_be_written() -> None:
    """The messages tab is open for writing, in the agent view; the Home tab is off, because nothing fills it yet."""
    features = manifest()["features"]
    assert features["app_home"] == {
        "home_tab_enabled": False,
        "messages_tab_enabled": True,
        "messages_tab_read_only_enabled": False,
    }
    assert "agent_view" in features
    assert "assistant_view" not in features, "Slack takes no new apps with the old view"
    assert "views_publish" not in called(), "a Home tab is published: switch it on in the manifest"


def test_socket_mode_is_the_default_and_http_is_explained() -> None:
    """No public address is needed; whoever has one reads in deploy/README.md what to change."""
    settings = manifest()["settings"]
    assert settings["socket_mode_enabled"] is True
    assert settings["token_rotation_enabled"] is False, "the tokens of .env would expire"
    words = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    served = (ROOT / "bot" / "app.py").read_text(encoding="utf-8")
    assert 'path="/slack/events"' in served
    assert words.count("https://your.host/slack/events") == 2
    for name in ("SLACK_BOT_TOKEN", "SLACK_APP_TOKEN", "SLACK_SIGNING_SECRET", "connections:write"):
        assert name in words
