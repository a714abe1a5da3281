"""Training runs: requested, launched, advanced, finished. A tick looks once at each live run; it never is the run.

Every step reads a row, does one thing that may be done twice without harm, and moves the row on from the state it was read
in. A bot killed at any point goes on from the last row: nothing is lost, nothing is reported twice.
"""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from storage.errors import PublicError
from storage.learning import Requested
from storage.records import ModelVersion, RunState, TrainingRun, now
from storage.store import Store
from storage.values import who
from training.datasets import freeze
from training.evaluating import Evaluations
from training.finetuners import Broken, Done, FineTuner, Order, Pending
from training.gathering import count_usable
from training.raters import CapRules

LEASE_S = 60.0
LAUNCHES = 4
REPORT_PATIENCE_S = 600.0
SALT = "split-salt"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RunRules:
    """What the operator decided about runs."""

    base_model: str
    quantization: str
    min_examples: int
    timeout_s: float
    epochs: float | None = None
    system_prompt: str = ""
    allow_downloads: bool = False
    review_required: bool = False
    caps: CapRules = field(default_factory=CapRules)


@dataclass(frozen=True, slots=True)
class Declined:
    """No run was made, and why, in words for the person who asked."""

    reason: str


Report = Callable[[TrainingRun], Awaitable[None]]


class Runs:
    """Requests runs and carries them forward."""

    def __init__(
        self,
        store: Store,
        *,
        team: str,
        folder: Path,
        finetuners: Mapping[str, FineTuner],
        evaluations: Evaluations,
        rules: RunRules,
        report: Report,
        worker: str,
        why_not: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        """`why_not` says what has to be done before anything is frozen; "" where nothing has to."""
        self._why_not = why_not or _nothing
        self._store = store
        self._team = team
        self._folder = folder
        self._finetuners = finetuners
        self._evaluations = evaluations
        self._rules = rules
        self._report = report
        self._worker = worker
        self._advancing: dict[str, asyncio.Task[None]] = {}
        self._refused_since: dict[str, float] = {}  # run id -> since when its last drawing is refused

    async def request(
        self, *, by: str, occasion: str, options: Mapping[str, Any] | None = None
    ) -> Requested | Declined:
        """Ask for a run. Declined while another one is live or while there is too little to learn from."""
        if why := await self._why_not():
            return Declined(why)
        live = [run for run in await self._store.live_runs() if run.occasion != occasion]
        if live:
            return Declined(f"Run #{live[0].number} is still {live[0].state.value}. One run at a time.")
        usable = await count_usable(
            self._store,
            self._team,
            enough=self._rules.min_examples,
            review_required=self._rules.review_required,
        )
        if usable.count < self._rules.min_examples:
            return Declined(_too_few(usable.count, self._rules.min_examples, usable.left_out))
        return await self._store.request_run(
            team=self._team, occasion=occasion, by=by, options=dict(options or {})
        )

    async def cancel(self, run: TrainingRun, *, by: str) -> None:
        """Ask a live run to stop; it says so in its report."""
        await self._store.note_on_run(run.id, cancel_requested_by=by)
        task = self._advancing.get(run.id)
        if task is not None and run.state is RunState.EVALUATING:
            task.cancel()

    async def abandon(self, run: TrainingRun) -> None:
        """Stop a run's trainer and forget about it; for a bot whose data is about to go."""
        if run.handle:
            await self._finetuners[run.finetuner].cancel(run.handle)

    async def tick(self) -> None:
        """Look once at every live run. A step that takes long goes on in its own task; the tick returns at once."""
        for run in await self._store.live_runs():
            if run.id not in self._advancing:
                task = asyncio.create_task(self._advance(run.id), name=f"run-{run.number}")
                self._advancing[run.id] = task
                task.add_done_callback(partial(self._let_go, run.id))
        await asyncio.sleep(0)

    def _let_go(self, key: str, _task: asyncio.Task[None]) -> None:
        self._advancing.pop(key, None)

    async def stop(self) -> None:
        """Let go of every run; trainers go on by themselves and are found again at the next start."""
        tasks = list(self._advancing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _advance(self, run_id: str) -> None:
        if not await self._store.claim_run(run_id, worker=self._worker, lease_s=LEASE_S):
            return
        run = await self._store.run(run_id)
        if run is None or run.state.final:
            return
        async with self._holding(run):
            try:
                moved = await self._step(run)
            except PublicError as error:
                moved = await self._end(run, "failed", str(error))
            except OSError as error:
                log.exception("run step failed", run=run.number, state=run.state.value)
                moved = await self._end(run, "failed", f"{error.strerror or error}")
            if run.state is not RunState.REPORTING or moved.state.final:
                await self._show(moved)

    @asynccontextmanager
    async def _holding(self, run: TrainingRun) -> Any:
        async def renew() -> None:
            while True:
                await asyncio.sleep(LEASE_S / 3)
                await self._store.claim_run(run.id, worker=self._worker, lease_s=LEASE_S)

        keeper = asyncio.create_task(renew())
        try:
            yield
        finally:
            keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper

    async def _step(self, run: TrainingRun) -> TrainingRun:
        if run.cancel_requested_by and run.state not in {RunState.TRAINING, RunState.REPORTING}:
            return await self._end(run, "cancelled", f"Cancelled by {who(run.cancel_requested_by)}.")
        if run.state is RunState.FREEZING and (why := await self._why_not()):
            return await self._end(run, "declined", why)
        match run.state:
            case RunState.REQUESTED:
                return await self._store.advance_run(run, RunState.FREEZING)
            case RunState.FREEZING:
                return await self._freeze(run)
            case RunState.TRAINING:
                return await self._train(run)
            case RunState.EVALUATING:
                return await self._evaluate(run)
            case _:
                return await self._finish(run)

    async def _freeze(self, run: TrainingRun) -> TrainingRun:
        salt = await self._store.keepsake(SALT, new_salt)
        told = dict(run.progress)

        async def gathered(count: int) -> None:
            told["gathered"] = count
            await self._store.note_on_run(run.id, progress=told)

        frozen = await freeze(
            self._store,
            self._folder / "datasets",
            team=self._team,
            salt=salt,
            system=self._rules.system_prompt,
            review_required=self._rules.review_required,
            caps=self._rules.caps,
            on_gathered=gathered,
        )
        if frozen.examples < self._rules.min_examples:
            why = _too_few(frozen.examples, self._rules.min_examples, frozen.summary["dropped"])
            return await self._end(run, "declined", why)
        learned = await self._learned_from(frozen.id)
        if learned is not None and run.options.get("scheduled"):
            return await self._end(run, "declined", f"Nothing new since run #{learned.number}.")
        if frozen.counts["train"] < 1 or frozen.counts["test"] < 1:
            return await self._end(
                run,
                "declined",
                "There are no held-out questions yet to compare models on. Import a few more.",
            )
        return await self._store.advance_run(
            run,
            RunState.TRAINING,
            dataset_id=frozen.id,
            directory=str(self._folder / "runs" / run.id),
            progress={**told, "started_at": now().isoformat(), "counts": frozen.counts},
        )

    async def _learned_from(self, dataset_id: str) -> TrainingRun | None:
        runs = await self._store.runs(self._team, limit=200)
        done = (run for run in runs if run.dataset_id == dataset_id and run.state is RunState.DONE)
        return next(done, None)

    async def _train(self, run: TrainingRun) -> TrainingRun:
        finetuner = self._finetuners[run.finetuner]
        if not run.handle:
            return await self._launch(run, finetuner)
        if run.cancel_requested_by or self._overdue(run):
            await finetuner.cancel(run.handle)
        match await finetuner.poll(run.handle):
            case Pending(progress=progress):
                await self._store.note_on_run(run.id, progress={**run.progress, **progress})
                return await self._store.run(run.id) or run
            case Done() as done:
                version = await self._register(run, done)
                return await self._store.advance_run(run, RunState.EVALUATING, version_id=version.id)
            case Broken(resumable=True) if run.launches < LAUNCHES and not run.cancel_requested_by:
                log.info("trainer is gone, launching again", run=run.number, launches=run.launches)
                return await self._launch(run, finetuner)
            case Broken() as broken:
                return await self._end(run, *self._why_broken(run, broken))

    def _why_broken(self, run: TrainingRun, broken: Broken) -> tuple[str, str]:
        if run.cancel_requested_by:
            return "cancelled", f"Cancelled by {who(run.cancel_requested_by)}."
        if broken.cancelled and self._overdue(run):
            limit = self._rules.timeout_s / 60
            return (
                "failed",
                f"It took longer than {limit:.0f} minutes. Raise TRAIN_TIMEOUT_S or train on less.",
            )
        if broken.resumable:
            return "failed", f"The trainer died {LAUNCHES} times. Last words: {broken.reason}"
        return "failed", broken.reason

    def _overdue(self, run: TrainingRun) -> bool:
        started = datetime.fromisoformat(run.progress["started_at"])
        return (now() - started).total_seconds() > self._rules.timeout_s

    async def _launch(self, run: TrainingRun, finetuner: FineTuner) -> TrainingRun:
        dataset = await self._store.dataset(run.dataset_id or "")
        if dataset is None:
            return await self._end(run, "failed", "Its dataset is gone. Start a new training.")
        order = Order(
            run_id=run.id,
            directory=Path(run.directory),
            base_model=self._rules.base_model,
            dataset_path=Path(dataset.path),
            dataset_id=dataset.id,
            quantization=str(run.options.get("quantization") or self._rules.quantization),
            epochs=run.options.get("epochs") or self._rules.epochs,
            allow_downloads=self._rules.allow_downloads,
        )
        handle = await finetuner.launch(order)
        await self._store.note_on_run(run.id, handle=handle, launches=run.launches + 1)
        return await self._store.run(run.id) or run

    async def _register(self, run: TrainingRun, done: Done) -> ModelVersion:
        home = self._folder / "models" / done.sha256
        await asyncio.to_thread(_keep_adapter, done.adapter, home)
        return await self._store.register_model(
            team=self._team,
            name=f"local-{run.number}",
            base_model=self._rules.base_model,
            path=str(home),
            sha256=done.sha256,
            run_id=run.id,
            dataset_id=run.dataset_id,
            card=done.card,
        )

    async def _evaluate(self, run: TrainingRun) -> TrainingRun:
        current = await self._store.current(self._team)
        evaluation = await self._store.request_evaluation(
            team=self._team,
            by=run.requested_by,
            challenger_id=run.version_id,
            current_id=current.id if current else None,
            dataset_id=run.dataset_id,
            run_id=run.id,
        )
        shown = 0.0

        async def show_progress(done: int, of: int) -> None:
            nonlocal shown
            share = done / max(1, of)
            if share - shown >= 0.1 or done == of:
                shown = share
                await self._store.note_on_run(
                    run.id, progress={**run.progress, "evaluated": done, "to_evaluate": of}
                )
                await self._show(await self._store.run(run.id) or run)

        finished = await self._evaluations.carry_out(evaluation, on_progress=show_progress)
        return await self._store.advance_run(
            run,
            RunState.REPORTING,
            evaluation_id=finished.id,
            outcome=str(finished.verdict.get("outcome", "")),
            reason=str(finished.verdict.get("reason", "")),
        )

    async def _finish(self, run: TrainingRun) -> TrainingRun:
        if run.outcome == "declined" and run.options.get("scheduled"):
            return await self._store.advance_run(run, RunState.DECLINED)
        if not await self._reported(run):
            return run
        final = {
            "failed": RunState.FAILED,
            "cancelled": RunState.CANCELLED,
            "declined": RunState.DECLINED,
        }.get(run.outcome, RunState.DONE)
        return await self._store.advance_run(run, final, reported_at=now())

    async def _reported(self, run: TrainingRun) -> bool:
        """Whether the report stands as it is to stay. While it is refused the run waits, but not for ever."""
        try:
            await self._report(run)
        except PublicError as error:
            since = self._refused_since.setdefault(run.id, time.monotonic())
            log.warning("report not drawn", run=run.number, error=str(error))
            return time.monotonic() - since > REPORT_PATIENCE_S
        return True

    async def _end(self, run: TrainingRun, outcome: str, reason: str) -> TrainingRun:
        return await self._store.advance_run(run, RunState.REPORTING, outcome=outcome, reason=reason)

    async def _show(self, run: TrainingRun) -> None:
        """Draw the report as it stands; where that fails the next tick draws it again."""
        if run.outcome == "declined" and run.options.get("scheduled"):
            return
        try:
            await self._report(run)
        except PublicError as error:
            log.warning("report not drawn", run=run.number, error=str(error))


async def _nothing() -> str:
    return ""


def _too_few(usable: int, needed: int, left_out: Mapping[str, int]) -> str:
    there = f"There are {usable} examples to learn from so far; {needed} are needed."
    more = "Rate answers, write better ones, or import questions with `apprentice import`."
    reasons = "; ".join(f"{count} where {reason}" for reason, count in left_out.items())
    return f"{there} {more}" + (f" Not counted: {reasons}." if reasons else "")


def new_salt() -> str:
    """A fresh salt for the split; kept for ever once a store has it."""
    import secrets

    return secrets.token_hex(16)


def _keep_adapter(adapter: Path, home: Path) -> None:
    """Copy the adapter to the folder named by its hash; complete or not at all."""
    if (home / "adapter_config.json").exists():
        return
    draft = home.with_name(f".{home.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        shutil.copytree(adapter, draft)
        draft.replace(home)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise PublicError(
            f"The adapter could not be kept in {home.parent} ({error.strerror}). Free some space and run "
            "`/train` again; the trainer's own copy is still in the run's directory."
        ) from None
