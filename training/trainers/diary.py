"""What a trainer says while it learns, and when it stops: asked to, or because the loss leaves the numbers or climbs."""

import math
import time
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback

from training import rundir
from training.course import Course
from training.failures import Diverged, LossIsNotANumber
from training.notebook import Notebook
from training.plan import Plan
from training.rundir import Event
from training.trainers import together

TOLD_EVERY_S = 0.5  # a tiny model makes twenty steps a second; nobody reads that many lines


class Diary(TrainerCallback):
    """Writes progress, stops when asked to, and refuses a loss that is no number or far above its beginning."""

    def __init__(self, notebook: Notebook, stage: str, *, tokens: int) -> None:
        """`tokens` of one epoch."""
        self._notebook, self._stage, self._tokens = notebook, stage, tokens

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Resumed, the course is what the log tells of it."""
        self._began, self._told = time.monotonic(), 0.0
        self._first_step, self._first_epoch = state.global_step, state.epoch or 0.0
        self._course = Course(rundir.eval_loss_before(self._notebook.run_dir, stage=self._stage))
        for entry in state.log_history:
            if "loss" in entry:
                self._course.note(entry["loss"])

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Asked to stop, it saves and stops."""
        if together.any_of_us(self._notebook.to_be_closed) and state.global_step < state.max_steps:
            self._notebook.stop_requested = True
            control.should_save = control.should_training_stop = True
            self._tell(Event.STOPPING, state, message="Saving, then stopping.")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Looks at every loss; tells of one every now and then."""
        for name in {"loss", "eval_loss"} & logs.keys():
            if not math.isfinite(logs[name]):
                raise LossIsNotANumber(f"{name} is {logs[name]} at step {state.global_step}")
        if "loss" not in logs:
            return
        if self._course.note(logs["loss"]):
            raise Diverged(self._course.began, self._course.smooth, state.global_step)
        now = time.monotonic()
        if now - self._told >= TOLD_EVERY_S or state.global_step == state.max_steps:
            self._told = now
            self._tell_step(state, logs, seconds=max(now - self._began, 1e-6))

    def _tell_step(self, state: Any, logs: dict[str, Any], *, seconds: float) -> None:
        each = seconds / max(1, state.global_step - self._first_step)
        self._tell(
            Event.STEP,
            state,
            loss=logs["loss"],
            grad_norm=logs.get("grad_norm"),
            learning_rate=logs.get("learning_rate"),
            tokens_per_s=round(self._tokens * (state.epoch - self._first_epoch) / seconds, 1),
            eta_s=round(each * (state.max_steps - state.global_step), 1),
        )

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        """Tells the held-out loss."""
        self._tell(Event.EVALUATED, state, eval_loss=metrics["eval_loss"])

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Tells that what was learned so far is safe."""
        self._tell(Event.SAVED, state)

    def _tell(self, event: Event, state: Any, **facts: Any) -> None:
        self._notebook.tell(event, state.global_step, state.max_steps, stage=self._stage, **facts)


def callbacks(notebook: Notebook, stage: str, made: Plan, *, tokens: int, decides: bool) -> list[Any]:
    """The diary, and where the watched rows say when to stop, the stop for overfitting."""
    stops = [EarlyStoppingCallback(made.patience)] if decides else []
    return [Diary(notebook, stage, tokens=tokens), *stops]


def stopped_early(trainer: Any, made: Plan, *, decides: bool) -> str:
    """Why it ended before its last step, in words; "" where it did not."""
    state = trainer.state
    if not decides or state.global_step >= state.max_steps:
        return ""
    return (
        f"Stopped at step {state.global_step} of {state.max_steps}: the held-out loss had not become better for "
        f"{made.patience} looks (overfitting); the adapter of step {state.best_global_step} is kept."
    )
