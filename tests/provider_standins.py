"""Local servers that behave as OpenAI's and Google's APIs do: the wire format, the bills, and the ways to fail.

They keep state (what was asked and billed, which prompts are cached) and refuse what the vendor refuses. Where the
vendors' specifications lie beside the checkout, every request and every reply is checked against them.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
from aiohttp import web

SPECS = Path(__file__).parent.parent.parent / "shared" / "data" / "provider_specs"
CACHED_FROM = 40  # words; the vendors cache prompts from 1024 tokens, and here a word is a token

Json = dict[str, Any]


@dataclass(frozen=True)
class Failure:
    """What happens to one request: an HTTP error, a stream cut after some pieces, or a long silence.

    `bills` says that the answer was made and is billed although the asker does not get it.
    """

    status: int = 0
    error: Json = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    silent: bool = False
    bills: bool = False


@dataclass
class StandIn:
    """A vendor: its keys and models, what it answers, what goes wrong next, and its books."""

    keys: set[str] = field(default_factory=lambda: {"sk-right"})
    models: dict[str, str | None] = field(default_factory=dict)  # name -> day of its shutdown
    says: Callable[[str], str] = field(default=lambda question: f"You asked: {question}")
    finish: str = ""
    thinks: int = 0  # tokens that no one sees and everyone pays for
    fail_next: deque[Failure] = field(default_factory=deque)
    gate: Callable[[int], Awaitable[None]] | None = None  # awaited before piece number n of a streamed answer
    requests: list[Json] = field(default_factory=list)
    asked_at: list[float] = field(default_factory=list)
    billed: list[Json] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)  # an asker left before the end
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


class OpenAIServer:
    """`/v1/chat/completions` (streamed) and `/v1/models`."""

    def __init__(self, stand_in: StandIn) -> None:
        self._stand_in = stand_in
        self._spec = OpenAISpec.read() if SPECS.is_dir() else None

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/chat/completions", self.complete), web.get("/v1/models", self.list_models)]

    async def list_models(self, request: web.Request) -> web.Response:
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
        if (refusal := self._refuse_key(request) or self._refuse_body(body)) is not None:
            return refusal
        failure = stand_in.fail_next.popleft() if stand_in.fail_next else Failure()
        prompt = " ".join(str(message["content"]) for message in body["messages"])
        text = stand_in.says(str(body["messages"][-1]["content"]))
        usage = self._usage(prompt, text)
        if failure.status == 0 or failure.bills:
            stand_in.billed.append(usage)
        if failure.status:
            return web.json_response({"error": failure.error}, status=failure.status, headers=failure.headers)
        return await self._stream(request, body, text, usage, failure)

    async def _stream(
        self, request: web.Request, body: Json, text: str, usage: Json, failure: Failure
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        stand_in = self._stand_in
        try:
            for number, chunk in enumerate(self._chunks(body, text, usage)):
                if number == failure.cut_after:
                    assert request.transport is not None
                    request.transport.abort()
                    return response
                if stand_in.gate is not None:
                    await stand_in.gate(number)
                await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
                if failure.silent and number == 1:
                    await asyncio.sleep(3600)
            await response.write(b"data: [DONE]\n\n")
        except (ConnectionResetError, asyncio.CancelledError):
            self._stand_in.hung_up.set()
            raise
        return response

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
                self._spec.check("CreateChatCompletionStreamResponse", chunk)
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

    def _refuse_body(self, body: Json) -> web.Response | None:
        if self._spec is not None:
            try:
                self._spec.check("CreateChatCompletionRequest", body)
            except jsonschema.ValidationError as error:
                return refusal_of_openai(400, "invalid_value", error.message[:200])
        model = body["model"]
        if model not in self._stand_in.models:
            return refusal_of_openai(404, "model_not_found", f"The model `{model}` does not exist.")
        for name in unsupported(body):
            told = f"Unsupported parameter: '{name}' is not supported with this model."
            return refusal_of_openai(400, "unsupported_parameter", told, param=name)
        return None


def unsupported(body: Json) -> list[str]:
    """Parameters that this model does not take with these others."""
    reasons_by_default = body["model"].startswith("gpt-5")
    if body["model"].startswith("gpt-6") or reasons_by_default:
        default = "medium" if reasons_by_default else "none"
        if body.get("reasoning_effort", default) != "none":
            return [name for name in ("temperature", "top_p", "logprobs", "max_tokens") if name in body]
        return [name for name in ("max_tokens",) if name in body]
    return [name for name in ("reasoning_effort",) if name in body]


def refusal_of_openai(status: int, code: str, message: str, *, param: str | None = None) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return web.json_response({"error": error}, status=status)


class GeminiServer:
    """`models/M:streamGenerateContent` (server-sent events) and `models/M`, under whatever version is asked for."""

    def __init__(self, stand_in: StandIn) -> None:
        self._stand_in = stand_in
        self._schema = gemini_request_schema() if SPECS.is_dir() else None

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/{version}/models/{call:.+}", self.generate),
            web.get("/{version}/models/{model}", self.look_up),
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
        if (fault := self._fault(body)) is not None:
            return refusal_of_google(400, "INVALID_ARGUMENT", fault)
        failure = stand_in.fail_next.popleft() if stand_in.fail_next else Failure()
        text = stand_in.says(body["contents"][-1]["parts"][-1]["text"])
        usage = self._usage(body, text)
        if failure.status == 0 or failure.bills:
            stand_in.billed.append(usage)
        if failure.status:
            return web.json_response({"error": failure.error}, status=failure.status)
        return await self._stream(request, self._chunks(model, text, usage), failure)

    async def _stream(self, request: web.Request, chunks: list[Json], failure: Failure) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            for number, chunk in enumerate(chunks):
                if number == failure.cut_after:
                    assert request.transport is not None
                    request.transport.abort()
                    return response
                await response.write(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n")
                if failure.silent and number == 1:
                    await asyncio.sleep(3600)
        except (ConnectionResetError, asyncio.CancelledError):
            self._stand_in.hung_up.set()
            raise
        return response

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
        key = request.headers.get("x-goog-api-key", "")
        if key not in self._stand_in.keys:
            reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
            told = "API key not valid. Please pass a valid API key."
            return refusal_of_google(400, "INVALID_ARGUMENT", told, [reason])
        if model not in self._stand_in.models:
            return refusal_of_google(404, "NOT_FOUND", f"models/{model} is not found for API version v1.")
        return None

    def _fault(self, body: Json) -> str | None:
        roles = [content["role"] for content in body["contents"]]
        if any(role not in ("user", "model") for role in roles):
            return "Please use a valid role: user, model."
        if self._schema is not None:
            try:
                jsonschema.Draft202012Validator(self._schema).validate(body)
            except jsonschema.ValidationError as error:
                return error.message[:200]
        return None


def refusal_of_google(
    status: int, code: str, message: str, details: list[Json] | None = None
) -> web.Response:
    error = {"code": status, "message": message, "status": code, "details": details or []}
    return web.json_response({"error": error}, status=status)


def split(text: str) -> list[str]:
    """A text as the pieces in which it is streamed: words with the space before them."""
    words = text.split(" ")
    return [words[0], *(f" {word}" for word in words[1:])] if text else []


class OpenAISpec:
    """OpenAI's published schemas, with the words of OpenAPI 3.0 in them put into those of 3.1."""

    def __init__(self, spec: Json) -> None:
        self._components = spec["components"]

    @classmethod
    def read(cls) -> "OpenAISpec":
        return cls(modern(json.loads((SPECS / "openai_subset.json").read_text(encoding="utf-8"))))

    def check(self, name: str, value: Json) -> None:
        """Raises `jsonschema.ValidationError`."""
        schema = {"$ref": f"#/components/schemas/{name}", "components": self._components}
        jsonschema.Draft202012Validator(schema).validate(value)


def modern(node: Any) -> Any:
    """`nullable` and boolean `exclusiveMinimum` as JSON Schema 2020-12 says them."""
    if isinstance(node, list):
        return [modern(item) for item in node]
    if not isinstance(node, dict):
        return node
    fixed = {key: modern(value) for key, value in node.items()}
    for bound in ("Minimum", "Maximum"):
        if fixed.get(f"exclusive{bound}") is True:
            fixed[f"exclusive{bound}"] = fixed.pop(bound.lower())
    if fixed.pop("nullable", False) is True:
        return {"anyOf": [fixed, {"type": "null"}]}
    return fixed


def gemini_request_schema() -> Json:
    """Google's discovery document as JSON Schema; an unknown field is a fault, as the service has it."""
    document = json.loads((SPECS / "vertex_aiplatform_v1_subset.json").read_text(encoding="utf-8"))
    schemas = {name: _closed(schema) for name, schema in document["schemas"].items()}
    return {"$ref": "#/$defs/GoogleCloudAiplatformV1GenerateContentRequest", "$defs": schemas}


def _closed(node: Any) -> Any:
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("$ref"), str):
        return {"$ref": f"#/$defs/{node['$ref']}"}
    kept = {
        key: _closed(value) for key, value in node.items() if key in ("type", "items", "enum", "properties")
    }
    if isinstance(node.get("properties"), dict):
        kept["properties"] = {name: _closed(value) for name, value in node["properties"].items()}
        kept["additionalProperties"] = False
    if kept.get("type") == "any":
        del kept["type"]
    return kept
