"""A local server that speaks Ray's Jobs API as 2.60 does: jobs move on only when a test says so, and ways to fail.

Shapes and statuses are those of `ray/dashboard/modules/job`; `test_ray_tuning` holds them to Ray's models, if there.
"""

import asyncio
import json
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from training import rundir
from training.rundir import Event, ProgressLine, Status, TrainingResult

Json = dict[str, Any]
ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})


@dataclass
class RayHead:
    """Its jobs, and what goes wrong. `fails[what]` are the answers to the next calls of that name: a status refuses before
    anything is done, a negative one does the work and answers that status, 0 hangs."""

    token: str = ""
    jobs: dict[str, Json] = field(default_factory=dict)
    orders: list[Json] = field(default_factory=list)
    """Those that were taken."""
    told: list[Json] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    fails: dict[str, list[int]] = field(default_factory=dict)
    url: str = ""

    def move(self, status: str, message: str = "", log: str = "") -> None:
        """The newest job is in another state from now on; where there is none, nothing happens."""
        if not self.jobs:
            return
        name = next(reversed(self.jobs))
        self.jobs[name] |= {"status": status, "message": message or None}
        self.logs[name] = self.logs.get(name, "") + log

    def directory(self) -> Path:
        """The newest order's run directory, as its command names it."""
        return Path(shlex.split(self.orders[-1]["entrypoint"])[3])

    def train(self, status: Status | None = None, reason: str = "") -> None:
        """What the trainer would leave by now; without a status it is in the middle of it."""
        directory = self.directory()
        job = rundir.read_job(directory)
        assert (Path(job.dataset_dir) / "train.jsonl").read_text()
        with (directory / rundir.PROGRESS).open("a") as progress:
            rundir.append_progress(progress, ProgressLine(Event.STEP, 3, 12, loss=1.5, stage="sft"))
        (directory / rundir.CHECKPOINTS / "checkpoint-3").mkdir(parents=True, exist_ok=True)
        if status is not None:
            adapter = directory / rundir.ADAPTER
            adapter.mkdir(exist_ok=True)
            (adapter / "adapter_config.json").write_text("{}")
            result = TrainingResult(status, reason, rundir.ADAPTER, "a" * 64, steps=12, method="sft")
            rundir.write_result(directory, result)

    def routes(self) -> list[web.RouteDef]:
        one = "/api/jobs/{id}"
        return [
            web.get("/api/version", self.version),
            web.post("/api/jobs/", self.submit),
            web.get(one, self.retrieve),
            web.get(one + "/logs", self.log),
            web.post(one + "/stop", self.stop),
            web.delete(one, self.delete),
        ]

    @web.middleware
    async def guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """As RAY_AUTH_MODE=token has it."""
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401, text="Unauthorized: Missing authentication token")
        what = handler.__name__
        planned = self.fails.get(what)
        status = planned.pop(0) if planned else 200
        if status == 0:
            await asyncio.sleep(3600)
        if status > 200:
            return web.Response(status=status, text="planned to fail")
        answer: web.StreamResponse = await handler(request)
        return answer if status > 0 else web.Response(status=-status, text="planned to fail after the work")

    async def version(self, request: web.Request) -> web.Response:
        told = {"version": "4", "ray_version": "2.60.0", "ray_commit": "0" * 40, "session_name": "session_1"}
        return web.json_response(told)

    async def submit(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = body["submission_id"]
        if name in self.jobs:
            return web.Response(
                status=500, text=f"RuntimeError: Job with submission_id {name} already exists."
            )
        self.orders.append(body)
        self.jobs[name] = {
            "type": "SUBMISSION", "job_id": None, "submission_id": name, "driver_info": None, "status": "PENDING",
            "entrypoint": body["entrypoint"], "message": "Job has not started yet.", "error_type": None,
            "start_time": 1, "end_time": None, "metadata": body["metadata"], "runtime_env": body["runtime_env"],
            "driver_agent_http_address": None, "driver_node_id": None, "driver_exit_code": None,
        }  # fmt: skip
        return web.json_response({"job_id": name, "submission_id": name})

    async def retrieve(self, request: web.Request) -> web.Response:
        if (job := self._job(request)) is None:
            return self._unknown(request)
        self.told.append(json.loads(json.dumps(job)))
        return web.json_response(job)

    async def log(self, request: web.Request) -> web.Response:
        if self._job(request) is None:
            return self._unknown(request)
        return web.json_response({"logs": self.logs.get(request.match_info["id"], "")})

    async def stop(self, request: web.Request) -> web.Response:
        if (job := self._job(request)) is None:
            return self._unknown(request)
        stopped = job["status"] not in ENDED
        if stopped:
            job |= {"status": "STOPPED", "message": "Job was intentionally stopped."}
        return web.json_response({"stopped": stopped})

    async def delete(self, request: web.Request) -> web.Response:
        if (job := self._job(request)) is None:
            return self._unknown(request)
        if job["status"] not in ENDED:
            return web.Response(
                status=500, text="RuntimeError: Attempted to delete job, but it is not terminal."
            )
        name = request.match_info["id"]
        self.deleted.append(name)
        del self.jobs[name]
        return web.json_response({"deleted": True})

    def _job(self, request: web.Request) -> Json | None:
        return self.jobs.get(request.match_info["id"])

    def _unknown(self, request: web.Request) -> web.Response:
        return web.Response(status=404, text=f"Job {request.match_info['id']} does not exist")


@asynccontextmanager
async def ray_head() -> AsyncIterator[RayHead]:
    """The head on a port of loopback."""
    head = RayHead()
    app = web.Application(middlewares=[head.guard])
    app.add_routes(head.routes())
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    head.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield head
    finally:
        await runner.cleanup()
