"""The process in which the local model lives: `python -m bot.models.local_worker --model PATH_OR_ID`.

It reads one JSON object per line from standard input and writes one per line to standard output; what a library
prints goes to standard error. It answers nobody but its parent, writes no file, and ends by itself when its standard
input is closed, so that a bot that was killed leaves nobody behind.

    in:  {"op": "answer", "id", "adapter": str | null, "messages": [{"role", "content"}], "max_new_tokens": int,
          "temperature": float, "stream": bool}
         {"op": "load", "adapter", "path"} | {"op": "unload", "adapter"} | {"op": "stop", "id"} | {"op": "quit"}
    out: {"event": "ready", "model", "device", "dtype", "context": int, "parameters": int} once, or
         {"event": "fatal", "message"} and exit status 1; then
         {"event": "loaded", "adapter"} | {"event": "load_failed", "adapter", "message"} |
         {"event": "text", "id", "text"}, only for questions with "stream" |
         {"event": "done", "id", "text", "tokens_in", "tokens_out", "logprobs": [float], "seconds",
          "finish": "stop" | "length" | "stopped"} |
         {"event": "error", "id", "kind": "too_long" | "no_adapter" | "failed", "message"}
"""

import argparse
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bot.models.local_text import TooLong
from storage.values import Message

if TYPE_CHECKING:
    from bot.models.local_batch import Row, Weights

_ROWS = 8  # beyond this the gain per row flattens and the first token comes later (facts on inference)
_ROWS_SHORT = 32  # for evaluations, which ask many short questions
_SHORT = 512  # tokens of prompt and answer together

Op = dict[str, Any]


class Wire:
    """Standard output as it was given, out of reach of libraries that print."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._lock = threading.Lock()

    def send(self, event: str, **told: Any) -> None:
        """Write one event at once. A parent that is gone ends the process."""
        line = json.dumps({"event": event, **told}, ensure_ascii=False)
        with self._lock:
            try:
                self._out.write(line + "\n")
                self._out.flush()
            except OSError:
                os._exit(0)


@dataclass
class Room:
    """Questions that wait, the batch under way, and who is next."""

    weights: "Weights"
    wire: Wire
    inbox: "queue.SimpleQueue[Op]"
    adapters: dict[str, str] = field(default_factory=dict)  # the version's id -> the weights' name
    leaving: list[str] = field(default_factory=list)  # adapters to unload once no row needs them
    waiting: list["Row"] = field(default_factory=list)
    batch: list["Row"] = field(default_factory=list)

    def run(self) -> None:
        """Answer until the process ends."""
        while True:
            if not self.waiting:
                self._obey(self.inbox.get())
            self._look_in()
            self.batch = self._next_batch()
            if self.batch:
                self._answer_batch()
            self.batch = []
            self._free_adapters()

    def on_text(self, row: "Row", piece: str) -> None:
        self.wire.send("text", id=row.id, text=piece)

    def on_done(self, row: "Row") -> None:
        self.wire.send(
            "done",
            id=row.id,
            text=row.pieces.text,
            tokens_in=len(row.prompt),
            tokens_out=row.tokens,
            logprobs=row.logprobs,
            seconds=round(time.monotonic() - row.since, 4),
            finish=row.finish,
        )

    def _answer_batch(self) -> None:
        try:
            self.weights.answer(self.batch, listener=self, between_steps=self._look_in)
        except Exception as error:
            traceback.print_exc()
            for row in self.batch:
                if row.finish is None:
                    row.finish = "failed"
                    self._refuse(row.id, "failed", f"The local model failed: {_said(error)}")

    def _look_in(self) -> None:
        """Obey what arrived meanwhile. Runs between two tokens too, so that no order waits for a batch to end."""
        while True:
            try:
                self._obey(self.inbox.get_nowait())
            except queue.Empty:
                return

    def _free_adapters(self) -> None:
        used = {row.adapter for row in self.waiting}
        for name in [name for name in self.leaving if name not in used]:
            self.leaving.remove(name)
            self.weights.unload_adapter(name)

    def _obey(self, op: Op) -> None:
        try:
            match op["op"]:
                case "answer":
                    self._seat(op)
                case "load":
                    self._load(op["adapter"], Path(op["path"]))
                case "unload":
                    self._unload(op["adapter"])
                case "stop":
                    self._stop(op["id"])
                case other:
                    raise ValueError(f"unknown op {other!r}")
        except Exception as error:
            traceback.print_exc()
            self._refuse(str(op.get("id", "")), "failed", f"The local model failed: {_said(error)}")

    def _seat(self, op: Op) -> None:
        adapter = op["adapter"]
        if adapter is not None and adapter not in self.adapters:
            return self._refuse(op["id"], "no_adapter", f"The version {adapter} is not loaded.")
        try:
            row = self.weights.row(
                [Message(message["role"], message["content"]) for message in op["messages"]],
                max_new_tokens=int(op["max_new_tokens"]),
                id=op["id"],
                adapter=None if adapter is None else self.adapters[adapter],
                temperature=float(op.get("temperature", 0.0)),
                streams=bool(op.get("stream", True)),
            )
        except TooLong as error:
            return self._refuse(op["id"], "too_long", str(error))
        self.waiting.append(row)

    def _load(self, adapter: str, folder: Path) -> None:
        from bot.models.local_batch import CannotLoad

        try:
            name = self.weights.load_adapter(folder)
        except CannotLoad as error:
            self.wire.send("load_failed", adapter=adapter, message=str(error))
            return
        self._unload(adapter)
        self.adapters[adapter] = name
        self.wire.send("loaded", adapter=adapter)

    def _unload(self, adapter: str) -> None:
        name = self.adapters.pop(adapter, None)
        if name is not None:
            self.leaving.append(name)

    def _stop(self, row_id: str) -> None:
        for row in [*self.waiting, *self.batch]:
            if row.id == row_id and row.finish is None:
                row.finish = "stopped"
                rest = row.pieces.finish()
                if rest and row.streams:
                    self.on_text(row, rest)
                self.on_done(row)
        self.waiting = [row for row in self.waiting if row.finish is None]

    def _next_batch(self) -> list["Row"]:
        """Rows that can share a batch with the first one waiting; answers that somebody watches go first."""
        if not self.waiting:
            return []
        queued = sorted(self.waiting, key=lambda row: not row.streams)
        kind = (queued[0].adapter, queued[0].temperature)
        alike = [row for row in queued if (row.adapter, row.temperature) == kind]
        many = alike[:_ROWS_SHORT]
        chosen = many if max(row.length for row in many) <= _SHORT else alike[:_ROWS]
        self.waiting = [row for row in self.waiting if row not in chosen]
        return chosen

    def _refuse(self, row_id: str, kind: str, message: str) -> None:
        self.wire.send("error", id=row_id, kind=kind, message=message)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def read_requests(lines: IO[str], inbox: "queue.SimpleQueue[Op]") -> None:
    """Queue each line; end the process, busy or not, when the parent says "quit" or is gone."""
    for line in lines:
        op = json.loads(line)
        if op["op"] == "quit":
            break
        inbox.put(op)
    os._exit(0)


def _take_over_streams() -> tuple[IO[str], Wire]:
    """The parent's two pipes; from now on a library that prints writes to the log, and one that asks reads nothing."""
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    return requests, Wire(events)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bot.models.local_worker", description=__doc__)
    parser.add_argument("--model", required=True, help="a folder, or an id on the Hugging Face hub")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--allow-downloads", action="store_true", help="fetch what is not in the cache")
    return parser.parse_args(argv)


def _prepare_process(model: str, *, allow_downloads: bool) -> None:
    """What libraries look at when they are imported; the bot goes first on the processor."""
    os.nice(5)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    if not allow_downloads:
        os.environ["HF_HUB_OFFLINE"] = "1"
    if not _is_quantised(model):
        # PEFT imports bitsandbytes wherever it is installed (2.5 CPU seconds, 46 MB); here nothing would use it.
        sys.modules["bitsandbytes"] = None  # type: ignore[assignment]


def _is_quantised(model: str) -> bool:
    """Whether the base may need bitsandbytes; a model that is not a folder may."""
    config = Path(model) / "config.json"
    return not config.is_file() or b"quantization_config" in config.read_bytes()


def main(argv: Sequence[str] | None = None) -> int:
    """Load the model, say so, answer. The return value is the exit status."""
    arguments = _arguments(argv)
    requests, wire = _take_over_streams()
    _prepare_process(arguments.model, allow_downloads=arguments.allow_downloads)
    inbox: queue.SimpleQueue[Op] = queue.SimpleQueue()
    threading.Thread(target=read_requests, args=(requests, inbox), daemon=True).start()
    # Imported here: torch takes seconds, and the reader must already notice a parent that goes away.
    from bot.models.local_batch import CannotLoad, load_weights

    try:
        weights = load_weights(
            arguments.model, device=arguments.device, allow_downloads=arguments.allow_downloads
        )
    except CannotLoad as error:
        traceback.print_exc()
        wire.send("fatal", message=str(error))
        return 1
    wire.send(
        "ready",
        model=arguments.model,
        device=str(weights.device),
        dtype=weights.dtype,
        context=weights.context,
        parameters=weights.parameters,
    )
    Room(weights, wire, inbox).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
