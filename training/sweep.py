"""A sweep: several ways of learning the answers are tried, and the one with the best held-out loss is kept.

`training.qlora` calls `try_out` before its first stage. Each trial learns from the training side in a folder of its own, in
the same process, and is judged by its loss on the validation side; the test side is not read. What does worse than the
median of the others at the same part of its course is stopped. The best trial's adapter becomes the first stage's, as if it
had been trained there, and everything after that is the usual run.
"""

import gc
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from optuna.trial import Trial
from transformers import set_seed

from storage.errors import PublicError
from training import rundir
from training.failures import Diverged, LossIsNotANumber, memory_is_full
from training.material import Rows
from training.method import Method
from training.notebook import Notebook, Stopped
from training.plan import Plan
from training.rows import WATCHED_AT_LEAST
from training.rundir import Event, Job
from training.sweep_space import derived_point, plan_at, space_of
from training.sweep_study import Study
from training.sweep_words import SWEEP, why

SHARE_OF_TIME = 0.8  # of what is left of the run's limit is for trying; the rest for the stages after it


class Learn(Protocol):
    """One learning of the answers in a notebook's folder; it returns the facts of the stage."""

    def __call__(self, notebook: Notebook, *, rows: Rows) -> dict[str, Any]:
        """Learns `rows.answers` by `rows.made`."""


class Hopeless(Exception):
    """This trial does worse than others did, or the time is up; nothing is lost by stopping it."""


def try_out(notebook: Notebook, job: Job, rows: Rows, learn: Learn) -> Rows:
    """The rows with the plan that was found; its adapter and facts are the first stage's."""
    facts = rundir.kept_stage(notebook.run_dir, Method.SFT)
    if facts is None:
        facts = _Sweep(notebook, job, rows, learn).carried_out()
    if facts.get(SWEEP):
        notebook.know(method_reason=f"{notebook.result.method_reason} {why(facts[SWEEP])}".strip())
    return replace(rows, made=Plan(**facts["hyperparameters"]))


class _Sweep:
    """One sweep, from its first trial to the choice."""

    def __init__(self, notebook: Notebook, job: Job, rows: Rows, learn: Learn) -> None:
        _refuse_what_cannot_be_compared(notebook, rows)
        self._notebook, self._job, self._rows, self._learn = notebook, job, rows, learn
        self._home = notebook.run_dir / rundir.SWEEP
        self.study = Study(
            self._home,
            space_of(rows.made, job),
            derived_point(rows.made),
            trials=job.trials or 1,
            seed=job.seed,
        )
        if job.ends_at is not None:
            self.study.settle_until(time.time() + SHARE_OF_TIME * (job.ends_at - time.time()))

    @property
    def time_is_up(self) -> bool:
        """Whether what is found by now has to do; while nothing is found there is no choice."""
        return self.study.best is not None and self.study.until is not None and time.time() > self.study.until

    def carried_out(self) -> dict[str, Any]:
        """The facts of the best, which is kept as the first stage."""
        while not self.time_is_up and (trial := self.study.next()) is not None:
            self._notebook.turn_page()
            self._one(trial)
            self._tidy()
            gc.collect()
        return self._keep()

    def _one(self, trial: Trial) -> None:
        """A trial to its end, whatever that is."""
        folder = self.folder(trial.number + 1)
        made = self._plan(self.study.point(trial))
        begun = self.study.begin(trial, rows=made.batch_size * made.accumulation)
        facts = rundir.kept_stage(folder, Method.SFT)  # it ended, and the trainer before it could say so
        if facts is None and not begun:
            self.study.failed(trial, "the trainer died in it")
            return
        try:
            facts = facts or self._learned(trial, folder, replace(self._rows, made=made))
        except Hopeless:
            self.study.stopped(trial)
            return
        except Stopped:
            self.study.laid_aside(trial)
            raise
        except Exception as error:
            if not (isinstance(error, LossIsNotANumber | Diverged) or memory_is_full(error)):
                raise
            self.study.failed(trial, str(error))
            return
        self.study.finished(trial, float(facts["eval_loss"]), float(facts["seconds"]))

    def _learned(self, trial: Trial, folder: Path, rows: Rows) -> dict[str, Any]:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / rundir.PROGRESS).open("a", encoding="utf-8") as progress:
            page = _Page(self, self._notebook, trial, folder, progress)
            set_seed(self._job.seed)
            return self._learn(page, rows=rows)

    def _plan(self, point: Mapping[str, Any]) -> Plan:
        answers = self._rows.answers
        mean = sum(each.length for each in answers) / len(answers)
        return plan_at(self._rows.made, point, rows=len(answers), mean_tokens=mean, alpha=self._job.alpha)

    def folder(self, number: int) -> Path:
        """A trial's own."""
        return self._home / f"trial-{number:02}"

    def _tidy(self) -> None:
        """Of the trials that are over only their curves stay, and the best one's adapter."""
        best = self.study.best
        for tried in self.study.told():
            folder = self.folder(tried["number"])
            shutil.rmtree(rundir.checkpoints(folder, Method.SFT), ignore_errors=True)
            if best is None or tried["number"] != best[0]:
                shutil.rmtree(folder / rundir.STAGES, ignore_errors=True)

    def _keep(self) -> dict[str, Any]:
        """The best trial's adapter and facts become the first stage's, whole or not at all."""
        tried, best = self.study.told(), self.study.best
        if best is None:
            raise PublicError(_all_failed(tried))
        source = self.folder(best[0]) / rundir.STAGES / Method.SFT
        facts: dict[str, Any] = json.loads((source / rundir.STAGE).read_text(encoding="utf-8"))
        facts[SWEEP] = {"tried": tried, "chosen": best[0], "sure": self._rows.decides}
        final = self._notebook.run_dir / rundir.STAGES / Method.SFT
        partial = final.with_name(f"{Method.SFT}.part")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial)
        (partial / rundir.STAGE).write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")
        partial.rename(final)
        self._notebook.tell(
            Event.SAVED,
            facts["steps"],
            facts["hyperparameters"]["max_steps"],
            stage=Method.SFT,
            loss=facts["train_loss"],
            eval_loss=facts["eval_loss"],
            trial=best[0],
            message=why(facts[SWEEP]),
        )
        return facts


class _Page(Notebook):
    """A trial's notebook: its lines stand in its own folder and, as the sweep's, in the run's."""

    def __init__(self, sweep: _Sweep, run: Notebook, trial: Trial, folder: Path, progress: Any) -> None:
        super().__init__(folder, progress, time.monotonic())
        self._sweep, self._run, self._trial = sweep, run, trial

    @property
    def to_be_closed(self) -> bool:
        """Whether the run was asked to stop."""
        return self._run.to_be_closed

    def tell(self, event: Event, step: int = 0, max_steps: int = 0, **facts: Any) -> None:
        """Writes a progress line. A held-out loss on the way may be the end of the trial: Hopeless."""
        super().tell(event, step, max_steps, **facts)
        study, number = self._sweep.study, self._trial.number + 1
        best, each = study.best, study.seconds_each
        if facts.get("eta_s") is not None:
            facts["eta_s"] = None if each is None else facts["eta_s"] + each * (study.trials - number)
        said = {
            "stage": SWEEP,
            "trial": number,
            "trials": study.trials,
            "best_loss": best[1] if best else None,
        }
        self._run.tell(event, step, max_steps, **facts | said)
        if event is Event.EVALUATED and 0 < step < max_steps:
            hopeless = study.hopeless(self._trial, float(facts["eval_loss"]), step / max_steps)
            if hopeless or self._sweep.time_is_up:
                raise Hopeless


def _refuse_what_cannot_be_compared(notebook: Notebook, rows: Rows) -> None:
    if not rows.answers:
        raise PublicError(
            "A sweep tries ways of learning answers, and this dataset has none to learn, only preferences. "
            "Train without `sweep`."
        )
    if len(rows.watched) < WATCHED_AT_LEAST:
        raise PublicError(
            f"A sweep compares on held-out examples; this dataset has {len(rows.watched)} for that, and "
            f"{WATCHED_AT_LEAST} are needed. Collect more examples, or train without `sweep`."
        )
    if notebook.ranks > 1:
        raise PublicError("A sweep trains in one process. Let one worker do it, or train without `sweep`.")


def _all_failed(tried: list[dict[str, Any]]) -> str:
    reasons = "; ".join(dict.fromkeys(each["why"] for each in tried if each["why"]))
    return (
        f"None of the {len(tried)} ways that were tried ran to its end ({reasons}). Train without `sweep`, with a lower "
        "learning rate (lr=) or a smaller batch."
    )
