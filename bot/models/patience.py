"""How long to bear with a provider: repeat what may be repeated, wait as long as it asks, and no longer than allowed.

The providers' SDKs repeat by themselves, but know nothing of our deadline, and would ask again at once for the next
question after being told to wait a minute. So their retries are off and this decides, the same way for each of them.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Self, TypeVar

from bot.errors import ModelUnavailable, ToldToAsker

T = TypeVar("T")

_PAUSES_S = (0.5, 1.5)  # before the second and third attempt, where the provider names no time
_CONNECT_S = 10.0
_BETWEEN_S = 20.0
_FIRST_SHARE = 0.75


class Work(Enum):
    """What a provider may have done, and bill, in an attempt that failed."""

    NONE = "none"
    PROMPT = "the prompt was read"
    ALL = "all of it"


class Refused(Exception):
    """One attempt failed; the message is a sentence for people.

    `again` says whether the same request may succeed later, `wait_s` how long the provider asks to wait (None: it does
    not say), `work` what it may bill all the same. `asker` is how the sentence is told where it is about the question and
    the asker should read it; otherwise `fault` says whether it speaks against the provider.
    """

    def __init__(
        self,
        sentence: str,
        *,
        again: bool = False,
        wait_s: float | None = None,
        work: Work = Work.ALL,
        asker: type[ToldToAsker] | None = None,
        fault: bool = True,
    ) -> None:
        super().__init__(sentence)
        self.again = again
        self.wait_s = wait_s
        self.work = work
        self._asker = asker
        self._fault = fault

    def unavailable(self) -> ModelUnavailable:
        """The same for the desk, once nothing is repeated any more."""
        if self._asker is not None:
            return self._asker(str(self))
        return ModelUnavailable(str(self), fault=self._fault)


class Silence(Exception):
    """The provider said nothing for too long; `begun` says whether there was text before."""

    def __init__(self, *, begun: bool) -> None:
        super().__init__()
        self.begun = begun


@dataclass(frozen=True, slots=True)
class Waits:
    """How long a provider may take to accept a connection, to begin its text, and between two pieces of it."""

    connect_s: float
    first_s: float
    between_s: float

    @classmethod
    def within(cls, timeout_s: float) -> Self:
        """Limits for an answer that has `timeout_s` in all: who has not begun after most of it will not end in time."""
        return cls(min(_CONNECT_S, timeout_s), _FIRST_SHARE * timeout_s, min(_BETWEEN_S, timeout_s))


class Listening:
    """Waits for each piece of one stream, and for the first text longer than for the next.

    Models that think send something at once and their text much later, so only text counts as a beginning.
    """

    def __init__(self, waits: Waits) -> None:
        self._waits = waits
        self._first_until = time.monotonic() + waits.first_s
        self.begun = False

    async def next(self, awaited: Awaitable[T]) -> T:
        """What is awaited, in time. Raises `Silence`."""
        left_s = self._waits.between_s if self.begun else self._first_until - time.monotonic()
        try:
            async with asyncio.timeout(left_s):
                return await awaited
        except TimeoutError:
            raise Silence(begun=self.begun) from None


class Patience:
    """Attempts at one provider, within `timeout_s` per question."""

    def __init__(self, provider: str, timeout_s: float) -> None:
        self._provider = provider
        self._timeout_s = timeout_s
        self._rests_until = 0.0
        self._reason = ""

    async def answer(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """The first success. Raises `ModelUnavailable` with the last refusal's sentence, or when time is up.

        A provider that asks for more patience than is left is not asked again before that time is over.
        """
        self._check_rest()
        ends = time.monotonic() + self._timeout_s
        try:
            async with asyncio.timeout(self._timeout_s):
                for pause_s in _PAUSES_S:
                    try:
                        return await attempt()
                    except Refused as refused:
                        await asyncio.sleep(self._wait_s(refused, pause_s, ends))
                try:
                    return await attempt()
                except Refused as refused:
                    self._rest(refused)
                    raise refused.unavailable() from refused
        except TimeoutError:
            raise ModelUnavailable(f"{self._provider} did not finish within {self._timeout_s:g} s.") from None

    def _wait_s(self, refused: Refused, pause_s: float, ends: float) -> float:
        wait_s = pause_s if refused.wait_s is None else refused.wait_s
        if not refused.again or time.monotonic() + wait_s >= ends:
            self._rest(refused)
            raise refused.unavailable() from refused
        return wait_s

    def _rest(self, refused: Refused) -> None:
        if refused.wait_s:
            self._rests_until = time.monotonic() + refused.wait_s
            self._reason = str(refused)

    def _check_rest(self) -> None:
        left_s = self._rests_until - time.monotonic()
        if left_s > 0:
            raise ModelUnavailable(f"{self._reason} It is asked again in {left_s:.0f} s.", fault=False)


def seconds_to_wait(header: str | None) -> float | None:
    """What a Retry-After header says, in seconds or as a date; None where it is absent or unreadable."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
