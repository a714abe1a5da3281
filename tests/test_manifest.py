"""The Slack app that people install is the one that the code needs: no scope, event or command more, and none less."""

import ast
import importlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from jsonschema import Draft7Validator
from slack_sdk.web.async_client import AsyncWebClient

from bot.settings import MANIFEST as PACKAGED
from bot.slack import http_mode
from bot.workspace.seed import DEFAULT_COMMANDS

ROOT = Path(__file__).parent.parent
MANIFEST = ROOT / "deploy" / "slack-manifest.yaml"

HISTORY = frozenset({"channels:history", "groups:history", "im:history", "mpim:history"})
READ = frozenset({"channels:read", "groups:read", "mpim:read"})

SCOPES_OF_METHOD: Mapping[str, frozenset[str]] = {
    "agents_sessions_setStatus": frozenset({"assistant:write"}),
    "assistant_threads_setStatus": frozenset({"chat:write"}),
    "auth_test": frozenset(),
    "chat_appendStream": frozenset({"chat:write"}),
    "chat_delete": frozenset({"chat:write"}),
    "chat_getPermalink": frozenset(),
    "chat_postEphemeral": frozenset({"chat:write"}),
    "chat_postMessage": frozenset({"chat:write"}),
    "chat_startStream": frozenset({"chat:write"}),
    "chat_stopStream": frozenset({"chat:write"}),
    "chat_update": frozenset({"chat:write"}),
    "conversations_history": HISTORY,
    "conversations_info": READ,
    "conversations_open": frozenset({"im:write"}),
    "conversations_replies": HISTORY,
    "files_info": frozenset({"files:read"}),
    "files_upload_v2": frozenset({"files:write"}),
    "users_list": frozenset({"users:read"}),
    "views_open": frozenset(),
    "views_publish": frozenset(),
    "views_update": frozenset(),
}
"""Bot scopes by Web API method, as docs.slack.dev/reference/methods states them (2026-11). A method that is called for the
first time gets its row here, and its scopes a place in the manifest, which makes people install the app again."""

SCOPES_OF_EVENT: Mapping[str, frozenset[str]] = {
    "agent_session_stopped": frozenset({"assistant:write"}),
    "app_home_opened": frozenset(),
    "app_mention": frozenset({"app_mentions:read"}),
    "app_uninstalled": frozenset(),
    "message.channels": frozenset({"channels:history"}),
    "message.groups": frozenset({"groups:history"}),
    "message.im": frozenset({"im:history"}),
    "message.mpim": frozenset({"mpim:history"}),
    "reaction_added": frozenset({"reactions:read"}),
    "reaction_removed": frozenset({"reactions:read"}),
    "team_join": frozenset({"users:read"}),
    "tokens_revoked": frozenset(),
    "user_change": frozenset({"users:read"}),
}
"""Scopes by event type, as docs.slack.dev/reference/events states them."""

SUBSCRIBED_AS: Mapping[str, set[str]] = {
    "message": {"message.channels", "message.groups", "message.im", "message.mpim"}
}
"""What an event that bolt hears is called in a subscription, where it has another name."""

SCOPES_OF_FEATURE: Mapping[str, frozenset[str]] = {
    "slash_commands": frozenset({"commands"}),
    "shortcuts": frozenset({"commands"}),
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


def test_slack_is_asked_for_what_is_listened_to() -> None:
    """Every event that has a listener arrives, and no other."""
    wanted: set[str] = set()
    for event in registered("event"):
        wanted |= SUBSCRIBED_AS.get(event, {event})
    assert set(subscribed()) == wanted
    assert subscribed() == sorted(wanted)


def slack_modules() -> Iterator[tuple[ModuleType, ast.Module]]:
    """The modules in front of Slack, and what is written in them."""
    for file in sorted((ROOT / "bot" / "slack").glob("*.py")):
        module = importlib.import_module(f"bot.slack.{file.stem}")
        yield module, ast.parse(file.read_text(encoding="utf-8"))


def registered(kind: str) -> set[str]:
    """Names for which a listener is registered: `app.command("/train")` and the like, in loops too."""
    names: set[str] = set()
    for module, tree in slack_modules():
        loops = {
            node.target.id: node.iter
            for node in ast.walk(tree)
            if isinstance(node, ast.For) and isinstance(node.target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == f"app.{kind}":
                (name,) = node.args
                looped = isinstance(name, ast.Name) and name.id in loops
                found = value_of(loops[ast.unparse(name)], module) if looped else [value_of(name, module)]
                names |= {each["callback_id"] if isinstance(each, dict) else each for each in found}
    return names


def value_of(node: ast.expr, module: ModuleType) -> Any:
    """What an expression of a module's constants is worth."""
    return eval(compile(ast.Expression(node), module.__file__ or "", "eval"), vars(module))


def carried(calls: str, keyword: str) -> set[str]:
    """What blocks carry under a key, and in the second place of calls of `calls`; what is only known later is left out."""
    found: set[str] = set()
    for module, tree in slack_modules():
        nodes: list[ast.expr] = []
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):
                pairs = zip(node.keys, node.values, strict=True)
                nodes += [
                    value for key, value in pairs if key is not None and ast.unparse(key) == repr(keyword)
                ]
            elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == calls:
                nodes += node.args[1:2]
        for value in nodes:
            try:
                found.add(str(value_of(value, module)))
            except NameError:  # a parameter: the call that gives it is found itself
                continue
    return found


def declared() -> set[str]:
    """Names that the modules of blocks give to what they build in loops."""
    found: set[str] = set()
    for module, _tree in slack_modules():
        if module.__name__.endswith("blocks"):
            for value in vars(module).values():
                if isinstance(value, str):
                    found.add(value)
                elif isinstance(value, Mapping | tuple):
                    found |= {each for each in value if isinstance(each, str)}
    return found


def read_when_sent() -> set[str]:
    """Fields of windows: what is typed or chosen there is read when the window is sent."""
    fields = {"plain_text_input", "radio_buttons", "checkboxes", "static_select"}
    found = set()
    for module, tree in slack_modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Dict):
                continue
            pairs = {
                ast.unparse(key): value for key, value in zip(node.keys, node.values, strict=True) if key
            }
            kind = pairs.get("'type'")
            if isinstance(kind, ast.Constant) and kind.value in fields and "'action_id'" in pairs:
                try:
                    found.add(str(value_of(pairs["'action_id'"], module)))
                except NameError:
                    continue
    return found


def test_every_command_is_installed_and_answered() -> None:
    """The same commands in Slack, in the local workspace and in the code."""
    offered = {each["command"] for each in manifest()["features"]["slash_commands"]}
    assert offered == registered("command") == {each.command for each in DEFAULT_COMMANDS}
    assert offered


def test_every_shortcut_is_installed_and_answered() -> None:
    """What a message's menu offers has a listener, and nothing listens in vain."""
    assert {each["callback_id"] for each in manifest()["features"]["shortcuts"]} == registered("shortcut")


def test_every_button_is_listened_to() -> None:
    """Interactivity is on, and each action id that a message or window carries has a listener."""
    assert manifest()["settings"]["interactivity"] == {"is_enabled": True}
    buttons = carried("button", "action_id")
    heard = registered("action")
    assert len(buttons) > 15
    assert buttons - heard == read_when_sent() - heard, "a button that nobody hears"
    assert heard <= buttons | declared(), "a listener for a button that is nowhere"
    assert registered("view") < carried("view", "callback_id")


def test_the_local_workspace_has_the_same_app() -> None:
    """What is installed in Slack is what the embedded workspace enforces: the same file, inside the package."""
    assert PACKAGED.read_text(encoding="utf-8") == MANIFEST.read_text(encoding="utf-8")


def test_a_direct_message_can_be_written() -> None:
    """The messages tab is open for writing, in the agent view, and Home is there."""
    features = manifest()["features"]
    assert features["app_home"] == {
        "home_tab_enabled": True,
        "messages_tab_enabled": True,
        "messages_tab_read_only_enabled": False,
    }
    assert "agent_view" in features
    assert "assistant_view" not in features, "Slack takes no new apps with the old view"


def test_socket_mode_is_the_default_and_http_is_explained() -> None:
    """No public address is needed; whoever has one reads in deploy/README.md what to change."""
    settings = manifest()["settings"]
    assert settings["socket_mode_enabled"] is True
    assert settings["token_rotation_enabled"] is False, "the tokens of .env would expire"
    words = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    assert http_mode.EVENTS == "/slack/events"
    assert words.count("https://your.host/slack/events") == 2
    for name in ("SLACK_BOT_TOKEN", "SLACK_APP_TOKEN", "SLACK_SIGNING_SECRET", "connections:write"):
        assert name in words
