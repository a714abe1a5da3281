"""HTTP instead of Socket Mode: Slack's signed requests at `/slack/events`, and `/healthz` for whoever watches the bot.

Signature and age (five minutes) of every request are checked before anybody reads what is in it; bolt would parse it
first, and a stranger's rubbish would end in a traceback. A request is acknowledged after what it asks is stored. Anybody
may read `/healthz`, so it names parts and says no more of them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from slack_bolt.async_app import AsyncApp
from slack_sdk.signature import SignatureVerifier

from bot.errors import PublicError
from storage.records import now

EVENTS, HEALTH = "/slack/events", "/healthz"
FINE, DOWN = "ok", "down"
LOOK_S = 2.0

log = structlog.get_logger(__name__)

Part = Callable[[], Awaitable[str]]
"""Looks at one part: `FINE`, or in a word what is wrong; a PublicError means `DOWN`."""


class HttpMode:
    """A web server for Slack's requests. `parts` are looked at for /healthz; those in `vital` must be fine."""

    name = "HTTP"

    def __init__(
        self,
        app: AsyncApp,
        *,
        port: int,
        signing_secret: str,
        parts: Mapping[str, Part],
        vital: frozenset[str],
    ) -> None:
        self._parts = parts
        self._vital = vital
        self._wanted = port
        self._stopped_at: datetime | None = None
        served = app.web_app(path=EVENTS)
        served.middlewares.append(_only_from_slack(SignatureVerifier(signing_secret)))
        served.add_routes([web.get(HEALTH, self._health)])
        self._runner = web.AppRunner(served, access_log=None)

    @property
    def port(self) -> int:
        """The port in use, also where 0 let the system choose."""
        return int(self._runner.addresses[0][1])

    @property
    def heard_at(self) -> datetime:
        """Slack can reach us as long as we listen."""
        return self._stopped_at or now()

    def trouble(self) -> str:
        """Nothing that could be seen from here: Slack comes to us."""
        return ""

    async def start(self) -> None:
        """Listen. Raises PublicError where the port is taken."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, port=self._wanted).start()
        except OSError:
            await self._runner.cleanup()
            raise PublicError(
                f"Port {self._wanted} is in use. Set HTTP_PORT to a free one, or stop the other program."
            ) from None

    async def stop(self) -> None:
        """Stop listening; Slack tries again later."""
        self._stopped_at = now()
        await self._runner.cleanup()

    async def _health(self, _request: web.Request) -> web.Response:
        """200 where questions can be answered, else 503; both say how each part is."""
        states = await asyncio.gather(*(_looked_at(part) for part in self._parts.values()))
        parts = dict(zip(self._parts, states, strict=True))
        ok = all(parts[name] == FINE for name in self._vital)
        return web.json_response({"ok": ok, "parts": parts}, status=200 if ok else 503)


def _only_from_slack(verifier: SignatureVerifier) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == EVENTS and request.method == "POST" and not await _signed(request, verifier):
            log.warning("a request that Slack did not sign just now was refused", remote=request.remote)
            return web.json_response({"error": "invalid request"}, status=401)
        return await handler(request)

    return check


async def _signed(request: web.Request, verifier: SignatureVerifier) -> bool:
    headers = {name.lower(): value for name, value in request.headers.items()}
    try:
        return verifier.is_valid_request((await request.read()).decode(), headers)
    except ValueError:
        return False


async def _looked_at(part: Part) -> str:
    try:
        async with asyncio.timeout(LOOK_S):
            return await part()
    except (TimeoutError, PublicError) as error:
        log.warning("a part of the bot is down", error=str(error) or "no answer in time")
        return DOWN
