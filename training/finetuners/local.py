"""Fine-tuning on this machine: `training.qlora` as a child process with a run directory of its own.

The child outlives the bot. Whether it lives is told by the lock it holds, not by a process id that may be somebody else's
by now; what it has done is told by its files. The handle is the run directory.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from storage.errors import PublicError
from training import rundir
from training.finetuners import Broken, Done, Order, Pending


class LocalFineTuner:
    """Starts and watches trainer processes on this machine."""

    def __init__(self, *, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._children: dict[str, subprocess.Popen[bytes]] = {}

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
            rundir.write_job(directory, _job(order))
        command = [sys.executable, "-m", "training.qlora", handle, "--resume"]
        with (directory / "trainer.log").open("ab") as log:
            self._children[handle] = subprocess.Popen(
                ["nice", "-n", "10", *command] if os.name == "posix" else command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=directory,
                env=self._environment,
                start_new_session=True,
            )
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
            return Pending(_progress(directory))
        return Broken(_last_words(directory), resumable=True)

    async def cancel(self, handle: str) -> None:
        """Leave the word that this is a cancellation, and ask the trainer to stop; it saves and says so."""
        directory = Path(handle)
        rundir.request_cancel(directory)
        pid = rundir.trainer_pid(directory)
        if pid is not None and rundir.is_locked(directory):
            os.kill(pid, signal.SIGTERM)


def _job(order: Order) -> rundir.Job:
    return rundir.Job(
        run_id=order.run_id,
        base_model=order.base_model,
        dataset_dir=str(order.dataset_path),
        dataset_hash=order.dataset_id,
        quantization=order.quantization,
        epochs=order.epochs,
        seed=order.seed,
        allow_downloads=order.allow_downloads,
    )


def _ended(directory: Path, result: rundir.TrainingResult) -> Done | Broken:
    if result.status == "done":
        return Done(directory / result.adapter, result.adapter_sha256, result.card)
    return Broken(result.reason, cancelled=result.status == "cancelled")


def _progress(directory: Path) -> dict[str, object]:
    """What is known by now: later lines win, line by line and fact by fact."""
    known: dict[str, object] = {}
    for line in rundir.read_progress(directory)[-200:]:
        known |= {name: value for name, value in line.items() if value is not None}
    return known


def _last_words(directory: Path) -> str:
    try:
        lines = (directory / rundir.LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except FileNotFoundError:
        lines = []
    return lines[-1][:300] if lines else "the trainer ended without a word (killed, or out of memory)"
