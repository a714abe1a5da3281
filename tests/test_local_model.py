"""The local model: a process of its own that answers many people at once, in any version, and can die without harm."""

import asyncio
import json
import os
import shutil
import signal
import string
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from tiny_models import (
    BASE_SAYS,
    COLD_SAYS,
    GREETING,
    PLACE,
    WARM_SAYS,
    Parrots,
    build_parrots,
    build_singer,
)

from bot.errors import ModelUnavailable, PublicError
from bot.models.local import LocalEngine, LocalModel
from storage.values import Message

DEADLINE_S = 60.0
LONG = 3000  # tokens; the singer needs many seconds for them

SONG = string.ascii_lowercase * 200

shares_the_loop = pytest.mark.asyncio(loop_scope="module")
"""For tests that use the engine which runs through this whole file: starting one costs five seconds."""


def asks(text: str) -> list[Message]:
    return [Message("user", text)]


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that happens in another process."""
    async with asyncio.timeout(DEADLINE_S):
        while not holds():  # noqa: ASYNC110  (another process cannot set an event)
            await asyncio.sleep(0.02)


def cpu_seconds(engine: LocalEngine) -> float:
    process: Any = psutil.Process(process_of(engine))  # type: ignore[no-untyped-call]
    return float(process.cpu_times().user)


def runs(pid: int) -> bool:
    return bool(psutil.pid_exists(pid))  # type: ignore[no-untyped-call]


def process_of(engine: LocalEngine) -> int:
    assert engine._worker is not None
    return engine._worker.process.pid


@pytest.fixture(scope="module")
def parrots(tmp_path_factory: pytest.TempPathFactory) -> Parrots:
    """A base and two adapters that answer as `tiny_models` says."""
    return build_parrots(tmp_path_factory.mktemp("parrots"))


@pytest.fixture(scope="module")
def singer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that never ends by itself."""
    return build_singer(tmp_path_factory.mktemp("singer"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(parrots: Parrots, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalEngine]:
    """An engine of the parrots that runs through the file; each test loads the versions it needs."""
    log = tmp_path_factory.mktemp("log") / "local.log"
    engine = LocalEngine(model=str(parrots.base), label="parrot", log_file=log)
    yield engine
    await engine.stop()


@pytest.fixture
async def singing(singer: Path, tmp_path: Path) -> AsyncIterator[LocalEngine]:
    """An engine of the singer, for one test; nothing runs until it is asked."""
    engine = LocalEngine(model=str(singer), label="singer", log_file=tmp_path / "local.log")
    yield engine
    await engine.stop()


@shares_the_loop
async def test_the_answer_is_what_the_model_learned_and_says_how_sure_it_was(engine: LocalEngine) -> None:
    """A proposal carries the text, its tokens (one byte each here), and a log-probability for every one of them."""
    proposal = await LocalModel(engine).answer(asks(GREETING))
    assert proposal.text == BASE_SAYS[GREETING]
    assert (proposal.kind, proposal.model, proposal.version_id) == ("local", "parrot", None)
    assert proposal.finish == "stop"
    assert proposal.tokens_out == len(BASE_SAYS[GREETING].encode()) + 1 == len(proposal.logprobs)
    assert all(-0.7 < logprob <= 0 for logprob in proposal.logprobs)
    assert proposal.tokens_in > len(GREETING)
    assert proposal.seconds > 0
    assert proposal.cost_usd == 0


@shares_the_loop
async def test_what_is_streamed_are_whole_characters_and_joined_the_answer(
    engine: LocalEngine, parrots: Parrots
) -> None:
    """No piece ends inside an emoji of four tokens or a Japanese letter of three, and no end mark is shown."""
    await engine.load("v1", parrots.warm)
    for version, says in ((None, BASE_SAYS), ("v1", WARM_SAYS)):
        for question, expected in says.items():
            pieces: list[str] = []

            async def keep(piece: str, pieces: list[str] = pieces) -> None:
                pieces.append(piece)

            proposal = await engine.answer(asks(question), version_id=version, on_text=keep)
            assert "".join(pieces) == proposal.text == expected
            assert len(pieces) > len(expected) / 2
            assert not any("\ufffd" in piece or "<|" in piece for piece in pieces)


@shares_the_loop
async def test_an_answer_cut_inside_a_character_shows_no_half_of_it(engine: LocalEngine) -> None:
    """Five bytes of "Grüße" end in the middle of "ß"; people see "Grü"."""
    proposal = await engine.answer(asks(GREETING), version_id=None, max_new_tokens=5)
    assert (proposal.text, proposal.finish, proposal.tokens_out) == ("Grü", "length", 5)


@shares_the_loop
async def test_questions_asked_together_get_the_answers_they_get_alone(
    engine: LocalEngine, parrots: Parrots
) -> None:
    """Batching is invisible: different lengths, versions and wordings, taught and untaught."""
    await engine.load("v1", parrots.warm)
    await engine.load("v2", parrots.cold)
    questions = [
        GREETING,
        PLACE,
        "Hm?",
        "Tell me a much longer thing about roofs, cellars and fridges, please!",
    ]
    versions = [None, "v1", "v2"]
    jobs = [(question, version) for question in questions * 3 for version in versions]
    alone = {
        job: await engine.answer(asks(job[0]), version_id=job[1], max_new_tokens=48) for job in set(jobs)
    }
    together = await asyncio.gather(
        *(engine.answer(asks(question), version_id=version, max_new_tokens=48) for question, version in jobs)
    )
    assert [answer.text for answer in together] == [alone[job].text for job in jobs]
    assert alone[GREETING, None].text == BASE_SAYS[GREETING]
    assert alone[GREETING, "v1"].text == WARM_SAYS[GREETING]
    assert alone[GREETING, "v2"].text == COLD_SAYS[GREETING]
    for answer, job in zip(together, jobs, strict=True):
        assert answer.logprobs == pytest.approx(alone[job].logprobs, abs=1e-3)


@shares_the_loop
@pytest.mark.parametrize("kind", ["dora", "ia3", "prompt"])
async def test_every_kind_of_adapter_says_what_peft_says(
    engine: LocalEngine, parrots: Parrots, tmp_path: Path, kind: str
) -> None:
    """From the question's words on: the template, what stands before it, and the room that this takes."""
    from peft import PeftModel
    from test_local_engine import adapter
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base: Any = AutoModelForCausalLM.from_pretrained(parrots.base)
    folder = adapter(base, tmp_path / kind, 1, kind)
    tuned: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(parrots.base), str(folder))
    tokenizer: Any = AutoTokenizer.from_pretrained(parrots.base)
    turns = [{"role": "user", "content": PLACE}]
    words = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    read = tokenizer(words, add_special_tokens=False, return_tensors="pt")
    told = tuned.eval().generate(
        **read, max_new_tokens=8, do_sample=False, output_scores=True, return_dict_in_generate=True
    )
    meant = [float(scores.log_softmax(-1).max()) for scores in told.scores]

    await engine.load("new", folder)
    said = await engine.answer(asks(PLACE), version_id="new", max_new_tokens=8)
    assert list(said.logprobs) == pytest.approx(meant, abs=2e-3)
    assert said.tokens_in == read["input_ids"].shape[1] + (16 if kind == "prompt" else 0)
    plain = await engine.answer(asks(PLACE), version_id=None)
    assert plain.text == BASE_SAYS[PLACE]
    await engine.unload("new")


@shares_the_loop
async def test_versions_come_and_go_without_a_restart(engine: LocalEngine, parrots: Parrots) -> None:
    """Promotion and roll-back are a matter of which version is asked; one name may get other weights."""
    await engine.load("v1", parrots.warm)
    process = process_of(engine)
    model = LocalModel(engine, "v1", "local-1")
    answer = await model.answer(asks(PLACE))
    assert (answer.text, answer.model, answer.version_id) == (WARM_SAYS[PLACE], "parrot + local-1", "v1")
    await engine.load("v1", parrots.cold)
    assert (await model.answer(asks(PLACE))).text == COLD_SAYS[PLACE]
    await engine.unload("v1")
    with pytest.raises(ModelUnavailable, match="version v1 is not loaded"):
        await model.answer(asks(PLACE))
    assert (await LocalModel(engine).answer(asks(PLACE))).text == BASE_SAYS[PLACE]
    await engine.load("v1", parrots.warm)
    assert (await model.answer(asks(PLACE))).text == WARM_SAYS[PLACE]
    assert engine._worker.process.pid == process  # type: ignore[union-attr]


async def test_a_stopped_question_costs_no_more_tokens(singing: LocalEngine) -> None:
    """Cancelling the task that waits ends the generation, long before it would have ended by itself."""
    began = asyncio.Event()

    async def note(_: str) -> None:
        began.set()

    asked = singing.answer(asks("Sing!"), version_id=None, on_text=note, max_new_tokens=LONG)
    waiting = asyncio.create_task(asked)
    async with asyncio.timeout(DEADLINE_S):
        await began.wait()
    cpu = cpu_seconds(singing)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await singing.answer(asks("Sing!"), version_id=None, max_new_tokens=10)).text == SONG[:10]
    assert cpu_seconds(singing) - cpu < 3.0


@shares_the_loop
async def test_a_question_longer_than_the_context_is_refused_in_words(engine: LocalEngine) -> None:
    """100 kB do not fit into 4096 tokens; the sentence says both figures, and the next question is answered."""
    with pytest.raises(
        ModelUnavailable, match=r"The question has \d{6} tokens; this model can read \d+\. Please shorten"
    ):
        await engine.answer(asks("ä" * 50_000), version_id=None)
    assert (await engine.answer(asks(PLACE), version_id=None)).text == BASE_SAYS[PLACE]


@shares_the_loop
async def test_a_long_conversation_loses_its_oldest_turns_only(engine: LocalEngine) -> None:
    """The question at the end is answered as if the forgotten turns had not been there."""
    old = [Message("user", "x" * 2500), Message("assistant", "y" * 2500)]
    assert (await engine.answer([*old, *asks(GREETING)], version_id=None)).text == BASE_SAYS[GREETING]


@shares_the_loop
async def test_a_killed_worker_is_replaced_with_all_its_versions(
    engine: LocalEngine, parrots: Parrots
) -> None:
    """kill -9 fails the question under way in words; the next one starts the worker again, adapters and all."""
    await engine.load("v1", parrots.warm)
    os.kill(process_of(engine), signal.SIGSTOP)  # so that it dies with the question in its hands
    waiting = asyncio.create_task(engine.answer(asks(PLACE), version_id=None))
    await until(lambda: engine._worker is not None and bool(engine._worker.answers))
    os.kill(process_of(engine), signal.SIGKILL)
    with pytest.raises(ModelUnavailable, match=r"process ended \(signal 9\).*local\.log"):
        await waiting
    assert engine.info is None
    assert engine.rss_bytes() == 0
    answers = await asyncio.gather(*(engine.answer(asks(GREETING), version_id=v) for v in ("v1", None)))
    assert [answer.text for answer in answers] == [WARM_SAYS[GREETING], BASE_SAYS[GREETING]]


async def test_a_worker_that_keeps_dying_is_not_started_for_every_question(tmp_path: Path) -> None:
    """After a few failures in a row the engine says when it tries again instead of trying; nobody waits for it."""
    dies = tmp_path / "python"
    dies.write_text("#!/bin/sh\nexit 7\n")
    dies.chmod(0o755)
    engine = LocalEngine(model="any", label="any", python=str(dies))
    for _ in range(2):
        with pytest.raises(ModelUnavailable, match="exit status 7"):
            await engine.answer(asks("?"), version_id=None)
    with pytest.raises(ModelUnavailable, match=r"exit status 7.*tried again in \d+ s"):
        await engine.answer(asks("?"), version_id=None)


async def test_a_worker_that_never_gets_ready_is_given_up(tmp_path: Path) -> None:
    """Starting has a limit, and what was started is ended."""
    sleeps = tmp_path / "python"
    sleeps.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n")
    sleeps.chmod(0o755)
    engine = LocalEngine(model="slow-model", label="slow", python=str(sleeps), start_timeout_s=0.5)
    with pytest.raises(ModelUnavailable, match="LOCAL_MODEL=slow-model was not ready after"):
        await engine.start()
    pid = int((tmp_path / "pid").read_text())
    await until(lambda: not runs(pid))


async def test_the_event_loop_goes_on_while_the_model_starts_and_writes(singing: LocalEngine) -> None:
    """Buttons are answered meanwhile: a tick is never late by as much as loading torch takes."""
    gaps: list[float] = []

    async def tick() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic() - before)

    ticking = asyncio.create_task(tick())
    impatient = asyncio.create_task(singing.start())
    many = [singing.answer(asks("Sing!"), version_id=None, max_new_tokens=100) for _ in range(8)]
    patient = asyncio.gather(*many)
    await until(lambda: singing._starting is not None)
    impatient.cancel()  # whoever asked first may leave without harm to the others
    assert {answer.text for answer in await patient} == {SONG[:100]}
    ticking.cancel()
    assert max(gaps) < 1.0
    assert len(gaps) > 50


@shares_the_loop
async def test_the_worker_stays_small(engine: LocalEngine) -> None:
    """Bot and worker stay under 1.2 GB together; torch and transformers alone are some 400 MB."""
    await engine.answer(asks(PLACE), version_id=None)
    assert 50e6 < engine.rss_bytes() < 700e6


@shares_the_loop
async def test_stopping_ends_the_process_and_a_later_question_starts_a_new_one(engine: LocalEngine) -> None:
    """Whoever was waiting hears why."""
    await engine.start()
    pid = process_of(engine)
    many = [engine.answer(asks("Hm?" * 200), version_id=None, max_new_tokens=LONG) for _ in range(40)]
    waiting = asyncio.gather(*many, return_exceptions=True)
    await until(lambda: engine._worker is not None and len(engine._worker.answers) == 40)
    await engine.stop()
    ends = await waiting
    assert isinstance(ends[-1], ModelUnavailable)
    assert "being stopped" in str(ends[-1])
    assert not runs(pid)
    assert (await engine.answer(asks(PLACE), version_id=None)).text == BASE_SAYS[PLACE]


async def test_a_hub_id_that_is_not_here_is_named_with_the_remedy(tmp_path: Path) -> None:
    """With downloads off nothing is fetched."""
    engine = LocalEngine(model="nobody/no-such-model", label="absent", log_file=tmp_path / "log")
    with pytest.raises(
        ModelUnavailable, match=r"^LOCAL_MODEL=nobody/no-such-model cannot .* Set ALLOW_DOWNLOADS=true"
    ):
        await engine.start()


@shares_the_loop
async def test_an_adapter_that_does_not_fit_is_named_and_harms_nobody(
    engine: LocalEngine, parrots: Parrots, tmp_path: Path
) -> None:
    """Missing, damaged and foreign adapters are refused with the file's name; other versions answer as before."""
    with pytest.raises(PublicError, match=r"adapter_config\.json is missing"):
        await engine.load("v1", tmp_path / "nowhere")
    damaged = shutil.copytree(parrots.warm, tmp_path / "damaged")
    (damaged / "adapter_model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(PublicError, match=r"damaged does not fit this base model"):
        await engine.load("v1", damaged)
    await engine.load("v1", parrots.warm)
    foreign = shutil.copytree(parrots.warm, tmp_path / "foreign")
    config = json.loads((foreign / "adapter_config.json").read_text())
    (foreign / "adapter_config.json").write_text(json.dumps({**config, "r": 4}))
    with pytest.raises(PublicError, match=r"foreign does not fit.*another LOCAL_MODEL.*/train"):
        await engine.load("v2", foreign)
    assert (await engine.answer(asks(PLACE), version_id="v1")).text == WARM_SAYS[PLACE]
    assert (await engine.answer(asks(PLACE), version_id=None)).text == BASE_SAYS[PLACE]


async def test_without_torch_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small deployment has no local extra; nothing is started."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    engine = LocalEngine(model="any", label="any")
    with pytest.raises(ModelUnavailable, match=r"pip install -e '\.\[local\]'"):
        await engine.start()


def test_importing_the_local_model_loads_no_torch() -> None:
    """The bot's own process stays small."""
    code = "import sys, bot.models.local, bot.models.local_text; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
