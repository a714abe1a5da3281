"""Who writes to SQLite when: one at a time, in turns; small transactions that wait at the same time go together.

SQLite has one writer. Besides what it writes, a small transaction costs the way into a thread and back, a BEGIN and a
COMMIT: those that wait meanwhile share them (group commit), each in a savepoint of its own. Nobody hears that theirs is done
before all of them are committed.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection

T = TypeVar("T")
Work = Callable[[Connection], Any]
TOGETHER = 32
"""Transactions that go together at most, so that whoever comes next does not wait for long."""
GATHER_S = 0.01
"""Where somebody came meanwhile, more are coming: they are waited for, so that fewer and larger ones are carried out."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one transaction: what it returned, or the error that undid it."""

    value: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class _Waiting:
    work: Work
    done: asyncio.Future[Any]

    def tell(self, outcome: Outcome) -> None:
        if self.done.done():
            return
        if outcome.error is None:
            self.done.set_result(outcome.value)
        else:
            self.done.set_exception(outcome.error)


class Turns:
    """Who of this process may write to SQLite now: one at a time, the urgent first, else in the order of coming.

    On its own SQLite lets waiting writers poll, the latest as likely as the first, each with a connection of the pool in
    its hands: a burst of questions starves some of them until they give up. Here they wait before they take a connection.
    """

    def __init__(self) -> None:
        self._busy = False
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()

    @property
    def busy(self) -> bool:
        """Whether it is somebody's turn."""
        return self._busy

    @asynccontextmanager
    async def taken(self, *, urgent: bool) -> AsyncIterator[None]:
        """The block is somebody's turn."""
        if self._busy:
            await self._wait(self._urgent if urgent else self._others)
        self._busy = True
        try:
            yield
        finally:
            self._next()

    async def _wait(self, queue: deque[asyncio.Future[None]]) -> None:
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(called)
        try:
            await called
        except asyncio.CancelledError:
            if called.done() and not called.cancelled():
                self._next()  # it was our turn already: somebody else's now
            raise

    def _next(self) -> None:
        """The turn goes to who waits; nobody can come between, because it stays taken."""
        for queue in (self._urgent, self._others):
            while queue:
                called = queue.popleft()
                if not called.done():
                    called.set_result(None)
                    return
        self._busy = False


class Together:
    """Small transactions; those that wait at the same time share one."""

    def __init__(
        self, turns: Turns, threads: ThreadPoolExecutor, carry_out: Callable[[Sequence[Work]], list[Outcome]]
    ) -> None:
        """`carry_out` writes and commits them, in a thread. What it raises became of each of them."""
        self._turns = turns
        self._threads = threads
        self._carry_out = carry_out
        self._urgent: deque[_Waiting] = deque()
        self._others: deque[_Waiting] = deque()
        self._going: dict[bool, asyncio.Task[None]] = {}

    async def carry_out(self, work: Callable[[Connection], T], *, urgent: bool) -> T:
        """What `work` returns, once it is committed. Who is cancelled meanwhile learns it when it is over."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        (self._urgent if urgent else self._others).append(_Waiting(work, done))
        going = self._going.get(urgent)
        if going is None or going.done():
            self._going[urgent] = asyncio.create_task(self._go(urgent=urgent), name="database")
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            await asyncio.wait([done])
            if not done.cancelled():
                done.exception()  # asked for, so that nobody complains that it never was
            raise

    async def _go(self, *, urgent: bool) -> None:
        """Until none of this kind waits. The urgent have a line of their own: they never stand behind one that is not."""
        queue = self._urgent if urgent else self._others
        try:
            while queue:
                async with self._turns.taken(urgent=urgent):
                    await self._carry_out_some()
                if 0 < len(queue) < TOGETHER:
                    await asyncio.sleep(GATHER_S)
        except asyncio.CancelledError:
            while queue:
                queue.popleft().done.cancel()
            raise

    async def _carry_out_some(self) -> None:
        """The urgent first; whoever else waits goes along."""
        some = self._next()
        if not some:
            return
        works = [each.work for each in some]
        going = asyncio.get_running_loop().run_in_executor(self._threads, self._outcomes, works)
        try:
            await asyncio.shield(going)
        except asyncio.CancelledError:
            await asyncio.wait([going])
            raise
        finally:
            for each, outcome in zip(some, going.result(), strict=True):
                each.tell(outcome)

    def _next(self) -> list[_Waiting]:
        some: list[_Waiting] = []
        for queue in (self._urgent, self._others):
            while queue and len(some) < TOGETHER:
                some.append(queue.popleft())
        return some

    def _outcomes(self, works: Sequence[Work]) -> list[Outcome]:
        try:
            return self._carry_out(works)
        except Exception as error:  # whatever it was, those who wait hear of it
            return [Outcome(error=error)] * len(works)
