"""Which calls of Slack are made again after trouble: those that may be made twice without harm.

A message whose confirmation was lost may stand in Slack already. Posting it again blindly would show it twice, so whoever
posts looks first; only a call that Slack refused for its rate, or that never left this machine, is simply made again.
"""

from typing import Any

from aiohttp import ClientConnectorError
from slack_sdk.http_retry.async_handler import AsyncRetryHandler
from slack_sdk.http_retry.builtin_async_handlers import (
    AsyncConnectionErrorRetryHandler,
    AsyncRateLimitErrorRetryHandler,
    AsyncServerErrorRetryHandler,
)
from slack_sdk.http_retry.request import HttpRequest

POSTS = ("chat.postMessage", "chat.startStream")


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


def _posts(request: HttpRequest) -> bool:
    return request.url.endswith(POSTS)
