"""The run directory: all that the trainer child and the bot share. The bot writes the job, the child writes everything else.

Lines are appended to `progress.jsonl` as they happen; `result.json` is written last, by rename, so that its existence means
"this run is over". Whoever holds the lock is the living trainer. Standard library only: the bot reads this without torch.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TextIO

from storage.errors import PublicError

JOB, PROGRESS, RESULT, LOCK, CANCEL = "job.json", "progress.jsonl", "result.json", "trainer.lock", "cancel"
LOG = "trainer.log"  # what the child says on stdout and stderr; the bot points them there
CHECKPOINTS, ADAPTER = "checkpoints", "adapter"
SWEEP = "sweep"  # what was tried, each trial in a folder of its own
STAGES, STAGE = "stages", "stage.json"  # stages/sft: what an earlier stage left, its facts in stage.json

BESIDE = "A process beside the first one ended: "  # in the log, before the reason
EXIT_DONE, EXIT_FAILED, EXIT_LOCKED, EXIT_STOPPED = 0, 1, 3, 75


class Quantization(StrEnum):
    """How the base model's weights are held while the adapter is trained."""

    NF4 = "nf4"
    NONE = "none"


class Status(StrEnum):
    """How a run ended."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(StrEnum):
    """What a progress line tells."""

    STARTED = "started"
    LOADED = "loaded"
    STEP = "step"
    EVALUATED = "evaluated"
    SAVED = "saved"
    STOPPING = "stopping"
    WAITING = "waiting"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be trained on what. A None is derived from the model and the data (`training.plan`)."""

    run_id: str
    base_model: str
    dataset_dir: str
    dataset_hash: str
    quantization: str = Quantization.NF4
    rank: int | None = None
    alpha: int | None = None
    learning_rate: float | None = None
    epochs: float | None = None
    batch_size: int | None = None
    max_length: int | None = None
    seed: int = 0
    allow_downloads: bool = False
    method: str = ""  # "sft", "dpo", "kto"; "": what the data allows
    adapter: str = "lora"  # "lora", "dora", "rslora", "prompt", "ia3"
    memory_mb: int | None = None  # the most that it may take; None: what is free on the device
    effort: str = ""  # "quick", "normal", "thorough": scales what is derived; "": normal
    trials: int | None = None  # ways of learning the answers that a sweep tries; None: no sweep
    ends_at: float | None = None  # when the run has to be over, as time.time() has it; a sweep ends before


@dataclass(frozen=True, slots=True)
class ProgressLine:
    """One line of `progress.jsonl`; None where the event has no such number. Times are UTC, losses nats per token.

    `stage` names the method under way ("sft", "dpo", "kto"); each stage counts its own steps. While a sweep tries ways of
    training it is "sweep", with the `trial` of so many `trials` and the best held-out loss so far.
    """

    event: Event
    step: int = 0
    max_steps: int = 0
    at: str = ""
    loss: float | None = None
    grad_norm: float | None = None
    learning_rate: float | None = None
    eval_loss: float | None = None
    tokens_per_s: float | None = None
    eta_s: float | None = None
    message: str | None = None
    stage: str | None = None
    trial: int | None = None
    trials: int | None = None
    best_loss: float | None = None


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What `result.json` says of a run that is over; numbers are None where it ended before they were known.

    The numbers are those of learning the answers, where that was a stage; `stages` has those of each.
    """

    status: Status
    reason: str
    adapter: str = ""
    adapter_sha256: str = ""
    steps: int = 0
    epochs: float = 0.0
    train_loss: float | None = None
    eval_loss_before: float | None = None
    eval_loss: float | None = None
    best_step: int | None = None
    seconds: float = 0.0
    trained_tokens: int = 0
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    dataset_hash: str = ""
    quantization: str = ""
    device: str = ""
    method: str = ""
    method_reason: str = ""
    adapter_kind: str = ""
    stopped_early: str = ""
    memory: str = ""
    stages: Sequence[Mapping[str, Any]] = ()

    @property
    def card(self) -> dict[str, Any]:
        """What is worth remembering of the model that came out: everything but where it lies and how the run ended."""
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in {"status", "adapter", "adapter_sha256"}
        }


class AlreadyTraining(Exception):
    """Another living trainer holds this run directory."""


def write_job(run_dir: Path, job: Job) -> None:
    """Creates the run directory with its job; an older job of the same directory is replaced."""
    run_dir.mkdir(parents=True, exist_ok=True)
    _replace(run_dir / JOB, asdict(job))


def read_job(run_dir: Path) -> Job:
    """The job of `run_dir`; PublicError where it is missing, malformed, or asks for something unknown."""
    path = run_dir / JOB
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PublicError(
            f"{path} is missing. Request the training run again; the bot writes this file."
        ) from None
    except ValueError as broken:
        raise PublicError(f"{path} is not valid JSON ({broken}). Request the training run again.") from broken
    if not isinstance(raw, dict):
        raise PublicError(f"{path} does not hold a job. Request the training run again.")
    try:
        return Job(**raw | {"quantization": Quantization(raw.get("quantization", Quantization.NF4))})
    except (TypeError, ValueError) as wrong:
        raise PublicError(
            f"{path} does not hold a job this version understands: {wrong}. Request the run again."
        ) from wrong


def append_progress(stream: TextIO, line: ProgressLine) -> None:
    """Writes one line and flushes it, without the fields that are None; `at` becomes now where it is empty."""
    said = {name: value for name, value in asdict(line).items() if value is not None}
    said["at"] = line.at or datetime.now(UTC).isoformat(timespec="milliseconds")
    stream.write(json.dumps(said, ensure_ascii=False) + "\n")
    stream.flush()


def read_progress(run_dir: Path) -> list[dict[str, Any]]:
    """What the run has told so far, oldest first, with the fields of ProgressLine; a torn line is passed over."""
    path = run_dir / PROGRESS
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    return [line for line in map(_said, lines) if line]


def _said(text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError:
        return {}
    return line if isinstance(line, dict) and "event" in line else {}


def eval_loss_before(run_dir: Path, *, stage: str, step: int = 0) -> float | None:
    """The loss before the stage's first step, where an earlier part of this run has measured it."""
    told = (
        line
        for line in read_progress(run_dir)
        if line["event"] == Event.EVALUATED and line["step"] == step and line.get("stage") == stage
    )
    return next((float(line["eval_loss"]) for line in told), None)


def write_result(run_dir: Path, result: TrainingResult) -> None:
    """Says that the run is over. Nothing is written after it."""
    _replace(run_dir / RESULT, asdict(result))


def read_result(run_dir: Path) -> TrainingResult | None:
    """How the run ended, or None while it has not."""
    path = run_dir / RESULT
    if not path.exists():
        return None
    raw = json.loads(path.read_text(encoding="utf-8"))
    known = {each.name for each in fields(TrainingResult)}
    return TrainingResult(**{k: v for k, v in raw.items() if k in known} | {"status": Status(raw["status"])})


def checkpoints(run_dir: Path, stage: str = "") -> Path:
    """Where a stage's checkpoints lie."""
    return run_dir / (CHECKPOINTS if stage in {"", "sft"} else f"{CHECKPOINTS}-{stage}")


def last_good_checkpoint(run_dir: Path, stage: str = "") -> Path | None:
    """The newest whole checkpoint of a stage. Half-written ones (a full disk, a kill -9 while saving) are removed.

    transformers writes trainer_state.json last, so a checkpoint is whole if that file can be read.
    """
    found = checkpoints(run_dir, stage).glob("checkpoint-*")
    for checkpoint in sorted(found, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(checkpoint, ignore_errors=True)
            continue
        return checkpoint
    return None


def lock(run_dir: Path) -> int:
    """Takes the directory for this process's whole life; raises AlreadyTraining where a living trainer has it.

    The file descriptor that comes back is the lock: it must stay open, and the system frees it when the process dies.
    """
    descriptor = os.open(run_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    if not _taken(descriptor, fcntl.LOCK_EX, patience_s=0.5):
        os.close(descriptor)
        raise AlreadyTraining(f"Another trainer is at work in {run_dir}.")
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def kept_stage(run_dir: Path, stage: str) -> dict[str, Any] | None:
    """The facts of a stage that is over, whose adapter lies beside them; None while it is not."""
    path = run_dir / STAGES / stage / STAGE
    if not path.exists():
        return None
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return facts


def lock_device(path: Path) -> int | None:
    """Takes a device, whose lock is this file, for this process's whole life; None while another trainer has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if _taken(descriptor, fcntl.LOCK_EX):
        return descriptor
    os.close(descriptor)
    return None


def is_locked(run_dir: Path) -> bool:
    """Whether a living trainer holds the directory now; says nothing about whose child it is."""
    path = run_dir / LOCK
    if not path.exists():
        return False
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return not _taken(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _taken(descriptor: int, kind: int, *, patience_s: float = 0.0) -> bool:
    """Whether the lock could be had; patience outlasts the blink in which `is_locked` holds it to look."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)


def trainer_pid(run_dir: Path) -> int | None:
    """The process id of the trainer that took the lock last, or None. Only while `is_locked` is it surely still that one."""
    try:
        return int((run_dir / LOCK).read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return None


def request_cancel(run_dir: Path) -> None:
    """Makes the next SIGTERM mean "stop for good" and not "go on later"."""
    (run_dir / CANCEL).touch()


def cancel_requested(run_dir: Path) -> bool:
    """Whether the run is to end for good."""
    return (run_dir / CANCEL).exists()


def _replace(path: Path, value: Mapping[str, Any]) -> None:
    partial = path.with_name(path.name + ".part")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
