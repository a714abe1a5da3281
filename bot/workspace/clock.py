"""The workspace's clock: everything here that has a lifetime reads it, so that a test can move it.

It runs with the machine's clock and can only be moved forward. It refuses to be stopped.
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Timer:
    """Something to do at `due` (seconds of the clock); `cancel()` keeps it from being done."""

    due: float
    work: Callable[[], Any]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """Now, and what is to happen later. Timers need a running event loop; telling the time does not."""

    def __init__(self) -> None:
        self._ahead_s = 0.0
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._alarm: asyncio.TimerHandle | None = None

    def now(self) -> float:
        """Seconds since 1970, as this workspace sees it."""
        return time.time() + self._ahead_s

    @property
    def ahead_s(self) -> float:
        """How far the clock was moved."""
        return self._ahead_s

    @property
    def pending(self) -> int:
        """How many things are still to be done."""
        return sum(not timer.cancelled for _, _, timer in self._timers)

    def advance(self, seconds: float) -> None:
        """Move forward; what became due is done before this returns."""
        self._ahead_s += seconds
        self._ring()

    def later(self, delay_s: float, work: Callable[[], Any]) -> Timer:
        """Do `work` (a plain function) in `delay_s` seconds of this clock."""
        timer = Timer(self.now() + delay_s, work)
        heapq.heappush(self._timers, (timer.due, next(self._order), timer))
        self._arm()
        return timer

    async def sleep(self, delay_s: float) -> None:
        """Wait that long on this clock."""
        woken = asyncio.Event()
        timer = self.later(delay_s, woken.set)
        try:
            await woken.wait()
        finally:
            timer.cancel()

    def reset(self) -> None:
        """The machine's time again, and nothing to do."""
        self._ahead_s = 0.0
        self._timers.clear()
        self._arm()

    def _ring(self) -> None:
        while self._timers and (self._timers[0][2].cancelled or self._timers[0][0] <= self.now()):
            _, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                timer.cancelled = True
                timer.work()
        self._arm()

    def _arm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._timers:
            wait_s = max(0.0, self._timers[0][0] - self.now())
            self._alarm = asyncio.get_running_loop().call_later(wait_s, self._ring)
