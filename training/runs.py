"""Training runs: requested, launched, advanced, finished. A tick looks once at each live run; it never is the run.

Every step reads a row, does one thing that may be done twice without harm, and moves the row on from the state it was read
in. A bot killed at any point goes on from the last row: nothing is lost, nothing is reported twice.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from storage.errors import PublicError
from storage.learning import Requested
from storage.records import DatasetVersion, ModelVersion, RunState, TrainingRun, now
from storage.store import Store
from storage.values import who
from training.datasets import freeze
from training.evaluating import Evaluations
from training.finetuners import Broken, Done, FineTuner, NotYet, Order, Pending
from training.gathering import count_usable
from training.method import Adapter, adapter_named
from training.raters import CapRules
from training.run_steps import keep_adapter, new_salt, order_of, seconds_since_start, too_few, version_of
from training.sweep_words import SWEEPERS, no_sweep_at

LEASE_S = 60.0
LAUNCHES = 4
TRIES = 6
"""How often a provider is asked to begin a run before it has failed."""
CONFIRM_WITHIN_S = 24 * 3600.0
LAST_WORD_S = 600.0
"""How long a provider may take to confirm that a run is stopped."""
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
    train_with: str = "local"
    retry_s: float = 30.0
    languages: tuple[str, ...] = ()
    adapters: tuple[Adapter, ...] = tuple(Adapter)
    """Those that the local model can answer with."""


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

    @property
    def finetuners(self) -> Mapping[str, FineTuner]:
        """Who can train, by the name in `with=`."""
        return self._finetuners

    async def request(
        self, *, by: str, occasion: str, options: Mapping[str, Any] | None = None
    ) -> Requested | Declined:
        """Ask for a run. Declined while another one is live or while there is too little to learn from."""
        if why := await self._why_not():
            return Declined(why)
        live = [run for run in await self._store.live_runs() if run.occasion != occasion]
        if live:
            return Declined(f"Run #{live[0].number} is still {live[0].state.value}. One run at a time.")
        chosen = str((options or {}).get("with") or self._rules.train_with)
        if chosen not in self._finetuners:
            there = ", ".join(self._finetuners)
            return Declined(
                f"with={chosen} is not set up here; `apprentice doctor` says what it needs. There is: {there}."
            )
        if (options or {}).get("trials") and chosen not in SWEEPERS:
            return Declined(no_sweep_at(chosen))
        if (kind := adapter_named(str((options or {}).get("adapter") or ""))) not in self._rules.adapters:
            there = ", ".join(self._rules.adapters)
            return Declined(
                f"The server that LOCAL_ENGINE_URL names cannot answer with adapter={kind}. Write one of: {there}."
            )
        if why := await self._finetuners[chosen].available(insist="with" in (options or {})):
            return Declined(why)
        usable = await count_usable(
            self._store,
            self._team,
            enough=self._rules.min_examples,
            review_required=self._rules.review_required,
        )
        if usable.count < self._rules.min_examples:
            return Declined(too_few(usable.count, self._rules.min_examples, usable.left_out))
        return await self._store.request_run(
            team=self._team, occasion=occasion, by=by, options=dict(options or {}), finetuner=chosen
        )

    async def confirm(self, run: TrainingRun, *, by: str) -> bool:
        """Agree to what a run costs; False where it does not wait for that, or somebody else agreed first."""
        if run.confirmed_by or run.state.final or run.cancel_requested_by:
            return False
        started = {"started_at": now().isoformat()} if run.awaiting else {}
        await self._store.note_on_run(
            run.id, confirmed_by=by, awaiting="", progress={**run.progress, **started}
        )
        await self._store.decide(team=self._team, actor=by, action="confirm run", subject=run.id)
        return True

    async def waiting(self) -> TrainingRun | None:
        """The run that waits for somebody to agree to its costs."""
        return next((run for run in await self._store.live_runs() if run.awaiting), None)

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

    async def close(self) -> None:
        """Stop, and close the connections to providers."""
        await self.stop()
        for finetuner in self._finetuners.values():
            await finetuner.close()

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
            languages=self._rules.languages,
            on_gathered=gathered,
        )
        if frozen.examples < self._rules.min_examples:
            why = too_few(frozen.examples, self._rules.min_examples, frozen.summary["dropped"])
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
        finetuner = self._finetuners.get(run.finetuner)
        if finetuner is None:
            return await self._end(run, "failed", f"{run.finetuner} is not set up here any more.")
        dataset = await self._store.dataset(run.dataset_id or "")
        if dataset is None and not run.handle:
            return await self._end(run, "failed", "Its dataset is gone. Start a new training.")
        if not run.handle and dataset is not None:
            return await self._begin(run, finetuner, order_of(run, self._rules, dataset))
        if run.cancel_requested_by or self._overdue(run):
            await finetuner.cancel(run.handle)
        match await finetuner.poll(run.handle):
            case Pending(progress=progress):
                if run.finetuner != "local" and self._overdue(run, LAST_WORD_S):
                    why = f"It took too long, and {run.finetuner} does not say that {run.handle} is stopped. Look there."
                    return await self._end(run, "failed", why)
                await self._store.note_on_run(run.id, progress={**run.progress, **progress})
                return await self._store.run(run.id) or run
            case Done() as done:
                version = await self._register(run, done)
                reason = str(done.card.get("method_reason") or "")
                progress = {**run.progress, "method_reason": reason}
                return await self._store.advance_run(
                    run, RunState.EVALUATING, version_id=version.id, progress=progress
                )
            case Broken(resumable=True) if run.launches < LAUNCHES and not run.cancel_requested_by:
                log.info("trainer is gone, launching again", run=run.number, launches=run.launches)
                return await self._launch_again(run, finetuner, dataset)
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
        return ("cancelled" if broken.cancelled else "failed"), broken.reason

    def _overdue(self, run: TrainingRun, grace_s: float = 0.0) -> bool:
        return seconds_since_start(run) > self._rules.timeout_s + grace_s

    async def _begin(self, run: TrainingRun, finetuner: FineTuner, order: Order) -> TrainingRun:
        """Launch what was not launched; where that costs more than agreed, wait for somebody to agree first."""
        if run.cancel_requested_by:
            return await self._cancel_unlaunched(run, finetuner, order)
        if run.awaiting:
            if seconds_since_start(run) <= CONFIRM_WITHIN_S:
                return run
            return await self._end(run, "declined", "Nobody agreed to what it costs within a day.")
        if not run.confirmed_by and not run.launches and (agree := await finetuner.quote(order)):
            await self._store.note_on_run(run.id, awaiting=agree)
            return await self._store.run(run.id) or run
        again_at = run.progress.get("again_at")
        if again_at and now() < datetime.fromisoformat(str(again_at)):
            return run
        return await self._launch(run, finetuner, order)

    async def _cancel_unlaunched(self, run: TrainingRun, finetuner: FineTuner, order: Order) -> TrainingRun:
        """A launch of which no answer came may have begun a job all the same: it is found and cancelled."""
        try:
            handle = await finetuner.find(order) if run.launches else ""
        except NotYet as error:
            if seconds_since_start(run) <= self._rules.timeout_s:
                return run
            return await self._end(
                run, "failed", f"{error} It may have begun a job; look there for {run.id}."
            )
        if not handle:
            return await self._end(run, *self._why_broken(run, Broken("", cancelled=True)))
        await self._store.note_on_run(run.id, handle=handle)
        return await self._store.run(run.id) or run

    async def _launch(self, run: TrainingRun, finetuner: FineTuner, order: Order) -> TrainingRun:
        await self._store.note_on_run(
            run.id, launches=run.launches + 1
        )  # before: what is begun is looked for
        try:
            handle = await (finetuner.find(order) if run.launches >= TRIES else finetuner.launch(order))
        except NotYet as error:
            if run.launches >= TRIES:
                return await self._end(run, "failed", f"{error} That was tried {TRIES} times.")
            later = (now() + timedelta(seconds=self._rules.retry_s)).isoformat()
            told = {**run.progress, "provider": str(error), "again_at": later}
            await self._store.note_on_run(run.id, progress=told)
            return await self._store.run(run.id) or run
        if not handle:
            why = f"{run.finetuner} did not begin it, however often it was asked. Start a new training later."
            return await self._end(run, "failed", why)
        await self._store.note_on_run(run.id, handle=handle)
        return await self._store.run(run.id) or run

    async def _launch_again(
        self, run: TrainingRun, finetuner: FineTuner, dataset: DatasetVersion | None
    ) -> TrainingRun:
        if dataset is None:
            return await self._end(run, "failed", "Its dataset is gone. Start a new training.")
        return await self._launch(run, finetuner, order_of(run, self._rules, dataset))

    async def _register(self, run: TrainingRun, done: Done) -> ModelVersion:
        if done.adapter is not None:
            home = self._folder / "models" / done.sha256
            await asyncio.to_thread(keep_adapter, done.adapter, home)
            done = replace(done, adapter=home)
        return await self._store.register_model(
            team=self._team, **version_of(run, done, self._rules.base_model)
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
        if run.finetuner != "local" and run.dataset_id:
            await self._store.delete_provider_files_of([run.dataset_id])
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
