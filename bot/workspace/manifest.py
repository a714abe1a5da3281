"""An app manifest, read and checked: which commands, shortcuts, scopes, events and views the app has.

It refuses a manifest that lacks what the workspace needs or has it in another shape, and names the key. What the
workspace has no use for it leaves alone, so that it never refuses what Slack takes. Source of the shape: Slack's
manifest schema v2 (slackapi/manifest-schema).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml  # type: ignore[import-untyped]

from bot.errors import PublicError
from bot.workspace.seed import (
    BOT_NAME,
    DEFAULT_COMMANDS,
    DEFAULT_SHORTCUTS,
    GlobalShortcut,
    MessageShortcut,
    SlashCommand,
)

ALL_SCOPES: Final = (
    "app_mentions:read",
    "assistant:write",
    "bookmarks:read",
    "bookmarks:write",
    "channels:history",
    "channels:join",
    "channels:manage",
    "channels:read",
    "channels:write.invites",
    "chat:write",
    "chat:write.customize",
    "commands",
    "emoji:read",
    "files:read",
    "files:write",
    "groups:history",
    "groups:read",
    "groups:write",
    "groups:write.invites",
    "im:history",
    "im:read",
    "im:write",
    "metadata.message:read",
    "mpim:history",
    "mpim:read",
    "mpim:write",
    "pins:read",
    "pins:write",
    "reactions:read",
    "reactions:write",
    "team:read",
    "usergroups:read",
    "users:read",
    "users:read.email",
)
MAX_DESCRIPTION: Final = 300
SHORTCUT_TYPES: Final = ("message", "global")


@dataclass(frozen=True)
class Prompt:
    """A suggested prompt: what it is called, and the message it sends."""

    title: str
    message: str


@dataclass(frozen=True)
class App:
    """What the workspace knows of the app that talks to it. `events` None: it hears every event."""

    name: str = "Apprentice"
    bot_name: str = BOT_NAME
    commands: Sequence[SlashCommand] = DEFAULT_COMMANDS
    shortcuts: Sequence[MessageShortcut] = DEFAULT_SHORTCUTS
    global_shortcuts: Sequence[GlobalShortcut] = ()
    scopes: Sequence[str] = ALL_SCOPES
    events: frozenset[str] | None = None
    description: str = ""
    prompts: Sequence[Prompt] = field(default_factory=tuple)
    home_tab: bool = True
    interactive: bool = True

    def hears(self, event: str) -> bool:
        """Whether the app subscribed to this event (`message.im`, `app_mention`)."""
        return self.events is None or event in self.events


def read_manifest(path: Path) -> Mapping[str, Any]:
    """The manifest in a YAML or JSON file. Raises PublicError if it cannot be read or is not an object."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise PublicError(f"The manifest {path} cannot be read ({problem}).") from problem
    try:
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as problem:
        raise PublicError(f"The manifest {path} is not valid YAML or JSON: {problem}") from problem
    if not isinstance(content, dict):
        raise PublicError(f"The manifest {path} is not an object. Export it from your app's settings page.")
    return content


def app_of(manifest: Mapping[str, Any]) -> App:
    """The app that a manifest describes. Raises PublicError naming the key that is wrong."""
    whole = _Part(manifest, "")
    features, settings = whole.part("features"), whole.part("settings")
    scopes = whole.part("oauth_config").part("scopes").strings("bot")
    name = whole.part("display_information", required=True).text("name", most=35)
    commands = [_command(one) for one in features.parts("slash_commands")]
    shortcuts = [_shortcut(one) for one in features.parts("shortcuts")]
    if (commands or shortcuts) and "commands" not in scopes:
        raise PublicError(
            "The manifest has slash commands or shortcuts, but oauth_config.scopes.bot lacks `commands`. Add it."
        )
    bot_user = features.part("bot_user")
    agent = features.part("agent_view") if "agent_view" in features.held else features.part("assistant_view")
    home = features.part("app_home")
    return App(
        name=name,
        bot_name=bot_user.text("display_name", most=80) if bot_user.held else name,
        commands=commands,
        shortcuts=[one for one in shortcuts if isinstance(one, MessageShortcut)],
        global_shortcuts=[one for one in shortcuts if isinstance(one, GlobalShortcut)],
        scopes=scopes,
        events=frozenset(settings.part("event_subscriptions").strings("bot_events")),
        description=_description(agent),
        prompts=[Prompt(one.text("title"), one.text("message")) for one in agent.parts("suggested_prompts")],
        home_tab=home.flag("home_tab_enabled"),
        interactive=settings.part("interactivity").flag("is_enabled"),
    )


def _description(agent: "_Part") -> str:
    key = "assistant_description" if "assistant_description" in agent.held else "agent_description"
    return agent.text(key, most=MAX_DESCRIPTION) if agent.held else ""


def _command(one: "_Part") -> SlashCommand:
    command = one.text("command", most=32)
    if not command.startswith("/"):
        raise PublicError(f"The manifest's {one.where}.command must start with /: {command!r}.")
    return SlashCommand(command, one.text("description"), one.optional_text("usage_hint"))


def _shortcut(one: "_Part") -> MessageShortcut | GlobalShortcut:
    kind, callback_id = one.text("type"), one.text("callback_id", most=255)
    if kind not in SHORTCUT_TYPES:
        raise PublicError(f"The manifest's {one.where}.type must be message or global, not {kind!r}.")
    made = MessageShortcut if kind == "message" else GlobalShortcut
    return made(callback_id, one.text("name", most=24), one.text("description", most=150))


@dataclass(frozen=True)
class _Part:
    """An object inside a manifest and the path to it."""

    held: Mapping[str, Any]
    where: str

    def part(self, key: str, *, required: bool = False) -> "_Part":
        value = self.held.get(key)
        if value is None:
            if required:
                raise PublicError(f"The manifest lacks {self._path(key)}. Add it.")
            return _Part({}, self._path(key))
        if not isinstance(value, dict):
            raise self._wrong(key, "an object")
        return _Part(value, self._path(key))

    def parts(self, key: str) -> list["_Part"]:
        values = self._list(key)
        if not all(isinstance(one, dict) for one in values):
            raise self._wrong(key, "a list of objects")
        return [_Part(one, f"{self._path(key)}[{index}]") for index, one in enumerate(values)]

    def strings(self, key: str) -> tuple[str, ...]:
        values = self._list(key)
        if not all(isinstance(one, str) for one in values):
            raise self._wrong(key, "a list of strings")
        return tuple(values)

    def text(self, key: str, *, most: int | None = None) -> str:
        """Raises PublicError if it is missing, empty, or longer than `most` characters."""
        value = self.held.get(key)
        if value is None or value == "":
            raise PublicError(f"The manifest lacks {self._path(key)}. Add it.")
        if not isinstance(value, str):
            raise self._wrong(key, "a string")
        if most is not None and len(value) > most:
            raise PublicError(
                f"The manifest's {self._path(key)} has {len(value)} characters; Slack takes at most {most}."
            )
        return value

    def optional_text(self, key: str) -> str:
        return self.text(key) if self.held.get(key) else ""

    def flag(self, key: str) -> bool:
        value = self.held.get(key, False)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def _list(self, key: str) -> list[Any]:
        value = self.held.get(key) or []
        if not isinstance(value, list):
            raise self._wrong(key, "a list")
        return value

    def _path(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def _wrong(self, key: str, wanted: str) -> PublicError:
        return PublicError(f"The manifest's {self._path(key)} must be {wanted}, not {self.held[key]!r:.60}.")
