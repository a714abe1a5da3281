"""Keeps the index of memory in step with the entries in the database, whoever changed them.

Little is taken over at once; much, or a whole new build, happens in the background, and until then the old index and the
newest entries answer. Words of deleted entries leave the files with a new build. One process of a data directory writes at
a time.
"""

import asyncio
from pathlib import Path

import structlog

from bot.models.memory_index import Builder, Index, IndexUnusable, Shelf
from storage.entries import EntriesStamp
from storage.record import new_id
from storage.store import Store

_AT_ONCE = 5_000
_FRESH = 256
_SHOW_EVERY = 100_000

log = structlog.get_logger(__name__)


class Keeper:
    """`index` is what can be searched (None: nothing yet), `fresh` the ids of newer entries that it does not have.

    `trouble` says in words for people why the index could not be written; "" where it could.
    """

    def __init__(self, store: Store, *, team: str, folder: Path) -> None:
        self._store = store
        self._team = team
        self._shelf = Shelf(folder)
        self._turn = asyncio.Lock()
        self._work: asyncio.Task[None] | None = None
        self._store_id = ""
        self.index: Index | None = None
        self.fresh: tuple[str, ...] = ()
        self.trouble = ""
        self.stamp = EntriesStamp()

    @property
    def is_working(self) -> bool:
        """Whether a build is being written in the background."""
        return self._work is not None and not self._work.done()

    @property
    def holds_nothing_deleted(self) -> bool:
        """Whether no file of the index holds words of entries that were deleted."""
        return not self.is_working and (self.index is None or self.index.marker.erased == self.stamp.erased)

    async def refresh(self) -> None:
        """Take over what changed. Cheap where nothing did; a long build goes on after this returns."""
        async with self._turn:
            self._store_id = self._store_id or await self._store.keepsake(
                "memory-store", lambda: new_id("store")
            )
            self.stamp = stamp = await self._store.entries_stamp(self._team)
            if not self.is_working:
                self.index = await asyncio.to_thread(self._shelf.newest, self.index)
                if not self._is_current(stamp):
                    await self._begin(stamp)
            await self._note_fresh(stamp)

    async def distrust(self) -> None:
        """The index could not be read: it is built anew."""
        async with self._turn:
            if not self.is_working:
                self.index = None
                await self._begin(await self._store.entries_stamp(self._team))

    async def finished(self) -> None:
        """Wait until nothing is being written."""
        if self._work is not None:
            await asyncio.wait({self._work})

    async def close(self) -> None:
        """Stop what is being written; the next start begins it anew."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)

    async def _begin(self, stamp: EntriesStamp) -> None:
        covered = (
            -1
            if self.index is None or self._is_beyond_repair(self.index, stamp)
            else self.index.marker.change
        )
        due = await self._store.entries_due(self._team, covered, limit=_AT_ONCE + 1)
        self._work = asyncio.create_task(self._bring_up(stamp))
        self._work.add_done_callback(_tell)
        if due <= _AT_ONCE:
            await asyncio.wait({self._work})

    def _is_current(self, stamp: EntriesStamp) -> bool:
        index = self.index
        return (
            index is not None
            and not self._is_beyond_repair(index, stamp)
            and index.marker.change == stamp.change
        )

    def _is_beyond_repair(self, index: Index, stamp: EntriesStamp) -> bool:
        """Whether it is of another database or another past of it, or holds words of deleted entries."""
        ours = index.marker
        other_past = ours.change == stamp.change and ours.token not in {"", stamp.token}
        return (
            ours.store != self._store_id
            or ours.erased != stamp.erased
            or ours.change > stamp.change
            or other_past
        )

    async def _bring_up(self, stamp: EntriesStamp) -> None:
        try:
            with self._shelf.held() as ours:
                if ours:
                    await self._write(stamp)
            self.trouble = ""
        except IndexUnusable as error:
            self.trouble = (
                f"Memory's index in {self._shelf.folder} could not be written ({error}). Free some disk space or correct "
                "its permissions; until then the verified answers that it knows already are found."
            )
            log.error(
                "the memory's index could not be written", folder=str(self._shelf.folder), why=str(error)
            )

    async def _write(self, stamp: EntriesStamp) -> None:
        index = await asyncio.to_thread(self._shelf.newest, self.index)
        if index is None or self._is_beyond_repair(index, stamp):
            builder, since = await asyncio.to_thread(self._shelf.build), -1
        else:
            builder, since = await asyncio.to_thread(self._shelf.extend, index), index.marker.change
        try:
            reached = await self._feed(builder, since, stamp)
            self.index = await asyncio.to_thread(builder.finish, store=self._store_id, stamp=reached)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(builder.abandon))
            raise

    async def _feed(self, builder: Builder, since: int, stamp: EntriesStamp) -> EntriesStamp:
        """Give the builder everything after a change; how far that went."""
        done, change = 0, stamp.change
        async for page in self._store.entries_since(self._team, since):
            await asyncio.to_thread(builder.take, page)
            change = max(change, page[-1].change)
            if done // _SHOW_EVERY != (done := done + len(page)) // _SHOW_EVERY:
                log.info("memory's index is being written", entries=done)
        now = await self._store.entries_stamp(self._team)
        return EntriesStamp(change, stamp.erased, now.token if now.change == change else "")

    async def _note_fresh(self, stamp: EntriesStamp) -> None:
        covered = self.index.marker.change if self.index is not None else -1
        if covered == stamp.change:
            self.fresh = ()
            return
        self.fresh = tuple(await self._store.newest_entries(self._team, after=covered, limit=_FRESH))


def _tell(work: asyncio.Task[None]) -> None:
    if not work.cancelled() and (error := work.exception()) is not None:
        log.error("memory's index could not be brought up to date", error=str(error))
