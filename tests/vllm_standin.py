"""A server on loopback that behaves as vLLM does: the wire format, adapters that come and go at run time, and its refusals.

It follows vLLM 0.33 (entrypoints/serve/lora/api_router.py, entrypoints/openai/models/serving.py, lora/peft_helper.py,
renderers/params.py, entrypoints/serve/tokenize) and the section "Dynamically serving LoRA Adapters" of vLLM's documentation
(features/lora); status codes and sentences were compared with vLLM 0.32 on a processor, started with a model of tiny_models.
What it says is made up: a version repeats the question after the name of its folder. A word is a token.
"""

import asyncio
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

START, END, NEWLINE, WORD = 1, 2, 3, 4
_STRINGS = {START: "<|im_start|>", END: "<|im_end|>", NEWLINE: "Ċ", WORD: "word"}

Json = dict[str, Any]


@dataclass(frozen=True)
class Mishap:
    """What goes wrong with one question: an HTTP error, or a stream that ends in an error or a cut after some words."""

    status: int = 0
    body: Json = field(default_factory=dict)
    after: int = 0
    cut: bool = False


@dataclass
class VllmStandIn:
    """One server; the fields are the flags that it was started with, and its state."""

    model: str = "parrot"
    max_model_len: int = 200
    enable_lora: bool = True
    runtime_updating: bool = True  # VLLM_ALLOW_RUNTIME_LORA_UPDATING
    max_lora_rank: int = 16
    max_loras: int = 2  # in one batch; others wait
    max_logprobs: int = 20
    checks_names: bool = True  # off: VLLM_SKIP_MODEL_NAME_VALIDATION
    tokenizes: bool = True
    ends_by_itself: bool = True  # off: the checkpoint does not name its chat template's end mark
    key: str = ""
    mishaps: deque[Mishap] = field(default_factory=deque)
    gate: Callable[[int], Awaitable[None]] | None = None  # awaited before word number n
    adapters: dict[str, str] = field(default_factory=dict)  # name -> path
    requests: list[Json] = field(default_factory=list)
    loads: list[Json] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    busiest: int = 0  # the most adapters that were in one batch
    url: str = ""
    _running: Counter[str] = field(default_factory=Counter)
    _turn: asyncio.Condition = field(default_factory=asyncio.Condition)

    def restart(self) -> None:
        """What is loaded at run time is not written down anywhere."""
        self.adapters.clear()

    async def list_models(self, request: web.Request) -> web.Response:
        cards = [_card(self.model, f"/models/{self.model}", None, self.max_model_len)]
        cards += [_card(name, path, self.model, None) for name, path in self.adapters.items()]
        return web.json_response({"object": "list", "data": cards})

    async def load(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.loads.append(body)
        name, path = body["lora_name"], body["lora_path"]
        if not name or not path:
            return _refusal(400, "Both 'lora_name' and 'lora_path' must be provided.", "InvalidUserInput")
        if name in self.adapters and not body.get("load_inplace"):
            said = (
                f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, "
                "set 'load_inplace' to True."
            )
            return _refusal(400, said, "InvalidUserInput")
        if not self.enable_lora:
            return _worker_failed("LoRA is not enabled. Use --enable-lora to enable LoRA.")
        config = Path(path) / "adapter_config.json"
        if not config.exists():
            return _refusal(404, f"Loading lora {name} failed: No adapter found for {path}", "NotFoundError")
        rank = json.loads(config.read_text(encoding="utf-8"))["r"]
        if rank > self.max_lora_rank:
            return _worker_failed(f"LoRA rank {rank} is greater than max_lora_rank {self.max_lora_rank}.")
        self.adapters[name] = path
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    async def unload(self, request: web.Request) -> web.Response:
        name = (await request.json())["lora_name"]
        if self.adapters.pop(name, None) is None:
            return _refusal(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
        return web.Response(text=f"Success: LoRA adapter '{name}' removed successfully.")

    async def tokenize(self, request: web.Request) -> web.Response:
        body = await request.json()
        tokens = _tokens(body["messages"], generation=body.get("add_generation_prompt", True))
        if body.get("continue_final_message"):
            tokens = tokens[:-2]
        words = [_STRINGS[token] for token in tokens] if body.get("return_token_strs") else None
        told = {
            "count": len(tokens),
            "max_model_len": self.max_model_len,
            "tokens": tokens,
            "token_strs": words,
        }
        return web.json_response(told)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        refusal = self._refuse(body)
        if refusal is not None:
            return refusal
        mishap = self.mishaps.popleft() if self.mishaps else Mishap()
        if mishap.status:
            return web.json_response(mishap.body, status=mishap.status)
        name = body["model"] if body["model"] in self.adapters else self.model
        async with self._in_batch(name):
            try:
                return await self._stream(request, body, name, mishap)
            except (asyncio.CancelledError, ConnectionResetError):
                self.hung_up.set()
                raise

    def _refuse(self, body: Json) -> web.Response | None:
        name, longest = body["model"], self.max_model_len
        if self.checks_names and name != self.model and name not in self.adapters:
            said = f"The model `{name}` does not exist. Valid aliases: {self.model}."
            return _refusal(404, said, "NotFoundError", "model")
        if body.get("top_logprobs", 0) > self.max_logprobs:
            said = (
                f"Requested sample logprobs of {body['top_logprobs']}, which is greater than max allowed: "
                f"{self.max_logprobs} (parameter=logprobs, value={body['top_logprobs']})"
            )
            return _refusal(400, said, "BadRequestError", "logprobs")
        if body["max_tokens"] > longest:
            said = (
                f"max_tokens={body['max_tokens']} cannot be greater than max_model_len={longest}. "
                f"Please request fewer output tokens. (parameter=max_tokens, value={body['max_tokens']})"
            )
            return _refusal(400, said, "BadRequestError", "max_tokens")
        if len(_tokens(body["messages"], generation=True)) > longest:
            said = (
                f"This model's maximum context length is {longest} tokens. However, your prompt contains at least "
                f"{longest + 1} input tokens, which exceeds this limit even without any output tokens. "
                f"Please reduce the length of the input prompt. (parameter=input_tokens, value={longest + 1})"
            )
            return _refusal(400, said, "BadRequestError", "input_tokens")
        return None

    @asynccontextmanager
    async def _in_batch(self, name: str) -> AsyncIterator[None]:
        """At most `max_loras` adapters at a time; the others wait for their turn."""
        counted = name != self.model
        async with self._turn:
            await self._turn.wait_for(
                lambda: not counted or name in self._running or len(self._running) < self.max_loras
            )
            if counted:
                self._running[name] += 1
                self.busiest = max(self.busiest, len(self._running))
        try:
            yield
        finally:
            async with self._turn:
                if counted:
                    self._running[name] -= 1
                    self._running += Counter()  # without those at zero
                self._turn.notify_all()

    async def _stream(
        self, request: web.Request, body: Json, name: str, mishap: Mishap
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        send = _Sender(response, name, body)
        await send.delta({"role": "assistant", "content": ""})
        prompt = len(_tokens(body["messages"], generation=True))
        words, ends = self._words(name, body), self.ends_by_itself or END in body.get("stop_token_ids", [])
        room = min(body["max_tokens"], self.max_model_len - prompt)
        said = [*words, None] if ends else words + [" and on"] * room  # None is the end mark
        for number, word in enumerate(said[:room]):
            if self.gate is not None:
                await self.gate(number)
            if (mishap.cut or mishap.body) and number == mishap.after:
                if mishap.body:
                    await send.event(mishap.body)
                    await send.done()
                elif request.transport is not None:
                    request.transport.abort()
                return response
            last = number == min(room, len(said)) - 1
            await send.token(word, ("stop" if word is None else "length") if last else None)
        if (body.get("stream_options") or {}).get("include_usage"):
            tokens = min(room, len(said))
            usage = {"prompt_tokens": prompt, "total_tokens": prompt + tokens, "completion_tokens": tokens}
            await send.event({**send.frame, "choices": [], "usage": usage})
        await send.done()
        return response

    def _words(self, name: str, body: Json) -> list[str]:
        who = Path(self.adapters[name]).name if name in self.adapters else "base"
        return [*f"{who} says: {body['messages'][-1]['content']}".replace(" ", "\0 ").split("\0")]


@dataclass
class _Sender:
    """Server-sent events of one answer."""

    response: web.StreamResponse
    name: str
    body: Json

    @property
    def frame(self) -> Json:
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1795400000,
            "model": self.name,
        }

    async def event(self, body: Json) -> None:
        await self.response.write(f"data: {json.dumps(body)}\n\n".encode())

    async def done(self) -> None:
        await self.response.write(b"data: [DONE]\n\n")

    async def delta(self, delta: Json, finish: str | None = None, logprobs: Json | None = None) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        await self.event({**self.frame, "choices": [choice]})

    async def token(self, word: str | None, finish: str | None) -> None:
        spelled = _STRINGS[END] if word is None else word
        logprobs = None
        if self.body.get("logprobs"):
            likeliest = [_token(spelled, -0.25), _token("?", -2.25)][: self.body.get("top_logprobs", 0)]
            logprobs = {"content": [{**_token(spelled, -0.25), "top_logprobs": likeliest}]}
        await self.delta({"content": word or ""}, finish, logprobs)


def _token(word: str, logprob: float) -> Json:
    return {"token": word, "logprob": logprob, "bytes": list(word.encode())}


def _tokens(messages: Sequence[Json], *, generation: bool) -> list[int]:
    tokens: list[int] = []
    for message in messages:
        tokens += [START, WORD, *[WORD] * len(message["content"].split()), END, NEWLINE]
    return [*tokens, START, WORD] if generation else tokens


def _card(name: str, root: str, parent: str | None, longest: int | None) -> Json:
    told = {
        "id": name,
        "object": "model",
        "created": 1795400000,
        "owned_by": "vllm",
        "root": root,
        "parent": parent,
    }
    return {**told, "max_model_len": longest, "permission": []}


def _refusal(status: int, said: str, kind: str, param: str | None = None) -> web.Response:
    body = {"error": {"message": said, "type": kind, "param": param, "code": status}}
    return web.json_response(body, status=status)


def _worker_failed(said: str) -> web.Response:
    told = (
        f"Call to add_lora method failed: Worker failed with error '{said}', "
        "please check the stack trace above for the root cause"
    )
    return _refusal(500, told, "InternalServerError")


@asynccontextmanager
async def served(stand_in: VllmStandIn) -> AsyncIterator[VllmStandIn]:
    """The stand-in on a port of loopback that the system chooses."""

    @web.middleware
    async def guard(request: web.Request, handler: Any) -> Any:
        """The key protects /v1 only, and an address that is not there is told in FastAPI's words."""
        given = request.headers.get("Authorization", "")
        if stand_in.key and request.path.startswith("/v1") and given != f"Bearer {stand_in.key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        optional = {"/tokenize": stand_in.tokenizes}
        optional |= dict.fromkeys(
            ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"), stand_in.runtime_updating
        )
        if not optional.get(request.path, True):
            return web.json_response({"detail": "Not Found"}, status=404)
        return await handler(request)

    app = web.Application(middlewares=[guard])
    app.add_routes(
        [
            web.get("/v1/models", stand_in.list_models),
            web.post("/v1/chat/completions", stand_in.complete),
            web.post("/v1/load_lora_adapter", stand_in.load),
            web.post("/v1/unload_lora_adapter", stand_in.unload),
            web.post("/tokenize", stand_in.tokenize),
        ]
    )
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    stand_in.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield stand_in
    finally:
        await runner.cleanup()
