"""The local workspace as one aiohttp server on 127.0.0.1: Web API, Socket Mode, control API, files, the page.

It is not Slack and says so; it listens on the loopback interface only, and refuses requests that another web page or a
foreign host name makes through a browser.
"""

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from bot.errors import PublicError
from bot.workspace.chat import Chat
from bot.workspace.clock import Clock
from bot.workspace.control import Control
from bot.workspace.delivery import Outbox, Transport
from bot.workspace.faults import Faults
from bot.workspace.features import Features
from bot.workspace.feed import Feed
from bot.workspace.frames import Frames
from bot.workspace.http_delivery import HttpDelivery
from bot.workspace.manifest import App, app_of
from bot.workspace.oauth import OAuth
from bot.workspace.rate_limits import RateLimits
from bot.workspace.refused import Refused
from bot.workspace.responses import Responses
from bot.workspace.schedule import Schedule
from bot.workspace.seed import BOT_TOKEN, DEFAULT_COMMANDS, DEFAULT_SHORTCUTS, MessageShortcut, SlashCommand
from bot.workspace.services import Services
from bot.workspace.sessions import Sessions
from bot.workspace.socket_mode import SocketHub
from bot.workspace.state import State
from bot.workspace.streams import Streams
from bot.workspace.uploads import MAX_BYTES, Uploads
from bot.workspace.views import Views
from bot.workspace.web_api import WebApi

HOST: Final = "127.0.0.1"
LOOPBACK_NAMES: Final = {"127.0.0.1", "localhost", "::1"}
PAGE: Final = Path(__file__).parent / "page"
CONTENT_TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".woff2": "font/woff2",
    ".txt": "text/plain",
}
SHUTDOWN_S: Final = 2.0
FILE_POLICY: Final = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
}
PAGE_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' https: data: blob:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class LocalWorkspace:
    """A Slack workspace on this machine, for an unmodified Slack app and for people with a browser.

    port 0 lets the system choose. Without `state_file` everything is forgotten at the end.
    `manifest` is the app's: it decides commands, shortcuts, scopes and events; without one the app may do everything, and
    `commands` and `shortcuts` say what it registered. With `request_url` and `signing_secret` the app is told by signed
    HTTP requests instead of Socket Mode. `ack_timeout_s` is the time the app has to acknowledge, `stream_ttl_s` the life
    of a streamed answer, `trigger_ttl_s` of a trigger_id, `share_delay_s` the time from an upload to its message.
    `rate_limits` turns Slack's tiers on. Raises PublicError for a manifest that cannot be used.
    """

    def __init__(
        self,
        *,
        port: int,
        state_file: Path | None = None,
        manifest: Mapping[str, Any] | None = None,
        faults: Faults | None = None,
        features: Features | None = None,
        request_url: str | None = None,
        signing_secret: str | None = None,
        rate_limits: bool = False,
        ack_timeout_s: float = 3.0,
        stream_ttl_s: float = 300.0,
        trigger_ttl_s: float = 3.0,
        share_delay_s: float = 0.2,
        extra_people: int = 0,
        commands: Sequence[SlashCommand] = DEFAULT_COMMANDS,
        shortcuts: Sequence[MessageShortcut] = DEFAULT_SHORTCUTS,
    ) -> None:
        self.url = f"http://{HOST}:{port}"
        self.faults = faults or Faults()
        self.features = features or Features()
        self.clock = Clock()
        self.app = App(commands=commands, shortcuts=shortcuts) if manifest is None else app_of(manifest)
        self._port = port
        self._state_file = state_file
        self._request_url = _checked_url(request_url, signing_secret)
        self._signing_secret = signing_secret or ""
        self._limits = RateLimits(self.clock) if rate_limits else None
        self._ack_timeout_s = ack_timeout_s
        self._stream_ttl_s = stream_ttl_s
        self._trigger_ttl_s = trigger_ttl_s
        self._share_delay_s = share_delay_s
        self._extra_people = extra_people
        self._running: _Running | None = None

    async def start(self) -> None:
        """Listen. Raises PublicError if the port is taken or the state file cannot be used."""
        state = State(
            self._state_file,
            extra_people=self._extra_people,
            bot_name=self.app.bot_name,
            app_name=self.app.name,
            clock=self.clock,
        )
        try:
            self._running = await self._listen(state)
        except BaseException:
            state.close()
            raise

    async def stop(self) -> None:
        """Close every connection and the state file. A second call does nothing."""
        running, self._running = self._running, None
        if running is None:
            return
        running.services.streams.close()
        self.clock.reset()
        running.feed.close()
        await running.services.outbox.transport.close()
        await running.services.hub.close()
        await running.runner.cleanup()
        running.services.state.close()

    async def _listen(self, state: State) -> "_Running":
        sock = _bound(self._port)
        self.url = f"http://{HOST}:{sock.getsockname()[1]}"
        feed = Feed()
        services = self._services(state, feed)
        app = self._app(services, feed)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
        await runner.setup()
        await web.SockSite(runner, sock).start()
        services.outbox.transport.resume()
        services.schedule.resume()
        return _Running(runner, services, feed)

    def _services(self, state: State, feed: Feed) -> Services:
        def tell(count: int) -> None:
            feed.publish({"type": "connected", "count": count}, to=None)

        frames = Frames(feed)
        hub = SocketHub(state, frames, ack_timeout_s=self._ack_timeout_s, on_count=tell)
        outbox = Outbox(self.app, self._http(state, frames, tell) or hub)
        chat = Chat(state, feed, outbox, self.clock)
        streams = Streams(chat, self.clock, ttl_s=self._stream_ttl_s)
        return Services(
            url=self.url,
            app=self.app,
            clock=self.clock,
            features=self.features,
            state=state,
            frames=frames,
            hub=hub,
            outbox=outbox,
            chat=chat,
            views=Views(state, feed, self.clock, trigger_ttl_s=self._trigger_ttl_s),
            responses=Responses(chat, self.clock),
            streams=streams,
            sessions=Sessions(chat, feed, outbox, streams),
            schedule=Schedule(state, chat, self.clock),
            uploads=Uploads(
                state,
                chat,
                outbox,
                self.clock,
                self.features,
                url=self.url,
                share_delay_s=self._share_delay_s,
            ),
        )

    def _http(self, state: State, frames: Frames, tell: Callable[[int], None]) -> Transport | None:
        if self._request_url is None:
            return None
        return HttpDelivery(
            state,
            frames,
            self.clock,
            url=self._request_url,
            signing_secret=self._signing_secret,
            ack_timeout_s=self._ack_timeout_s,
            on_count=tell,
        )

    def _app(self, services: Services, feed: Feed) -> web.Application:
        oauth = OAuth(services)
        web_api = WebApi(services, self.faults, feed, oauth, limits=self._limits)
        control = Control(services, web_api, feed, self.faults)
        app = web.Application(middlewares=[_refuse_strangers], client_max_size=MAX_BYTES)
        app.add_routes(
            [
                web.route("*", "/api/{method}", web_api.serve),
                web.get("/link/", services.hub.serve),
                web.post("/response/{token}", _response_url(services, web_api)),
                web.post("/upload/v1/{token}", _upload(services)),
                web.get("/files/{id}/{name}", _file(services)),
                web.get("/oauth/v2/authorize", oauth.authorize),
                *control.routes(),
                web.get("/", _page),
                web.get("/archives/{channel}/{message}", _permalink),
                web.get("/{name:.+}", _page),
            ]
        )
        return app


@dataclass
class _Running:
    """What a started workspace has to close again."""

    runner: web.AppRunner
    services: Services
    feed: Feed


def _checked_url(url: str | None, secret: str | None) -> str | None:
    if url is None:
        return None
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise PublicError(
            f"The request URL must be a web address such as http://127.0.0.1:3000/slack/events, not {url!r}."
        )
    if not secret:
        raise PublicError(
            "A request URL needs a signing secret: the one that the app checks signatures with."
        )
    return url


def _bound(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((HOST, port))
        sock.listen(128)
    except (OSError, OverflowError) as problem:
        sock.close()
        raise _not_listening(port, problem) from problem
    sock.setblocking(False)
    return sock


def _not_listening(port: int, problem: Exception) -> PublicError:
    if isinstance(problem, OSError) and problem.errno == errno.EADDRINUSE:
        return PublicError(
            f"Port {port} is already in use. Set WORKSPACE_PORT=... or stop the other program."
        )
    return PublicError(
        f"Port {port} cannot be opened ({problem}). Set WORKSPACE_PORT to a number from 1024 to 65535."
    )


@web.middleware
async def _refuse_strangers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let in only what was addressed to this machine by name and was not sent by another site's page."""
    if not _is_loopback(f"//{request.host}"):
        raise web.HTTPForbidden(text="The local workspace answers only to 127.0.0.1 and localhost.")
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        raise web.HTTPForbidden(text="Another web site may not use the local workspace.")
    elsewhere = request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
    if elsewhere and request.path.startswith("/_control/"):
        raise web.HTTPForbidden(text="Another web site may not use the local workspace.")
    return await handler(request)


def _is_loopback(address: str) -> bool:
    try:
        return urlsplit(address).hostname in LOOPBACK_NAMES
    except ValueError:
        return False


def _response_url(services: Services, web_api: WebApi) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            body = await request.json()
            if not isinstance(body, dict):
                raise Refused("invalid_payload")
            services.responses.answer(request.match_info["token"], body)
        except ValueError:
            return web.json_response({"ok": False, "error": "invalid_payload"}, status=400)
        except Refused as refused:
            status = 404 if refused.code in ("used_url", "expired_url") else 400
            return web.json_response({"ok": False, "error": refused.code, **refused.more}, status=status)
        return web.Response(text="ok")

    async def under_fault(request: web.Request) -> web.StreamResponse:
        return await web_api.under_fault(request, "response_url", lambda: answer(request))

    return under_fault


def _upload(services: Services) -> Handler:
    async def receive(request: web.Request) -> web.StreamResponse:
        try:
            content = await _uploaded(request)
            services.uploads.receive(request.match_info["token"], content)
        except Refused as refused:
            return web.Response(status=404, text=refused.code)
        return web.Response(text=f"OK - {len(content)}")

    return receive


async def _uploaded(request: web.Request) -> bytes:
    if not request.content_type.startswith("multipart/"):
        return await request.read()
    for field in (await request.post()).values():
        if isinstance(field, web.FileField):
            return field.file.read()
    raise Refused("no_file")


def _file(services: Services) -> Handler:
    async def send(request: web.Request) -> web.StreamResponse:
        own_page = request.headers.get("Sec-Fetch-Site") in ("same-origin", "none")
        if request.headers.get("Authorization") != f"Bearer {BOT_TOKEN}" and not own_page:
            raise web.HTTPForbidden(text="Send the bot token: Authorization: Bearer xoxb-...")
        file_id = request.match_info["id"]
        content = services.state.file_content(file_id)
        if not own_page and "files:read" not in services.app.scopes:
            raise web.HTTPForbidden(text="The app lacks the scope files:read.")
        if content is None:
            raise web.HTTPNotFound(text="file_not_found")
        file = services.state.files[file_id]
        disposition = "attachment" if "download" in request.query else "inline"
        headers = {**FILE_POLICY, "Content-Type": file["mimetype"], "Content-Disposition": disposition}
        return web.Response(body=content, headers=headers)

    return send


async def _permalink(request: web.Request) -> web.StreamResponse:
    """What chat.getPermalink gives leads to the page, which knows the message by its query."""
    digits = request.match_info["message"].removeprefix("p")
    query = {"channel": request.match_info["channel"], "ts": f"{digits[:-6]}.{digits[-6:]}"}
    if thread_ts := request.query.get("thread_ts"):
        query["thread_ts"] = thread_ts
    raise web.HTTPFound(f"/?{urlencode(query)}")


async def _page(request: web.Request) -> web.StreamResponse:
    """A file of the page; `/` is index.html. Never cached, so that a new version is seen at once."""
    name = request.match_info.get("name", "index.html")
    path = (PAGE / name).resolve()
    kind = CONTENT_TYPES.get(path.suffix)
    if kind is None or not path.is_relative_to(PAGE.resolve()) or not path.is_file():
        raise web.HTTPNotFound(text=f"There is no page {name} here.")
    content = await asyncio.to_thread(path.read_bytes)
    charset = "utf-8" if kind.startswith(("text/", "application/json", "image/svg")) else None
    return web.Response(body=content, content_type=kind, charset=charset, headers=PAGE_HEADERS)
