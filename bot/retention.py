"""Every night: what is kept no longer goes. Rows in small pieces, our own logs, and datasets that nobody needs any more.

A dataset that was frozen is never rewritten here: only forgetting takes rows out of one. The newest stay, and those that a
model stands on which serves, could serve again, or is being made.
"""

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from storage.records import now
from storage.retention import CONVERSATIONS, RATED, RAW, RETENTION
from storage.store import Store

RETAIN = "retain"
CRON = "40 1 * * *"
BY = "the schedule"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RetentionRules:
    """How many days each class is kept (0: for ever), and how many of the newest datasets."""

    raw_days: int = 30
    days: int = 365
    rated_days: int = 0
    datasets: int = 20

    def kinds(self, moment: datetime) -> Mapping[str, datetime]:
        """What goes -> before which moment it was written."""
        classes = ((RAW, self.raw_days), (CONVERSATIONS, self.days), (RATED, self.rated_days))
        return {kind: moment - timedelta(days=days) for kinds, days in classes if days for kind in kinds}


class Retention:
    """Lets go of what is kept no longer."""

    def __init__(self, store: Store, *, team: str, folder: Path, rules: RetentionRules) -> None:
        self._store = store
        self._team = team
        self._folder = folder
        self._rules = rules

    async def carry_out(self) -> Counter[str]:
        """All of it, leaving the database to others as long as each piece took; what went, which is written down, too."""
        gone: Counter[str] = Counter()
        for kind, before in self._rules.kinds(now()).items():
            while count := await self._piece(kind, before):
                gone[kind] += count
        if self._rules.raw_days:
            gone["logs"] = await self._logs()
        gone["datasets"] = await self._datasets()
        said = in_words(gone)
        await self._store.decide(team=self._team, actor=BY, action=RETENTION, detail=said)
        log.info("retention", **{kind.replace(" ", "_"): count for kind, count in gone.items() if count})
        return +gone

    async def _piece(self, kind: str, before: datetime) -> int:
        since = time.monotonic()
        count = await self._store.retire_some(self._team, kind, before)
        if count:
            await asyncio.sleep(time.monotonic() - since)
        return count

    async def _logs(self) -> int:
        """What trainers said, and answers of evaluations whose sheet is in the database."""
        over = {run.id for run in await self._store.runs(self._team, limit=10_000) if run.state.final}
        live = {each.id for each in await self._store.live_evaluations()}
        before = time.time() - timedelta(days=self._rules.raw_days).total_seconds()
        return await asyncio.to_thread(_delete_logs, self._folder, over, live, before)

    async def _datasets(self) -> int:
        if not self._rules.datasets:
            return 0
        kept = await self._needed_datasets()
        datasets = [each for each in await self._store.datasets() if each.team in {"", self._team}]
        for kind in {each.kind for each in datasets}:
            kept |= {
                each.id for each in [row for row in datasets if row.kind == kind][-self._rules.datasets :]
            }
        there = [
            each
            for each in datasets
            if each.id not in kept and await asyncio.to_thread(Path(each.path).is_dir)
        ]
        for each in there:
            await asyncio.to_thread(shutil.rmtree, each.path, ignore_errors=True)
        return len(there)

    async def _needed_datasets(self) -> set[str]:
        """Of models that ever served and could again, and of what goes on now."""
        served = {each.version_id for each in await self._store.promotions(self._team)}
        models = [each for each in await self._store.models(self._team) if each.id in served]
        runs, evaluations = await self._store.live_runs(), await self._store.live_evaluations()
        wanted = [each.dataset_id for rows in (models, runs, evaluations) for each in rows]
        return {each for each in wanted if each}


def in_words(gone: Mapping[str, int]) -> str:
    """What went, for people: "12 presses, 3 conversations"."""
    return ", ".join(f"{count:,} {kind}" for kind, count in gone.items() if count) or "nothing"


def _delete_logs(folder: Path, over: set[str], live: set[str], before: float) -> int:
    logs = [log for log in folder.glob("runs/*/*.log") if log.parent.name in over]
    answers = [file for file in folder.glob("evaluations/*.jsonl") if file.stem not in live]
    old = [file for file in [*logs, *answers] if file.stat().st_mtime < before]
    for file in old:
        file.unlink(missing_ok=True)
    return len(old)
