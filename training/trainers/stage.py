"""One stage of a run: its rows, its plan, its trainer, and what came of it. The story is in `training.qlora`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from training import rundir
from training.material import Rows
from training.method import Method
from training.notebook import Notebook
from training.plan import Plan, preference_plan, shared_out
from training.rows import WATCHED_AT_LEAST, WATCHED_AT_MOST
from training.rundir import Job
from training.trainers import adapters, diary, preferences, sft


@dataclass(frozen=True, slots=True)
class Lesson:
    """A stage's part of the data, and how it is taught; `decides`: what is watched says when to stop."""

    method: Method
    made: Plan
    taught: Sequence[Any]
    watched: Sequence[Any]
    decides: bool
    tokens: int  # that are read in an epoch
    said: str  # what is taught, in words


def lesson(rows: Rows, method: Method, ranks: int = 1) -> Lesson:
    """What a stage teaches, and how; of `ranks` processes that train together, one's part of a step."""
    if method is Method.SFT:
        said = f"{len(rows.answers)} examples"
        if rows.left_out:
            said += f"; {rows.left_out} with more than {rows.made.max_length} tokens left out"
        tokens = sum(len(each.ids) for each in rows.answers)
        return Lesson(
            method, shared_out(rows.made, ranks), rows.answers, rows.watched, rows.decides, tokens, said
        )
    if method is Method.DPO:
        lengths = [2 * len(each.prompt) + len(each.chosen) + len(each.rejected) for each in rows.pairs]
        taught, watched, said = rows.pairs, rows.watched_pairs, f"{len(rows.pairs)} pairs"
    else:
        lengths = [each.length for each in rows.thumbs]
        taught, watched = rows.thumbs, rows.watched_thumbs  # type: ignore[assignment]
        said = f"{len(rows.thumbs)} rated answers"
    made = preference_plan(
        rows.made,
        len(lengths),
        parameters=rows.parameters,
        mean_tokens=sum(lengths) / len(lengths),
        thumbs=method is Method.KTO,
    )
    made, watched = shared_out(made, ranks), watched[:WATCHED_AT_MOST]
    return Lesson(method, made, taught, watched, len(watched) >= WATCHED_AT_LEAST, sum(lengths), said)


def make_trainer(notebook: Notebook, job: Job, lesson: Lesson, model: Any, tokenizer: Any) -> Any:
    """TRL's trainer for the stage."""
    make = {Method.SFT: sft.make, Method.DPO: preferences.make_dpo, Method.KTO: preferences.make_kto}
    trainer = make[lesson.method](  # type: ignore[operator]
        model,
        lesson.made,
        rundir.checkpoints(notebook.run_dir, lesson.method),
        tokenizer,
        lesson.taught,
        lesson.watched,
        seed=job.seed,
        decides=lesson.decides,
        callbacks=diary.callbacks(
            notebook, lesson.method, lesson.made, tokens=lesson.tokens, decides=lesson.decides
        ),
    )
    adapters.keep_float32(trainer.model)
    return trainer


def measured(metrics: dict[str, float]) -> dict[str, Any]:
    """Of an evaluation: the loss, and where pairs or thumbs were compared, how far they are apart."""
    named = {
        "eval_loss": "eval_loss",
        "eval_rewards/margins": "margin",
        "eval_rewards/accuracies": "accuracy",
    }
    return {ours: metrics[theirs] for theirs, ours in named.items() if theirs in metrics}


def facts_of(trainer: Any, lesson: Lesson) -> dict[str, Any]:
    """What the trainer's state tells; the training loss is the mean over the last tenth of the steps."""
    state, epochs = trainer.state, trainer.state.epoch or 0.0
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    last = losses[-max(1, len(losses) // 10) :]
    best = state.best_global_step if trainer.args.load_best_model_at_end else None
    return {
        "stage": str(lesson.method),
        "rows": lesson.said,
        "steps": state.global_step,
        "epochs": round(epochs, 3),
        "best_step": best or state.global_step,
        "train_loss": sum(last) / len(last) if last else None,
        "trained_tokens": round(lesson.tokens * epochs),
        "hyperparameters": asdict(lesson.made),
    }
