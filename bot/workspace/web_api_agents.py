"""Web API of agents: chat.*Stream, assistant.threads.*, agents.sessions.*. Each function is one method."""

from typing import Final

from bot.workspace import payloads
from bot.workspace.refused import Refused, refused_for
from bot.workspace.seed import Channel, ChannelKind
from bot.workspace.services import Call, Handler, Services
from bot.workspace.sessions import STATUSES
from bot.workspace.state import Json
from bot.workspace.streams import chunks_of
from bot.workspace.web_api_chat import bots_channel, check_blocks, metadata

MAX_PROMPTS: Final = 4
MAX_LOADING_MESSAGES: Final = 10
NOT_SUBSCRIBED: Final = "missing_agent_session_stopped_event_subscription"


def start_stream(services: Services, call: Call) -> Json:
    channel = bots_channel(services, call.text("channel"))
    if channel.kind is not ChannelKind.IM:
        for name in ("recipient_team_id", "recipient_user_id"):
            if not call.text(name):
                raise Refused(f"missing_{name}")
    recipient = call.text("recipient_user_id")
    if recipient and (recipient not in services.state.users or recipient in services.features.outsiders):
        raise Refused("user_not_found")
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
    blocks, session_status = call.value("blocks"), call.text("session_status")
    if blocks:
        check_blocks(services, blocks)
    if session_status and session_status not in STATUSES:
        raise refused_for(
            "invalid_arguments", [f"must be one of: {', '.join(STATUSES)} [json-pointer:/session_status]"]
        )
    chunks = chunks_of(call.text("markdown_text"), call.value("chunks"))
    message = services.streams.stop(channel, ts, chunks, blocks, metadata(call))
    if session_status:
        services.sessions.set_status(channel, message.get("thread_ts") or ts, session_status)
    return {"channel": channel.id, "ts": ts, "message": payloads.for_app(message)}


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


def set_session_status(services: Services, call: Call) -> Json:
    channel, thread_ts = _thread(services, call)
    status = call.required("status")
    services.sessions.set_status(channel, thread_ts, status, title=call.text("title"))
    if status != "processing" or services.sessions.can_stop:
        return {}
    return {"warning": NOT_SUBSCRIBED, "response_metadata": {"warnings": [NOT_SUBSCRIBED]}}


def rename_session(services: Services, call: Call) -> Json:
    channel, thread_ts = _thread(services, call)
    services.sessions.rename(channel, thread_ts, call.required("title"))
    return {}


def _thread(services: Services, call: Call) -> tuple[Channel, str]:
    channel = bots_channel(services, call.required("channel_id"))
    return channel, str(services.chat.thread_root(channel, call.required("thread_ts")))


METHODS: Final[dict[str, Handler]] = {
    "agents.sessions.rename": rename_session,
    "agents.sessions.setStatus": set_session_status,
    "assistant.threads.setStatus": set_status,
    "assistant.threads.setSuggestedPrompts": set_suggested_prompts,
    "assistant.threads.setTitle": set_title,
    "chat.appendStream": append_stream,
    "chat.startStream": start_stream,
    "chat.stopStream": stop_stream,
}
