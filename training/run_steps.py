"""What the steps of a training run need: its order, its version, its adapter's home, and reasons in words."""

import secrets
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.errors import PublicError
from storage.records import DatasetVersion, TrainingRun, now
from training.finetuners import Done, Order

if TYPE_CHECKING:
    from training.runs import RunRules


def order_of(run: TrainingRun, rules: "RunRules", dataset: DatasetVersion) -> Order:
    """What a run orders: what was asked for, else what the operator decided. An effort outdoes the operator's epochs."""
    asked = run.options
    return Order(
        run_id=run.id,
        directory=Path(run.directory),
        base_model=rules.base_model,
        dataset_path=Path(dataset.path),
        dataset_id=dataset.id,
        quantization=str(asked.get("quantization") or rules.quantization),
        epochs=asked.get("epochs") or (None if asked.get("effort") else rules.epochs),
        method=str(asked.get("method") or ""),
        adapter=str(asked.get("adapter") or "lora"),
        rank=asked.get("rank"),
        learning_rate=asked.get("lr"),
        batch_size=asked.get("batch"),
        seed=int(asked.get("seed") or 0),
        allow_downloads=rules.allow_downloads,
        number=run.number,
        effort=str(asked.get("effort") or ""),
        trials=asked.get("trials"),
        ends_at=_ends_at(run, rules.timeout_s),
    )


def _ends_at(run: TrainingRun, limit_s: float) -> float | None:
    began = run.progress.get("started_at")
    return datetime.fromisoformat(str(began)).timestamp() + limit_s if began else None


def version_of(run: TrainingRun, done: Done, base_model: str) -> dict[str, Any]:
    """The version that a run made, as `Store.register_model` wants it: a folder of ours, or a provider's model."""
    return {
        "name": f"{run.finetuner}-{run.number}",
        "kind": run.finetuner if done.model else "local",
        "model": done.model,
        "base_model": done.base_model or base_model,
        "path": str(done.adapter) if done.adapter is not None else "",
        "sha256": done.sha256,
        "run_id": run.id,
        "dataset_id": run.dataset_id,
        "card": done.card,
    }


def seconds_since_start(run: TrainingRun) -> float:
    """How long ago the training began."""
    return (now() - datetime.fromisoformat(run.progress["started_at"])).total_seconds()


def too_few(usable: int, needed: int, left_out: Mapping[str, int]) -> str:
    """Why there is no run yet."""
    there = f"There are {usable} examples to learn from so far; {needed} are needed."
    more = "Rate answers, write better ones, or import questions with `apprentice import`."
    reasons = "; ".join(f"{count} where {reason}" for reason, count in left_out.items())
    return f"{there} {more}" + (f" Not counted: {reasons}." if reasons else "")


def new_salt() -> str:
    """A fresh salt for the split; kept for ever once a store has it."""
    return secrets.token_hex(16)


def keep_adapter(adapter: Path, home: Path) -> None:
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
