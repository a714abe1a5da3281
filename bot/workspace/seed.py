"""Who and what a fresh local workspace contains: the team, its people, its channels, the app and its tokens.

Values only. It refuses to know how they are stored or served.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

TEAM_ID: Final = "T0LOCAL"
TEAM_NAME: Final = "Local workspace"
TEAM_DOMAIN: Final = "local-workspace"
APP_ID: Final = "A0APPRENTICE"
BOT_ID: Final = "B0APPRENTICE"
BOT_USER: Final = "U0APPRENTICE"
BOT_NAME: Final = "apprentice"
BOT_TOKEN: Final = "xoxb-local-apprentice"
APP_TOKEN: Final = "xapp-local-apprentice"
CLIENT_ID: Final = "100000.200000"
CLIENT_SECRET: Final = "local-client-secret"
VERIFICATION_TOKEN: Final = "local-verification-token"
SLACKBOT: Final = "USLACKBOT"


class ChannelKind(StrEnum):
    """The four kinds of conversation; the value is what the page is told. MPIM is a direct message of several."""

    PUBLIC = "public"
    PRIVATE = "private"
    IM = "im"
    MPIM = "mpim"


@dataclass(frozen=True)
class SlashCommand:
    """A command that the app registered: `/train`, what it does, and how it is used."""

    command: str
    description: str
    usage_hint: str = ""


@dataclass(frozen=True)
class MessageShortcut:
    """An entry of a message's menu that the app registered."""

    callback_id: str
    name: str
    description: str = ""


@dataclass(frozen=True)
class GlobalShortcut:
    """An entry of the workspace's shortcut menu that the app registered."""

    callback_id: str
    name: str
    description: str = ""


@dataclass(frozen=True)
class User:
    """A member of the team; `name` is the handle people type after @."""

    id: str
    name: str
    real_name: str
    is_admin: bool = False
    is_bot: bool = False
    deleted: bool = False


@dataclass
class Channel:
    """A conversation. `members` keeps the order of joining; `with_user` is the person on the other side of an IM."""

    id: str
    name: str
    kind: ChannelKind
    topic: str = ""
    members: list[str] = field(default_factory=list)
    with_user: str | None = None
    created: int = 0


DEFAULT_COMMANDS: Final = (
    SlashCommand(
        "/train",
        "Train on the team's feedback, or change when that happens (admins)",
        "[status | cancel | schedule nightly at 03:00 | help]",
    ),
    SlashCommand("/eval", "Compare the models on held-out questions (admins)", "[model]"),
    SlashCommand(
        "/apprentice",
        "Help, status, what is held of you; for admins the models",
        "help | status | privacy | models | promote NAME | rollback",
    ),
)
DEFAULT_SHORTCUTS: Final = (
    MessageShortcut("train_add", "Add to training set", "Use this message as an example"),
    MessageShortcut("improve", "Improve this answer", "Write the better answer"),
)
PEOPLE: Final = (
    User("U0ANN", "ann", "Ann Admin", is_admin=True),
    User("U0BEN", "ben", "Ben Expert"),
    User("U0CLEO", "cleo", "Cleo Asker"),
    User("U0DAN", "dan", "Dan Asker"),
)


def seeded_users(extra_people: int, *, bot_name: str = BOT_NAME, app_name: str = "Apprentice") -> list[User]:
    """The four people, the bot, and `extra_people` more (U1000 person1, U1001 person2, ...)."""
    app_user = User(BOT_USER, bot_name, app_name, is_bot=True)
    more = [User(f"U{1000 + n}", f"person{n + 1}", f"Person {n + 1}") for n in range(extra_people)]
    return [*PEOPLE, app_user, *more]


def seeded_channels(users: list[User], *, created: int) -> list[Channel]:
    """The public channels with everybody, the private admin channel, and one IM with the bot per person."""
    everybody = [user.id for user in users]
    admins = ["U0ANN", "U0BEN", BOT_USER]
    channels = [
        Channel(
            "C0GENERAL", "general", ChannelKind.PUBLIC, "Everything and everybody", everybody, created=created
        ),
        Channel(
            "C0HELP",
            "help-desk",
            ChannelKind.PUBLIC,
            "Ask @apprentice here",
            list(everybody),
            created=created,
        ),
        Channel(
            "C0ADMIN", "apprentice-admin", ChannelKind.PRIVATE, "Training reports", admins, created=created
        ),
    ]
    people = [user for user in users if not user.is_bot]
    return channels + [direct_message(user.id, created=created) for user in people]


def direct_message(user: str, *, created: int) -> Channel:
    """The IM between `user` and the bot: U0ANN has D0ANN."""
    return Channel(
        f"D{user[1:]}", "directmessage", ChannelKind.IM, "", [user, BOT_USER], with_user=user, created=created
    )
