"""Web API: chat.*, reactions.*, assistant.threads.*. Each function is one method; names and errors are Slack's."""

import re
from typing import Any, Final

from bot.workspace import payloads
from bot.workspace.blocks import message_problems, text_length, with_ids
from bot.workspace.refused import Refused, refused_for
from bot.workspace.seed import BOT_USER, Channel, ChannelKind
from bot.workspace.services import Call, Handler, Services
from bot.workspace.state import Json
from bot.workspace.streams import MAX_MARKDOWN, chunks_of

MAX_POSTED_TEXT: Final = 40_000
MAX_UPDATED_TEXT: Final = 4_000
MAX_BLOCK_TEXT: Final = 13_200
MAX_PROMPTS: Final = 4
MAX_LOADING_MESSAGES: Final = 10
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
    channel = bots_channel(services, call.text("channel"))
    said, blocks = _content(call, MAX_POSTED_TEXT)
    thread_ts = call.text("thread_ts") or None
    broadcast = "thread_broadcast" if thread_ts and call.flag("reply_broadcast") else None
    message = services.chat.post_as_bot(
        channel, said, blocks, thread_ts=thread_ts, metadata=call.value("metadata"), subtype=broadcast
    )
    return {"channel": channel.id, "ts": message["ts"], "message": payloads.for_app(message)}


def _content(call: Call, most: int) -> tuple[str, list[Json] | None]:
    markdown, said, blocks = call.text("markdown_text"), call.text("text"), call.value("blocks")
    if markdown and (said or blocks):
        raise Refused("markdown_text_conflict")
    if len(markdown) > MAX_MARKDOWN or len(said) > most:
        raise Refused("msg_too_long")
    if markdown:
        return markdown, [{"type": "markdown", "text": markdown}]
    if blocks:
        check_blocks(blocks)
    elif not said and not call.value("attachments"):
        raise Refused("no_text")
    return said, blocks


def check_blocks(blocks: Any) -> None:
    """Raises Refused: invalid_blocks, msg_blocks_too_long."""
    if found := message_problems(blocks):
        raise refused_for("invalid_blocks", found)
    if text_length(blocks) > MAX_BLOCK_TEXT and any(block["type"] == "markdown" for block in blocks):
        raise Refused("msg_blocks_too_long")


def update(services: Services, call: Call) -> Json:
    channel = bots_channel(services, call.text("channel"))
    before = services.chat.message(channel, call.required("ts"))
    if before["user"] != BOT_USER or before.get("subtype") == "tombstone":
        raise Refused("cant_update_message")
    if services.streams.is_open(channel.id, before["ts"]):
        raise Refused("streaming_state_conflict")
    said, blocks = _content(call, MAX_UPDATED_TEXT)
    after = {key: value for key, value in before.items() if key != "blocks"} | {"text": said}
    kept = before.get("blocks") if "blocks" not in call.args and not said else None
    if stored := (with_ids(blocks) if blocks else kept):
        after["blocks"] = stored
    if metadata := call.value("metadata"):
        after["metadata"] = metadata
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
    said, blocks = _content(call, MAX_POSTED_TEXT)
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


def start_stream(services: Services, call: Call) -> Json:
    channel = bots_channel(services, call.text("channel"))
    if channel.kind is not ChannelKind.IM:
        for name in ("recipient_team_id", "recipient_user_id"):
            if not call.text(name):
                raise Refused(f"missing_{name}")
    chunks = chunks_of(call.text("markdown_text"), call.value("chunks"))
    return {"channel": channel.id, "ts": services.streams.start(channel, call.required("thread_ts"), chunks)}


def append_stream(services: Services, call: Call) -> Json:
    channel, ts = bots_channel(services, call.text("channel")), call.required("ts")
    chunks = chunks_of(call.text("markdown_text"), call.value("chunks"))
    if not chunks:
        raise Refused("no_text")
    services.streams.append(channel, ts, chunks)
    return {"channel": channel.id, "ts": ts}


def stop_stream(services: Services, call: Call) -> Json:
    channel, ts = bots_channel(services, call.text("channel")), call.required("ts")
    blocks = call.value("blocks")
    if blocks:
        check_blocks(blocks)
    chunks = chunks_of(call.text("markdown_text"), call.value("chunks"))
    message = services.streams.stop(channel, ts, chunks, blocks, call.value("metadata"))
    return {"channel": channel.id, "ts": ts, "message": payloads.for_app(message)}


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


def set_status(services: Services, call: Call) -> Json:
    channel = bots_channel(services, call.required("channel_id"))
    loading = call.value("loading_messages") or []
    if len(loading) > MAX_LOADING_MESSAGES:
        raise refused_for(
            "invalid_arguments", ["no more than 10 items allowed [json-pointer:/loading_messages]"]
        )
    thread_ts = services.chat.thread_root(channel, call.required("thread_ts"))
    services.chat.set_status(channel, str(thread_ts), call.text("status"), list(loading))
    return {}


def set_title(services: Services, call: Call) -> Json:
    channel = bots_channel(services, call.required("channel_id"))
    services.chat.set_title(channel, call.required("thread_ts"), call.required("title"))
    return {}


def set_suggested_prompts(services: Services, call: Call) -> Json:
    channel = bots_channel(services, call.required("channel_id"))
    prompts = call.value("prompts")
    good = isinstance(prompts, list) and all(
        isinstance(one, dict) and one.get("title") and one.get("message") for one in prompts
    )
    if not good or not 1 <= len(prompts) <= MAX_PROMPTS:
        reason = f"must provide 1 to {MAX_PROMPTS} prompts with title and message [json-pointer:/prompts]"
        raise refused_for("invalid_arguments", [reason])
    services.chat.set_prompts(
        channel, prompts, title=call.text("title"), thread_ts=call.text("thread_ts") or None
    )
    return {}


def validate_blocks(services: Services, call: Call) -> Json:
    check_blocks(call.value("blocks") or [])
    return {}


METHODS: Final[dict[str, Handler]] = {
    "assistant.threads.setStatus": set_status,
    "assistant.threads.setSuggestedPrompts": set_suggested_prompts,
    "assistant.threads.setTitle": set_title,
    "blocks.validate": validate_blocks,
    "chat.appendStream": append_stream,
    "chat.delete": delete,
    "chat.getPermalink": get_permalink,
    "chat.postEphemeral": post_ephemeral,
    "chat.postMessage": post_message,
    "chat.startStream": start_stream,
    "chat.stopStream": stop_stream,
    "chat.update": update,
    "reactions.add": add_reaction,
    "reactions.get": get_reactions,
    "reactions.remove": remove_reaction,
}
