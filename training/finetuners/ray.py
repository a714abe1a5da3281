"""Fine-tuning on a Ray cluster: `training.ray_job` as a job of its Jobs API, with a run directory that both sides see.

The job's name there is the run's id, so that it cannot be started twice; it is looked for before it is ordered. What it has
done is told by its files, as with a trainer on this machine. When it has ended, everything but the dataset comes home to the
bot's own run directory and the shared one goes.
"""

import asyncio
import contextlib
import json
import shlex
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import structlog

from storage.errors import PublicError
from training import rundir
from training.finetuners import Broken, Done, NotYet, Order, Pending
from training.finetuners.local import job_of, last_words, progress_of

RAY = "ray"
SUCCEEDED, FAILED, STOPPED = "SUCCEEDED", "FAILED", "STOPPED"
ENDED = frozenset({SUCCEEDED, FAILED, STOPPED})
WAITING = frozenset({"PENDING", "RUNNING"})
DATASET = "dataset"
LEFT_THERE = (DATASET, rundir.CHECKPOINTS, f"{rundir.CHECKPOINTS}-*", "ray", rundir.LOCK, rundir.CANCEL)
"""What does not come home: the dataset is there already, the rest is of use to nobody once the run is over."""
TAIL_LINES, TAIL_CHARACTERS = 40, 300
ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What the operator decided: where the head listens, and what a run may have there."""

    address: str
    token: str = field(default="", repr=False)
    storage: Path | None = None
    workers: int = 1
    gpus_per_worker: float = 0.0
    python: str = "python"
    timeout_s: float = 60.0
    look_every_s: float = 2.0


class Unknown(Exception):
    """The cluster knows no job of that name."""


class RayFineTuner:
    """The jobs of one cluster."""

    provider = RAY

    def __init__(self, cluster: Cluster, *, home: Path) -> None:
        """`home` has the bot's run directories, each named by its run's id."""
        self._cluster = cluster
        self._home = home
        self._session: aiohttp.ClientSession | None = None
        self._seen: dict[str, tuple[float, Pending]] = {}

    async def available(self, *, insist: bool = False) -> str:
        """Why nothing can be trained there: the shared folder. Nobody is asked for it."""
        return await asyncio.to_thread(_why_not_shared, self._cluster.storage)

    async def quote(self, order: Order) -> str:
        """Nothing: the cluster is the operator's."""
        return ""

    async def version(self) -> str:
        """Which Ray answers there. Raises PublicError (it refuses) or NotYet (it does not answer)."""
        told = await self._ask("GET", "/api/version", "its version")
        return str(told.get("ray_version") or "?")

    async def find(self, order: Order) -> str:
        """The run's id, where the cluster knows it or it has ended already; else nothing of it stays in the folder."""
        if await asyncio.to_thread(self._result, order.run_id) is not None:
            return order.run_id
        try:
            await self._job(order.run_id)
        except Unknown:
            await asyncio.to_thread(shutil.rmtree, self._shared(order.run_id), ignore_errors=True)
            return ""
        return order.run_id

    async def launch(self, order: Order) -> str:
        """Put the run where the cluster sees it and order it, unless it is at work or has ended with a result.

        A job that died without one makes room for the next, which goes on from the last checkpoint.
        """
        if why := await self.available():
            raise PublicError(why)
        handle = order.run_id
        if await asyncio.to_thread(self._result, handle) is not None:
            return handle
        try:
            job = await self._job(handle)
        except Unknown:
            pass
        else:
            if job.get("status") not in ENDED:
                return handle
            await self._keep_log(handle)
            await self._delete(handle)
        try:
            await asyncio.to_thread(self._stage, order)
        except OSError as error:
            raise PublicError(
                f"The run could not be written to RAY_STORAGE ({error.strerror or error}). Free some space there or check "
                "its permissions, then start it again."
            ) from None
        try:
            await self._ask("POST", "/api/jobs/", "the job", self._wish(order))
        except PublicError:
            await asyncio.to_thread(shutil.rmtree, self._shared(handle), ignore_errors=True)
            raise
        return handle

    async def poll(self, handle: str) -> Pending | Done | Broken:
        """Look, but no more often than is polite. Where cluster or folder cannot be reached, a later look finds out."""
        since, seen = self._seen.get(handle, (0.0, Pending()))
        if since and time.monotonic() - since < self._cluster.look_every_s:
            return seen
        try:
            told = await self._look(handle)
        except (NotYet, PublicError) as error:
            told = Pending({"provider": str(error)})
        except OSError as error:
            told = Pending(
                {"provider": f"RAY_STORAGE cannot be read ({error.strerror or error}); I look again."}
            )
        if isinstance(told, Pending):
            self._seen[handle] = (time.monotonic(), told)
        else:
            self._seen.pop(handle, None)
        return told

    async def cancel(self, handle: str) -> None:
        """Leave the word that this is a cancellation, and ask the cluster to stop it; the next call asks again."""
        with contextlib.suppress(OSError):
            await asyncio.to_thread(rundir.request_cancel, self._shared(handle))
        self._seen.pop(handle, None)
        try:
            await self._ask("POST", f"/api/jobs/{handle}/stop", "stopping the job")
        except (PublicError, NotYet, Unknown) as error:
            log.warning("a job was not stopped", job=handle, why=str(error))

    async def close(self) -> None:
        """Close the connections, if there are any; jobs go on."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # --- a look ----------------------------------------------------------------------------------------------

    async def _look(self, handle: str) -> Pending | Done | Broken:
        try:
            job = await self._job(handle)
        except Unknown:
            return await self._gone(handle)
        state = str(job.get("status"))
        if state not in ENDED:
            if state not in WAITING:
                log.warning("a job is in a state that is not known", job=handle, state=state)
            progress = await asyncio.to_thread(progress_of, self._shared(handle))
            return Pending({**progress, "provider": f"Ray says: {state}"})
        await self._keep_log(handle)
        ended = await asyncio.to_thread(self._bring_home, handle)
        reason = await asyncio.to_thread(self._last_words, handle, str(job.get("message") or ""))
        with contextlib.suppress(NotYet):
            await self._delete(handle)
        if ended is not None:
            return self._ended(handle, ended)
        if state == STOPPED:
            await asyncio.to_thread(shutil.rmtree, self._shared(handle), ignore_errors=True)
            return Broken("It was stopped on the Ray cluster.", cancelled=True)
        if state == SUCCEEDED:
            reason = f"the job ended and left no result in RAY_STORAGE. Is it the same folder there? {reason}"
        return Broken(f"Ray's job {handle} ended without a result: {reason}", resumable=True)

    async def _gone(self, handle: str) -> Done | Broken:
        """The cluster forgot the job, or it was deleted by a look whose news did not arrive."""
        ended = await asyncio.to_thread(self._bring_home, handle)
        if ended is not None:
            return self._ended(handle, ended)
        if await asyncio.to_thread(rundir.cancel_requested, self._shared(handle)):
            await asyncio.to_thread(shutil.rmtree, self._shared(handle), ignore_errors=True)
            return Broken("It was stopped on the Ray cluster.", cancelled=True)
        reason = await asyncio.to_thread(self._last_words, handle, "")
        return Broken(f"The Ray cluster knows no job {handle} any more: {reason}", resumable=True)

    def _ended(self, handle: str, result: rundir.TrainingResult) -> Done | Broken:
        if result.status is rundir.Status.DONE:
            return Done(self._home / handle / result.adapter, result.adapter_sha256, result.card)
        return Broken(result.reason, cancelled=result.status is rundir.Status.CANCELLED)

    def _last_words(self, handle: str, message: str) -> str:
        words = last_words(self._shared(handle))
        return f"{message[:TAIL_CHARACTERS]} Last words: {words}" if message else words

    async def _keep_log(self, handle: str) -> None:
        """The end of what the job said goes into the run's log, before the cluster forgets it."""
        with contextlib.suppress(PublicError, NotYet, Unknown):
            told = await self._ask("GET", f"/api/jobs/{handle}/logs", "the job's log")
            lines = str(told.get("logs") or "").strip().splitlines()[-TAIL_LINES:]
            await asyncio.to_thread(_append, self._shared(handle) / rundir.LOG, lines)

    async def _delete(self, handle: str) -> None:
        """A job that must not be deleted stays on the cluster's list, where it costs nothing."""
        try:
            await self._ask("DELETE", f"/api/jobs/{handle}", "deleting the job")
        except Unknown:
            pass
        except PublicError as error:
            log.warning("a job was not deleted", job=handle, why=str(error))

    # --- the folder that both see ----------------------------------------------------------------------------

    def _shared(self, run_id: str) -> Path:
        assert self._cluster.storage is not None
        return self._cluster.storage / run_id

    def _result(self, run_id: str) -> rundir.TrainingResult | None:
        """How the run ended, here or there."""
        storage = self._cluster.storage
        for directory in (self._home / run_id, *([storage / run_id] if storage else [])):
            if (found := rundir.read_result(directory)) is not None:
                return found
        return None

    def _stage(self, order: Order) -> None:
        """The order and its dataset, whole or not at all."""
        directory = self._shared(order.run_id)
        directory.mkdir(parents=True, exist_ok=True)
        dataset = directory / DATASET
        if not dataset.exists():
            draft = directory / f".{DATASET}.part"
            shutil.rmtree(draft, ignore_errors=True)
            shutil.copytree(order.dataset_path, draft)
            draft.replace(dataset)
        if not (directory / rundir.JOB).exists():
            rundir.write_job(directory, job_of(order, None, dataset=dataset))

    def _bring_home(self, run_id: str) -> rundir.TrainingResult | None:
        """Everything that is worth keeping, the result last; then the shared directory goes. None: there is no result yet.

        Without one the checkpoints stay for the next launch, and the examples do not.
        """
        home, shared = self._home / run_id, self._shared(run_id)
        if (found := rundir.read_result(home)) is None:
            if (found := rundir.read_result(shared)) is None:
                shutil.rmtree(shared / DATASET, ignore_errors=True)
                return None
            left = shutil.ignore_patterns(*LEFT_THERE, rundir.RESULT)
            shutil.copytree(shared, home, ignore=left, dirs_exist_ok=True)
            rundir.write_result(home, found)
        shutil.rmtree(shared, ignore_errors=True)
        return found

    # --- the Jobs API ----------------------------------------------------------------------------------------

    def _wish(self, order: Order) -> dict[str, Any]:
        """What is ordered. A single worker is the job itself, so the job asks for what that needs."""
        cluster = self._cluster
        command = [cluster.python, "-m", "training.ray_job", str(self._shared(order.run_id).resolve())]
        command += ["--workers", str(cluster.workers), "--gpus", f"{cluster.gpus_per_worker:g}"]
        alone: dict[str, Any] = {"entrypoint_num_cpus": 1, "entrypoint_num_gpus": cluster.gpus_per_worker}
        return {
            "entrypoint": shlex.join(command),
            "submission_id": order.run_id,
            "runtime_env": {"env_vars": dict(ENVIRONMENT)},
            "metadata": {"run": str(order.number), "dataset": order.dataset_id[:64]},
            **(alone if cluster.workers == 1 else {}),
        }

    async def _job(self, handle: str) -> Mapping[str, Any]:
        """What the cluster knows of a job. Raises Unknown."""
        return await self._ask("GET", f"/api/jobs/{handle}", "the job")

    async def _ask(self, method: str, path: str, what: str, body: Any = None) -> dict[str, Any]:
        """The answer. A refusal that stays one is a PublicError; whatever may have worked, or may work later, is NotYet."""
        cluster = self._cluster
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=cluster.timeout_s)
            headers = {"Authorization": f"Bearer {cluster.token}"} if cluster.token else {}
            self._session = aiohttp.ClientSession(timeout=timeout, headers=headers)
        try:
            async with self._session.request(method, cluster.address.rstrip("/") + path, json=body) as answer:
                status, text = answer.status, await answer.text(errors="replace")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NotYet(
                f"The Ray cluster at {cluster.address} did not answer ({type(error).__name__}); I look again."
            ) from error
        if status == 404 and path.startswith("/api/jobs/") and path != "/api/jobs/":
            raise Unknown(text[:TAIL_CHARACTERS])
        if status in {401, 403}:
            raise PublicError(
                f"The Ray cluster does not accept RAY_TOKEN ({status}). Set the cluster's own token."
            )
        if status >= 500 or status in {404, 408, 409, 425, 429}:
            raise NotYet(f"The Ray cluster answered {status} to {what}; I look again.")
        if status >= 300:
            raise PublicError(f"The Ray cluster refuses {what} ({status}): {text.strip()[:TAIL_CHARACTERS]}")
        try:
            told = json.loads(text)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise NotYet(
                f"What answers at {cluster.address} is not Ray's Jobs API; check RAY_ADDRESS. I look again."
            )
        return told


def _append(path: Path, lines: list[str]) -> None:
    if lines:
        with path.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")


def _why_not_shared(storage: Path | None) -> str:
    if storage is None:
        return "RAY_STORAGE is not set. Name a folder that this machine and the Ray cluster share."
    if not storage.is_dir():
        return f"RAY_STORAGE names {storage}, which is no folder here. Create or mount it, here and on the Ray cluster."
    return ""
