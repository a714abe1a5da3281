"""Freeze what may be learned from into a DatasetVersion: a folder named by the hash of its content that never changes again.

Everything streams: pages of rows go through the rules into a temporary file (`training.dataset_spool`), come back in the
order of their questions, are joined into clusters, placed on one side for ever, and are written line by line. The places are
written before the dataset becomes visible, and the folder gets its name last: a freeze that is cut off anywhere leaves
nothing that anybody takes for a dataset, and the next one clears away what lies about.
"""

import asyncio
import fcntl
import hashlib
import os
import shutil
import sqlite3
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.errors import PublicError
from storage.places import AT_ONCE, Place
from storage.records import DatasetVersion, now
from storage.store import Store
from training.caps import Caps
from training.dataset_difference import Difference, compare
from training.dataset_erasing import Erased, erase, verify
from training.dataset_files import (
    FORMAT,
    MANIFEST,
    HeldOutRow,
    authors_of,
    read_manifest,
    read_split,
    row_id,
)
from training.dataset_items import CODES
from training.dataset_manifest import (
    CONSENT,
    LICENCE,
    code_version,
    filters,
    redaction_rules,
    summary_of,
)
from training.dataset_sides import (
    SPLIT_NAMES,
    Questions,
    Sides,
    assigned,
    clustered,
    look_up,
    splits_in,
    withdrawn_too,
)
from training.dataset_spool import Spool
from training.dataset_writing import Written, completed, named, written
from training.gathering import APART_FROM, allowed_today, gather, strike_today
from training.languages import checked
from training.raters import CapRules, Weights

if TYPE_CHECKING:
    from training.clusters import Clusters
    from training.dataset_sides import Array

__all__ = [
    "Erased", "Frozen", "HeldOutRow", "authors_of", "erase", "freeze", "read_manifest", "read_split", "row_id", "verify",
]  # fmt: skip

TRAINING = "training"
WAIT_FOR_LOCK_S = 600.0
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Frozen:
    """A frozen dataset: its hash, its folder, the rows in each split, the manifest's summary, what changed since its parent.

    `new` is False where the same content had been frozen before.
    """

    id: str
    path: Path
    counts: dict[str, int]
    summary: dict[str, Any]
    difference: Difference
    new: bool

    @property
    def examples(self) -> int:
        """The rows of all splits."""
        return sum(self.counts.values())


async def freeze(
    store: Store,
    folder: Path,
    *,
    team: str,
    salt: str,
    system: str = "",
    review_required: bool = False,
    caps: CapRules | None = None,
    languages: Sequence[str] = (),
    apart_from: int = APART_FROM,
    on_gathered: Callable[[int], Any] | None = None,
) -> Frozen:
    """Freeze today's examples and preferences under `folder`, and remember the version; the same content is the same.

    With `review_required` what people said here gets in only once a reviewer approved it; `caps` are what one person may
    decide of it; what is surely in none of `languages` (codes such as "en") is left out. From `apart_from` answers on two
    processes of their own read them.

    Raises PublicError where the disk is full. While somebody is being forgotten nothing of them gets in: a version that
    was read before their rows went is thrown away and made again.
    """
    wanted = await asyncio.to_thread(checked, languages)
    for _ in range(ATTEMPTS):
        since = now()
        try:
            async with _workbench(folder) as bench:
                freezing = _Freezing(store, bench, folder, team, salt, system)
                freezing.review_required, freezing.caps = review_required, caps
                freezing.apart_from, freezing.languages = apart_from, wanted
                frozen = await freezing.carry_out(on_gathered)
        except (OSError, sqlite3.OperationalError) as error:
            why = getattr(error, "strerror", None) or error
            raise PublicError(
                f"The dataset could not be written to {folder} ({why}). "
                "Free some space and start the training again; nothing is lost."
            ) from None
        await _remember(store, team, frozen)
        leaving = await store.being_forgotten(team, since=since)
        if leaving.people:
            await asyncio.to_thread(erase, frozen.path, authors=leaving.people)
        if not leaving.gone_meanwhile or not frozen.new:
            return frozen
        await store.drop_dataset(frozen.id)
        await asyncio.to_thread(shutil.rmtree, frozen.path, ignore_errors=True)
    raise PublicError("People are being forgotten just now. Start the training again in a few minutes.")


async def _remember(store: Store, team: str, frozen: Frozen) -> None:
    await store.save_dataset(
        dataset_id=frozen.id,
        path=str(frozen.path),
        counts=frozen.counts,
        manifest=frozen.summary,
        team=team,
        kind=frozen.summary["kind"],
        parent_id=frozen.difference.parent or None,
        difference=frozen.difference.to_json(),
    )


@asynccontextmanager
async def _workbench(folder: Path) -> AsyncIterator[Path]:
    """A folder to work in, alone; whatever an earlier freeze left behind is cleared away first, and this one at the end."""
    lock = await asyncio.to_thread(_opened, folder)
    try:
        await _locked(lock)
        bench = await asyncio.to_thread(_cleared, folder)
        try:
            yield bench
        finally:
            await asyncio.to_thread(shutil.rmtree, bench, ignore_errors=True)
    finally:
        os.close(lock)


def _opened(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    return os.open(folder / ".freezing", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _cleared(folder: Path) -> Path:
    for left in folder.glob(".*/"):
        shutil.rmtree(left, ignore_errors=True)
    bench = folder / f".draft-{uuid.uuid4().hex}"
    bench.mkdir()
    return bench


async def _locked(lock: int) -> None:
    end = time.monotonic() + WAIT_FOR_LOCK_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise PublicError(
                    "Another dataset is being frozen here. Try again when it is done."
                ) from None
            await asyncio.sleep(0.1)


class _Freezing:
    """One freeze, step by step."""

    def __init__(self, store: Store, bench: Path, folder: Path, team: str, salt: str, system: str) -> None:
        self._store, self._bench, self._folder = store, bench, folder
        self._team, self._salt, self._system = team, salt, system
        self._dropped: Counter[str] = Counter()
        self.review_required = False
        self.caps: CapRules | None = None
        self.apart_from = APART_FROM
        self.languages: tuple[str, ...] = ()

    async def carry_out(self, on_gathered: Callable[[int], Any] | None) -> Frozen:
        strike = await strike_today(self._store)
        spool = Spool(self._bench, system=self._system, strike=strike)
        try:
            allowed = await allowed_today(
                self._store, self._team, review_required=self.review_required, languages=self.languages
            )
            heard = await gather(self._store, self._team, spool, allowed, apart_from=self.apart_from)
            self._dropped.update(heard.left_out)
            sides = await self._sides(spool, heard.weights)
            if on_gathered is not None:
                await on_gathered(spool.count())
            placed, made = await asyncio.gather(
                self._place(sides), self._write(spool, sides), return_exceptions=True
            )
            if isinstance(placed, BaseException):
                raise placed
            if isinstance(made, BaseException):
                raise made
            return await self._published(made)
        finally:
            spool.close()

    async def _sides(self, spool: Spool, weights: Weights) -> Sides:
        from training.clusters import Clusters

        place = self._bench / "clusters"
        place.mkdir()
        clusters = Clusters(place)
        try:
            questions = await asyncio.to_thread(self._clustered, spool, weights, clusters)
            known, missing = await self._known(questions.keys)
            gone = [Path(each.path) for each in reversed(await self._store.datasets())] if missing else []
            before = await asyncio.to_thread(withdrawn_too, questions, known, missing, gone, clusters)
            return await asyncio.to_thread(assigned, before, clusters.roots(), self._salt, spool.answered())
        finally:
            clusters.close()

    def _clustered(self, spool: Spool, weights: Weights, clusters: "Clusters") -> Questions:
        """One example is picked for each question, then the caps are heard; the questions that are left have clusters."""
        from training.dataset_picking import capped
        from training.dislikes import disliked

        found = spool.pick(weights.label)
        heard = capped(spool.items, found, weights, salt=self._salt, rules=self.caps, left_out=spool.left_out)
        kept = found.rows[heard.weights > 0]
        caps = Caps(weights, salt=f"{self._salt}/disliked", rules=self.caps, regulars=heard.regulars)
        others = disliked(spool.items, kept, weights, caps)
        return clustered(spool.keep(found, heard.weights, others), clusters)

    async def _known(self, keys: "Array") -> "tuple[Array, dict[str, int]]":
        """Where the questions stood before, by their numbers; the codes of those that are not among them now, by key."""
        import numpy as np

        known = np.zeros(len(keys), np.uint8)
        missing: dict[str, int] = {}
        any_known = False
        async for page in self._store.split_places(self._team):
            any_known = True
            there = np.array([place.key for place in page], "S32")
            codes = np.array([CODES[place.split] for place in page], np.uint8)
            found = look_up(keys, there, codes, known)
            missing |= {page[number].key: int(codes[number]) for number in np.flatnonzero(~found).tolist()}
        if not any_known:
            await self._known_of_format_1(keys, known)
        return known, missing

    async def _known_of_format_1(self, keys: "Array", known: "Array") -> None:
        """Datasets frozen before places were kept tell them: what they held out stays held out."""
        import numpy as np

        before: dict[str, str] = {}
        for dataset in await self._store.datasets():
            if (Path(dataset.path) / MANIFEST).exists():
                before |= await asyncio.to_thread(splits_in, Path(dataset.path))
        if before:
            short = keys.astype("S16")
            there = np.array(sorted(before), "S16")
            codes = np.array([CODES[before[row]] for row in sorted(before)], np.uint8)
            look_up(short, there, codes, known)

    async def _place(self, sides: Sides) -> None:
        """Write down where each question belongs from now on, a little at a time: others write, too."""
        import numpy as np

        fresh = np.flatnonzero(sides.splits != sides.known)
        for start in range(0, len(fresh), AT_ONCE):
            since = time.monotonic()
            places = [
                Place(sides.key(number), SPLIT_NAMES[int(sides.splits[number])], sides.cluster(number))
                for number in map(int, fresh[start : start + AT_ONCE])
            ]
            await self._store.place(self._team, places)
            if self._store.database.others_wait:
                await asyncio.sleep((time.monotonic() - since) / 2)

    async def _write(self, spool: Spool, sides: Sides) -> tuple[Written, Counter[str]]:
        """Every line, in a draft; what was written, and what was left out."""
        draft = self._bench / "version"
        draft.mkdir()
        made = await asyncio.to_thread(written, draft, spool, sides, self._dropped, kind=TRAINING)
        return made, Counter(self._dropped) + spool.left_out

    async def _published(self, made: tuple[Written, Counter[str]]) -> Frozen:
        """Give the draft its name, unless the same content has it already. All places are written by now."""
        new, dropped = made
        draft, path = self._bench / "version", self._folder / new.id
        if (path / MANIFEST).exists():
            manifest = await asyncio.to_thread(read_manifest, path)
            row = await self._store.dataset(new.id)
            known = Difference.from_json(row.difference if row is not None else manifest["difference"])
            return Frozen(
                new.id,
                path,
                manifest["counts"],
                summary_of(manifest),
                known or Difference("", {}),
                new=False,
            )
        parent = await self._parent(new.id)
        old = Path(parent.path) if parent is not None else None
        difference = await asyncio.to_thread(compare, old, draft, parent=parent.id if parent else "")
        manifest = self._manifest(new, difference, dropped)
        await asyncio.to_thread(completed, draft, manifest, new.files)
        await asyncio.to_thread(named, draft, path)
        return Frozen(new.id, path, new.counts, summary_of(manifest), difference, new=True)

    async def _parent(self, dataset_id: str) -> DatasetVersion | None:
        """The newest dataset of this kind that still lies on disk."""
        for row in reversed(await self._store.datasets()):
            there = (Path(row.path) / MANIFEST).exists()
            if row.id != dataset_id and row.team in {"", self._team} and row.kind == TRAINING and there:
                return row
        return None

    def _manifest(self, written: Written, difference: Difference, dropped: Counter[str]) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "id": written.id,
            "kind": TRAINING,
            "counts": written.counts,
            "preferences": written.preferences,
            "unpaired": written.unpaired,
            "until": written.until,
            "clusters": written.clusters,
            "origins": dict(sorted(written.origins.items())),
            "dropped": dict(sorted(dropped.items())),
            "filters": filters(self.caps, self.languages),
            "code": code_version(),
            "redaction": {"rules": redaction_rules()},
            "salt": hashlib.sha256(f"salt of splits/{self._salt}".encode()).hexdigest()[:12],
            "system_prompt": hashlib.sha256(self._system.encode()).hexdigest()[:12] if self._system else "",
            "parent": difference.parent or None,
            "difference": {**difference.to_json(), "ids": {}},
            "licence": LICENCE,
            "consent": CONSENT,
            "erased": 0,
        }
