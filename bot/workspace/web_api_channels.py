"""Web API: conversations that are opened, made, joined and left, and their bookmarks. Each function is one method."""

import re
import secrets
from typing import Final

from bot.workspace import payloads
from bot.workspace.refused import Refused, refused_for
from bot.workspace.seed import APP_ID, BOT_USER, Channel, ChannelKind
from bot.workspace.services import Call, Handler, Services
from bot.workspace.state import Json
from bot.workspace.web_api_chat import bots_channel

MAX_NAME: Final = 80
NAME: Final = re.compile(r"[^\W\sA-Z]+(?:[\w-]*)", re.UNICODE)
MOST_IN_A_GROUP: Final = 8


def open_conversation(services: Services, call: Call) -> Json:
    if call.text("channel"):
        channel, was_there = bots_channel(services, call.text("channel")), True
    else:
        channel, was_there = _opened(services, call)
    known = {"no_op": True, "already_open": True} if was_there else {}
    if call.flag("return_im"):
        return {"channel": payloads.channel_object(channel), **known}
    return {"channel": {"id": channel.id}, **known}


def _opened(services: Services, call: Call) -> tuple[Channel, bool]:
    users = [services.chat.user(user).id for user in call.text("users").split(",") if user]
    if not users:
        raise Refused("users_list_not_supplied")
    if len(users) > MOST_IN_A_GROUP:
        raise Refused("too_many_users")
    if len(users) == 1:
        _need_scope(services, "im:write")
        return services.state.direct_message_with(users[0]), True
    _need_scope(services, "mpim:write")
    members = [*dict.fromkeys(users), BOT_USER]
    for channel in services.state.channels.values():
        if channel.kind is ChannelKind.MPIM and set(channel.members) == set(members):
            return channel, True
    names = "--".join(services.state.users[user].name for user in members)
    return _made(services, f"mpdm-{names}-1", ChannelKind.MPIM, members), False


def _made(services: Services, name: str, kind: ChannelKind, members: list[str]) -> Channel:
    prefix = "C" if kind is not ChannelKind.MPIM else "G"
    channel = Channel(
        f"{prefix}{secrets.token_hex(5).upper()}",
        name,
        kind,
        members=members,
        created=int(services.clock.now()),
    )
    services.state.put_channel(channel)
    services.chat.tell_of(channel)
    return channel


def create(services: Services, call: Call) -> Json:
    kind = ChannelKind.PRIVATE if call.flag("is_private") else ChannelKind.PUBLIC
    _need_scope(services, "groups:write" if call.flag("is_private") else "channels:manage")
    name = call.text("name").removeprefix("#")
    if not name:
        raise Refused("invalid_name_required")
    if len(name) > MAX_NAME:
        raise Refused("invalid_name_maxlength")
    if not NAME.fullmatch(name) or name != name.lower():
        raise Refused("invalid_name_specials")
    if any(channel.name == name for channel in services.state.channels.values()):
        raise Refused("name_taken")
    return {"channel": payloads.channel_object(_made(services, name, kind, [BOT_USER]), num_members=False)}


def invite(services: Services, call: Call) -> Json:
    channel = bots_channel(services, call.text("channel"))
    if channel.kind in (ChannelKind.IM, ChannelKind.MPIM):
        raise Refused("method_not_supported_for_channel_type")
    private = channel.kind is ChannelKind.PRIVATE
    area = (
        ("groups:write", "groups:write.invites") if private else ("channels:manage", "channels:write.invites")
    )
    _need_scope(services, *area)
    users = [user for user in call.text("users").split(",") if user]
    if not users:
        raise Refused("no_user")
    for user in users:
        if user == BOT_USER:
            raise Refused("cant_invite_self")
        if services.chat.user(user).id in channel.members:
            raise Refused("already_in_channel")
    for user in users:
        services.chat.join(user, services.state.channels[channel.id], inviter=BOT_USER)
    return {"channel": payloads.channel_object(services.state.channels[channel.id], num_members=False)}


def join(services: Services, call: Call) -> Json:
    channel = services.state.channels.get(call.text("channel"))
    if channel is None or (BOT_USER not in channel.members and channel.kind is not ChannelKind.PUBLIC):
        raise Refused("channel_not_found")
    if channel.kind is not ChannelKind.PUBLIC:
        raise Refused("method_not_supported_for_channel_type")
    services.chat.join(BOT_USER, channel, inviter=None)
    return {"channel": payloads.channel_object(services.state.channels[channel.id], num_members=False)}


def leave(services: Services, call: Call) -> Json:
    channel = services.state.channels.get(call.text("channel"))
    if channel is None:
        raise Refused("channel_not_found")
    _need_scope(
        services, *(("groups:write",) if channel.kind is ChannelKind.PRIVATE else ("channels:manage",))
    )
    if channel.kind in (ChannelKind.IM, ChannelKind.MPIM):
        raise Refused("method_not_supported_for_channel_type")
    if BOT_USER not in channel.members:
        return {"not_in_channel": True}
    services.chat.leave(BOT_USER, channel)
    return {}


def add_bookmark(services: Services, call: Call) -> Json:
    channel = bots_channel(services, call.text("channel_id"))
    kind, link = call.required("type"), call.text("link")
    if kind != "link" or not link.startswith(("http://", "https://")):
        raise refused_for(
            "invalid_arguments", ["must provide a link bookmark with a link [json-pointer:/link]"]
        )
    now = int(services.clock.now())
    bookmark: Json = {
        "id": f"Bk{secrets.token_hex(5).upper()}",
        "channel_id": channel.id,
        "title": call.required("title"),
        "link": link,
        "emoji": call.text("emoji"),
        "icon_url": "",
        "type": "link",
        "date_created": now,
        "date_updated": now,
        "last_updated_by_user_id": BOT_USER,
        "app_id": APP_ID,
    }
    services.state.put_bookmark(bookmark)
    return {"bookmark": bookmark}


def edit_bookmark(services: Services, call: Call) -> Json:
    bookmark = _bookmark(services, call)
    changed = {key: call.text(key) for key in ("title", "link", "emoji") if call.text(key)}
    bookmark = {**bookmark, **changed, "date_updated": int(services.clock.now())}
    services.state.put_bookmark(bookmark)
    return {"bookmark": bookmark}


def remove_bookmark(services: Services, call: Call) -> Json:
    services.state.drop_bookmark(_bookmark(services, call)["id"])
    return {}


def list_bookmarks(services: Services, call: Call) -> Json:
    channel = bots_channel(services, call.text("channel_id"))
    return {
        "bookmarks": [one for one in services.state.bookmarks.values() if one["channel_id"] == channel.id]
    }


def _bookmark(services: Services, call: Call) -> Json:
    channel = bots_channel(services, call.text("channel_id"))
    bookmark = services.state.bookmarks.get(call.required("bookmark_id"))
    if bookmark is None or bookmark["channel_id"] != channel.id:
        raise Refused("not_found")
    return bookmark


def _need_scope(services: Services, *any_of: str) -> None:
    if not set(any_of) & set(services.app.scopes):
        raise Refused("missing_scope", needed=",".join(any_of), provided=",".join(services.app.scopes))


METHODS: Final[dict[str, Handler]] = {
    "bookmarks.add": add_bookmark,
    "bookmarks.edit": edit_bookmark,
    "bookmarks.list": list_bookmarks,
    "bookmarks.remove": remove_bookmark,
    "conversations.create": create,
    "conversations.invite": invite,
    "conversations.join": join,
    "conversations.leave": leave,
    "conversations.open": open_conversation,
}
