"""Installing the app by OAuth: the page where a person allows it, and the code it is exchanged for a token with.

The token is always the workspace's one bot token. It refuses codes that are unknown, used or older than ten minutes, and
scopes that the app's manifest does not ask for.
"""

import html
import secrets
from base64 import b64decode
from binascii import Error as NotBase64
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from bot.workspace.refused import Refused
from bot.workspace.seed import (
    APP_ID,
    BOT_TOKEN,
    BOT_USER,
    CLIENT_ID,
    CLIENT_SECRET,
    PEOPLE,
    TEAM_ID,
    TEAM_NAME,
)
from bot.workspace.services import Services
from bot.workspace.state import Json

CODE_TTL_S: Final = 600.0
PAGE: Final = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/page.css"></head>
<body><main style="max-width: 34rem; margin: 4rem auto; padding: 0 1rem">
<p><strong>Local workspace, not Slack</strong></p><h1>{title}</h1>{body}</main></body></html>"""


@dataclass
class Code:
    """What a person allowed, until it is exchanged."""

    scope: str
    redirect_uri: str
    until: float
    used: bool = False


class OAuth:
    """The installations of one workspace."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._codes: dict[str, Code] = {}

    async def authorize(self, request: web.Request) -> web.StreamResponse:
        """`GET /oauth/v2/authorize`: a page with Allow and Cancel, or what is wrong with the request."""
        query = request.query
        redirect_uri, scope = query.get("redirect_uri", ""), query.get("scope", "")
        unknown = sorted(set(filter(None, scope.split(","))) - set(self._services.app.scopes))
        if query.get("client_id") != CLIENT_ID:
            return _page(f"The client_id is not this app's; it is {CLIENT_ID}.", status=400)
        if unknown or not scope:
            return _page(f"invalid_scope: {', '.join(unknown) or 'none was asked for'}.", status=400)
        if urlsplit(redirect_uri).scheme not in ("http", "https"):
            return _page(f"bad_redirect_uri: {redirect_uri or 'none was given'}.", status=400)
        code = secrets.token_urlsafe(24)
        self._codes[code] = Code(scope, redirect_uri, self._services.clock.now() + CODE_TTL_S)
        state = {"state": query["state"]} if "state" in query else {}
        allow = _with_query(redirect_uri, {"code": code, **state})
        cancel = _with_query(redirect_uri, {"error": "access_denied", **state})
        return _page(self._question(scope, allow, cancel), title=f"Install {self._services.app.name}?")

    def _question(self, scope: str, allow: str, cancel: str) -> str:
        wanted = "".join(f"<li><code>{html.escape(one)}</code></li>" for one in scope.split(","))
        return (
            f"<p>It asks for:</p><ul>{wanted}</ul>"
            f'<p><a data-testid="allow" href="{html.escape(allow)}">Allow</a> '
            f'<a data-testid="cancel" href="{html.escape(cancel)}">Cancel</a></p>'
        )

    def access(self, request: web.Request, args: Json) -> Json:
        """`oauth.v2.access`. Raises Refused: invalid_client_id, bad_client_secret, invalid_code, ..."""
        client_id, client_secret = _credentials(request, args)
        if client_id != CLIENT_ID:
            raise Refused("invalid_client_id")
        if client_secret != CLIENT_SECRET:
            raise Refused("bad_client_secret")
        code = self._codes.get(str(args.get("code") or ""))
        if code is None or code.until < self._services.clock.now():
            raise Refused("invalid_code")
        if code.used:
            raise Refused("code_already_used")
        if str(args.get("redirect_uri") or code.redirect_uri) != code.redirect_uri:
            raise Refused("bad_redirect_uri")
        code.used = True
        self._services.outbox.installed = True
        return {
            "access_token": BOT_TOKEN,
            "token_type": "bot",
            "scope": code.scope,
            "bot_user_id": BOT_USER,
            "app_id": APP_ID,
            "team": {"id": TEAM_ID, "name": TEAM_NAME},
            "enterprise": None,
            "is_enterprise_install": False,
            "authed_user": {"id": PEOPLE[0].id},
        }


def _page(body: str, *, title: str = "This app cannot be installed", status: int = 200) -> web.Response:
    shown = body if status == 200 else f"<p>{html.escape(body)}</p>"
    text = PAGE.format(title=html.escape(title), body=shown)
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.Response(text=text, content_type="text/html", status=status, headers=headers)


def _with_query(address: str, more: dict[str, str]) -> str:
    return f"{address}{'&' if urlsplit(address).query else '?'}{urlencode(more)}"


def _credentials(request: web.Request, args: Json) -> tuple[str, str]:
    """The client's id and secret: as HTTP Basic authorization (the SDKs) or as arguments."""
    kind, _, held = request.headers.get("Authorization", "").partition(" ")
    if kind == "Basic":
        try:
            client_id, _, client_secret = b64decode(held, validate=True).decode().partition(":")
        except (NotBase64, UnicodeDecodeError):
            raise Refused("invalid_client_id") from None
        return client_id, client_secret
    return str(args.get("client_id") or ""), str(args.get("client_secret") or "")
