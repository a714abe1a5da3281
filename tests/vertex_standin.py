"""A local server that trains as Vertex AI does, with a Cloud Storage beside it: buckets, objects, and jobs that move on only
when a test says so, and ways to fail.

Each request about tuning, and each job that it tells of, is held to Google's own description where that lies beside the
checkout.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from provider_schema import SPECS, GoogleSpec, NotTheirs, tally

Json = dict[str, Any]
JOB = "GoogleCloudAiplatformV1TuningJob"
TOKEN, PROJECT, LOCATION, BUCKET = "right", "acme", "europe-west4", "acme-tuning"
RUBBISH, LEFT = -200, -1
LABEL = re.compile(r"[a-z0-9_-]{0,63}")
STATUSES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
            429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}  # fmt: skip


@dataclass
class VertexServer:
    """Its buckets, its jobs, and what goes wrong. `fails[what]` are the answers to the next calls of that name:
    a status refuses before anything is done, a negative one does the work and answers that status, 0 hangs. RUBBISH does
    the work and answers with what is no JSON, LEFT does it and never answers."""

    buckets: dict[str, dict[str, bytes]] = field(default_factory=lambda: {BUCKET: {}})
    contents: dict[str, bytes] = field(default_factory=dict)
    """All that was ever written, by its gs:// name."""
    jobs: dict[str, Json] = field(default_factory=dict)
    orders: list[Json] = field(default_factory=list)
    fails: dict[str, list[int]] = field(default_factory=dict)
    says: str = "planned to fail"
    violations: list[str] = field(default_factory=list)
    url: str = ""
    hangs: asyncio.Event = field(default_factory=asyncio.Event)
    """Somebody waits for an answer that never comes."""
    exchanged: int = 0
    """How often a token was asked for."""
    _spec: GoogleSpec | None = field(default_factory=lambda: GoogleSpec.read() if SPECS.is_dir() else None)

    def move(self, state: str, **changes: Any) -> None:
        """The newest job is in another state from now on."""
        job = self.jobs[next(reversed(self.jobs))]
        job |= {"state": f"JOB_STATE_{state}", **changes}
        if state in {"SUCCEEDED", "PARTIALLY_SUCCEEDED"} and "tunedModel" not in changes:
            home = job["name"].rpartition("/tuningJobs/")[0]
            end = f"{home}/endpoints/{len(self.jobs)}"
            step = {"checkpointId": "1", "epoch": "1", "step": "6", "endpoint": f"{home}/endpoints/601"}
            job["tunedModel"] = {"model": f"{home}/models/5@1", "endpoint": end, "checkpoints": [step]}
            stats = {"totalBillableTokenCount": "4321", "tuningStepCount": "12"}
            kind = "supervised" if "supervisedTuningSpec" in job else "preferenceOptimization"
            name = "supervisedTuningDataStats" if kind == "supervised" else "preferenceOptimizationDataStats"
            job["tuningDataStats"] = {name: stats}

    def routes(self) -> list[web.RouteDef]:
        jobs = "/v1beta1/projects/{project}/locations/{location}/tuningJobs"
        return [
            web.post("/token", self.token),
            web.post("/upload/storage/v1/b/{bucket}/o", self.upload),
            web.delete("/storage/v1/b/{bucket}/o/{name}", self.delete),
            web.post(jobs, self.create),
            web.get(jobs, self.list_jobs),
            web.get(jobs + "/{id}", self.retrieve),
            web.post(jobs + "/{id}:cancel", self.cancel),
        ]

    def lying(self) -> list[str]:
        """The objects that are there."""
        return [f"gs://{bucket}/{name}" for bucket, there in self.buckets.items() for name in there]

    async def token(self, request: web.Request) -> web.Response:
        """What a service account's key is exchanged for."""
        form = await request.post()
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        self.exchanged += 1
        return web.json_response({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})

    async def upload(self, request: web.Request) -> web.Response:
        late = await self._fail("upload", request)
        if isinstance(late, web.Response):
            return late
        bucket, name = request.match_info["bucket"], request.query["name"]
        assert request.query["uploadType"] == "media"
        if bucket not in self.buckets:
            return refusal(404, "The specified bucket does not exist.")
        content = await request.read()
        self.buckets[bucket][name] = self.contents[f"gs://{bucket}/{name}"] = content
        row = {"kind": "storage#object", "bucket": bucket, "name": name, "size": str(len(content))}
        return await self._late(late) or web.json_response(row)

    async def delete(self, request: web.Request) -> web.Response:
        late = await self._fail("delete", request)
        if isinstance(late, web.Response):
            return late
        there = self.buckets.get(request.match_info["bucket"], {})
        if there.pop(request.match_info["name"], None) is None:
            return refusal(404, "No such object")
        return await self._late(late) or web.Response(status=204)

    async def create(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.orders.append(body)
        if (wrong := self._hold(request, body)) is not None:
            return refusal(400, wrong)
        late = await self._fail("create", request)
        if isinstance(late, web.Response):
            return late
        spec = body.get("supervisedTuningSpec") or body["preferenceOptimizationSpec"]
        for uri in (spec["trainingDatasetUri"], spec.get("validationDatasetUri")):
            if uri and uri not in self.lying():
                return refusal(400, f"Failed to open {uri}: it does not exist.")
        if any(not LABEL.fullmatch(value) for pair in body["labels"].items() for value in pair):
            return refusal(400, f"Invalid labels: {body['labels']}")
        home = f"projects/{request.match_info['project']}/locations/{request.match_info['location']}"
        name = f"{home}/tuningJobs/{len(self.jobs) + 1}"
        self.jobs[name] = {
            **_answered(body), "name": name, "state": "JOB_STATE_PENDING", "createTime": "2026-11-23T12:00:00Z",
            "updateTime": "2026-11-23T12:00:00Z",
        }  # fmt: skip
        return await self._late(late) or self._tell(self.jobs[name])

    async def list_jobs(self, request: web.Request) -> web.Response:
        self._hold(request)
        late = await self._fail("list", request)
        if isinstance(late, web.Response):
            return late
        rows = list(self.jobs.values())
        begin, size = int(request.query.get("pageToken") or 0), int(request.query.get("pageSize") or 1)
        page: Json = {"tuningJobs": rows[begin : begin + size]} if rows else {}
        if begin + size < len(rows):
            page["nextPageToken"] = str(begin + size)
        return web.json_response(page)

    async def retrieve(self, request: web.Request) -> web.Response:
        self._hold(request)
        late = await self._fail("retrieve", request)
        if isinstance(late, web.Response):
            return late
        job = self.jobs.get(_name(request))
        return self._tell(job) if job is not None else refusal(404, f"{_name(request)} was not found")

    async def cancel(self, request: web.Request) -> web.Response:
        self._hold(request)
        late = await self._fail("cancel", request)
        if isinstance(late, web.Response):
            return late
        self.jobs[_name(request)]["state"] = "JOB_STATE_CANCELLED"
        return web.json_response({})

    def _tell(self, job: Json) -> web.Response:
        if self._spec is not None and job["state"] in self._spec.states:
            self._spec.check(JOB, job)
        return web.json_response(job)

    def _hold(self, request: web.Request, body: Json | None = None) -> str | None:
        if self._spec is None:
            return None
        tally.held["Google"] += 1
        try:
            if not any(known.fullmatch(request.path) for known in self._spec.paths):
                raise NotTheirs(f"Vertex has no {request.path}")
            if body is not None:
                self._spec.check(JOB, _answered(body))
        except NotTheirs as error:
            self.violations.append(str(error))
            return str(error)
        return None

    async def _fail(self, what: str, request: web.Request) -> web.Response | int:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return refusal(401, "Request had invalid authentication credentials.")
        planned = self.fails.get(what)
        status = planned.pop(0) if planned else 200
        if status == 0:
            await self._hang()
        return refusal(status, self.says) if status > 200 else status

    async def _hang(self) -> None:
        self.hangs.set()
        await asyncio.sleep(3600)

    async def _late(self, status: int) -> web.Response | None:
        if status == LEFT:
            await self._hang()
        if status == RUBBISH:
            return web.Response(text="<html>Welcome to the captive portal</html>", content_type="text/html")
        return refusal(-status, f"{self.says} after the work") if status < 0 else None


def refusal(status: int, message: str) -> web.Response:
    """As both services refuse."""
    told = {"code": status, "message": message, "status": STATUSES.get(status, "UNKNOWN")}
    return web.json_response({"error": told}, status=status)


def _name(request: web.Request) -> str:
    found = request.match_info
    return f"projects/{found['project']}/locations/{found['location']}/tuningJobs/{found['id']}"


def _answered(body: Json) -> Json:
    """The order as Google's JSON has it: 64-bit numbers are strings there, and may be sent as numbers."""
    told: Json = json.loads(json.dumps(body))
    for spec in ("supervisedTuningSpec", "preferenceOptimizationSpec"):
        numbers = told.get(spec, {}).get("hyperParameters", {})
        if isinstance(numbers.get("epochCount"), int):
            numbers["epochCount"] = str(numbers["epochCount"])
    return told


@asynccontextmanager
async def vertex() -> AsyncIterator[VertexServer]:
    """The server on a port of loopback; a request that Google's description forbids fails the test."""
    server = VertexServer()
    app = web.Application(client_max_size=2**26)
    app.add_routes(server.routes())
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()
    assert not server.violations, server.violations
