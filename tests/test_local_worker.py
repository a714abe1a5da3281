"""The worker process of the local model, spoken to as the engine does: lines in, events out."""

import json
import os
import shutil
import string
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_models import build_singer, make_adapter

import bot
from bot.models.local_adapters import CannotLoad
from bot.models.local_batch import Batch
from bot.models.local_rows import Row
from bot.models.local_weights import Weights, load_weights
from storage.values import Message

DEADLINE_S = 60.0
LONG = 3000  # tokens; the singer needs many seconds for them
SONG = string.ascii_lowercase * 200


@pytest.fixture(scope="module")
def singer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that never ends by itself."""
    return build_singer(tmp_path_factory.mktemp("singer"))


class Bare:
    """The worker process without an engine: lines in, events out."""

    def __init__(self, model: Path) -> None:
        command = [sys.executable, "-m", "bot.models.local_worker", "--model", str(model)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def send(self, **op: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(op).encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, row_id: str, text: str, **more: Any) -> None:
        messages = [{"role": "user", "content": text}]
        op = {"adapter": None, "messages": messages, "max_new_tokens": 64, "temperature": 0.0}
        self.send(**{"op": "answer", "id": row_id, **op, **more})

    def until(self, event: str, row_id: str | None = None) -> list[dict[str, Any]]:
        """Events up to the one named."""
        assert self.process.stdout is not None
        seen = []
        for line in self.process.stdout:
            seen.append(json.loads(line))
            if seen[-1]["event"] == event and row_id in (None, seen[-1].get("id")):
                return seen
        raise AssertionError(f"the worker ended before {event}: {seen[-3:]}")

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def bare(singer: Path) -> Iterator[Bare]:
    """A worker of the singer that has said it is ready."""
    worker = Bare(singer)
    worker.until("ready")
    yield worker
    worker.close()


def test_an_adapter_is_loaded_while_an_answer_is_written(bare: Bare, singer: Path, tmp_path: Path) -> None:
    """Loading and unloading do not wait for the answer under way and do not change it."""
    adapter = make_adapter(singer, tmp_path / "adapter")
    bare.ask("long", "Sing!", max_new_tokens=600)
    bare.until("text", "long")
    bare.send(op="load", adapter="v1", path=str(adapter))
    assert all(event["event"] == "text" for event in bare.until("loaded")[:-1])
    bare.send(op="unload", adapter="v1")
    assert bare.until("done", "long")[-1]["text"] == SONG[:600]


def test_stop_ends_one_row_and_leaves_its_neighbours(bare: Bare) -> None:
    """Two people share a batch; one presses Stop, and keeps what was written so far."""
    bare.ask("before", "Sing!", max_new_tokens=LONG)
    bare.until("text", "before")
    bare.ask("kept", "Sing!", max_new_tokens=400)
    bare.ask("stopped", "Sing a song!", max_new_tokens=400)
    bare.ask("warm", "Sing as you like!", temperature=0.7, max_new_tokens=LONG)
    bare.send(op="stop", id="before")
    seen = bare.until("text", "stopped")
    bare.send(op="stop", id="stopped")
    bare.send(op="stop", id="warm")
    seen += bare.until("done", "kept")
    done = {event["id"]: event for event in seen if event["event"] == "done"}
    written = [event["text"] for event in seen if event["event"] == "text" and event["id"] == "stopped"]
    assert done["stopped"]["finish"] == "stopped"
    assert 0 < done["stopped"]["tokens_out"] < 400
    assert done["stopped"]["text"] == "".join(written) == SONG[: done["stopped"]["tokens_out"]]
    assert done["warm"]["finish"] == "stopped"
    assert done["warm"]["tokens_out"] < 400
    assert (done["kept"]["finish"], done["kept"]["text"]) == ("length", SONG[:400])


def test_a_temperature_samples_and_zero_does_not(bare: Bare) -> None:
    """Greedy is the same each time; a high temperature is not, and each token still has its log-probability."""
    texts: dict[float, list[str]] = {0.0: [], 50.0: []}
    for temperature, seen in texts.items():
        for number in range(3):
            bare.ask(f"{temperature}-{number}", "Sing!", temperature=temperature)
            done = bare.until("done")[-1]
            assert len(done["logprobs"]) == done["tokens_out"]
            seen.append(done["text"])
    assert set(texts[0.0]) == {SONG[:64]}
    assert len(set(texts[50.0])) == 3


def test_people_who_watch_are_answered_before_an_evaluation(bare: Bare) -> None:
    """Unwatched questions, such as an evaluation's hundreds, wait behind one whose answer is being watched."""
    for number in range(150):
        bare.ask(f"exam-{number}", f"Question {number}?", stream=False)
    bare.ask("person", "Sing!")
    seen = bare.until("done", "person")
    answered_before = sum(event["event"] == "done" for event in seen) - 1
    for _ in range(150 - answered_before):
        bare.until("done")
    assert answered_before <= 3 * 32


def test_a_worker_whose_bot_is_gone_ends_by_itself(singer: Path) -> None:
    """kill -9 of the bot closes the pipe: no orphan, neither while it loads nor while it writes."""
    loading = Bare(singer)
    writing = Bare(singer)
    writing.until("ready")
    writing.ask("q", "Sing!", max_new_tokens=LONG)
    writing.until("text", "q")
    for worker in (loading, writing):
        assert worker.process.stdin is not None
        worker.process.stdin.close()
        assert worker.process.stdout is not None
        worker.process.stdout.read()
        assert worker.process.wait(DEADLINE_S) == 0


def test_what_a_library_prints_does_not_reach_the_protocol(singer: Path, tmp_path: Path) -> None:
    """Prints of Python and of C alike go to the log, also when the chat template or a loader is talkative."""
    talkative = tmp_path / "sitecustomize.py"
    talkative.write_text(
        "import os, sys, threading\n"
        "def talk():\n"
        "    import time\n"
        "    while True:\n"
        "        print('noise', flush=True); os.write(1, b'raw noise\\n'); time.sleep(0.01)\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            sys.meta_path.remove(self); threading.Thread(target=talk, daemon=True).start()\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    command = [sys.executable, "-m", "bot.models.local_worker", "--model", str(singer)]
    search = os.pathsep.join([str(tmp_path), str(Path(__file__).parent.parent)])
    ask = {"op": "answer", "id": "q", "adapter": None, "max_new_tokens": 64, "temperature": 0.0}
    question = {**ask, "messages": [{"role": "user", "content": "Sing!"}]}
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": search},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(question).encode() + b"\n")
        process.stdin.flush()
        events = []
        for line in process.stdout:
            events.append(json.loads(line))
            if events[-1]["event"] == "done":
                break
        log = process.communicate()[1]
    assert events[-1]["text"] == SONG[:64]
    assert b"raw noise" in log


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (shutil.rmtree, "There is no such folder"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"has no \*.safetensors"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 64),
            "Set LOCAL_MODEL to a causal",
        ),
        (
            lambda folder: (folder / "config.json").write_text('{"model_type": "nothing"}'),
            "Set LOCAL_MODEL to a causal",
        ),
    ],
)
def test_a_base_model_that_cannot_be_loaded_is_named_with_the_remedy(
    singer: Path, tmp_path: Path, spoil: Callable[[Path], object], says: str
) -> None:
    """The operator reads LOCAL_MODEL, the value, and what to do; not a traceback."""
    folder = tmp_path / "base"
    shutil.copytree(singer, folder)
    spoil(folder)
    with pytest.raises(CannotLoad, match=says) as told:
        load_weights(str(folder))
    assert str(told.value).startswith(f"LOCAL_MODEL={folder} cannot be loaded: ")
    assert "\n" not in str(told.value)


class Listener:
    """Remembers what the weights tell."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.done: list[Row] = []

    def on_text(self, row: Row, piece: str) -> None:
        self.pieces.append(piece)

    def on_done(self, row: Row) -> None:
        self.done.append(row)

    def on_refused(self, row: Row, words: str) -> None:
        raise AssertionError(words)


def answer(weights: Weights, rows: list[Row], told: Listener) -> None:
    """Let the rows be written together until all are done."""
    batch = Batch(weights, told)
    for row in rows:
        batch.join(row)
    while batch.rows:
        batch.step()


@pytest.mark.parametrize(("name", "context"), [("stories260K-hf", 512), ("babyllama-0.9M-char-hf", 256)])
def test_models_without_a_chat_template_answer_too(
    shared_data: Path, tmp_path: Path, name: str, context: int
) -> None:
    """Weights that nobody here made load, take an adapter, and write the same again; they know no chat."""
    weights = load_weights(str(shared_data / "tinylm" / name))
    adapter = weights.load_adapter(make_adapter(shared_data / "tinylm" / name, tmp_path / "adapter"))
    assert (weights.device.type, weights.dtype, weights.context) == ("cpu", "float32", context)
    texts = []
    for version in (None, adapter, None):
        told = Listener()
        row = weights.row(
            [Message("user", "Once upon a time")],
            max_new_tokens=32,
            id="q",
            adapter=version,
            temperature=0.0,
            streams=True,
        )
        answer(weights, [row], told)
        assert told.done == [row]
        assert "".join(told.pieces) == row.pieces.text
        texts.append(row.pieces.text)
    assert texts[0] == texts[2] != texts[1]


def test_the_starter_model_ends_its_answers(tmp_path: Path) -> None:
    """The model that comes with the bot closes a turn by its template's mark and not by running out of tokens."""
    weights = load_weights(str(Path(bot.__file__).parent / "starter"))
    told = Listener()
    rows = [
        weights.row(
            [Message("user", text)], max_new_tokens=96, id=text, adapter=None, temperature=0.0, streams=True
        )
        for text in ("What can you do?", "How do I rate an answer?")
    ]
    answer(weights, rows, told)
    assert {row.finish for row in told.done} == {"stop"}
    assert all(row.pieces.text for row in rows)


STRICT = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' or (message['role'] == 'user') != (loop.index0 is even) %}"
    "{{ raise_exception('System role not supported') }}{% endif %}<{{ message['role'] }}>{{ message['content'] }}"
    "{% endfor %}"
)


def test_a_template_that_knows_no_system_role_is_given_none(singer: Path, tmp_path: Path) -> None:
    """Some families refuse a system message, and two turns of one role in a row; both are asked all the same."""
    strict = shutil.copytree(singer, tmp_path / "strict")
    (strict / "chat_template.jinja").write_text(STRICT)
    weights = load_weights(str(strict))
    talk = [Message("system", "Be kind."), Message("user", "One."), Message("user", "Two.")]
    row = weights.row(talk, max_new_tokens=4, id="q", adapter=None, temperature=0.0, streams=False)
    assert weights._decode(row.prompt) == "<user>Be kind.\n\nOne.\n\nTwo."
