"""The process in which the local model lives: `python -m bot.models.local_worker --model PATH_OR_ID`.

It reads one JSON object per line from standard input and writes one per line to standard output; what a library
prints goes to standard error. It answers nobody but its parent, writes no file, and ends by itself when its standard
input is closed, so that a bot that was killed leaves nobody behind.

    in:  {"op": "answer", "id", "adapter": str | null, "messages": [{"role", "content"}], "max_new_tokens": int,
          "temperature": float, "stream": bool}
         {"op": "load", "adapter", "path"} | {"op": "unload", "adapter"} | {"op": "stop", "id"} | {"op": "quit"}
    out: {"event": "ready", "model", "device", "dtype", "why", "context": int, "parameters": int} once, or
         {"event": "fatal", "message"} and exit status 1; then
         {"event": "loaded", "adapter"} | {"event": "load_failed", "adapter", "message"} |
         {"event": "text", "id", "text"}, only for questions with "stream" |
         {"event": "done", "id", "text", "tokens_in", "tokens_out", "logprobs": [float], "margins": [float],
          "first_entropy": float | null, "seconds", "finish": "stop" | "length" | "stopped"} |
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
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bot.models.local_text import TooLong
from storage.values import Message

if TYPE_CHECKING:
    from bot.models.local_rows import Row
    from bot.models.local_weights import Weights

_ROWS = 32  # beyond this the gain per row is small
_WATCHED = 8  # more seats for answers that somebody watches, so that an evaluation never keeps people waiting
_GPU = 4  # times as many rows there
_MOST_TOKENS = 64 * 1024  # of prompts and answers in a batch; their keys and values must fit into memory

Op = dict[str, Any]


class Wire:
    """Standard output as it was given, out of reach of libraries that print."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._held: list[str] = []

    def send(self, event: str, **told: Any) -> None:
        """Write one event at once."""
        self.hold(event, **told)
        self.flush()

    def hold(self, event: str, **told: Any) -> None:
        """Write one event with the next `flush`: those of a step cost one write together."""
        self._held.append(json.dumps({"event": event, **told}, ensure_ascii=False) + "\n")

    def flush(self) -> None:
        """Write what is held. A parent that is gone ends the process."""
        lines, self._held = "".join(self._held), []
        try:
            self._out.write(lines)
            self._out.flush()
        except OSError:
            os._exit(0)


class Room:
    """Questions that wait, the batch under way, and who is next."""

    def __init__(self, weights: "Weights", wire: Wire, inbox: "queue.SimpleQueue[Op]") -> None:
        from bot.models.local_batch import Batch

        self._weights = weights
        self._wire = wire
        self._inbox = inbox
        self._batch: Batch = Batch(weights, self)
        self._waiting: list[Row] = []
        self._adapters: dict[str, str] = {}  # the version's id -> the weights' name
        self._leaving: list[str] = []  # adapters to unload once no row needs them

    def run(self) -> None:
        """Answer until the process ends."""
        while True:
            if not self._waiting and not self._batch.rows:
                self._batch.most = 10**6
                self._free_adapters()
                self._obey(self._inbox.get())
            self._look_in()
            self._fill_seats()
            self._step()
            self._free_adapters()

    def on_text(self, row: "Row", piece: str) -> None:
        """Text is written at the end of the step, with everybody's."""
        self._wire.hold("text", id=row.id, text=piece)

    def on_done(self, row: "Row") -> None:
        """The answer is complete."""
        self._wire.hold(
            "done",
            id=row.id,
            text=row.pieces.text,
            tokens_in=len(row.prompt),
            tokens_out=row.tokens,
            logprobs=row.logprobs,
            margins=row.margins,
            first_entropy=row.first_entropy,
            seconds=round(time.monotonic() - row.since, 4),
            finish=row.finish,
        )

    def on_refused(self, row: "Row", words: str) -> None:
        """The row cannot be answered."""
        self._refuse(row.id, "no_memory", words)

    def _step(self) -> None:
        try:
            self._batch.step()
            self._waiting += self._batch.put_back()
        except Exception as error:
            traceback.print_exc()
            for row in self._batch.abandon():
                if row.finish is None:
                    row.finish = "failed"
                    self._refuse(row.id, "failed", f"The local model failed: {_said(error)}")
        self._wire.flush()

    def _look_in(self) -> None:
        """Obey what arrived meanwhile: no order waits for an answer to end."""
        while True:
            try:
                self._obey(self._inbox.get_nowait())
            except queue.Empty:
                return

    def _free_adapters(self) -> None:
        if not self._leaving:
            return
        used = {row.adapter for row in [*self._waiting, *self._batch.rows]}
        for name in [name for name in self._leaving if name not in used]:
            self._leaving.remove(name)
            self._weights.unload_adapter(name)

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
        if adapter is not None and adapter not in self._adapters:
            return self._refuse(op["id"], "no_adapter", f"The version {adapter} is not loaded.")
        try:
            row = self._weights.row(
                [Message(message["role"], message["content"]) for message in op["messages"]],
                max_new_tokens=int(op["max_new_tokens"]),
                id=op["id"],
                adapter=None if adapter is None else self._adapters[adapter],
                temperature=float(op.get("temperature", 0.0)),
                streams=bool(op.get("stream", True)),
            )
        except TooLong as error:
            return self._refuse(op["id"], "too_long", str(error))
        self._waiting.append(row)

    def _load(self, adapter: str, folder: Path) -> None:
        from bot.models.local_adapters import CannotLoad

        try:
            name = self._weights.load_adapter(folder)
        except CannotLoad as error:
            self._wire.send("load_failed", adapter=adapter, message=str(error))
            return
        self._unload(adapter)
        self._adapters[adapter] = name
        self._wire.send("loaded", adapter=adapter)

    def _unload(self, adapter: str) -> None:
        name = self._adapters.pop(adapter, None)
        if name is not None:
            self._leaving.append(name)

    def _stop(self, row_id: str) -> None:
        for row in [*self._waiting, *self._batch.rows]:
            if row.id == row_id and row.finish is None:
                row.finish = "stopped"
                rest = row.pieces.finish()
                if rest and row.streams:
                    self.on_text(row, rest)
                self.on_done(row)
        self._waiting = [row for row in self._waiting if row.finish is None]

    def _fill_seats(self) -> None:
        """Who waits joins while there are seats; answers that somebody watches go first and have seats of their own."""
        if not self._waiting:
            return
        taken, tokens = len(self._batch.rows), sum(row.length for row in self._batch.rows)
        times = _GPU if self._weights.device.type == "cuda" else 1
        stay = []
        for row in sorted(self._waiting, key=lambda row: not row.streams):
            seats = min(times * (_ROWS + (_WATCHED if row.streams else 0)), self._batch.most)
            if taken < seats and (not taken or tokens + row.length <= times * _MOST_TOKENS):
                self._batch.join(row)
                taken, tokens = taken + 1, tokens + row.length
            else:
                stay.append(row)
        self._waiting = stay

    def _refuse(self, row_id: str, kind: str, message: str) -> None:
        self._wire.send("error", id=row_id, kind=kind, message=message)


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
    precisions = ("auto", "fp32", "bf16", "int8", "4bit")
    parser.add_argument(
        "--precision", default="auto", choices=precisions, help="auto: the fastest that holds up"
    )
    parser.add_argument("--verdicts", type=Path, help="a file that remembers which precision holds up")
    return parser.parse_args(argv)


def _prepare_process(*, allow_downloads: bool) -> None:
    """What libraries look at when they are imported; the bot goes first on the processor."""
    os.nice(5)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    if not allow_downloads:
        os.environ["HF_HUB_OFFLINE"] = "1"


def main(argv: Sequence[str] | None = None) -> int:
    """Load the model, say so, answer. The return value is the exit status."""
    arguments = _arguments(argv)
    requests, wire = _take_over_streams()
    _prepare_process(allow_downloads=arguments.allow_downloads)
    inbox: queue.SimpleQueue[Op] = queue.SimpleQueue()
    threading.Thread(target=read_requests, args=(requests, inbox), daemon=True).start()
    # Imported here: torch takes seconds, and the reader must already notice a parent that goes away.
    from bot.models.local_adapters import CannotLoad
    from bot.models.local_weights import load_weights

    try:
        weights = load_weights(
            arguments.model,
            device=arguments.device,
            allow_downloads=arguments.allow_downloads,
            precision=arguments.precision,
            verdicts=arguments.verdicts,
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
        why=weights.why,
        context=weights.context,
        parameters=weights.parameters,
    )
    Room(weights, wire, inbox).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
