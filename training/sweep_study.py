"""A sweep's memory: what was tried, what is under way, what comes next. Optuna, with its journal in the run's directory.

Every line of the journal is on the disk before the next thing happens, so that a sweep that was killed goes on with what it
has. What is tried next depends on the journal and the seed alone, and not on how often the sweep was interrupted.
"""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from training.sweep_space import BATCH, EPOCHS, RANK, RATE, Space
from training.sweep_words import FAILED, FINISHED, STOPPED

JOURNAL = "journal.jsonl"
LOOKS = 8  # parts of a trial's course at which trials are compared; their lengths in steps differ
DEATHS = 2  # a trial in which the trainer died so often is given up
UNTIL, STARTS, WHY, BATCH_ROWS, SECONDS = "until", "starts", "why", "rows", "seconds"
ENDS = {TrialState.COMPLETE: FINISHED, TrialState.PRUNED: STOPPED, TrialState.FAIL: FAILED}


class Study:
    """The trials of one sweep. The caller holds the run directory's lock: nobody else writes here."""

    def __init__(
        self, folder: Path, space: Space, derived: Mapping[str, Any], *, trials: int, seed: int
    ) -> None:
        """`derived` is the point that is tried first."""
        points = space.points
        self._space, self._derived, self._seed = space, dict(derived), seed
        self.trials = trials if points is None else min(trials, len(points))
        folder.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(
            storage=JournalStorage(_journal(folder / JOURNAL)),
            study_name="sweep",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(
                n_startup_trials=max(1, min(3, trials // 4)), n_warmup_steps=1
            ),
        )

    @property
    def until(self) -> float | None:
        """When no further trial begins, as time.time() has it; None: never, or not settled yet."""
        found = self._study.user_attrs.get(UNTIL)
        return None if found is None else float(found)

    def settle_until(self, when: float) -> None:
        """Once for all parts of a sweep that is interrupted."""
        if self.until is None:
            self._study.set_user_attr(UNTIL, when)

    def next(self) -> Trial | None:
        """The trial that was interrupted, else a new one; None when there have been enough."""
        under_way = self._in(TrialState.RUNNING)
        if under_way:
            trial = Trial(self._study, under_way[0]._trial_id)
        elif len(self._study.get_trials(deepcopy=False)) - len(self._in(TrialState.WAITING)) >= self.trials:
            return None
        else:
            trial = self._new()
        self._point(trial)
        return trial

    def point(self, trial: Trial) -> dict[str, Any]:
        """A trial's values."""
        return dict(trial.params)

    def _new(self) -> Trial:
        number = len(self._study.get_trials(deepcopy=False))
        self._study.sampler = optuna.samplers.TPESampler(
            seed=self._seed * 1009 + number, n_startup_trials=max(2, self.trials // 3)
        )
        points = self._space.points
        if not number:
            self._study.enqueue_trial(self._derived)
        elif points is not None and not self._in(TrialState.WAITING):
            tried = [each.params for each in self._study.get_trials(deepcopy=False)]
            left = [point for point in points if point not in tried]
            self._study.enqueue_trial(random.Random(self._seed * 1009 + number).choice(left))
        return self._study.ask()

    def _point(self, trial: Trial) -> None:
        """Each value is drawn once and stays."""
        space = self._space
        trial.suggest_float(RATE, space.slowest, space.fastest, log=True)
        trial.suggest_categorical(RANK, space.ranks)
        trial.suggest_categorical(EPOCHS, space.epochs)
        trial.suggest_categorical(BATCH, space.batch)

    def begin(self, trial: Trial, *, rows: int) -> bool:
        """Notes that a trial begins, whose steps take `rows`; False where its trainer died too often in it."""
        starts = int(trial.user_attrs.get(STARTS, 0))
        trial.set_user_attr(BATCH_ROWS, rows)
        trial.set_user_attr(STARTS, starts + 1)
        return starts < DEATHS

    def laid_aside(self, trial: Trial) -> None:
        """It was asked to stop, which is no death."""
        trial.set_user_attr(STARTS, int(trial.user_attrs[STARTS]) - 1)

    def hopeless(self, trial: Trial, eval_loss: float, share: float) -> bool:
        """Notes the held-out loss at a share of the course; whether others were better there (their median)."""
        look = round(share * LOOKS)
        if look not in self._study.get_trials(deepcopy=False)[trial.number].intermediate_values:
            trial.report(eval_loss, look)
        return trial.should_prune()

    def finished(self, trial: Trial, eval_loss: float, seconds: float) -> None:
        """It ran to its end, with this held-out loss."""
        trial.set_user_attr(SECONDS, seconds)
        self._study.tell(trial, eval_loss)

    def stopped(self, trial: Trial) -> None:
        """It was stopped early: others are better."""
        self._study.tell(trial, state=TrialState.PRUNED)

    def failed(self, trial: Trial, why: str) -> None:
        """It went astray."""
        trial.set_user_attr(WHY, why)
        self._study.tell(trial, state=TrialState.FAIL)

    @property
    def best(self) -> tuple[int, float] | None:
        """The number (from 1) and the held-out loss of the best that ran to its end."""
        done = self._in(TrialState.COMPLETE)
        found = min(done, key=lambda each: (float(each.value or 0.0), each.number), default=None)
        return None if found is None else (found.number + 1, float(found.value or 0.0))

    @property
    def seconds_each(self) -> float | None:
        """What a trial to its end takes on average; None while none ended."""
        taken = [float(each.user_attrs[SECONDS]) for each in self._in(TrialState.COMPLETE)]
        return sum(taken) / len(taken) if taken else None

    def told(self) -> list[dict[str, Any]]:
        """Every trial that is over: values, how it ended, and its (last) held-out loss."""
        over = self._in(*ENDS)
        return [
            {
                "number": each.number + 1,
                RATE: each.params[RATE],
                RANK: each.params[RANK],
                EPOCHS: each.params[EPOCHS],
                BATCH: each.user_attrs.get(BATCH_ROWS),
                "ended": ENDS[each.state],
                "why": str(each.user_attrs.get(WHY, "")),
                "eval_loss": None if each.state is TrialState.FAIL else each.value,
            }
            for each in over
        ]

    def _in(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states)


def _journal(path: Path) -> JournalFileBackend:
    """The journal without a line that a kill -9 tore, and without the lock that it may have left."""
    lock = path.with_name(f"{path.name}.lock")
    lock.unlink(missing_ok=True)
    if path.exists():
        whole = path.read_bytes()
        kept = whole[: whole.rfind(b"\n") + 1]
        if len(kept) < len(whole):
            with path.open("r+b") as file:
                file.truncate(len(kept))
    return JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path)))
