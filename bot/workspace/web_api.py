"""The Web API's front door: `/api/<method>`: arguments, tokens, faults, answers, and the record of calls.

Arguments may come in the query, as a form or as JSON (facts/slack.md 3.3). It refuses unknown methods and tokens in
Slack's words; what a method does is in web_api_chat and web_api_lookup.
"""

import asyncio
import json
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from aiohttp import web

from bot.workspace import web_api_agents, web_api_channels, web_api_chat, web_api_lookup, web_api_views
from bot.workspace.faults import NO_ANSWER, Fault, Faults
from bot.workspace.feed import Feed
from bot.workspace.oauth import OAuth
from bot.workspace.rate_limits import RateLimits
from bot.workspace.refused import Refused
from bot.workspace.scopes import accepted, missing
from bot.workspace.seed import APP_TOKEN, BOT_TOKEN
from bot.workspace.services import Call, Handler, Services
from bot.workspace.state import Json

METHODS: Final[dict[str, Handler]] = {
    **web_api_agents.METHODS,
    **web_api_channels.METHODS,
    **web_api_chat.METHODS,
    **web_api_lookup.METHODS,
    **web_api_views.METHODS,
}
OAUTH: Final = "oauth.v2.access"
APP_TOKEN_METHODS: Final = {"apps.connections.open"}
CALLS_KEPT: Final = 2000
log = logging.getLogger(__name__)
Work = Callable[[], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class ApiCall:
    """One request and its answer, as a recorder sees it.

    `args`: all arguments, nested ones decoded from their JSON text, without the token. `answer`: the body that was sent
    ({} where there was none). `injected`: a fault made this answer, so it says nothing about the workspace.
    """

    method: str
    args: Json
    answer: Json
    status: int
    injected: bool


Observer = Callable[[ApiCall], None]


class WebApi:
    """All methods of one workspace, and what was called. Tests may append to `observers`; all workspaces tell them."""

    observers: ClassVar[list[Observer]] = []

    def __init__(
        self,
        services: Services,
        faults: Faults,
        feed: Feed,
        oauth: OAuth,
        *,
        limits: RateLimits | None = None,
    ) -> None:
        self._services = services
        self._oauth = oauth
        self._faults = faults
        self._feed = feed
        self._limits = limits
        scopes = ",".join(services.app.scopes)
        self._headers = {"x-oauth-scopes": scopes, "Cache-Control": "no-store"}
        self._calls: deque[Json] = deque(maxlen=CALLS_KEPT)
        self._count = 0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """`/api/{method}`."""
        method = request.match_info["method"]

        async def work() -> web.StreamResponse:
            args: Json = {}
            try:
                args = await _arguments(request)
                if wait_s := self._wait_s(method, args):
                    return self._rate_limited(method, args, wait_s)
                answer = self._answer(request, method, args)
            except Refused as refused:
                answer = {"ok": False, "error": refused.code, **refused.more}
            self._record(method, args, answer)
            self._observe(method, args, answer, 200)
            headers = {**self._headers, "x-accepted-oauth-scopes": accepted(method)}
            return web.json_response(answer, headers=headers)

        return await self.under_fault(request, method, work)

    def _wait_s(self, method: str, args: Json) -> int | None:
        if self._limits is None:
            return None
        return self._limits.wait_s(method, str(args.get("channel", "")))

    def _rate_limited(self, method: str, args: Json, wait_s: int) -> web.Response:
        answer = {"ok": False, "error": "ratelimited"}
        self._record(method, args, answer)
        self._observe(method, args, answer, 429, injected=True)
        headers = {**self._headers, "Retry-After": str(wait_s)}
        return web.json_response(answer, status=429, headers=headers)

    async def under_fault(self, request: web.Request, method: str, work: Work) -> web.StreamResponse:
        """Do the work, unless a fault is waiting for this method."""
        fault = self._faults.take(method)
        if fault is None:
            return await work()
        await asyncio.sleep(fault.hang_s)
        fails = fault.error is not None or fault.status is not None
        done = await work() if fault.after_work or not fails else None
        self._record(method, {}, {"fault": dict(vars(fault))})
        failure = _failure(request, fault, self._headers)
        if failure is not None and not fault.after_work:
            await self._observe_fault(request, method, fault)
        return failure or done or web.Response(status=500)

    def calls(self, since: int) -> list[Json]:
        """The calls after number `since`, newest last."""
        return [call for call in self._calls if call["n"] > since]

    def reset(self) -> None:
        """Forget the calls; their numbers go on."""
        self._calls.clear()
        if self._limits is not None:
            self._limits.reset()

    def _answer(self, request: web.Request, method: str, args: Json) -> Json:
        if method == OAUTH:
            return {"ok": True, **self._oauth.access(request, args)}
        if method not in METHODS:
            raise Refused("unknown_method", req_method=method)
        if _authorize(request, method, args) == BOT_TOKEN:
            self._check_bot(method, Call(args))
        try:
            return {"ok": True, **METHODS[method](self._services, Call(args))}
        except sqlite3.OperationalError as problem:
            log.error("The workspace file cannot be written: %s", problem)
            raise Refused("internal_error") from problem

    def _check_bot(self, method: str, call: Call) -> None:
        """Raises Refused: account_inactive (the app is uninstalled), missing_scope."""
        if not self._services.outbox.installed:
            raise Refused("account_inactive")
        granted = self._services.app.scopes
        channel = self._services.state.channels.get(call.text("channel"))
        if needed := missing(method, granted, channel=channel, types=call.text("types")):
            raise Refused("missing_scope", needed=needed, provided=",".join(granted))

    async def _observe_fault(self, request: web.Request, method: str, fault: Fault) -> None:
        if not self.observers or fault.status == NO_ANSWER:
            return
        answer = {"ok": False, "error": fault.error} if fault.error else {}
        try:
            self._observe(method, await _arguments(request), answer, fault.status or 200, injected=True)
        except Refused:
            return

    def _observe(self, method: str, args: Json, answer: Json, status: int, *, injected: bool = False) -> None:
        if not self.observers or method == "response_url":
            return
        told = {name: decoded(value) for name, value in args.items() if name != "token"}
        for observer in self.observers:
            observer(ApiCall(method, told, answer, status, injected))

    def _record(self, method: str, args: Json, answer: Json) -> None:
        self._count += 1
        told = {name: value for name, value in args.items() if name != "token"}
        call = {"n": self._count, "method": method, "args": told, "answer": answer, "at": time.time()}
        self._calls.append(call)
        self._feed.trace({**call, "type": "call"})


def _authorize(request: web.Request, method: str, args: Json) -> str:
    """The token that was sent, "" for none where none is needed. Raises Refused: not_authed, invalid_auth, ..."""
    token = request.headers.get("Authorization", "").removeprefix("Bearer ") or args.get("token")
    if method == "api.test" and not token:
        return ""
    if not token:
        raise Refused("not_authed")
    if token not in (BOT_TOKEN, APP_TOKEN):
        raise Refused("invalid_auth")
    if (token == APP_TOKEN) != (method in APP_TOKEN_METHODS) and method != "api.test":
        raise Refused("not_allowed_token_type")
    return str(token)


def decoded(value: Any) -> Any:
    """An argument that was sent as JSON text (an array or object in a form or query), else the value itself."""
    if not isinstance(value, str) or value[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


async def _arguments(request: web.Request) -> Json:
    args: Json = dict(request.query)
    if request.content_type == "application/json":
        args |= _from_json(await request.text())
    elif request.can_read_body:
        args |= {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
    return args


def _from_json(text: str) -> Json:
    try:
        body: Any = json.loads(text) if text.strip() else {}
    except ValueError:
        raise Refused("invalid_json") from None
    if not isinstance(body, dict):
        raise Refused("json_not_object")
    return body


def _failure(request: web.Request, fault: Fault, headers: dict[str, str]) -> web.Response | None:
    if fault.status == NO_ANSWER and fault.status is not None:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)
    if fault.error:
        return web.json_response({"ok": False, "error": fault.error}, headers=headers)
    if fault.status == 429:
        headers = {**headers, "Retry-After": str(fault.retry_after or 1)}
        return web.json_response({"ok": False, "error": "ratelimited"}, status=429, headers=headers)
    if fault.status is not None:
        return web.Response(status=fault.status, text="injected fault", headers=headers)
    return None
