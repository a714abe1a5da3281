"""What was stored before a rule or a name was known is struck out again, in the background, when nobody waits for it."""

import asyncio
import time

import structlog

from storage.migrate import delete_copies
from storage.store import Store

LOOK_EVERY_S = 600.0
PAUSE_S = 0.05
"""Between two pages, so that questions are answered meanwhile."""

log = structlog.get_logger(__name__)


class Restriking:
    """Looks at the start and now and then, and goes over the store where something changed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._due = 0.0
        self._going: asyncio.Task[None] | None = None

    def tick(self) -> None:
        """Go over what is due, in a task of our own."""
        idle = self._going is None or self._going.done()
        if idle and time.monotonic() >= self._due:
            self._due = time.monotonic() + LOOK_EVERY_S
            self._going = asyncio.create_task(self._carry_out(), name="restriking")

    async def stop(self) -> None:
        """Leave off; the next start goes on there."""
        if self._going is not None:
            self._going.cancel()
            await asyncio.gather(self._going, return_exceptions=True)

    async def _carry_out(self) -> None:
        try:
            await self.go_over()
        except Exception:
            log.exception("what was stored could not be struck out again")

    async def go_over(self) -> None:
        """Everything that is not struck out with the rules of now; afterwards nothing of it is left in the file either."""
        rows = changed = 0
        again = not await self._store.struck_with()
        while not await self._store.struck_with():
            step = await self._store.strike_again()
            rows, changed = rows + step.rows, changed + step.changed
            await asyncio.sleep(PAUSE_S)
        if changed:
            await self._store.database.empty_log()
        if again:
            await self._forget_copies()
        if rows:
            log.info("what was stored is struck out again", rows=rows, changed=changed)

    async def _forget_copies(self) -> None:
        """The files as they were before updates hold what is struck out now, and would keep it for ever."""
        gone = await asyncio.to_thread(delete_copies, self._store.database.url)
        if gone:
            log.info(
                "copies of the database from before updates are deleted: they held what is struck out",
                files=gone,
            )
