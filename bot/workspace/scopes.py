"""Which scope each Web API method needs, as Slack documents it under every method.

`missing` compares that with what the app was granted and speaks as Slack does: `missing_scope` with `needed` and
`provided`. It refuses nothing itself.
"""

from collections.abc import Collection
from typing import Final

from bot.workspace.seed import Channel, ChannelKind

SUFFIXES: Final = {
    ChannelKind.PUBLIC: "channels",
    ChannelKind.PRIVATE: "groups",
    ChannelKind.IM: "im",
    ChannelKind.MPIM: "mpim",
}
KINDS: Final = {
    "public_channel": "channels",
    "private_channel": "groups",
    "im": "im",
    "mpim": "mpim",
}
# Any one of these is enough.
NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "agents.sessions.rename": ("chat:write",),
    "agents.sessions.setStatus": ("chat:write",),
    "assistant.threads.setStatus": ("chat:write", "assistant:write"),
    "assistant.threads.setSuggestedPrompts": ("assistant:write",),
    "assistant.threads.setTitle": ("assistant:write",),
    "bookmarks.add": ("bookmarks:write",),
    "bookmarks.edit": ("bookmarks:write",),
    "bookmarks.list": ("bookmarks:read",),
    "bookmarks.remove": ("bookmarks:write",),
    "bots.info": ("users:read",),
    "chat.appendStream": ("chat:write",),
    "chat.delete": ("chat:write",),
    "chat.deleteScheduledMessage": ("chat:write",),
    "chat.postEphemeral": ("chat:write",),
    "chat.postMessage": ("chat:write",),
    "chat.scheduleMessage": ("chat:write",),
    "chat.startStream": ("chat:write",),
    "chat.stopStream": ("chat:write",),
    "chat.update": ("chat:write",),
    "conversations.join": ("channels:join",),
    "emoji.list": ("emoji:read",),
    "files.completeUploadExternal": ("files:write",),
    "files.delete": ("files:write",),
    "files.getUploadURLExternal": ("files:write",),
    "files.info": ("files:read",),
    "files.list": ("files:read",),
    "pins.add": ("pins:write",),
    "pins.list": ("pins:read",),
    "pins.remove": ("pins:write",),
    "reactions.add": ("reactions:write",),
    "reactions.get": ("reactions:read",),
    "reactions.list": ("reactions:read",),
    "reactions.remove": ("reactions:write",),
    "team.info": ("team:read",),
    "usergroups.list": ("usergroups:read",),
    "usergroups.users.list": ("usergroups:read",),
    "users.info": ("users:read",),
    "users.list": ("users:read",),
    "users.lookupByEmail": ("users:read.email",),
}
# What depends on the kind of conversation: the scope is <channels, groups, im or mpim>:<this>.
BY_CHANNEL: Final = {
    "conversations.history": "history",
    "conversations.info": "read",
    "conversations.members": "read",
    "conversations.replies": "history",
}
BY_TYPES: Final = ("conversations.list", "users.conversations")
CUSTOMIZED: Final = ("username", "icon_url", "icon_emoji")


def missing(method: str, granted: Collection[str], *, channel: Channel | None, types: str) -> str | None:
    """The `needed` of Slack's missing_scope, None where the app may call this.

    `channel`: the conversation the call names, None if unknown. `types`: the argument of conversations.list.
    """
    if method in BY_TYPES:
        wanted = [KINDS[kind.strip()] for kind in types.split(",") if kind.strip() in KINDS] or ["channels"]
        lacking = [f"{kind}:read" for kind in wanted if f"{kind}:read" not in granted]
        return ",".join(lacking) or None
    any_of = _needed(method, channel)
    return None if not any_of or set(any_of) & set(granted) else ",".join(any_of)


def accepted(method: str) -> str:
    """The header x-accepted-oauth-scopes: any of these is enough for some call of the method; "" for none."""
    return ",".join(_needed(method, None))


def _needed(method: str, channel: Channel | None) -> tuple[str, ...]:
    if method in BY_CHANNEL:
        kinds = list(SUFFIXES.values()) if channel is None else [SUFFIXES[channel.kind]]
        return tuple(f"{kind}:{BY_CHANNEL[method]}" for kind in kinds)
    return NEEDED.get(method, ())
