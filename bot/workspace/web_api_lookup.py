"""Web API: who and what there is: auth, team, bots, users, user groups, emoji, conversations and what was said in them.

Each function is one method; names, shapes and errors are Slack's.
"""

import base64
import binascii
from typing import Final, TypeVar

from bot.workspace import payloads
from bot.workspace.refused import Refused
from bot.workspace.seed import (
    APP_ID,
    BOT_ID,
    BOT_USER,
    SLACKBOT,
    TEAM_ID,
    TEAM_NAME,
    Channel,
    ChannelKind,
    User,
)
from bot.workspace.services import Call, Handler, Services
from bot.workspace.state import Json
from bot.workspace.web_api_chat import bots_channel

MAX_PAGE: Final = 1000
ADMIN_GROUP: Final = "S0ADMINS"
Item = TypeVar("Item")
TYPES: Final = {
    ChannelKind.PUBLIC: "public_channel",
    ChannelKind.PRIVATE: "private_channel",
    ChannelKind.IM: "im",
    ChannelKind.MPIM: "mpim",
}


def api_test(services: Services, call: Call) -> Json:
    if call.text("error"):
        raise Refused(call.text("error"), args=call.args)
    return {"args": {name: value for name, value in call.args.items() if name != "token"}}


def auth_test(services: Services, call: Call) -> Json:
    return {
        "url": f"{services.url}/",
        "team": TEAM_NAME,
        "user": services.app.bot_name,
        "team_id": TEAM_ID,
        "user_id": BOT_USER,
        "bot_id": BOT_ID,
        "app_id": APP_ID,
        "is_enterprise_install": False,
    }


def open_connection(services: Services, call: Call) -> Json:
    address = services.url.replace("http://", "ws://", 1)
    return {"url": f"{address}/link/?ticket={services.hub.ticket()}&app_id={APP_ID}"}


def revoke(services: Services, call: Call) -> Json:
    """The app gives its token back; with `test` it only asks whether it could."""
    if not call.flag("test"):
        services.outbox.emit(payloads.tokens_revoked_event())
        services.outbox.installed = False
    return {"revoked": not call.flag("test")}


def team_info(services: Services, call: Call) -> Json:
    if call.text("team") not in ("", TEAM_ID):
        raise Refused("team_not_found")
    return {"team": payloads.team_object(services.url)}


def bots_info(services: Services, call: Call) -> Json:
    if call.text("bot") not in ("", BOT_ID):
        raise Refused("bot_not_found")
    return {"bot": payloads.bot_object(services.app.bot_name)}


def users_info(services: Services, call: Call) -> Json:
    return {"user": _user(services, services.chat.user(call.text("user")))}


def _user(services: Services, user: User) -> Json:
    return payloads.user_object(user, email="users:read.email" in services.app.scopes)


def users_list(services: Services, call: Call) -> Json:
    users = [_user(services, user) for user in services.state.users.values()]
    page, more = _page(users, call, default=MAX_PAGE)
    return {"members": page, "cache_ts": 0, **more}


def users_by_email(services: Services, call: Call) -> Json:
    for user in services.state.users.values():
        shown = payloads.user_object(user)
        if shown["profile"].get("email") == call.required("email").lower():
            return {"user": shown}
    raise Refused("users_not_found")


def conversations_list(services: Services, call: Call) -> Json:
    return _conversations(services, call, only_joined=False)


def users_conversations(services: Services, call: Call) -> Json:
    return _conversations(services, call, only_joined=True)


def _conversations(services: Services, call: Call, *, only_joined: bool) -> Json:
    types = [kind.strip() for kind in (call.text("types") or "public_channel").split(",")]
    user = call.text("user") or BOT_USER
    shown = [
        payloads.channel_object(channel, listed=not only_joined)
        for channel in services.state.channels.values()
        if TYPES[channel.kind] in types and _visible(channel, user, only_joined=only_joined)
    ]
    page, more = _page(shown, call, default=100)
    return {"channels": page, **more}


def user_groups(services: Services, call: Call) -> Json:
    """One group, the admins, kept by Slack itself."""
    admins = _admins(services)
    group: Json = {
        "id": ADMIN_GROUP,
        "team_id": TEAM_ID,
        "is_usergroup": True,
        "name": "Workspace admins",
        "description": "Everybody who may administer this workspace",
        "handle": "admins",
        "is_external": False,
        "date_create": 0,
        "date_update": 0,
        "date_delete": 0,
        "created_by": SLACKBOT,
        "updated_by": SLACKBOT,
        "prefs": {"channels": [], "groups": []},
        "user_count": len(admins),
    }
    return {"usergroups": [{**group, "users": admins} if call.flag("include_users") else group]}


def user_group_members(services: Services, call: Call) -> Json:
    if call.required("usergroup") != ADMIN_GROUP:
        raise Refused("no_such_subteam")
    return {"users": _admins(services)}


def _admins(services: Services) -> list[str]:
    return [user.id for user in services.state.users.values() if user.is_admin]


def custom_emoji(services: Services, call: Call) -> Json:
    """A fresh workspace has no emoji of its own."""
    return {"emoji": {}, "cache_ts": f"{services.clock.now():.6f}"}


def _visible(channel: Channel, user: str, *, only_joined: bool) -> bool:
    if user in channel.members:
        return channel.kind is not ChannelKind.IM or BOT_USER in channel.members
    return channel.kind is ChannelKind.PUBLIC and not only_joined


def conversations_info(services: Services, call: Call) -> Json:
    channel = _seen_channel(services, call)
    return {"channel": payloads.channel_object(channel, num_members=call.flag("include_num_members"))}


def conversations_members(services: Services, call: Call) -> Json:
    page, more = _page(list(_seen_channel(services, call).members), call, default=100)
    return {"members": page, "response_metadata": {"next_cursor": ""}, **more}


def _seen_channel(services: Services, call: Call) -> Channel:
    channel = services.state.channels.get(call.text("channel"))
    if channel is None or not _visible(channel, BOT_USER, only_joined=False):
        raise Refused("channel_not_found")
    return channel


def conversations_history(services: Services, call: Call) -> Json:
    channel = bots_channel(services, call.text("channel"))
    room = services.state.rooms[channel.id]
    newest_first = [
        message
        for message in reversed(room.messages.values())
        if message.get("thread_ts") in (None, message["ts"]) or message.get("subtype") == "thread_broadcast"
    ]
    counts = {"pin_count": 0, "channel_actions_ts": None, "channel_actions_count": 0}
    return {**_messages(services, call, channel, newest_first), **counts}


def conversations_replies(services: Services, call: Call) -> Json:
    channel = bots_channel(services, call.text("channel"))
    named = services.state.message(channel.id, call.required("ts"))
    if named is None:
        raise Refused("thread_not_found")
    root = named.get("thread_ts") or named["ts"]
    first = services.state.message(channel.id, root)
    thread = [*([first] if first else []), *services.state.rooms[channel.id].replies(root)]
    return _messages(services, call, channel, thread)


def _messages(services: Services, call: Call, channel: Channel, messages: list[Json]) -> Json:
    oldest, latest = call.text("oldest") or "0", call.text("latest") or "9999999999.999999"
    inclusive = call.flag("inclusive")
    within = [
        message
        for message in messages
        if oldest < message["ts"] < latest or (inclusive and message["ts"] in (oldest, latest))
    ]
    page, more = _page(within, call, default=100)
    metadata = call.flag("include_all_metadata")
    shown = [_shown(services, channel, message, metadata=metadata) for message in page]
    return {"messages": shown, "has_more": bool(more), **more}


def _shown(services: Services, channel: Channel, message: Json, *, metadata: bool) -> Json:
    shown = payloads.for_app(services.chat.shown(channel, message))
    return {**shown, "metadata": message["metadata"]} if metadata and "metadata" in message else shown


def _page(items: list[Item], call: Call, *, default: int) -> tuple[list[Item], Json]:
    """The page asked for, and `response_metadata` with the cursor of the next one where there is one."""
    limit = call.number("limit", 0) or default
    if not 1 <= limit <= MAX_PAGE:
        raise Refused("invalid_limit")
    start = _start(call.text("cursor"))
    page = items[start : start + limit]
    if start + limit >= len(items):
        return page, {}
    cursor = base64.b64encode(f"next:{start + limit}".encode()).decode()
    return page, {"response_metadata": {"next_cursor": cursor}}


def _start(cursor: str) -> int:
    if not cursor:
        return 0
    try:
        return int(base64.b64decode(cursor, validate=True).decode().removeprefix("next:"))
    except (binascii.Error, ValueError):
        raise Refused("invalid_cursor") from None


METHODS: Final[dict[str, Handler]] = {
    "api.test": api_test,
    "apps.connections.open": open_connection,
    "auth.revoke": revoke,
    "auth.test": auth_test,
    "bots.info": bots_info,
    "conversations.history": conversations_history,
    "conversations.info": conversations_info,
    "conversations.list": conversations_list,
    "conversations.members": conversations_members,
    "conversations.replies": conversations_replies,
    "emoji.list": custom_emoji,
    "team.info": team_info,
    "usergroups.list": user_groups,
    "usergroups.users.list": user_group_members,
    "users.conversations": users_conversations,
    "users.info": users_info,
    "users.list": users_list,
    "users.lookupByEmail": users_by_email,
}
