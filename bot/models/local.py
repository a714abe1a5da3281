"""The local model as the bot sees it: an engine that owns a worker process, and a model per version of it.

The engine starts the worker on first use, restarts it after a crash, and speaks JSON lines with it
(`bot.models.local_worker`). It imports no torch, never blocks the event loop, and decides nothing about who is asked.
"""

import asyncio
import contextlib
import dataclasses
import importlib.util
import itertools
import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bot.errors import ModelUnavailable, PublicError, TooLongFor
from bot.models import Meter, OnText
from bot.models.engine import Engine, EngineInfo
from storage.values import Message, Proposal

log = logging.getLogger(__name__)

_LINE_LIMIT = 16 * 1024 * 1024  # bytes of one event; log-probabilities of a long answer make a long line
_GRACE_S = 5.0  # for a worker that was asked to leave
_STALLED_S = 60.0  # a worker that does not obey a stop for this long hangs
_REST_S = (0.0, 0.0, 2.0, 5.0, 15.0, 60.0)  # before a new start, by the number of failures in a row

Event = dict[str, Any]


class _Gone(Exception):
    """The worker ended before it replied."""


@dataclass(eq=False)
class _Worker:
    """One life of the worker process, and who waits for what from it; None in a queue or future means it is gone."""

    process: asyncio.subprocess.Process
    told: "asyncio.Future[Event | None]"
    info: EngineInfo | None = None
    leaving: bool = False
    answers: dict[str, "asyncio.Queue[Event | None]"] = field(default_factory=dict)
    stopping: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    loads: dict[str, "asyncio.Future[Event | None]"] = field(default_factory=dict)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def alive(self) -> bool:
        return not self.gone.is_set() and not self.leaving

    def send(self, op: str, **rest: Any) -> None:
        """Queue one order; that nobody is there to read it is noticed by `read`."""
        pipe = self.process.stdin
        if pipe is not None and not pipe.is_closing():
            pipe.write((json.dumps({"op": op, **rest}, ensure_ascii=False) + "\n").encode())

    def ask(self, question_id: str, question: dict[str, Any]) -> "asyncio.Queue[Event | None]":
        """Send a question; its events arrive in the queue."""
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        if self.gone.is_set():
            events.put_nowait(None)
        else:
            self.answers[question_id] = events
            self.send("answer", id=question_id, **question)
        return events

    def leave(self, question_id: str) -> None:
        """Nobody waits for this answer any more: stop it if it is still being written."""
        if self.answers.pop(question_id, None) is not None and self.alive:
            self.send("stop", id=question_id)
            loop = asyncio.get_running_loop()
            self.stopping[question_id] = loop.call_later(_STALLED_S, self._give_up, question_id)

    async def load(self, version_id: str, path: Path) -> Event:
        """Raises `_Gone`."""
        if self.gone.is_set():
            raise _Gone
        reply = self.loads[version_id] = asyncio.get_running_loop().create_future()
        self.send("load", adapter=version_id, path=str(path))
        event: Event | None = await reply
        if event is None:
            raise _Gone
        return event

    async def read(self) -> None:
        """Hand each event to who waits for it until the process ends; then tell everybody."""
        assert self.process.stdout is not None
        try:
            async for line in self.process.stdout:
                self._hand_out(json.loads(line))
        finally:
            await self._end()
            self.gone.set()
            for queue in self.answers.values():
                queue.put_nowait(None)
            for reply in (self.told, *self.loads.values()):
                if not reply.done():
                    reply.set_result(None)
            for timer in self.stopping.values():
                timer.cancel()

    async def quit(self) -> None:
        """Ask the process to leave, and insist after a while."""
        self.leaving = True
        self.send("quit")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                await self.gone.wait()
        self.kill()
        await self.gone.wait()

    def kill(self) -> None:
        """End the process at once."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def _end(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            async with asyncio.timeout(_GRACE_S):
                await self.process.wait()
        except TimeoutError:
            self.kill()
            await self.process.wait()

    def _hand_out(self, event: Event) -> None:
        match event["event"]:
            case "ready" | "fatal":
                self.told.set_result(event)
            case "loaded" | "load_failed":
                reply = self.loads.pop(event["adapter"], None)
                if reply is not None and not reply.done():
                    reply.set_result(event)
            case "text":
                if (queue := self.answers.get(event["id"])) is not None:
                    queue.put_nowait(event)
            case "done" | "error":
                if (queue := self.answers.pop(event["id"], None)) is not None:
                    queue.put_nowait(event)
                if (timer := self.stopping.pop(event["id"], None)) is not None:
                    timer.cancel()

    def _give_up(self, question_id: str) -> None:
        log.error("The local model did not stop %s within %.0f s and is ended.", question_id, _STALLED_S)
        self.kill()


class LocalEngine:
    """Owns the worker process of one base model and all adapters loaded beside it."""

    def __init__(
        self,
        *,
        model: str,
        label: str,
        max_new_tokens: int = 128,
        allow_downloads: bool = False,
        log_file: Path | None = None,
        precision: str = "auto",
        verdicts: Path | None = None,
        start_timeout_s: float = 120.0,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`environment` is all that the worker gets of ours (None: everything); `verdicts` is a file that remembers which
        precision holds up for a model on this machine.
        """
        self.label = label
        self._model = model
        self._max_new_tokens = max_new_tokens
        self._allow_downloads = allow_downloads
        self._log_file = log_file
        self._precision = precision
        self._verdicts = verdicts
        self._start_timeout_s = start_timeout_s
        self._python = python
        self._environment = environment
        self._worker: _Worker | None = None
        self._starting: asyncio.Task[_Worker] | None = None
        self._readers: set[asyncio.Task[None]] = set()
        self._adapters: dict[str, Path] = {}
        self._loading = asyncio.Lock()
        self._ids = itertools.count(1)
        self._failures = 0
        self._failed_at = 0.0
        self._reason = ""

    @property
    def info(self) -> EngineInfo | None:
        """What runs now; None while nothing does."""
        return self._worker.info if self._worker is not None and self._worker.alive else None

    async def start(self) -> EngineInfo:
        """Start the worker if it does not run, with every adapter that it had before.

        Raises `ModelUnavailable` where it cannot start, or failed repeatedly and rests for some seconds.
        """
        worker = await self._running()
        assert worker.info is not None
        return worker.info

    async def stop(self) -> None:
        """End the worker; what it was answering ends with `ModelUnavailable`. A later question starts it again."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.quit()

    def rss_bytes(self) -> int:
        """Resident memory of the worker process; 0 while none runs."""
        if self._worker is None or not self._worker.alive:
            return 0
        try:
            return int(psutil.Process(self._worker.process.pid).memory_info().rss)  # type: ignore[no-untyped-call]
        except psutil.NoSuchProcess:
            return 0

    async def load(self, version_id: str, path: Path) -> None:
        """Load the adapter in `path` as `version_id`, in place of what had that name; answers go on meanwhile.

        Raises `PublicError` naming the file and the remedy, or `ModelUnavailable` where the base cannot start.
        """
        worker = await self._running()
        await self._load_into(worker, version_id, path)
        self._adapters[version_id] = path

    async def unload(self, version_id: str) -> None:
        """Forget an adapter; questions that already wait for it are still answered with it."""
        self._adapters.pop(version_id, None)
        if self._worker is not None:
            self._worker.send("unload", adapter=version_id)

    async def answer(
        self,
        messages: Sequence[Message],
        *,
        version_id: str | None,
        on_text: OnText | None = None,
        max_new_tokens: int | None = None,
    ) -> Proposal:
        """Reply with a version, or with the base where `version_id` is None; greedy, so the same each time.

        Raises `ModelUnavailable`. Cancelling the waiting task stops the generation.
        """
        since = time.monotonic()
        worker = await self._running()
        question = {
            "adapter": version_id,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "max_new_tokens": max_new_tokens or self._max_new_tokens,
            "temperature": 0.0,
            "stream": on_text is not None,
        }
        question_id = f"q{next(self._ids)}"
        events = worker.ask(question_id, question)
        try:
            done = await _until_done(events, on_text)
        except _Gone:
            raise ModelUnavailable(self._why_gone(worker), again=True) from None
        finally:
            worker.leave(question_id)
        self._failures = 0
        return self._proposal(done, version_id, time.monotonic() - since)

    def _proposal(self, done: Event, version_id: str | None, seconds: float) -> Proposal:
        return Proposal(
            text=done["text"],
            kind="local",
            model=self.label if version_id is None else f"{self.label} + {version_id}",
            version_id=version_id,
            seconds=seconds,
            tokens_in=done["tokens_in"],
            tokens_out=done["tokens_out"],
            logprobs=tuple(done["logprobs"]),
            margins=tuple(done["margins"]),
            first_entropy=done["first_entropy"],
            finish=done["finish"],
        )

    async def _running(self) -> _Worker:
        if self._worker is not None and self._worker.alive:
            return self._worker
        if self._starting is None:
            self._check_can_start()
            # A task of its own: whoever asked first may leave, and the others still wait for it.
            self._starting = asyncio.create_task(self._launch(), name="local-model-start")
            self._starting.add_done_callback(self._start_ended)
        starting = self._starting
        await asyncio.wait([starting])
        if starting.cancelled():
            raise ModelUnavailable("The local model is being stopped.")
        return starting.result()

    def _start_ended(self, starting: "asyncio.Task[_Worker]") -> None:
        self._starting = None
        if not starting.cancelled() and isinstance(error := starting.exception(), ModelUnavailable):
            self._count_failure(str(error))

    def _check_can_start(self) -> None:
        if importlib.util.find_spec("torch") is None:
            raise ModelUnavailable("The local model needs the extra: pip install -e '.[local]'")
        rest = _REST_S[min(self._failures, len(_REST_S) - 1)]
        left = self._failed_at + rest - time.monotonic()
        if left > 0:
            raise ModelUnavailable(f"{self._reason} It is tried again in {left:.0f} s.")

    async def _launch(self) -> _Worker:
        worker = await self._spawn()
        try:
            worker.info = await self._await_ready(worker)
            for version_id, path in list(self._adapters.items()):
                try:
                    await self._load_into(worker, version_id, path)
                except PublicError as error:
                    log.error("The version %s is left out: %s", version_id, error)
        except BaseException:
            worker.leaving = True
            worker.kill()
            await worker.gone.wait()
            raise
        self._worker = worker
        return worker

    async def _spawn(self) -> _Worker:
        command = [self._python, "-m", "bot.models.local_worker", "--model", self._model]
        if self._allow_downloads:
            command.append("--allow-downloads")
        command += ["--precision", self._precision]
        if self._verdicts is not None:
            command += ["--verdicts", str(self._verdicts)]
        with contextlib.ExitStack() as opened:
            log_to = None
            if self._log_file is not None:
                self._log_file.parent.mkdir(parents=True, exist_ok=True)
                log_to = opened.enter_context(self._log_file.open("ab"))
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log_to,
                    limit=_LINE_LIMIT,
                    env=self._environment,
                    start_new_session=True,  # Ctrl-C is for the bot, which then ends the worker in order
                )
            except OSError as error:
                raise ModelUnavailable(f"The local model's process cannot be started: {error}.") from error
        worker = _Worker(process, asyncio.get_running_loop().create_future())
        reader = asyncio.create_task(worker.read(), name="local-model-reader")
        self._readers.add(reader)
        reader.add_done_callback(lambda reader: self._ended(worker, reader))
        return worker

    async def _await_ready(self, worker: _Worker) -> EngineInfo:
        try:
            async with asyncio.timeout(self._start_timeout_s):
                told = await worker.told
        except TimeoutError:
            raise ModelUnavailable(
                f"LOCAL_MODEL={self._model} was not ready after {self._start_timeout_s:.0f} s. Choose a smaller model, "
                "or look into the log of the local model."
            ) from None
        if told is None:
            raise ModelUnavailable(self._why_gone(worker))
        if told["event"] == "fatal":
            raise ModelUnavailable(told["message"])
        return EngineInfo(**{name.name: told[name.name] for name in dataclasses.fields(EngineInfo)})

    async def _load_into(self, worker: _Worker, version_id: str, path: Path) -> None:
        try:
            async with self._loading, asyncio.timeout(self._start_timeout_s):
                event = await worker.load(version_id, path)
        except _Gone:
            raise ModelUnavailable(self._why_gone(worker)) from None
        except TimeoutError:
            raise ModelUnavailable(
                f"Loading {path} took longer than {self._start_timeout_s:.0f} s."
            ) from None
        if event["event"] == "load_failed":
            raise PublicError(event["message"])

    def _ended(self, worker: _Worker, reader: "asyncio.Task[None]") -> None:
        self._readers.discard(reader)
        if not reader.cancelled() and (error := reader.exception()) is not None:
            log.error("The local model's events could not be read.", exc_info=error)
        if worker is self._worker and not worker.leaving:
            self._count_failure(self._why_gone(worker))

    def _count_failure(self, reason: str) -> None:
        """The next start waits the longer the more failures there were in a row."""
        self._failures += 1
        self._failed_at = time.monotonic()
        self._reason = reason
        log.warning("%s", reason)

    def _why_gone(self, worker: _Worker) -> str:
        if worker.leaving:
            return "The local model is being stopped."
        where = f" Its log is {self._log_file}." if self._log_file is not None else ""
        return f"The local model's process ended ({_exit(worker.process.returncode)}).{where}"


class LocalModel:
    """One version of the local model, or its base: what the desk asks."""

    kind = "local"

    def __init__(self, engine: Engine, version_id: str | None = None, version_label: str = "base") -> None:
        self._engine = engine
        self._version_id = version_id
        self._version_label = version_label

    @property
    def version_id(self) -> str | None:
        """The ModelVersion that answers; None for the base."""
        return self._version_id

    @property
    def label(self) -> str:
        """The base's name, and the version's where one is in force: "starter + local-3"."""
        return (
            self._engine.label
            if self._version_id is None
            else f"{self._engine.label} + {self._version_label}"
        )

    async def answer(
        self, messages: Sequence[Message], *, on_text: OnText | None = None, meter: Meter | None = None
    ) -> Proposal:
        """Reply to the conversation. Raises `ModelUnavailable`."""
        proposal = await self._engine.answer(messages, version_id=self._version_id, on_text=on_text)
        return dataclasses.replace(proposal, model=self.label)


async def _until_done(events: "asyncio.Queue[Event | None]", on_text: OnText | None) -> Event:
    """Pass text on until the answer is complete. Raises `_Gone`, or `ModelUnavailable` with the worker's reason."""
    while True:
        event = await events.get()
        if event is None:
            raise _Gone
        if event["event"] == "error":
            known = TooLongFor if event.get("kind") == "too_long" else ModelUnavailable
            raise known(event["message"])
        if event["event"] == "done":
            return event
        if on_text is not None:
            await on_text(event["text"])


def _exit(code: int | None) -> str:
    if code is None:
        return "it closed its output"
    return f"signal {-code}" if code < 0 else f"exit status {code}"
