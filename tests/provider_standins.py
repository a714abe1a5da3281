"""Local servers that behave as OpenAI's and Google's APIs do: the wire format, the bills, and the ways to fail.

They keep state (what was asked and billed, which prompts are cached) and refuse what the vendor refuses. Where the
vendors' descriptions lie beside the checkout, every request and every reply is held to them, and a test whose adapter
broke one fails when its stand-in goes.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from provider_schema import SPECS, STREAMED, GoogleSpec, NotTheirs, OpenAISpec, tally

CACHED_FROM = 40  # words; the vendors cache prompts from 1024 tokens, and here a word is a token

Json = dict[str, Any]


@dataclass(frozen=True)
class Failure:
    """What happens to one request: an HTTP error, a stream cut after some pieces, a long silence, or rubbish in between.

    `bills` says that the answer was made and is billed although the asker does not get it. A silence at 0 comes before the
    headers.
    """

    status: int = 0
    error: Json = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    silent: bool = False
    silent_at: int | None = None
    garbage_at: int | None = None
    bills: bool = False

    async def before(self, number: int) -> None:
        """Wait, for ever, where this is the piece to be silent at."""
        if number == (2 if self.silent else self.silent_at):
            await asyncio.sleep(3600)


@dataclass
class StandIn:
    """A vendor: its keys and models, what it answers, what goes wrong next, and its books."""

    keys: set[str] = field(default_factory=lambda: {"sk-right"})
    models: dict[str, str | None] = field(default_factory=dict)  # name -> day of its shutdown
    files: dict[str, str] = field(default_factory=dict)  # id -> content of what was uploaded
    says: Callable[[str], str] = field(default=lambda question: f"You asked: {question}")
    finish: str = ""
    thinks: int = 0  # tokens that no one sees and everyone pays for
    fail_next: deque[Failure] = field(default_factory=deque)
    gate: Callable[[int], Awaitable[None]] | None = None  # awaited before piece number n of a streamed answer
    requests: list[Json] = field(default_factory=list)
    asked_at: list[float] = field(default_factory=list)
    billed: list[Json] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)  # an asker left before the end
    violations: list[str] = field(default_factory=list)
    url: str = ""
    _seen: set[str] = field(default_factory=set)

    def cached(self, prompt: str) -> int:
        """Tokens of the prompt that an earlier request has left in the cache."""
        words = prompt.split()
        key = " ".join(words[:CACHED_FROM])
        known = key in self._seen
        self._seen.add(key)
        return CACHED_FROM if known and len(words) >= CACHED_FROM else 0


@asynccontextmanager
async def served(stand_in: StandIn, routes: list[web.RouteDef]) -> AsyncIterator[StandIn]:
    """The stand-in on a port of loopback that the system chooses."""
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    stand_in.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield stand_in
    finally:
        await runner.cleanup()
    assert not stand_in.violations, stand_in.violations


class OpenAIServer:
    """`/v1/chat/completions` (streamed) and `/v1/models`."""

    def __init__(self, stand_in: StandIn) -> None:
        self._stand_in = stand_in
        self._spec = OpenAISpec.read() if SPECS.is_dir() else None

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/chat/completions", self.complete),
            web.get("/v1/models", self.list_models),
            web.delete("/v1/files/{id}", self.delete_file),
            web.delete("/v1/models/{id}", self.delete_model),
        ]

    async def delete_file(self, request: web.Request) -> web.Response:
        """A file that is there goes, once; of any other OpenAI says that there is none."""
        self._hold(request)
        if (refusal := self._refuse_key(request)) is not None:
            return refusal
        stand_in, name = self._stand_in, request.match_info["id"]
        if stand_in.fail_next:
            failure = stand_in.fail_next.popleft()
            return web.json_response({"error": failure.error}, status=failure.status, headers=failure.headers)
        if stand_in.files.pop(name, None) is None:
            return refusal_of_openai(404, "not_found", f"No such File object: {name}", param="id")
        return web.json_response({"id": name, "object": "file", "deleted": True})

    async def delete_model(self, request: web.Request) -> web.Response:
        """A model that was tuned goes, once; OpenAI's own are not ours to delete."""
        self._hold(request)
        if (refusal := self._refuse_key(request)) is not None:
            return refusal
        stand_in, name = self._stand_in, request.match_info["id"]
        if stand_in.fail_next:
            failure = stand_in.fail_next.popleft()
            return web.json_response({"error": failure.error}, status=failure.status, headers=failure.headers)
        if not name.startswith("ft:"):
            return refusal_of_openai(403, "forbidden", "You have insufficient permissions for this operation")
        if name not in stand_in.models:
            return refusal_of_openai(
                404, "model_not_found", f"The model '{name}' does not exist", param="model"
            )
        del stand_in.models[name]
        return web.json_response({"id": name, "object": "model", "deleted": True})

    async def list_models(self, request: web.Request) -> web.Response:
        self._hold(request)
        if (refusal := self._refuse_key(request)) is not None:
            return refusal
        rows = [
            {"id": name, "object": "model", "created": 1790000000, "owned_by": "openai", "shutdown_date": day}
            for name, day in self._stand_in.models.items()
        ]
        return web.json_response({"object": "list", "data": rows})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        stand_in = self._stand_in
        stand_in.requests.append(body)
        stand_in.asked_at.append(asyncio.get_running_loop().time())
        if (refusal := self._refuse_key(request) or self._refuse_body(request, body)) is not None:
            return refusal
        failure = stand_in.fail_next.popleft() if stand_in.fail_next else Failure()
        prompt = " ".join(str(message["content"]) for message in body["messages"])
        text = stand_in.says(str(body["messages"][-1]["content"]))
        usage = self._usage(prompt, text)
        if failure.status == 0 or failure.bills:
            stand_in.billed.append(usage)
        if failure.status:
            return web.json_response({"error": failure.error}, status=failure.status, headers=failure.headers)
        chunks = [json.dumps(chunk) for chunk in self._chunks(body, text, usage)]
        return await streamed(stand_in, request, [*chunks, "[DONE]"], failure)

    def _chunks(self, body: Json, text: str, usage: Json) -> list[Json]:
        pieces: list[Json] = [
            {"role": "assistant", "content": "", "refusal": None},
            *({"content": p} for p in split(text)),
        ]
        finish = self._stand_in.finish or "stop"
        if finish == "content_filter":
            pieces = pieces[:2]
        chunks = [self._chunk(body, [self._choice(body, piece, None)]) for piece in pieces]
        chunks.append(self._chunk(body, [self._choice(body, {}, finish)]))
        if (body.get("stream_options") or {}).get("include_usage"):
            chunks.append(self._chunk(body, []) | {"usage": usage})
        if self._spec is not None:
            for chunk in chunks:
                self._spec.check(STREAMED, chunk)
        return chunks

    def _choice(self, body: Json, delta: Json, finish: str | None) -> Json:
        logprobs = None
        if body.get("logprobs") and delta.get("content"):
            token = {"token": delta["content"], "logprob": -0.25, "bytes": None, "top_logprobs": []}
            logprobs = {"content": [token], "refusal": None}
        return {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}

    def _chunk(self, body: Json, choices: list[Json]) -> Json:
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1790000000}
        return {**head, "model": body["model"], "service_tier": "default", "choices": choices, "usage": None}

    def _usage(self, prompt: str, text: str) -> Json:
        tokens_in, tokens_out = len(prompt.split()), len(split(text)) + self._stand_in.thinks
        return {
            "prompt_tokens": tokens_in,
            "completion_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
            "prompt_tokens_details": {"cached_tokens": self._stand_in.cached(prompt), "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": self._stand_in.thinks, "audio_tokens": 0},
        }

    def _refuse_key(self, request: web.Request) -> web.Response | None:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if key in self._stand_in.keys:
            return None
        return refusal_of_openai(401, "invalid_api_key", f"Incorrect API key provided: {key}.")

    def _hold(self, request: web.Request, body: Json | None = None) -> str | None:
        """Hold the request to OpenAI's description; what is wrong with it."""
        if self._spec is None:
            return None
        tally.held["OpenAI"] += 1
        try:
            self._spec.check_request(request.method, request.path, body)
        except NotTheirs as error:
            self._stand_in.violations.append(str(error))
            return str(error)
        return None

    def _refuse_body(self, request: web.Request, body: Json) -> web.Response | None:
        if (wrong := self._hold(request, body)) is not None:
            return refusal_of_openai(400, "invalid_value", wrong)
        model = body["model"]
        if model not in self._stand_in.models:
            return refusal_of_openai(404, "model_not_found", f"The model `{model}` does not exist.")
        for name in unsupported(body):
            told = f"Unsupported parameter: '{name}' is not supported with this model."
            return refusal_of_openai(400, "unsupported_parameter", told, param=name)
        return None


def unsupported(body: Json) -> list[str]:
    """Parameters that this model does not take with these others."""
    always_reasons = body["model"].startswith("gpt-5")
    if always_reasons and body.get("reasoning_effort") == "none":
        return ["reasoning_effort"]
    if body["model"].startswith("gpt-6") or always_reasons:
        default = "medium" if always_reasons else "none"
        if body.get("reasoning_effort", default) != "none":
            return [name for name in ("temperature", "top_p", "logprobs", "max_tokens") if name in body]
        return [name for name in ("max_tokens",) if name in body]
    return [name for name in ("reasoning_effort",) if name in body]


def refusal_of_openai(status: int, code: str, message: str, *, param: str | None = None) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return web.json_response({"error": error}, status=status)


class GeminiServer:
    """`models/M:streamGenerateContent` (server-sent events) and `models/M`: the Gemini API, and Vertex in any project."""

    def __init__(self, stand_in: StandIn) -> None:
        self._stand_in = stand_in
        self._spec = GoogleSpec.read() if SPECS.is_dir() else None

    def routes(self) -> list[web.RouteDef]:
        vertex = "/{version}/projects/{project}/locations/{location}/publishers/google"
        return [
            web.post("/{version}/models/{call:.+}", self.generate),
            web.get("/{version}/models/{model}", self.look_up),
            web.post(vertex + "/models/{call:.+}", self.generate),
            web.get("/{version}/publishers/google/models/{model}", self.look_up),
        ]

    async def look_up(self, request: web.Request) -> web.Response:
        model = request.match_info["model"]
        if (refusal := self._refuse(request, model)) is not None:
            return refusal
        return web.json_response(
            {"name": f"models/{model}", "displayName": model, "inputTokenLimit": 1048576}
        )

    async def generate(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        stand_in = self._stand_in
        stand_in.requests.append(body)
        stand_in.asked_at.append(asyncio.get_running_loop().time())
        model, _, verb = request.match_info["call"].partition(":")
        assert (verb, request.query.get("alt")) == ("streamGenerateContent", "sse")
        if (refusal := self._refuse(request, model)) is not None:
            return refusal
        if (fault := self._fault(request, body)) is not None:
            return refusal_of_google(400, "INVALID_ARGUMENT", fault)
        failure = stand_in.fail_next.popleft() if stand_in.fail_next else Failure()
        text = stand_in.says(body["contents"][-1]["parts"][-1]["text"])
        usage = self._usage(body, text)
        if failure.status == 0 or failure.bills:
            stand_in.billed.append(usage)
        if failure.status:
            error = {"error": failure.error}
            return web.json_response(error, status=failure.status, headers=failure.headers)
        chunks = [json.dumps(chunk) for chunk in self._chunks(model, text, usage)]
        return await streamed(stand_in, request, chunks, failure)

    def _chunks(self, model: str, text: str, usage: Json) -> list[Json]:
        finish = self._stand_in.finish or "STOP"
        if finish == "BLOCKED":
            blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "modelVersion": model}
            return [{**blocked, "usageMetadata": {"promptTokenCount": usage["promptTokenCount"]}}]
        parts: list[Json] = [{"text": piece} for piece in split(text)]
        if self._stand_in.thinks:
            parts.insert(0, {"text": "Let me think about it.", "thought": True})
        contents: list[Json] = [{"content": {"role": "model", "parts": [part]}, "index": 0} for part in parts]
        contents.append(
            {"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": finish, "index": 0}
        )
        return [
            {"candidates": [content], "usageMetadata": usage, "modelVersion": model, "responseId": "r1"}
            for content in contents
        ]

    def _usage(self, body: Json, text: str) -> Json:
        turns = [*body["contents"], body.get("systemInstruction", {"parts": []})]
        prompt = " ".join(part["text"] for turn in turns for part in turn["parts"])
        tokens_in, tokens_out = len(prompt.split()), len(split(text))
        usage = {
            "promptTokenCount": tokens_in,
            "candidatesTokenCount": tokens_out,
            "thoughtsTokenCount": self._stand_in.thinks,
            "totalTokenCount": tokens_in + tokens_out + self._stand_in.thinks,
        }
        cached = self._stand_in.cached(prompt)
        return {**usage, "cachedContentTokenCount": cached} if cached else usage

    def _refuse(self, request: web.Request, model: str) -> web.Response | None:
        told = request.headers
        if "project" in request.match_info or "/publishers/" in request.path:
            if told.get("Authorization", "").removeprefix("Bearer ") not in self._stand_in.keys:
                return refusal_of_google(
                    401, "UNAUTHENTICATED", "Request had invalid authentication credentials."
                )
        elif told.get("x-goog-api-key", "") not in self._stand_in.keys:
            reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
            words = "API key not valid. Please pass a valid API key."
            return refusal_of_google(400, "INVALID_ARGUMENT", words, [reason])
        if model not in self._stand_in.models:
            return refusal_of_google(404, "NOT_FOUND", f"models/{model} is not found for API version v1.")
        return None

    def _fault(self, request: web.Request, body: Json) -> str | None:
        roles = [content["role"] for content in body["contents"]]
        if any(role not in ("user", "model") for role in roles):
            return "Please use a valid role: user, model."
        if self._spec is None:
            return None
        vertex = "project" in request.match_info
        tally.held["Vertex AI" if vertex else "the Gemini API"] += 1
        try:
            self._spec.check_request(request.path, body, vertex=vertex)
        except NotTheirs as error:
            self._stand_in.violations.append(str(error))
            return str(error)
        return None


async def streamed(
    stand_in: StandIn, request: web.Request, chunks: list[str], failure: Failure
) -> web.StreamResponse:
    """Chunks as server-sent events, as far as the failure lets them come."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    try:
        await failure.before(0)
        await response.prepare(request)
        for number, chunk in enumerate(chunks):
            if number == failure.cut_after:
                assert request.transport is not None
                request.transport.abort()
                return response
            if stand_in.gate is not None:
                await stand_in.gate(number)
            if number:
                await failure.before(number)
            told = '{"choices": [{"del' if number == failure.garbage_at else chunk
            await response.write(f"data: {told}\n\n".encode())
    except (ConnectionResetError, asyncio.CancelledError):
        stand_in.hung_up.set()
        raise
    return response


def refusal_of_google(
    status: int, code: str, message: str, details: list[Json] | None = None
) -> web.Response:
    error = {"code": status, "message": message, "status": code, "details": details or []}
    return web.json_response({"error": error}, status=status)


def split(text: str) -> list[str]:
    """A text as the pieces in which it is streamed: words with the space before them."""
    words = text.split(" ")
    return [words[0], *(f" {word}" for word in words[1:])] if text else []
