"""The local model on a server: asked by version, loaded when needed, and every refusal with its remedy."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from vllm_standin import Mishap, VllmStandIn, served

from bot.errors import ModelUnavailable, PublicError, TooLongFor
from bot.models.local import LocalModel
from bot.models.memory import Memory
from bot.models.remote import RemoteEngine
from bot.models.remote_text import AdapterFolder, shorter_and_shorter
from bot.serving import Serving
from storage.store import Store
from storage.values import Message

DEADLINE_S = 30.0


def asks(words: str) -> list[Message]:
    return [Message("user", words)]


def adapter(folder: Path, name: str, *, rank: int = 16) -> Path:
    """What training leaves, as far as a server looks before it reads the weights."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    config = {"peft_type": "LORA", "r": rank, "target_modules": ["q_proj"]}
    (folder / name / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder / name


def engine_at(server: VllmStandIn, **changes: Any) -> RemoteEngine:
    usual = {
        "url": server.url,
        "model": "parrot",
        "label": "parrot",
        "max_new_tokens": 32,
        "timeout_s": DEADLINE_S,
    }
    return RemoteEngine(**{**usual, **changes})


@pytest.fixture
async def vllm() -> AsyncIterator[VllmStandIn]:
    """A server with LoRA at run time; a test may change its flags before it is asked."""
    async with served(VllmStandIn()) as running:
        yield running


@pytest.fixture
async def engine(vllm: VllmStandIn) -> AsyncIterator[RemoteEngine]:
    engine = engine_at(vllm)
    yield engine
    await engine.stop()


async def test_the_answer_is_streamed_counted_and_says_how_sure_it_was(
    vllm: VllmStandIn, engine: RemoteEngine
) -> None:
    """Pieces joined are the text; a log-probability and a margin for every token, the end mark included."""
    pieces: list[str] = []

    async def keep(piece: str) -> None:
        pieces.append(piece)

    proposal = await LocalModel(engine).answer(asks("What is new?"), on_text=keep)
    assert proposal.text == "".join(pieces) == "base says: What is new?"
    assert len(pieces) == 5
    assert (proposal.kind, proposal.model, proposal.version_id) == ("local", "parrot", None)
    assert (proposal.finish, proposal.tokens_in, proposal.tokens_out) == ("stop", 9, 6)
    assert proposal.logprobs == (-0.25,) * 6
    assert proposal.margins == (2.0,) * 6
    assert (proposal.first_entropy, proposal.cost_usd) == (None, 0)
    assert engine.info is not None
    assert (engine.info.context, engine.info.device) == (200, vllm.url.removeprefix("http://"))
    assert vllm.requests[0]["temperature"] == 0


async def test_versions_are_asked_by_name_side_by_side(
    vllm: VllmStandIn, engine: RemoteEngine, tmp_path: Path
) -> None:
    """Base, current and challenger at once get their own answers, also where the server can hold only one adapter."""
    vllm.max_loras = 1
    await engine.load("v1", adapter(tmp_path, "warm"))
    await engine.load("v2", adapter(tmp_path, "cold"))
    says = {None: "base", "v1": "warm", "v2": "cold"}
    jobs = [(version, f"{number}?") for version in says for number in range(4)]
    answers = await asyncio.gather(
        *(engine.answer(asks(words), version_id=version) for version, words in jobs)
    )
    assert [answer.text for answer in answers] == [
        f"{says[version]} says: {words}" for version, words in jobs
    ]
    assert vllm.busiest == 1
    assert {request["model"] for request in vllm.requests} == {"parrot", "v1", "v2"}
    model = LocalModel(engine, "v1", "local-1")
    assert (await model.answer(asks("?"))).model == "parrot + local-1"


async def test_loading_twice_is_loading_once_and_a_name_may_get_other_weights(
    vllm: VllmStandIn, engine: RemoteEngine, tmp_path: Path
) -> None:
    """Another replica may have loaded it; what counts is that the weights of the asked path answer."""
    warm, cold = adapter(tmp_path, "warm"), adapter(tmp_path, "cold")
    await engine.load("v1", warm)
    await engine.load("v1", warm)
    assert vllm.adapters == {"v1": str(warm)}
    await engine.load("v1", cold)
    assert (await engine.answer(asks("?"), version_id="v1")).text == "cold says: ?"
    await engine.unload("v1")
    assert vllm.adapters == {}
    with pytest.raises(ModelUnavailable, match="version v1 is not loaded"):
        await engine.answer(asks("?"), version_id="v1")
    await engine.unload("v1")
    assert (await engine.answer(asks("?"), version_id=None)).text == "base says: ?"


async def test_a_restarted_server_is_given_its_adapters_again(
    vllm: VllmStandIn, engine: RemoteEngine, tmp_path: Path
) -> None:
    """The asker notices nothing: the version is loaded again and asked once more, and answers as itself."""
    await engine.load("v1", adapter(tmp_path, "warm"))
    vllm.restart()
    together = (engine.answer(asks(f"{n}?"), version_id="v1") for n in range(5))
    assert [each.text for each in await asyncio.gather(*together)] == [f"warm says: {n}?" for n in range(5)]
    assert len(vllm.loads) == 2


async def test_a_server_that_answers_as_somebody_else_is_not_believed(
    vllm: VllmStandIn, engine: RemoteEngine, tmp_path: Path
) -> None:
    """With VLLM_SKIP_MODEL_NAME_VALIDATION a forgotten version is answered by the base; nobody sees that text."""
    shown: list[str] = []

    async def show(piece: str) -> None:
        shown.append(piece)

    await engine.load("v1", adapter(tmp_path, "warm"))
    vllm.checks_names = False
    vllm.restart()
    answer = await engine.answer(asks("?"), version_id="v1", on_text=show)
    assert answer.text == "".join(shown) == "warm says: ?"
    vllm.restart()
    (tmp_path / "warm" / "adapter_config.json").unlink()
    with pytest.raises(ModelUnavailable, match="finds no adapter at"):
        await engine.answer(asks("?"), version_id="v1", on_text=show)
    assert "".join(shown) == "warm says: ?"


async def test_only_a_few_adapters_stay_loaded_and_the_others_come_back_when_asked(
    vllm: VllmStandIn, engine: RemoteEngine, tmp_path: Path
) -> None:
    """The longest unused one goes first."""
    for number in range(6):
        await engine.load(f"v{number}", adapter(tmp_path, f"a{number}"))
    assert set(vllm.adapters) == {"v2", "v3", "v4", "v5"}
    assert (await engine.answer(asks("?"), version_id="v0")).text == "a0 says: ?"
    assert set(vllm.adapters) == {"v3", "v4", "v5", "v0"}


@pytest.mark.parametrize(
    ("flags", "rank", "says"),
    [
        ({"runtime_updating": False}, 16, "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"),
        ({"enable_lora": False}, 16, "started without LoRA.*--enable-lora"),
        (
            {"max_lora_rank": 8},
            64,
            r"rank 64, and the server at .* takes at most 8. Start it with --max-lora-rank 64",
        ),
        ({"max_lora_rank": 8}, 24, r"--max-lora-rank 32"),
    ],
)
async def test_a_server_that_cannot_load_adapters_is_told_which_flag_it_lacks(
    vllm: VllmStandIn, engine: RemoteEngine, tmp_path: Path, flags: dict[str, Any], rank: int, says: str
) -> None:
    """The base still answers; a version is declined with the remedy, when it is loaded and when it is asked."""
    for name, value in flags.items():
        setattr(vllm, name, value)
    with pytest.raises(PublicError, match=says):
        await engine.load("v1", adapter(tmp_path, "warm", rank=rank))
    with pytest.raises(ModelUnavailable, match="version v1 is not loaded"):
        await engine.answer(asks("?"), version_id="v1")
    assert (await engine.answer(asks("?"), version_id=None)).text == "base says: ?"


async def test_adapters_are_named_as_the_server_sees_them(vllm: VllmStandIn, tmp_path: Path) -> None:
    """Our folder and the server's are one folder under two paths; one that it cannot see is named with the setting."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    adapter(theirs, "warm")
    engine = engine_at(vllm, adapters=AdapterFolder(ours, str(theirs)))
    await engine.load("v1", ours / "warm")
    assert vllm.adapters == {"v1": str(theirs / "warm")}
    with pytest.raises(PublicError, match=rf"no adapter at {theirs}/cold\. .*LOCAL_ADAPTERS_PATH"):
        await engine.load("v2", ours / "cold")
    await engine.stop()
    assert AdapterFolder(ours, "/adapters").seen(Path("/elsewhere/x")) == "/elsewhere/x"


@pytest.mark.parametrize("counts", [True, False])
async def test_a_long_conversation_loses_its_oldest_turns_only(
    vllm: VllmStandIn, engine: RemoteEngine, counts: bool
) -> None:
    """Whether the server counts tokens for us or only complains: system and question stay, and as much as fits."""
    vllm.tokenizes = counts
    old = [Message(role, f"{number} " * 40) for number in range(4) for role in ("user", "assistant")]
    told = [Message("system", "Be brief."), *old, Message("user", "And now?")]
    assert (await engine.answer(told, version_id=None)).text == "base says: And now?"
    read = vllm.requests[-1]["messages"]
    assert (read[0]["content"], read[-1]["content"]) == ("Be brief.", "And now?")
    kept = read[1:-1]
    assert kept == [{"role": each.role, "content": each.content} for each in old[len(old) - len(kept) :]]
    assert len(kept) == 2
    assert kept[0]["role"] == "user"


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        (True, r"has 309 tokens; this model can read 168\. Please"),
        (False, "can read 200 tokens. Please shorten"),
    ],
)
async def test_a_question_longer_than_the_context_is_refused_in_words(
    vllm: VllmStandIn, engine: RemoteEngine, counts: bool, says: str
) -> None:
    """With figures where the server tells them; nothing of the question is cut away."""
    vllm.tokenizes = counts
    with pytest.raises(TooLongFor, match=says):
        await engine.answer(
            [*asks("Old."), Message("assistant", "Yes."), *asks("long " * 303)], version_id=None
        )
    assert (await engine.answer(asks("?"), version_id=None)).text == "base says: ?"


async def test_an_answer_has_room_even_after_a_long_question(vllm: VllmStandIn) -> None:
    """vLLM alone would read up to its last token and then answer with one word."""
    engine = engine_at(vllm, max_new_tokens=500)
    told = [Message("user", "old " * 70), Message("assistant", "y " * 20), Message("user", "new " * 100)]
    answer = await engine.answer(told, version_id=None)
    await engine.stop()
    assert len(vllm.requests[-1]["messages"]) == 1
    assert vllm.requests[-1]["max_tokens"] == 200 - 106
    assert answer.finish == "length"


async def test_an_answer_ends_where_the_chat_template_ends_a_turn(
    vllm: VllmStandIn, engine: RemoteEngine
) -> None:
    """A checkpoint need not name its end mark; a version that learned it would be made to write on."""
    vllm.ends_by_itself = False
    answer = await engine.answer(asks("?"), version_id=None)
    assert (answer.text, answer.finish) == ("base says: ?", "stop")
    assert vllm.requests[-1]["stop_token_ids"] == [2]


async def test_what_a_server_does_not_take_is_left_out_from_then_on(
    vllm: VllmStandIn, engine: RemoteEngine
) -> None:
    """Without log-probabilities (--max-logprobs 0) it answers; nothing is made up in their place."""
    vllm.max_logprobs = 0
    answer = await engine.answer(asks("?"), version_id=None)
    assert (answer.text, answer.logprobs, answer.margins) == ("base says: ?", (), ())
    await engine.answer(asks("?"), version_id=None)
    assert ["logprobs" in request for request in vllm.requests] == [True, False, False]


async def test_a_stopped_question_stops_the_server(vllm: VllmStandIn, engine: RemoteEngine) -> None:
    """Cancelling the task that waits closes the stream; vLLM then aborts the request."""
    began, never = asyncio.Event(), asyncio.Event()

    async def hold(number: int) -> None:
        if number == 2:
            began.set()
            await never.wait()

    vllm.gate = hold
    waiting = asyncio.create_task(engine.answer(asks("Sing a song!"), version_id=None))
    async with asyncio.timeout(DEADLINE_S):
        await began.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await vllm.hung_up.wait()
    vllm.gate = None
    assert (await engine.answer(asks("?"), version_id=None)).text == "base says: ?"


async def test_a_server_that_hangs_is_given_up(vllm: VllmStandIn) -> None:
    """The question goes on to the next model in time."""

    async def hang(_: int) -> None:
        await asyncio.Event().wait()

    vllm.gate = hang
    engine = engine_at(vllm, timeout_s=0.3)
    with pytest.raises(ModelUnavailable, match=r"did not finish within 0\.3 s"):
        await engine.answer(asks("?"), version_id=None)
    await engine.stop()


DEAD = {"error": {"message": "EngineCore encountered an issue.", "type": "InternalServerError", "code": 500}}


@pytest.mark.parametrize(
    ("mishap", "says"),
    [
        (Mishap(status=500, body=DEAD), "is out of order: EngineCore encountered an issue"),
        (
            Mishap(status=503, body={"object": "error", "message": "Loading", "code": 503}),
            "out of order: Loading",
        ),
        (Mishap(status=429, body={"error": "Too many"}), "limits how fast"),
        (
            Mishap(status=400, body={"error": {"message": "Odd thing"}}),
            "does not accept the question: Odd thing",
        ),
        (Mishap(after=2, body=DEAD), "is out of order: EngineCore encountered an issue"),
        (Mishap(after=2, cut=True), "broke off in the middle"),
        (Mishap(after=0, cut=True), "broke off in the middle|cannot be reached"),
    ],
)
async def test_each_failure_is_said_and_not_repeated(
    vllm: VllmStandIn, engine: RemoteEngine, mishap: Mishap, says: str
) -> None:
    """vLLM tells some errors in the middle of a stream that began with HTTP 200; the next question is answered."""
    vllm.mishaps.append(mishap)
    with pytest.raises(ModelUnavailable, match=says):
        await engine.answer(asks("What is new?"), version_id=None)
    assert len(vllm.requests) == 1
    assert (await engine.answer(asks("?"), version_id=None)).text == "base says: ?"


async def test_the_doctor_hears_what_is_right_and_what_to_change(vllm: VllmStandIn) -> None:
    """Reachable, the key, the model's name, and adapters at run time: one sentence with the remedy each."""
    vllm.key = "k-right"
    right = {"key": "k-right"}
    engine = engine_at(vllm, **right)
    assert "answers as parrot, reads 200 tokens, and loads adapters" in await engine.check()
    assert vllm.adapters == {}
    await engine.stop()
    for changes, says in (
        ({"key": "k-wrong"}, "refuses the key. Set LOCAL_ENGINE_KEY"),
        ({**right, "model": "owl"}, r"does not serve LOCAL_MODEL=owl\. Set LOCAL_MODEL to one of parrot\."),
        ({**right, "url": "http://127.0.0.1:9/v1"}, "127.0.0.1:9 cannot be reached.*LOCAL_ENGINE_URL"),
        ({**right, "url": f"{vllm.url}/v2"}, "no such address.*ends with /v1"),
    ):
        engine = engine_at(vllm, **changes)
        with pytest.raises(ModelUnavailable, match=says):
            await engine.check()
        await engine.stop()
    vllm.runtime_updating = False
    engine = engine_at(vllm, **right)
    with pytest.raises(PublicError, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING"):
        await engine.check()
    await engine.stop()


async def test_a_promotion_reaches_the_server_at_once(
    vllm: VllmStandIn, engine: RemoteEngine, store: Store, tmp_path: Path
) -> None:
    """Serving knows no difference between a process and a server: promoted, asked, and what cannot load is declined."""
    serving = Serving(store, engine, Memory(store, team="T1", folder=tmp_path / "memory"), team="T1")
    good, big = adapter(tmp_path, "good"), adapter(tmp_path, "big", rank=128)
    first, second = [
        await store.register_model(
            team="T1",
            name=name,
            base_model="parrot",
            path=str(path),
            sha256=path.name * 16,
            run_id=None,
            dataset_id=None,
            card={},
        )
        for name, path in (("local-1", good), ("local-2", big))
    ]
    assert (await (await serving.local()).answer(asks("?"))).text == "base says: ?"
    await serving.promote(first, by="U1", decision="d1", reason="better")
    proposal = await (await serving.local()).answer(asks("?"))
    assert (proposal.text, proposal.model) == ("good says: ?", "parrot + local-1")
    with pytest.raises(PublicError, match="--max-lora-rank 128"):
        await serving.promote(second, by="U1", decision="d2", reason="better")
    assert (await (await serving.local()).answer(asks("?"))).text == "good says: ?"


def test_what_is_dropped_first() -> None:
    """Each cut starts with a person's turn, and the last is the system's words and the question."""
    system, question = Message("system", "s"), Message("user", "q")
    turns = [Message("user", "1"), Message("assistant", "2"), Message("user", "3")]
    cuts = shorter_and_shorter([system, *turns, question])
    assert ["".join(each.content for each in cut) for cut in cuts] == ["s123q", "s3q", "sq"]
