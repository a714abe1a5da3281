"""Slack's own shapes, built from plain values: messages, users, channels, files, events, interactions, commands.

Pure functions; nothing here reads the state or sends anything. The shapes follow the payloads in Slack's SDKs and the
types of @slack/web-api 8.2.0; the tests hold them to both.
"""

import time
import uuid
from typing import Final

from bot.workspace.seed import (
    APP_ID,
    BOT_ID,
    BOT_NAME,
    BOT_USER,
    SLACKBOT,
    TEAM_DOMAIN,
    TEAM_ID,
    TEAM_NAME,
    VERIFICATION_TOKEN,
    Channel,
    ChannelKind,
    SlashCommand,
    User,
)
from bot.workspace.state import Json

CHANNEL_TYPES: Final = {
    ChannelKind.PUBLIC: "channel",
    ChannelKind.PRIVATE: "group",
    ChannelKind.IM: "im",
    ChannelKind.MPIM: "mpim",
}
INTERACTION_NAMES: Final = {
    ChannelKind.PRIVATE: "privategroup",
    ChannelKind.IM: "directmessage",
    ChannelKind.MPIM: "mpdm",
}
NOT_FOR_APPS: Final = {"streaming", "streaming_state", "ephemeral", "metadata"}
ICON: Final = "https://a.slack-edge.com/80588/img/plugins/app/bot_{size}.png"


def bot_profile(name: str = BOT_NAME) -> Json:
    return {
        "id": BOT_ID,
        "app_id": APP_ID,
        "name": name,
        "deleted": False,
        "updated": 0,
        "team_id": TEAM_ID,
        "icons": {f"image_{size}": ICON.format(size=size) for size in (36, 48, 72)},
    }


def persons_message(user: str, ts: str, text: str, blocks: list[Json], *, thread_ts: str | None) -> Json:
    """A message typed by a person in Slack's client."""
    message: Json = {
        "type": "message",
        "client_msg_id": str(uuid.uuid4()),
        "user": user,
        "text": text,
        "ts": ts,
        "team": TEAM_ID,
        "blocks": blocks,
    }
    if thread_ts:
        message["thread_ts"] = thread_ts
    return message


def bots_message(
    ts: str, text: str, blocks: list[Json] | None, *, thread_ts: str | None, name: str = BOT_NAME
) -> Json:
    """A message of the app's bot user, whose handle is `name`."""
    message: Json = {
        "type": "message",
        "user": BOT_USER,
        "bot_id": BOT_ID,
        "app_id": APP_ID,
        "text": text,
        "ts": ts,
        "team": TEAM_ID,
        "bot_profile": bot_profile(name),
    }
    if blocks:
        message["blocks"] = blocks
    if thread_ts:
        message["thread_ts"] = thread_ts
    return message


def tombstone(ts: str) -> Json:
    """What stays of a deleted message that has replies."""
    return {
        "type": "message",
        "subtype": "tombstone",
        "text": "This message was deleted.",
        "user": SLACKBOT,
        "hidden": True,
        "ts": ts,
        "thread_ts": ts,
    }


def with_thread(message: Json, replies: list[Json], parent: Json | None = None) -> Json:
    """A message as history and replies show it: a root says how its thread is doing, a reply who started it."""
    if parent is not None:
        return {**message, "parent_user_id": parent["user"]}
    if not replies:
        return message
    users = list(dict.fromkeys(reply["user"] for reply in replies))
    return {
        **message,
        "thread_ts": message["ts"],
        "reply_count": len(replies),
        "reply_users_count": len(users),
        "latest_reply": replies[-1]["ts"],
        "reply_users": users[:5],
        "is_locked": False,
        "subscribed": False,
    }


def for_app(message: Json) -> Json:
    """The message without what only the page is told, and without metadata (which needs to be asked for)."""
    return {key: value for key, value in message.items() if key not in NOT_FOR_APPS}


def user_object(user: User, *, email: bool = True) -> Json:
    """A member; without `email` as an app without the scope users:read.email sees them."""
    profile: Json = {
        "real_name": user.real_name,
        "real_name_normalized": user.real_name,
        "display_name": user.name,
        "display_name_normalized": user.name,
        "first_name": user.real_name.split(" ")[0],
        "last_name": user.real_name.partition(" ")[2],
        "title": "",
        "status_text": "",
        "status_emoji": "",
        "team": TEAM_ID,
    }
    if user.is_bot:
        profile |= {"api_app_id": APP_ID, "bot_id": BOT_ID, "always_active": True}
    elif email:
        profile["email"] = f"{user.name}@{TEAM_DOMAIN}.invalid"
    return {
        "id": user.id,
        "team_id": TEAM_ID,
        "name": user.name,
        "deleted": user.deleted,
        "color": "4bbe2e",
        "real_name": user.real_name,
        "tz": "Etc/UTC",
        "tz_label": "Coordinated Universal Time",
        "tz_offset": 0,
        "profile": profile,
        "is_admin": user.is_admin,
        "is_owner": user.is_admin,
        "is_primary_owner": False,
        "is_restricted": False,
        "is_ultra_restricted": False,
        "is_bot": user.is_bot,
        "is_app_user": False,
        "updated": 0,
    }


def channel_object(channel: Channel, *, num_members: bool = True, listed: bool = True) -> Json:
    """A conversation as the bot sees it. users.conversations (not `listed`) leaves out what goes without saying."""
    if channel.kind is ChannelKind.IM:
        return {
            "id": channel.id,
            "created": channel.created,
            "is_im": True,
            "is_org_shared": False,
            "is_archived": False,
            "user": channel.with_user,
            "context_team_id": TEAM_ID,
            "priority": 0,
            "updated": channel.created * 1000,
        }
    private = channel.kind is not ChannelKind.PUBLIC
    text = {"value": channel.topic, "creator": "U0ANN", "last_set": channel.created}
    shown: Json = {
        "id": channel.id,
        "name": channel.name,
        "name_normalized": channel.name,
        "is_channel": not private,
        "is_group": private,
        "is_im": False,
        "is_mpim": channel.kind is ChannelKind.MPIM,
        "is_private": private,
        "is_general": channel.id == "C0GENERAL",
        "is_archived": False,
        "is_shared": False,
        "is_org_shared": False,
        "is_ext_shared": False,
        "is_member": BOT_USER in channel.members,
        "created": channel.created,
        "creator": "U0ANN",
        "unlinked": 0,
        "context_team_id": TEAM_ID,
        "updated": channel.created * 1000,
        "topic": text,
        "purpose": dict(text),
    }
    if not listed:
        del shown["is_member"]
        return shown
    return {**shown, "num_members": len(channel.members)} if num_members else shown


def team_object(url: str) -> Json:
    return {"id": TEAM_ID, "name": TEAM_NAME, "url": f"{url}/", "domain": TEAM_DOMAIN, "email_domain": ""}


def bot_object(name: str = BOT_NAME) -> Json:
    shown = {key: value for key, value in bot_profile(name).items() if key != "team_id"}
    return {**shown, "user_id": BOT_USER}


def event_callback(event: Json, *, kind: str) -> Json:
    """The outer event. `kind` is the event's name in the event context (message, app_mention, ...)."""
    return {
        "token": VERIFICATION_TOKEN,
        "team_id": TEAM_ID,
        "context_team_id": TEAM_ID,
        "context_enterprise_id": None,
        "api_app_id": APP_ID,
        "event": event,
        "type": "event_callback",
        "event_id": f"Ev{uuid.uuid4().hex[:12].upper()}",
        "event_time": int(time.time()),
        "authorizations": [
            {
                "enterprise_id": None,
                "team_id": TEAM_ID,
                "user_id": BOT_USER,
                "is_bot": True,
                "is_enterprise_install": False,
            }
        ],
        "is_ext_shared_channel": False,
        "event_context": f"4-{kind}-{TEAM_ID}-{uuid.uuid4().hex}",
    }


def message_event(channel: Channel, message: Json) -> Json:
    where = {"channel": channel.id, "event_ts": message["ts"], "channel_type": CHANNEL_TYPES[channel.kind]}
    return event_callback({**for_app(message), **where}, kind="message")


def mention_event(channel: Channel, message: Json) -> Json:
    told = {key: value for key, value in for_app(message).items() if key not in ("subtype", "files")}
    return event_callback(
        {**told, "type": "app_mention", "channel": channel.id, "event_ts": message["ts"]}, kind="app_mention"
    )


def message_changed_event(channel: Channel, ts: str, message: Json, previous: Json) -> Json:
    event = {
        "type": "message",
        "subtype": "message_changed",
        "message": for_app(message),
        "previous_message": for_app(previous),
        "channel": channel.id,
        "hidden": True,
        "ts": ts,
        "event_ts": ts,
        "channel_type": CHANNEL_TYPES[channel.kind],
    }
    return event_callback(event, kind="message")


def message_deleted_event(channel: Channel, ts: str, previous: Json) -> Json:
    event = {
        "type": "message",
        "subtype": "message_deleted",
        "previous_message": for_app(previous),
        "channel": channel.id,
        "hidden": True,
        "deleted_ts": previous["ts"],
        "ts": ts,
        "event_ts": ts,
        "channel_type": CHANNEL_TYPES[channel.kind],
    }
    return event_callback(event, kind="message")


def reaction_event(
    kind: str, user: str, name: str, *, channel: str, ts: str, item_user: str, event_ts: str
) -> Json:
    """`kind` is reaction_added or reaction_removed."""
    event = {
        "type": kind,
        "user": user,
        "reaction": name,
        "item": {"type": "message", "channel": channel, "ts": ts},
        "item_user": item_user,
        "event_ts": event_ts,
    }
    return event_callback(event, kind=kind)


def app_home_opened_event(user: str, channel: str, tab: str, view: Json | None, event_ts: str) -> Json:
    event: Json = {
        "type": "app_home_opened",
        "user": user,
        "channel": channel,
        "tab": tab,
        "event_ts": event_ts,
    }
    if tab == "home" and view is not None:
        event["view"] = view
    return event_callback(event, kind="app_home_opened")


def member_joined_event(user: str, channel: Channel, inviter: str | None, event_ts: str) -> Json:
    event: Json = {
        "type": "member_joined_channel",
        "user": user,
        "channel": channel.id,
        "channel_type": "G" if channel.kind is ChannelKind.PRIVATE else "C",
        "team": TEAM_ID,
        "event_ts": event_ts,
    }
    if inviter:
        event["inviter"] = inviter
    return event_callback(event, kind="member_joined_channel")


def pin_event(kind: str, user: str, channel: str, message: Json, event_ts: str) -> Json:
    """`kind` is pin_added or pin_removed."""
    item = {"type": "message", "channel": channel, "message": for_app(message)}
    event = {"type": kind, "user": user, "channel_id": channel, "item": item, "event_ts": event_ts}
    return event_callback(event, kind=kind)


def metadata_posted_event(channel: str, message: Json, event_ts: str) -> Json:
    event = {
        "type": "message_metadata_posted",
        "app_id": APP_ID,
        "bot_id": BOT_ID,
        "user_id": BOT_USER,
        "team_id": TEAM_ID,
        "channel_id": channel,
        "metadata": message["metadata"],
        "message_ts": message["ts"],
        "event_ts": event_ts,
    }
    return event_callback(event, kind="message_metadata_posted")


def file_shared_event(file: str, user: str, channel: str, event_ts: str) -> Json:
    event = {
        "type": "file_shared",
        "file_id": file,
        "user_id": user,
        "file": {"id": file},
        "channel_id": channel,
        "event_ts": event_ts,
    }
    return event_callback(event, kind="file_shared")


def agent_session_stopped_event(
    user: str, channel: str, thread_ts: str, streaming: list[str], event_ts: str
) -> Json:
    """`streaming` are the messages whose streams the click ended."""
    event = {
        "type": "agent_session_stopped",
        "user": user,
        "channel": channel,
        "thread_ts": thread_ts,
        "streaming_message_ts": streaming,
        "event_ts": event_ts,
    }
    return event_callback(event, kind="agent_session_stopped")


def app_context_changed_event(user: str, agent_channel: str, viewed: str | None, event_ts: str) -> Json:
    """`viewed` is the channel the person looks at beside the agent; None for none."""
    entity = {"type": "slack#/types/channel_id", "value": viewed, "team_id": TEAM_ID}
    event = {
        "type": "app_context_changed",
        "user": user,
        "channel": agent_channel,
        "context": {"entities": [entity]} if viewed else {},
        "event_ts": event_ts,
    }
    return event_callback(event, kind="app_context_changed")


def app_uninstalled_event() -> Json:
    return event_callback({"type": "app_uninstalled"}, kind="app_uninstalled")


def tokens_revoked_event() -> Json:
    return event_callback(
        {"type": "tokens_revoked", "tokens": {"oauth": [], "bot": [BOT_USER]}}, kind="tokens_revoked"
    )


def member_event(kind: str, user: User, event_ts: str, *, email: bool) -> Json:
    """Somebody joined the workspace (`team_join`), or a profile changed (`user_change`)."""
    event = {"type": kind, "user": user_object(user, email=email), "cache_ts": 0, "event_ts": event_ts}
    return event_callback(event, kind=kind)


def interaction(kind: str, user: User, *, trigger_id: str | None = None) -> Json:
    """What every interaction carries; `kind` is block_actions, view_submission, view_closed or message_action."""
    payload: Json = {
        "type": kind,
        "team": {"id": TEAM_ID, "domain": TEAM_DOMAIN},
        "user": {"id": user.id, "username": user.name, "name": user.name, "team_id": TEAM_ID},
        "token": VERIFICATION_TOKEN,
        "enterprise": None,
        "is_enterprise_install": False,
    }
    if kind != "message_action":
        payload["api_app_id"] = APP_ID
    if trigger_id:
        payload["trigger_id"] = trigger_id
    return payload


def interaction_channel(channel: Channel) -> Json:
    return {"id": channel.id, "name": INTERACTION_NAMES.get(channel.kind, channel.name)}


def slash_command(
    command: SlashCommand, text: str, user: User, channel: Channel, *, response_url: str, trigger_id: str
) -> Json:
    return {
        "token": VERIFICATION_TOKEN,
        "team_id": TEAM_ID,
        "team_domain": TEAM_DOMAIN,
        "channel_id": channel.id,
        "channel_name": INTERACTION_NAMES.get(channel.kind, channel.name),
        "user_id": user.id,
        "user_name": user.name,
        "command": command.command,
        "text": text,
        "api_app_id": APP_ID,
        "is_enterprise_install": "false",
        "response_url": response_url,
        "trigger_id": trigger_id,
    }
