"""A local server that trains as OpenAI does: files and jobs that move on only when a test says so, and ways to fail.

Each JSON request, and each job that it tells of, is held to OpenAI's own description where that lies beside the checkout.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from provider_schema import SPECS, NotTheirs, OpenAISpec, tally
from provider_standins import refusal_of_openai

Json = dict[str, Any]
BOM = b"\xef\xbb\xbf"
TRAINING = frozenset({"Standard", "GlobalStandard", "Developer"})
STATES = frozenset({"validating_files", "queued", "running", "succeeded", "failed", "cancelled"})


@dataclass
class TuningServer:
    """Its files, its jobs, and what goes wrong. `fails[what]` are the answers to the next calls of that name:
    a status refuses before anything is done, a negative one does the work and answers that status, 0 hangs."""

    files: dict[str, Json] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    jobs: dict[str, Json] = field(default_factory=dict)
    orders: list[Json] = field(default_factory=list)
    fails: dict[str, list[int]] = field(default_factory=dict)
    code: str = "server_error"
    azure: bool = False
    """Files begin with a byte order mark then and do not expire, orders name the kind of deployment, names have no dots."""
    violations: list[str] = field(default_factory=list)
    url: str = ""
    _spec: OpenAISpec | None = field(default_factory=lambda: OpenAISpec.read() if SPECS.is_dir() else None)

    def move(self, status: str, **changes: Any) -> None:
        """The newest job is in another state from now on."""
        job = self.jobs[next(reversed(self.jobs))]
        job |= {"status": status, **changes}
        if status == "succeeded":
            job |= {"fine_tuned_model": f"ft:{job['model']}:us::{len(self.jobs)}", "trained_tokens": 4321}

    def routes(self) -> list[web.RouteDef]:
        jobs = "/v1/fine_tuning/jobs"
        return [
            web.post("/v1/files", self.upload),
            web.get("/v1/files", self.list_files),
            web.delete("/v1/files/{id}", self.delete),
            web.post(jobs, self.create),
            web.get(jobs, self.list_jobs),
            web.get(jobs + "/{id}", self.retrieve),
            web.post(jobs + "/{id}/cancel", self.cancel),
            web.get(jobs + "/{id}/events", self.events),
            web.get(jobs + "/{id}/checkpoints", self.checkpoints),
        ]

    async def upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        sent: Any = form["file"]
        assert form["purpose"] == "fine-tune"
        if (form.get("expires_after[anchor]") == "created_at") is self.azure:
            self.violations.append(f"expires_after is wrong for a file; Azure: {self.azure}")
        late = await self._fail("upload")
        if isinstance(late, web.Response):
            return late
        name = f"file-{len(self.files) + 1}"
        content = sent.file.read()
        if content.startswith(BOM) is not self.azure:
            self.violations.append(f"the byte order mark is wrong; Azure: {self.azure}")
        row = {
            "id": name,
            "object": "file",
            "bytes": len(content),
            "created_at": 1,
            "filename": sent.filename,
        }
        self.files[name] = {**row, "purpose": "fine-tune", "status": "processed"}
        self.contents[name] = content
        return self._late(late) or web.json_response(self.files[name])

    async def list_files(self, request: web.Request) -> web.Response:
        rows = [row for name, row in self.files.items() if name not in self.deleted]
        return web.json_response({"object": "list", "data": rows, "has_more": False})

    async def delete(self, request: web.Request) -> web.Response:
        late = await self._fail("delete")
        if isinstance(late, web.Response):
            return late
        name = request.match_info["id"]
        if name not in self.files or name in self.deleted:
            return refusal_of_openai(404, "not_found", "No such File object")
        self.deleted.append(name)
        return web.json_response({"id": name, "object": "file", "deleted": True})

    async def create(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.orders.append(dict(body))
        if self.azure and (body.pop("trainingType", "") not in TRAINING or "." in body.get("suffix", "")):
            return refusal_of_openai(400, "invalid_value", "trainingType or suffix is not valid")
        if (wrong := self._hold(request, body)) is not None:
            return refusal_of_openai(400, "invalid_value", wrong)
        late = await self._fail("create")
        if isinstance(late, web.Response):
            return late
        if body["training_file"] not in self.files or body["training_file"] in self.deleted:
            return refusal_of_openai(
                400, "invalid_file", "The training file is not there", param="training_file"
            )
        name = f"ftjob-{len(self.jobs) + 1}"
        self.jobs[name] = {
            "id": name, "object": "fine_tuning.job", "created_at": 1, "error": None, "finished_at": None,
            "fine_tuned_model": None, "hyperparameters": {}, "model": body["model"], "organization_id": "org-1",
            "result_files": [], "status": "validating_files", "trained_tokens": None,
            "training_file": body["training_file"], "validation_file": body.get("validation_file"),
            "seed": body.get("seed", 0), "estimated_finish": None, "method": body["method"],
            "metadata": body.get("metadata"), "integrations": [],
        }  # fmt: skip
        return self._late(late) or self._tell(name)

    async def list_jobs(self, request: web.Request) -> web.Response:
        # Not held to the description: openapi-core takes an absent `metadata` filter for a wrong one.
        late = await self._fail("list")
        if isinstance(late, web.Response):
            return late
        rows = list(reversed(self.jobs.values()))
        return web.json_response({"object": "list", "data": rows, "has_more": False})

    async def retrieve(self, request: web.Request) -> web.Response:
        self._hold(request)
        late = await self._fail("retrieve")
        if isinstance(late, web.Response):
            return late
        if request.match_info["id"] not in self.jobs:
            return refusal_of_openai(404, "not_found", "No such job")
        return self._tell(request.match_info["id"])

    async def cancel(self, request: web.Request) -> web.Response:
        self._hold(request)
        late = await self._fail("cancel")
        if isinstance(late, web.Response):
            return late
        self.jobs[request.match_info["id"]]["status"] = "cancelled"
        return self._tell(request.match_info["id"])

    async def events(self, request: web.Request) -> web.Response:
        self._hold(request)
        data = {"step": 3, "total_steps": 12, "train_loss": 1.5, "valid_loss": 1.7}
        head = {"object": "fine_tuning.job.event", "created_at": 1, "level": "info"}
        rows: list[Json] = [
            {**head, "id": "e2", "type": "metrics", "message": "Step 3/12: training loss=1.5", "data": data},
            {**head, "id": "e1", "type": "message", "message": "Fine-tuning job started", "data": {}},
        ]
        return web.json_response({"object": "list", "data": rows, "has_more": False})

    async def checkpoints(self, request: web.Request) -> web.Response:
        self._hold(request)
        row = {
            "id": "ckpt-1", "object": "fine_tuning.job.checkpoint", "created_at": 1, "step_number": 6,
            "fine_tuned_model_checkpoint": "ft:step-6", "fine_tuning_job_id": request.match_info["id"],
            "metrics": {"step": 6},
        }  # fmt: skip
        if self._spec is not None:
            self._spec.check("FineTuningJobCheckpoint", row)
        return web.json_response({"object": "list", "data": [row], "has_more": False})

    def _tell(self, name: str) -> web.Response:
        job = self.jobs[name]
        if self._spec is not None and job["status"] in STATES:
            self._spec.check("FineTuningJob", job)
        return web.json_response(job)

    def _hold(self, request: web.Request, body: Json | None = None) -> str | None:
        if self._spec is None:
            return None
        tally.held["OpenAI"] += 1
        try:
            self._spec.check_request(request.method, request.path, body)
        except NotTheirs as error:
            self.violations.append(str(error))
            return str(error)
        return None

    async def _fail(self, what: str) -> web.Response | int:
        planned = self.fails.get(what)
        status = planned.pop(0) if planned else 200
        if status == 0:
            await asyncio.sleep(3600)
        if status > 200:
            return refusal_of_openai(status, self.code, "planned to fail")
        return status

    def _late(self, status: int) -> web.Response | None:
        return refusal_of_openai(-status, self.code, "planned to fail after the work") if status < 0 else None


@asynccontextmanager
async def tuning() -> AsyncIterator[TuningServer]:
    """The server on a port of loopback; a request that OpenAI's description forbids fails the test."""
    server = TuningServer()
    app = web.Application()
    app.add_routes(server.routes())
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield server
    finally:
        await runner.cleanup()
    assert not server.violations, server.violations
