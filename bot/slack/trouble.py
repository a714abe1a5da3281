"""Trouble between us and Slack: what it is called, and which calls are made again, those that do no harm when made twice.

A message whose confirmation was lost may stand in Slack already. Posting it again blindly would show it twice, so whoever
posts looks first; only a call that Slack refused for its rate, or that never left this machine, is simply made again.
Other calls are made again after a server's error too: done twice they leave what they leave done once.
"""

from typing import Any

from aiohttp import ClientConnectorError, ClientError
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.async_handler import AsyncRetryHandler
from slack_sdk.http_retry.builtin_async_handlers import (
    AsyncConnectionErrorRetryHandler,
    AsyncRateLimitErrorRetryHandler,
    AsyncServerErrorRetryHandler,
)
from slack_sdk.http_retry.request import HttpRequest

POSTS = ("chat.postMessage", "chat.startStream", "chat.appendStream")
"""What shows something twice when it is done twice."""

UNREACHABLE = (ClientError, OSError, TimeoutError)
"""What a call raises when Slack gave no answer at all."""


class _ServerErrors(AsyncServerErrorRetryHandler):
    async def _can_retry_async(self, *, request: HttpRequest, **seen: Any) -> bool:
        return not _posts(request) and await super()._can_retry_async(request=request, **seen)


class _ConnectionErrors(AsyncConnectionErrorRetryHandler):
    async def _can_retry_async(self, *, request: HttpRequest, **seen: Any) -> bool:
        never_left = isinstance(seen.get("error"), ClientConnectorError)
        harmless = never_left or not _posts(request)
        return harmless and await super()._can_retry_async(request=request, **seen)


def retry_handlers() -> list[AsyncRetryHandler]:
    """For a client of Slack's Web API."""
    return [
        _ConnectionErrors(max_retry_count=2),
        AsyncRateLimitErrorRetryHandler(max_retry_count=3),
        _ServerErrors(max_retry_count=2),
    ]


def reason_of(error: Exception) -> str:
    """Slack's word for what is wrong; "HTTP 502" where something on the way answered with a page of its own."""
    if not isinstance(error, SlackApiError):
        return str(error) or type(error).__name__
    data = getattr(error.response, "data", None)
    if isinstance(data, dict) and data.get("error"):
        return str(data["error"])
    status = getattr(error.response, "status_code", None) or getattr(error.response, "status", "?")
    return f"HTTP {status}"


def _posts(request: HttpRequest) -> bool:
    return request.url.endswith(POSTS)
