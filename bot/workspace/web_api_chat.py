"""Web API: chat.* but streams, reactions.*, pins.*, blocks.validate. Each function is one method, with Slack's errors."""

import json
import re
from typing import Any, Final

from bot.workspace import payloads
from bot.workspace.blocks import message_problems, slack_files, text_length, with_ids
from bot.workspace.refused import Refused, refused_for
from bot.workspace.rules import problem
from bot.workspace.scopes import CUSTOMIZED
from bot.workspace.seed import BOT_USER, Channel, ChannelKind
from bot.workspace.services import Call, Handler, Services
from bot.workspace.state import Json
from bot.workspace.streams import MAX_MARKDOWN

MAX_POSTED_TEXT: Final = 40_000
MAX_UPDATED_TEXT: Final = 4_000
MAX_BLOCK_TEXT: Final = 13_200
MAX_ATTACHMENTS: Final = 100
MAX_METADATA_BYTES: Final = 4_096
POST_ANYWHERE: Final = "chat:write.public"
TIMESTAMP: Final = re.compile(r"\d{1,12}\.\d{1,6}")


def bots_channel(services: Services, wanted: str) -> Channel:
    """The channel by id, #name, or the id of a person (their IM), with the bot in it.

    Raises Refused: channel_not_found, not_in_channel.
    """
    if wanted in services.state.users:
        return services.state.direct_message_with(wanted)
    named = [one for one in services.state.channels.values() if one.name == wanted.lstrip("#")]
    known = [one for one in named if one.kind is not ChannelKind.IM]
    return services.chat.channel_for(BOT_USER, known[0].id if known else wanted)


def post_message(services: Services, call: Call) -> Json:
    channel = _postable(services, call.text("channel"))
    _check_customized(services, call)
    said, blocks = content(services, call, MAX_POSTED_TEXT)
    thread_ts = call.text("thread_ts") or None
    broadcast = "thread_broadcast" if thread_ts and call.flag("reply_broadcast") else None
    message = services.chat.post_as_bot(
        channel,
        said,
        blocks,
        thread_ts=thread_ts,
        metadata=metadata(call),
        subtype=broadcast,
        attachments=attachments(call),
        username=call.text("username") or None,
    )
    return {"channel": channel.id, "ts": message["ts"], "message": payloads.for_app(message)}


def _postable(services: Services, wanted: str) -> Channel:
    """With chat:write.public the bot need not be in a public channel."""
    channel = services.state.channels.get(wanted)
    if channel and channel.kind is ChannelKind.PUBLIC and POST_ANYWHERE in services.app.scopes:
        return channel
    return bots_channel(services, wanted)


def _check_customized(services: Services, call: Call) -> None:
    scope = "chat:write.customize"
    if any(call.text(name) for name in CUSTOMIZED) and scope not in services.app.scopes:
        raise Refused("missing_scope", needed=scope, provided=",".join(services.app.scopes))


def content(services: Services, call: Call, most: int) -> tuple[str, list[Json] | None]:
    """Text and blocks of a message. Raises Refused: no_text, msg_too_long, invalid_blocks, ..."""
    markdown, said, blocks = call.text("markdown_text"), call.text("text"), call.value("blocks")
    if markdown and (said or blocks):
        raise Refused("markdown_text_conflict")
    if len(markdown) > MAX_MARKDOWN or len(said) > most:
        raise Refused("msg_too_long")
    if markdown:
        return markdown, [{"type": "markdown", "text": markdown}]
    if blocks:
        check_blocks(services, blocks)
    elif not said and not call.value("attachments"):
        raise Refused("no_text")
    return said, blocks


def check_blocks(services: Services, blocks: Any) -> None:
    """Raises Refused: invalid_blocks, msg_blocks_too_long."""
    found = message_problems(blocks, charts=services.features.data_visualization) or [
        problem("invalid slack file", pointer)
        for pointer, file in slack_files(blocks, "/blocks")
        if not services.uploads.is_ready(file)
    ]
    if found:
        raise refused_for("invalid_blocks", found)
    prose = [block for block in blocks if block["type"] not in ("table", "data_table")]
    if text_length(prose) > MAX_BLOCK_TEXT:
        raise Refused("msg_blocks_too_long")


def attachments(call: Call) -> list[Json] | None:
    """Secondary attachments as Slack stores them: numbered, each with a fallback; None if there are none.

    Raises Refused: invalid_attachments, too_many_attachments.
    """
    given = call.value("attachments")
    if not given:
        return None
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise Refused("invalid_attachments")
    if len(given) > MAX_ATTACHMENTS:
        raise Refused("too_many_attachments")
    return [
        {"fallback": one.get("text") or "[no preview available]", **one, "id": number}
        for number, one in enumerate(given, start=1)
    ]


def metadata(call: Call) -> Any:
    """None if there is none. Raises Refused: invalid_metadata_format, metadata_too_large."""
    value = call.value("metadata")
    if value is None:
        return None
    good = isinstance(value, dict) and isinstance(value.get("event_type"), str)
    if not good or not isinstance(value.get("event_payload"), dict):
        raise Refused("invalid_metadata_format")
    if len(json.dumps(value).encode()) > MAX_METADATA_BYTES:
        raise Refused("metadata_too_large")
    return value


def update(services: Services, call: Call) -> Json:
    channel = bots_channel(services, call.text("channel"))
    before = services.chat.message(channel, call.required("ts"))
    if before["user"] != BOT_USER or before.get("subtype") == "tombstone":
        raise Refused("cant_update_message")
    if services.streams.is_open(channel.id, before["ts"]):
        raise Refused("streaming_state_conflict")
    said, blocks = content(services, call, MAX_UPDATED_TEXT)
    after = {key: value for key, value in before.items() if key != "blocks"} | {"text": said}
    kept = before.get("blocks") if "blocks" not in call.args and not said else None
    if stored := (with_ids(blocks) if blocks else kept):
        after["blocks"] = stored
    if told := metadata(call):
        after["metadata"] = told
    if "attachments" in call.args:
        after.pop("attachments", None)
        if given := attachments(call):
            after["attachments"] = given
    # Slack marks only what it shows as text as edited, not what it shows as blocks.
    message = services.chat.rewrite(channel, after, editor=None if blocks else BOT_USER)
    return {"channel": channel.id, "ts": message["ts"], "text": said, "message": _without_ts(message)}


def _without_ts(message: Json) -> Json:
    return {key: value for key, value in payloads.for_app(message).items() if key != "ts"}


def delete(services: Services, call: Call) -> Json:
    channel = bots_channel(services, call.text("channel"))
    ts = call.required("ts")
    if services.streams.is_open(channel.id, ts):
        raise Refused("cant_delete_message")
    services.chat.delete(BOT_USER, channel.id, ts)
    return {"channel": channel.id, "ts": ts}


def post_ephemeral(services: Services, call: Call) -> Json:
    channel = bots_channel(services, call.text("channel"))
    user = services.chat.user(call.required("user"))
    if user.id not in channel.members:
        raise Refused("user_not_in_channel")
    said, blocks = content(services, call, MAX_POSTED_TEXT)
    thread_ts = services.chat.thread_root(channel, call.text("thread_ts") or None)
    message = services.chat.whisper(user.id, channel, said, blocks, thread_ts=thread_ts)
    return {"message_ts": message["ts"]}


def get_permalink(services: Services, call: Call) -> Json:
    channel = bots_channel(services, call.text("channel"))
    message = services.chat.message(channel, call.required("message_ts"))
    link = f"{services.url}/archives/{channel.id}/p{message['ts'].replace('.', '')}"
    root = message.get("thread_ts")
    if root and root != message["ts"]:
        link += f"?thread_ts={root}&cid={channel.id}"
    return {"channel": channel.id, "permalink": link}


def _reacted_to(services: Services, call: Call) -> tuple[Channel, str]:
    ts = call.text("timestamp")
    if not call.text("channel") or not ts:
        raise Refused("no_item_specified")
    if not TIMESTAMP.fullmatch(ts):
        raise Refused("bad_timestamp")
    return bots_channel(services, call.text("channel")), ts


def add_reaction(services: Services, call: Call) -> Json:
    channel, ts = _reacted_to(services, call)
    services.chat.react(BOT_USER, channel.id, ts, call.required("name"))
    return {}


def remove_reaction(services: Services, call: Call) -> Json:
    channel, ts = _reacted_to(services, call)
    services.chat.react(BOT_USER, channel.id, ts, call.required("name"), remove=True)
    return {}


def get_reactions(services: Services, call: Call) -> Json:
    channel, ts = _reacted_to(services, call)
    message = services.chat.shown(channel, services.chat.message(channel, ts))
    return {"type": "message", "channel": channel.id, "message": payloads.for_app(message)}


def validate_blocks(services: Services, call: Call) -> Json:
    check_blocks(services, call.value("blocks") or [])
    return {}


def schedule_message(services: Services, call: Call) -> Json:
    channel = _postable(services, call.text("channel"))
    said, blocks = content(services, call, MAX_POSTED_TEXT)
    post_at = call.number("post_at", 0)
    if not post_at:
        raise Refused("invalid_time")
    thread_ts = call.text("thread_ts") or None
    message = services.schedule.add(
        channel, post_at, said, blocks, thread_ts=thread_ts, metadata=metadata(call)
    )
    return {
        "channel": channel.id,
        "scheduled_message_id": message["id"],
        "post_at": post_at,
        "message": {**services.schedule.preview(message), "type": "delayed_message"},
    }


def delete_scheduled_message(services: Services, call: Call) -> Json:
    channel = _postable(services, call.text("channel"))
    services.schedule.remove(channel.id, call.required("scheduled_message_id"))
    return {}


def list_scheduled_messages(services: Services, call: Call) -> Json:
    listed = services.schedule.listed(call.text("channel") or None)
    return {"scheduled_messages": listed, "response_metadata": {"next_cursor": ""}}


def add_pin(services: Services, call: Call) -> Json:
    channel, ts = _reacted_to(services, call)
    services.chat.pin(BOT_USER, channel, ts)
    return {}


def remove_pin(services: Services, call: Call) -> Json:
    channel, ts = _reacted_to(services, call)
    services.chat.pin(BOT_USER, channel, ts, remove=True)
    return {}


def list_pins(services: Services, call: Call) -> Json:
    channel = bots_channel(services, call.text("channel"))
    pinned = [one for one in services.state.rooms[channel.id].messages.values() if one.get("pinned_to")]
    items = [
        {
            "type": "message",
            "channel": channel.id,
            "created": int(float(message["ts"])),
            "created_by": message["user"],
            "message": payloads.for_app(services.chat.shown(channel, message)),
        }
        for message in reversed(pinned)
    ]
    return {"items": items}


METHODS: Final[dict[str, Handler]] = {
    "blocks.validate": validate_blocks,
    "chat.delete": delete,
    "chat.deleteScheduledMessage": delete_scheduled_message,
    "chat.getPermalink": get_permalink,
    "chat.postEphemeral": post_ephemeral,
    "chat.postMessage": post_message,
    "chat.scheduleMessage": schedule_message,
    "chat.scheduledMessages.list": list_scheduled_messages,
    "chat.update": update,
    "pins.add": add_pin,
    "pins.list": list_pins,
    "pins.remove": remove_pin,
    "reactions.add": add_reaction,
    "reactions.get": get_reactions,
    "reactions.remove": remove_reaction,
}
