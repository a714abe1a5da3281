"""Fine-tuning on this machine: `training.qlora` as a child process with a run directory of its own.

The child outlives the bot. Whether it lives is told by the lock it holds, not by a process id that may be somebody else's
by now; what it has done is told by its files. The handle is the run directory.
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from storage.errors import PublicError
from training import rundir
from training.finetuners import Broken, Done, Order, Pending

OF_A_STAGE = ("loss", "eval_loss", "tokens_per_s", "eta_s")

FALLEN, FALLEN_LINES = "Fatal Python error: ", 200
"""How Python's faulthandler begins what it says of a process that native code brought down, in the last lines of its log."""

KILLED = re.compile(r"Signal \d+ \((SIG\w+)\) received by PID")
"""How torchrun says it of one of several processes."""

NICE = 10
"""How far behind everybody else a trainer stands in the line for a core."""


class LocalFineTuner:
    """Starts and watches trainer processes on this machine."""

    def __init__(
        self, *, environment: Mapping[str, str], memory_mb: int | None = None, processes: int = 1
    ) -> None:
        """`memory_mb`: the most a training may take; None: what is free when it begins. `processes` train together."""
        self._environment = {"PYTHONFAULTHANDLER": "1", **environment}
        self._memory_mb = memory_mb
        self._processes = processes
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    async def available(self, *, insist: bool = False) -> str:
        """Always: what is missing on this machine is said by the trainer."""
        return ""

    async def quote(self, order: Order) -> str:
        """Nothing: the machine is the operator's."""
        return ""

    async def find(self, order: Order) -> str:
        """The run directory, once an order was written into it."""
        return str(order.directory) if (order.directory / rundir.JOB).exists() else ""

    async def launch(self, order: Order) -> str:
        """Write the order and start the trainer, unless one is at work in that directory or has finished there."""
        try:
            return await asyncio.to_thread(self._launch, order)
        except OSError as error:
            raise PublicError(
                f"The training could not be started in {order.directory} ({error.strerror}). "
                "Free some space or check the permissions, then start it again."
            ) from None

    def _launch(self, order: Order) -> str:
        directory = order.directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = str(directory)
        if rundir.is_locked(directory) or rundir.read_result(directory) is not None:
            return handle
        if not (directory / rundir.JOB).exists():
            rundir.write_job(directory, job_of(order, self._memory_mb))
        command = [sys.executable, *trainer_of(1 if order.trials else self._processes), handle, "--resume"]
        with (directory / "trainer.log").open("ab") as log:
            self._children[handle] = subprocess.Popen(
                ["nice", "-n", str(NICE), *command] if os.name == "posix" else command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=directory,
                env=self._environment,
                start_new_session=True,
            )
        _step_behind(self._children[handle].pid)
        return handle

    async def poll(self, handle: str) -> Pending | Done | Broken:
        """Look once at the run directory."""
        return await asyncio.to_thread(self._poll, handle)

    def _poll(self, handle: str) -> Pending | Done | Broken:
        directory = Path(handle)
        child = self._children.get(handle)
        alive = (child is not None and child.poll() is None) or rundir.is_locked(directory)
        result = rundir.read_result(directory)
        if result is not None:
            return _ended(directory, result)
        if alive:
            return Pending(progress_of(directory))
        return Broken(last_words(directory), resumable=True)

    async def cancel(self, handle: str) -> None:
        """Leave the word that this is a cancellation, and ask the trainer to stop; it saves and says so."""
        directory = Path(handle)
        rundir.request_cancel(directory)
        pid = rundir.trainer_pid(directory)
        if pid is not None and rundir.is_locked(directory):
            os.kill(pid, signal.SIGTERM)

    async def close(self) -> None:
        """Nothing to let go of: trainers go on by themselves."""


def trainer_of(processes: int) -> list[str]:
    """What python runs: the trainer, or several of it that share every step's rows on this machine."""
    if processes == 1:
        return ["-m", "training.qlora"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [*launcher, "-m", "training.trainers.together"]


def _step_behind(pid: int) -> None:
    """Let what answers people go before a session of its own.

    Linux may share out its cores by sessions first (autogroup): then being nice counts for nothing between two of them.
    """
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(NICE), encoding="ascii")


def job_of(order: Order, memory_mb: int | None, *, dataset: Path | None = None) -> rundir.Job:
    """What the trainer is told. `dataset`: where it finds the examples, if not where they are frozen."""
    return rundir.Job(
        run_id=order.run_id,
        base_model=order.base_model,
        dataset_dir=str(dataset or order.dataset_path),
        dataset_hash=order.dataset_id,
        quantization=order.quantization,
        epochs=order.epochs,
        method=order.method,
        adapter=order.adapter,
        rank=order.rank,
        learning_rate=order.learning_rate,
        batch_size=order.batch_size,
        max_length=order.max_length,
        seed=order.seed,
        allow_downloads=order.allow_downloads,
        memory_mb=memory_mb,
        effort=order.effort,
        trials=order.trials,
        ends_at=order.ends_at,
    )


def _ended(directory: Path, result: rundir.TrainingResult) -> Done | Broken:
    if result.status == "done":
        return Done(directory / result.adapter, result.adapter_sha256, result.card)
    return Broken(result.reason, cancelled=result.status == "cancelled")


def progress_of(directory: Path) -> dict[str, object]:
    """What is known by now: later lines win, line by line and fact by fact. A new stage or trial has no figures yet."""
    known: dict[str, object] = {}
    for line in rundir.read_progress(directory)[-200:]:
        if any(known.get(name) and line.get(name) not in {None, known[name]} for name in ("stage", "trial")):
            known |= dict.fromkeys(OF_A_STAGE)
        known |= {name: value for name, value in line.items() if value is not None}
    return known


def last_words(directory: Path) -> str:
    try:
        lines = (directory / rundir.LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except FileNotFoundError:
        lines = []
    fell = next((line for line in reversed(lines[-FALLEN_LINES:]) if line.startswith(FALLEN)), "")
    beside = next((line for line in reversed(lines[-FALLEN_LINES:]) if line.startswith(rundir.BESIDE)), "")
    if beside:
        return beside
    killed = next((found for line in lines[-FALLEN_LINES:] if (found := KILLED.search(line))), None)
    if killed:
        return f"one of its processes was killed ({killed[1]}), as happens where memory runs out"
    if fell:
        return f"{fell.removeprefix(FALLEN)} in a library, as happens where memory runs out"
    return lines[-1][:300] if lines else "the trainer ended without a word (killed, or out of memory)"
