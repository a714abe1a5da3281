"""What the page and the tests use: `/_control/...`, people acting in the workspace. JSON in, JSON out, `user` in every call.

A person can do here what Slack's client lets them do, nothing more. It refuses with Slack's error codes, and `detail`
where a code alone does not tell.
"""

import json
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Final

from aiohttp import web

from bot.workspace.control_interactions import Interactions
from bot.workspace.faults import Faults, fault_from
from bot.workspace.feed import Feed
from bot.workspace.refused import Refused
from bot.workspace.seed import (
    BOT_NAME,
    BOT_USER,
    TEAM_ID,
    TEAM_NAME,
    Channel,
    ChannelKind,
    MessageShortcut,
    SlashCommand,
    User,
)
from bot.workspace.services import Services
from bot.workspace.state import Json
from bot.workspace.web_api import WebApi

SSE_HEARTBEAT_S: Final = 15.0
BASE: Final = "/_control"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Control:
    """The control API of one workspace."""

    def __init__(
        self,
        services: Services,
        web_api: WebApi,
        feed: Feed,
        faults: Faults,
        *,
        commands: Sequence[SlashCommand],
        shortcuts: Sequence[MessageShortcut],
    ) -> None:
        self._services = services
        self._web_api = web_api
        self._feed = feed
        self._faults = faults
        self._commands = commands
        self._shortcuts = shortcuts
        self._interactions = Interactions(services, feed, commands)

    def routes(self) -> list[web.RouteDef]:
        act = self._interactions
        posts: dict[str, Callable[[Json], Awaitable[Json]]] = {
            "post": _soon(lambda body: {"ts": self._post(body)["ts"]}),
            "edit": _soon(self._edit),
            "delete": _soon(self._delete),
            "react": _soon(self._react),
            "invite": _soon(self._invite),
            "fault": _soon(self._fault),
            "command": act.command,
            "action": act.action,
            "submit": act.submit,
            "close": act.close,
            "shortcut": act.shortcut,
            "home": _soon(lambda body: act.open_tab(_user(body), "home")),
            "messages_tab": _soon(lambda body: act.open_tab(_user(body), "messages")),
            "disconnect": self._disconnect,
        }
        gets: dict[str, Callable[[web.Request], Json]] = {
            "state": self._state,
            "messages": self._messages,
            "views": lambda request: {"views": self._services.views.stack(self._asker(request).id)},
            "home": lambda request: {"view": self._services.state.homes.get(self._asker(request).id)},
            "calls": lambda request: {
                "calls": self._web_api.calls(int(request.query.get("since", "0") or 0))
            },
        }
        return [
            *(web.post(f"{BASE}/{name}", _posted(act_on)) for name, act_on in posts.items()),
            *(web.get(f"{BASE}/{name}", _got(answer)) for name, answer in gets.items()),
            web.get(f"{BASE}/events", self._events),
        ]

    def _asker(self, request: web.Request) -> User:
        return self._services.chat.user(request.query.get("user", ""))

    def _state(self, request: web.Request) -> Json:
        me = self._asker(request)
        state = self._services.state
        channels = [
            one for one in state.channels.values() if me.id in one.members or one.kind is ChannelKind.PUBLIC
        ]
        return {
            "team": {"id": TEAM_ID, "name": TEAM_NAME},
            "me": {"id": me.id, "name": me.name, "real_name": me.real_name, "is_admin": me.is_admin},
            "users": [
                {
                    "id": one.id,
                    "name": one.name,
                    "real_name": one.real_name,
                    "is_bot": one.is_bot,
                    "is_admin": one.is_admin,
                }
                for one in state.users.values()
            ],
            "channels": [_shown_channel(channel, me) for channel in channels],
            "commands": [asdict(command) for command in self._commands],
            "shortcuts": [asdict(shortcut) for shortcut in self._shortcuts],
            "app": {"bot_user": BOT_USER, "name": BOT_NAME},
            "statuses": self._services.chat.statuses(me.id),
            "prompts": [
                prompts
                for channel, prompts in self._services.chat.prompts.items()
                if me.id in state.channels[channel].members
            ],
            "connected": self._services.hub.count,
        }

    def _messages(self, request: web.Request) -> Json:
        me, chat = self._asker(request), self._services.chat
        channel = self._readable(me, request.query.get("channel", ""))
        whispers = chat.whispers(me.id, channel.id)
        if request.query.get("ephemerals") == "only":
            return {"messages": whispers}
        thread_ts = request.query.get("thread_ts")
        mine = [one for one in whispers if one.get("thread_ts") == thread_ts]
        shown = [*(chat.shown(channel, message) for message in self._said(channel, thread_ts)), *mine]
        return {"messages": sorted(shown, key=lambda message: str(message["ts"]))}

    def _said(self, channel: Channel, thread_ts: str | None) -> list[Json]:
        room = self._services.state.rooms[channel.id]
        if thread_ts:
            first = room.messages.get(thread_ts)
            return [*([first] if first else []), *room.replies(thread_ts)]
        return [
            one
            for one in room.messages.values()
            if one.get("thread_ts") in (None, one["ts"]) or _broadcast(one)
        ]

    def _readable(self, me: User, channel_id: str) -> Channel:
        channel = self._services.state.channels.get(channel_id)
        if channel is None or (channel.kind is not ChannelKind.PUBLIC and me.id not in channel.members):
            raise Refused("channel_not_found")
        return channel

    def _post(self, body: Json) -> Json:
        thread_ts = body.get("thread_ts") or None
        return self._services.chat.post_as_person(_user(body), _at(body), _text(body), thread_ts=thread_ts)

    def _edit(self, body: Json) -> Json:
        self._services.chat.edit_as_person(_user(body), _at(body), _ts(body), _text(body))
        return {}

    def _delete(self, body: Json) -> Json:
        self._services.chat.delete(_user(body), _at(body), _ts(body))
        return {}

    def _react(self, body: Json) -> Json:
        name, remove = str(body.get("name") or ""), bool(body.get("remove"))
        self._services.chat.react(_user(body), _at(body), _ts(body), name, remove=remove)
        return {}

    def _invite(self, body: Json) -> Json:
        inviter = self._services.chat.user(_user(body))
        channel = self._services.chat.channel_for(inviter.id, _at(body))
        invited = self._services.chat.user(str(body.get("invited") or ""))
        if channel.kind is ChannelKind.IM:
            raise Refused("method_not_supported_for_channel_type")
        self._services.chat.join(invited.id, channel, inviter=inviter.id)
        return {}

    def _fault(self, body: Json) -> Json:
        if body.get("clear"):
            self._faults.clear()
        else:
            self._faults.add(fault_from(body))
        return {}

    async def _disconnect(self, body: Json) -> Json:
        hub = self._services.hub
        if body.get("hard"):
            return {"count": hub.drop()}
        return {"count": await hub.disconnect(str(body.get("reason") or "refresh_requested"))}

    async def _events(self, request: web.Request) -> web.StreamResponse:
        try:
            listener = self._feed.join(self._asker(request).id)
        except Refused as refused:
            return _refusal(refused)
        headers = {
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
        }
        response = web.StreamResponse(headers=headers)
        try:
            await response.prepare(request)
            connected = json.dumps({"type": "connected", "count": self._services.hub.count})
            await response.write(f"retry: 1000\ndata: {connected}\n\n".encode())
            while await _forward(listener.next, response):
                pass
        except ConnectionError:
            pass
        finally:
            self._feed.leave(listener)
        return response


async def _forward(next_: Callable[[float], Awaitable[str | None]], response: web.StreamResponse) -> bool:
    try:
        data = await next_(SSE_HEARTBEAT_S)
    except TimeoutError:
        await response.write(b": still here\n\n")
        return True
    if data is None:
        return False
    await response.write(f"data: {data}\n\n".encode())
    return True


def _shown_channel(channel: Channel, me: User) -> Json:
    shown = {
        "id": channel.id,
        "name": channel.name,
        "kind": channel.kind.value,
        "topic": channel.topic,
        "members": channel.members,
        "is_member": me.id in channel.members,
    }
    return {**shown, "with_user": BOT_USER} if channel.kind is ChannelKind.IM else shown


def _broadcast(message: Json) -> bool:
    return message.get("subtype") == "thread_broadcast"


def _user(body: Json) -> str:
    return str(body.get("user") or "")


def _at(body: Json) -> str:
    return str(body.get("channel") or "")


def _ts(body: Json) -> str:
    return str(body.get("ts") or "")


def _text(body: Json) -> str:
    return str(body.get("text") or "")


def _soon(work: Callable[[Json], Json]) -> Callable[[Json], Awaitable[Json]]:
    async def done(body: Json) -> Json:
        return work(body)

    return done


def _posted(work: Callable[[Json], Awaitable[Json]]) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            body = json.loads(await request.text() or "{}")
        except ValueError:
            return _refusal(Refused("invalid_json"))
        if not isinstance(body, dict):
            return _refusal(Refused("json_not_object"))
        try:
            return web.json_response({"ok": True, **await work(body)}, headers={"Cache-Control": "no-store"})
        except Refused as refused:
            return _refusal(refused)
        except sqlite3.OperationalError as problem:
            return _refusal(
                Refused("internal_error", detail=f"The workspace file cannot be written ({problem}).")
            )

    return answer


def _got(work: Callable[[web.Request], Json]) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return web.json_response({"ok": True, **work(request)}, headers={"Cache-Control": "no-store"})
        except Refused as refused:
            return _refusal(refused)
        except ValueError:
            return _refusal(Refused("invalid_arguments", detail="A number in the query is not a number."))

    return answer


def _refusal(refused: Refused) -> web.Response:
    return web.json_response(
        {"ok": False, "error": refused.code, **refused.more}, headers={"Cache-Control": "no-store"}
    )
