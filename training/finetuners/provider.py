"""What fine-tuning at any provider has in common: one paid job for a run, its files, its price, and what refuses it.

Creation is never retried blindly: the job carries the run's id and is looked for before anything is sent. Files are known to
the store before they are uploaded, and deleted when the job has ended.
"""

import asyncio
import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Generic, TypeVar

import structlog

from storage.errors import PublicError
from storage.records import ProviderFile, now
from storage.store import Store
from training.finetuners import Broken, Done, NotYet, Order, Pending, Standing
from training.finetuners.shipment import Shipment, pack

TRY_AGAIN = timedelta(hours=1)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What the operator decided. `usd_per_1m` is the price of a million trained tokens; None: not known."""

    model: str
    usd_per_1m: float | None = None
    confirm_usd: float = 0.0
    budget: bool = False
    timeout_s: float = 60.0
    look_every_s: float = 15.0


T = TypeVar("T", bound=Tuning)


class Forbidden(PublicError):
    """What the credentials may not do, tonight as little as now."""


class NotThere(Exception):
    """A file that is to be deleted is gone already."""


class ProviderFineTuner(ABC, Generic[T]):
    """The jobs of one account. A subclass says how its vendor is asked; `_asking` puts its refusals into words."""

    provider: ClassVar[str]
    """As in `with=`."""
    vendor: ClassVar[str]
    """As people call it."""
    shape: ClassVar[str]
    """The dataset's format."""
    price_setting: ClassVar[str] = "TRAIN_USD_PER_1M"

    def __init__(self, store: Store, *, team: str, rules: T, account: str) -> None:
        """`account` tells apart what is refused to one from what is refused to another."""
        self._store = store
        self._team = team
        self._rules = rules
        self._seen: dict[str, tuple[float, Pending]] = {}
        self._refused = f"tuning:{self.provider}:{hashlib.sha256(account.encode()).hexdigest()[:16]}"

    async def available(self, *, insist: bool = False) -> str:
        """Why nobody can be asked to train: what is not set, or an earlier refusal."""
        return (await self.standing(insist=insist)).because

    async def standing(self, *, insist: bool = False) -> Standing:
        """The same, and until when. Nobody is asked for it."""
        settled = self._settled()
        if settled.because:
            return settled
        if self._rules.usd_per_1m is None and self._rules.budget:
            why = (
                f"There is a budget and {self.price_setting} is not set. Write there what {self.vendor} asks for a "
                "million tokens."
            )
            return Standing(why, f"{self.price_setting} is set")
        refused = "" if insist else await self._store.keepsake(self._refused, str)
        if refused:
            return Standing(refused, f"a run that somebody starts `with={self.provider}` is taken")
        return settled

    async def quote(self, order: Order) -> str:
        """The tokens and what they cost at the operator's price."""
        shipment = await self._packed(order)
        rules, billed = self._rules, shipment.billed_tokens
        what = f"{rules.model} is to learn {shipment.examples} rows, {shipment.epochs} times: about {billed:,} tokens"
        if rules.usd_per_1m is None:
            return f"{what}. {self.price_setting} is not set, so what it costs is not known. Nothing is uploaded yet."
        usd = billed * rules.usd_per_1m / 1e6
        if usd <= rules.confirm_usd:
            return ""
        limit = f"more than ${rules.confirm_usd:,.2f}, the limit of TRAIN_CONFIRM_USD"
        return f"{what}, about ${usd:,.2f} ({limit}). Nothing is uploaded yet."

    async def find(self, order: Order) -> str:
        """The job of this run, however it stands; "" where there is none."""
        async with self._asking("looking for the job"):
            return await self._job_of(order.run_id)

    async def launch(self, order: Order) -> str:
        """The job of this run, found or created. A refusal that lasts is remembered, and forgotten once a job is taken."""
        try:
            handle = await self.find(order) or await self._order(order)
        except Forbidden as error:
            await self._remember_refusal(str(error))
            raise
        await self._remember_refusal("")
        return handle

    async def _order(self, order: Order) -> str:
        shipment = await self._packed(order)
        try:
            async with self._asking("the upload"):
                files = [
                    await self._file(order, side, content)
                    for side, content in (("train", shipment.train), ("validation", shipment.validation))
                    if content
                ]
            async with self._asking("creating the job"):
                return await self._create(order, shipment, files)
        except PublicError:
            await self._delete(await self._files_of(order.run_id))
            raise

    async def poll(self, handle: str) -> Pending | Done | Broken:
        """Look, but no more often than is polite."""
        since, seen = self._seen.get(handle, (0.0, Pending()))
        if since and time.monotonic() - since < self._rules.look_every_s:
            return seen
        told = await self._look(handle, seen)
        if isinstance(told, Pending):
            self._seen[handle] = (time.monotonic(), told)
        else:
            self._seen.pop(handle, None)
        return told

    async def cancel(self, handle: str) -> None:
        """Ask it to stop; where that is not taken, the next look shows why, and the next call asks again."""
        since, _ = self._seen.get(f"cancel {handle}", (0.0, Pending()))
        if since and time.monotonic() - since < self._rules.look_every_s:
            return
        self._seen[f"cancel {handle}"] = (time.monotonic(), Pending())
        self._seen.pop(handle, None)
        try:
            async with self._asking("cancelling the job"):
                await self._stop(handle)
        except (PublicError, NotYet) as error:
            log.warning("a job was not cancelled", job=handle, why=str(error))

    async def _look(self, handle: str, before: Pending) -> Pending | Done | Broken:
        try:
            async with self._asking("the job"):
                told, files = await self._told(handle)
                if not isinstance(told, Pending):
                    rows = await self._store.provider_files(self._team)
                    await self._delete([row for row in rows if row.file_id in files])
                return told
        except (NotYet, Forbidden) as error:
            return Pending({**before.progress, "provider": str(error)})
        except PublicError as error:
            return Broken(str(error))

    async def _packed(self, order: Order) -> Shipment:
        return await asyncio.to_thread(
            pack, order.dataset_path, vendor=self.shape, asked=order.method, epochs=order.epochs
        )

    async def _remember_refusal(self, why: str) -> None:
        if await self._store.keepsake(self._refused, lambda: why) != why:
            await self._store.change_keepsake(self._refused, why)

    async def _files_of(self, run_id: str) -> list[ProviderFile]:
        """Those whose name at the provider is known."""
        rows = await self._store.provider_files(self._team)
        return [row for row in rows if row.purpose.startswith(f"{run_id}-") and row.file_id]

    async def _row(self, order: Order, name: str, *, file_id: str = "") -> tuple[ProviderFile, bool]:
        """The store's row of a file, and whether it was there already."""
        for row in await self._store.provider_files(self._team):
            if row.purpose == name:
                return row, True
        kept = await self._store.keep_provider_file(
            team=self._team,
            provider=self.provider,
            purpose=name,
            dataset_id=order.dataset_id or None,
            file_id=file_id,
        )
        return kept, False

    async def _delete(self, rows: Sequence[ProviderFile]) -> None:
        """What cannot be deleted now is tried again by the tick that deletes files of the forgotten."""
        for row in rows:
            try:
                async with self._asking("deleting a file"):
                    await self._delete_file(row.file_id)
            except NotThere:
                pass
            except (NotYet, PublicError) as error:
                again_at = now() + TRY_AGAIN
                await self._store.provider_file_stays(row.id, str(error), again_at=again_at)
                continue
            await self._store.provider_file_gone(row.id)

    # --- the vendor's part ---------------------------------------------------------------------------------

    @abstractmethod
    def _settled(self) -> Standing:
        """What the settings and the vendor's announcements say of it."""

    @abstractmethod
    def _asking(self, what: str) -> AbstractAsyncContextManager[None]:
        """A refusal that stays one is a PublicError; whatever may have worked, or may work later, is NotYet."""

    @abstractmethod
    async def _job_of(self, run_id: str) -> str:
        """The handle of the run's job, "" for none."""

    @abstractmethod
    async def _file(self, order: Order, side: str, content: bytes) -> str:
        """The file's id there: of the one that is there already, or uploaded now."""

    @abstractmethod
    async def _create(self, order: Order, shipment: Shipment, files: Sequence[str]) -> str:
        """Order the job, once; its handle. `files` has the training side and, where there is one, the validation side."""

    @abstractmethod
    async def _told(self, handle: str) -> tuple[Pending | Done | Broken, Collection[str]]:
        """How the job stands, and the ids of its files."""

    @abstractmethod
    async def _stop(self, handle: str) -> None:
        """Cancel the job."""

    @abstractmethod
    async def _delete_file(self, file_id: str) -> None:
        """The file is gone afterwards. Raises NotThere for one that was gone before."""

    @abstractmethod
    async def close(self) -> None:
        """Close the connections, if there are any."""


def file_name(run_id: str, side: str) -> str:
    """As a run's file is called, here and there."""
    return f"{run_id}-{side}.jsonl"
