"""Slack's rate limits, for who wants to meet them: per method and minute by tier, chat.postMessage per channel and second.

The tiers are those of docs.slack.dev/apis/web-api/rate-limits (facts/slack.md 1.8): 1+, 20+, 50+ and 100+ calls a minute;
we refuse just above the number that Slack promises. It refuses to slow anything down: it only says how long to wait.
"""

import math
from collections import deque
from typing import Final

from bot.workspace.clock import Clock

MINUTE_S: Final = 60.0
TIER_1: Final = 1
TIER_2: Final = 20
TIER_3: Final = 50
TIER_4: Final = 100
SPECIAL: Final = 600
TIERS: Final[dict[str, int]] = {
    "apps.connections.open": TIER_1 * 10,
    "assistant.threads.setStatus": SPECIAL,
    "auth.test": SPECIAL,
    "agents.sessions.rename": TIER_2,
    "bookmarks.add": TIER_2,
    "bookmarks.edit": TIER_2,
    "bookmarks.remove": TIER_2,
    "chat.appendStream": TIER_4,
    "chat.getPermalink": SPECIAL,
    "chat.postEphemeral": TIER_4,
    "chat.postMessage": SPECIAL,
    "chat.startStream": TIER_2,
    "chat.stopStream": TIER_2,
    "conversations.create": TIER_2,
    "conversations.list": TIER_2,
    "conversations.members": TIER_4,
    "emoji.list": TIER_2,
    "files.completeUploadExternal": TIER_4,
    "files.getUploadURLExternal": TIER_4,
    "files.info": TIER_4,
    "pins.add": TIER_2,
    "pins.list": TIER_2,
    "pins.remove": TIER_2,
    "reactions.remove": TIER_2,
    "usergroups.list": TIER_2,
    "usergroups.users.list": TIER_2,
    "users.info": TIER_4,
    "users.list": TIER_2,
    "views.open": TIER_4,
    "views.publish": TIER_4,
    "views.push": TIER_4,
    "views.update": TIER_4,
}
DEFAULT_TIER: Final = TIER_3
POSTS_IN_A_BURST: Final = 4
POST_EVERY_S: Final = 1.0


class RateLimits:
    """Counts the calls of one app in one workspace."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls: dict[str, deque[float]] = {}
        self._posts: dict[str, float] = {}

    def wait_s(self, method: str, channel: str) -> int | None:
        """Count a call; None if it may go on, else Slack's Retry-After in seconds (the call then does not count)."""
        now = self._clock.now()
        if method == "chat.postMessage" and (wait := self._wait_for_channel(channel, now)):
            return wait
        calls = self._calls.setdefault(method, deque())
        while calls and calls[0] <= now - MINUTE_S:
            calls.popleft()
        if len(calls) >= TIERS.get(method, DEFAULT_TIER):
            return max(1, math.ceil(calls[0] + MINUTE_S - now))
        calls.append(now)
        return None

    def reset(self) -> None:
        self._calls.clear()
        self._posts.clear()

    def _wait_for_channel(self, channel: str, now: float) -> int | None:
        """One post a second and channel; a few may come together when it was quiet before."""
        free_at = max(self._posts.get(channel, 0.0), now - POSTS_IN_A_BURST * POST_EVERY_S)
        if free_at > now:
            return max(1, math.ceil(free_at - now))
        self._posts[channel] = free_at + POST_EVERY_S
        return None
