"""OpenAI as a model that answers: the real SDK against a server that bills, refuses and fails as the vendor does."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from provider_schema import NotTheirs, OpenAISpec
from provider_standins import Failure, OpenAIServer, StandIn, served

from bot.errors import ModelUnavailable, PublicError
from bot.models.openai import OpenAIModel
from bot.models.openai_parameters import parameters
from bot.models.patience import seconds_to_wait
from bot.models.prices import Price, Prices
from storage.values import Message

ASKED = [Message("system", "Be brief."), Message("user", "What is new?")]
PRICES = Prices({"gpt-6-luna": Price(1.0, 0.1, 10.0)})


@pytest.fixture
async def openai() -> AsyncIterator[StandIn]:
    """A vendor with a plain model, one that reasons when told to, and one that always does."""
    models = {"gpt-4.1-mini": "2027-01-14", "gpt-6-luna": None, "gpt-5-mini": None}
    stand_in = StandIn(models=dict(models))
    async with served(stand_in, OpenAIServer(stand_in).routes()) as running:
        yield running


def model_at(stand_in: StandIn, **changes: Any) -> OpenAIModel:
    usual = {"api_key": "sk-right", "model": "gpt-6-luna", "reasoning_effort": "none", "prices": PRICES}
    return OpenAIModel(base_url=f"{stand_in.url}/v1", **{**usual, **changes})


async def test_an_answer_is_streamed_counted_and_priced(openai: StandIn) -> None:
    """Pieces joined are the text; tokens are the vendor's; the second time the prompt is cached and cheaper."""
    pieces: list[str] = []

    async def keep(piece: str) -> None:
        pieces.append(piece)

    model = model_at(openai)
    long = [Message("system", "Be brief. " * 30), *ASKED[1:]]
    first = await model.answer(long, on_text=keep)
    again = await model.answer(long)
    await model.close()
    assert first.text == "".join(pieces) == "You asked: What is new?"
    assert len(pieces) == 5
    assert (first.kind, first.model, first.finish) == ("openai", "gpt-6-luna", "stop")
    assert (first.tokens_in, first.tokens_cached, first.tokens_out) == (63, 0, 5)
    assert first.cost_usd == pytest.approx((63 * 1.0 + 5 * 10.0) / 1e6)
    assert (again.tokens_in, again.tokens_cached) == (63, 40)
    assert again.cost_usd == pytest.approx((23 * 1.0 + 40 * 0.1 + 5 * 10.0) / 1e6)
    assert first.logprobs == (-0.25,) * 5
    assert openai.requests[0]["messages"][0] == {"role": "system", "content": long[0].content}


async def test_thinking_is_billed_as_output(openai: StandIn) -> None:
    """Reasoning tokens are in the answer's tokens and in its cost; no log-probabilities are asked for."""
    openai.thinks = 100
    model = model_at(openai, reasoning_effort="low")
    proposal = await model.answer(ASKED)
    await model.close()
    assert proposal.tokens_out == 105
    assert proposal.cost_usd == pytest.approx((5 * 1.0 + 105 * 10.0) / 1e6)
    assert proposal.logprobs == ()


@pytest.mark.parametrize(
    ("model", "effort", "sent"),
    [
        ("gpt-6-luna", "none", {"reasoning_effort", "temperature", "logprobs"}),
        ("gpt-6-luna", "low", {"reasoning_effort"}),
        ("gpt-5-mini", None, set()),
        ("o4-mini", "high", {"reasoning_effort"}),
        ("gpt-4.1-mini", "none", {"temperature", "logprobs"}),
        ("ft:gpt-4.1-mini:acme::x", None, {"temperature", "logprobs"}),
        ("qwen3-8b", "none", {"temperature", "logprobs"}),
        ("qwen3-8b", "low", {"reasoning_effort"}),
    ],
)
def test_a_model_is_sent_only_what_it_takes(model: str, effort: str | None, sent: set[str]) -> None:
    """Reasoning excludes temperature and log-probabilities; a model that cannot reason knows no effort."""
    assert set(parameters(model, effort, 100)) == {"max_completion_tokens", "stream_options", *sent}


async def test_a_parameter_that_a_server_refuses_is_left_out_from_then_on(openai: StandIn) -> None:
    """gpt-5-mini always reasons, so neither "none" nor a temperature is taken: the question is still answered."""
    model = model_at(openai, model="gpt-5-mini", reasoning_effort="none")
    assert (await model.answer(ASKED)).text == "You asked: What is new?"
    asked_once = len(openai.requests)
    await model.answer(ASKED)
    await model.close()
    assert asked_once == 3
    assert len(openai.requests) == 4
    assert openai.requests[-1].keys() == {
        "model",
        "messages",
        "stream",
        "stream_options",
        "max_completion_tokens",
    }


def failing(status: int, code: str | None, message: str = "No.", **more: Any) -> Failure:
    error = {"message": message, "type": "some_type", "param": None, "code": code}
    return Failure(status=status, error=error, **more)


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (failing(429, "insufficient_quota"), "quota is used up. Add credit"),
        (
            failing(403, None, "Country not supported for sk-abc"),
            "does not let this key use gpt-6-luna: Country not supported",
        ),
        (failing(400, "content_filter"), "content filter stopped the question"),
        (failing(400, "context_length_exceeded"), "too long for gpt-6-luna. Please shorten"),
        (
            failing(400, "weird", "Odd thing about sk-12345"),
            "does not accept the question: Odd thing about sk-...",
        ),
    ],
)
async def test_each_refusal_is_said_in_its_own_words_and_not_repeated(
    openai: StandIn, failure: Failure, says: str
) -> None:
    """What will not pass is asked once; nobody reads a key."""
    openai.fail_next.append(failure)
    model = model_at(openai)
    with pytest.raises(ModelUnavailable) as told:
        await model.answer(ASKED)
    await model.close()
    assert says in str(told.value)
    assert "sk-12345" not in str(told.value)
    assert "sk-abc" not in str(told.value)
    assert len(openai.requests) == 1


async def test_a_wrong_key_and_a_wrong_model_name_their_setting(openai: StandIn) -> None:
    """The operator reads which of the two to change."""
    wrong_key, wrong_model = model_at(openai, api_key="sk-wrong"), model_at(openai, model="gpt-7")
    for model, setting in ((wrong_key, "OPENAI_API_KEY"), (wrong_model, "OPENAI_MODEL")):
        for ask in (model.answer(ASKED), model.check()):
            with pytest.raises(ModelUnavailable, match=setting):
                await ask
        await model.close()
    assert openai.billed == []


async def test_a_short_outage_is_sat_out_and_a_long_one_reported(openai: StandIn) -> None:
    """Two errors in a row pass unnoticed, three do not; the vendor bills what it did before failing."""
    down = failing(500, None, "The server had an error", bills=True)
    openai.fail_next.extend([down, down])
    model = model_at(openai)
    assert (await model.answer(ASKED)).text == "You asked: What is new?"
    assert len(openai.billed) == 3
    openai.fail_next.extend([down, down, down])
    with pytest.raises(ModelUnavailable, match=r"out of order \(HTTP 500\)"):
        await model.answer(ASKED)
    await model.close()
    assert len(openai.requests) == 6


async def test_retry_after_is_obeyed_within_the_time_that_is_left(openai: StandIn) -> None:
    """It is not asked sooner than the vendor wants."""
    openai.fail_next.append(failing(429, "rate_limit_exceeded", headers={"retry-after-ms": "700"}))
    model = model_at(openai)
    assert (await model.answer(ASKED)).text
    await model.close()
    first, second = openai.asked_at
    assert second - first >= 0.7


async def test_a_long_retry_after_is_obeyed_across_questions(openai: StandIn) -> None:
    """Told to wait a minute, it gives up at once and does not knock again for the next question."""
    openai.fail_next.append(failing(429, "rate_limit_exceeded", headers={"retry-after": "60"}))
    model = model_at(openai, timeout_s=5.0)
    with pytest.raises(ModelUnavailable, match="limits how fast it may be asked"):
        await model.answer(ASKED)
    with pytest.raises(ModelUnavailable, match=r"asked again in (59|60) s"):
        await model.answer(ASKED)
    await model.close()
    assert len(openai.requests) == 1


@pytest.mark.parametrize("cut_after", [3, 6])
async def test_a_stream_that_breaks_off_is_no_answer(openai: StandIn, cut_after: int) -> None:
    """Half an answer, or one without its end, is not passed off as whole, and not asked for again."""
    openai.fail_next.append(Failure(cut_after=cut_after))
    model = model_at(openai)
    with pytest.raises(ModelUnavailable, match="broke off in the middle"):
        await model.answer(ASKED)
    await model.close()
    assert len(openai.requests) == 1


async def test_silence_has_a_limit(openai: StandIn) -> None:
    """The limit is for the whole answer, and the connection is given up."""
    openai.fail_next.append(Failure(silent=True))
    model = model_at(openai, timeout_s=1.5)
    with pytest.raises(ModelUnavailable, match=r"did not (finish|answer) within 1\.5 s"):
        await model.answer(ASKED)
    async with asyncio.timeout(60):
        await openai.hung_up.wait()
    await model.close()


async def test_cancelling_hangs_up(openai: StandIn) -> None:
    """A person's Stop reaches the vendor, who stops writing."""
    openai.fail_next.append(Failure(silent=True))
    began = asyncio.Event()

    async def note(_: str) -> None:
        began.set()

    model = model_at(openai)
    waiting = asyncio.create_task(model.answer(ASKED, on_text=note))
    async with asyncio.timeout(10):
        await began.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await openai.hung_up.wait()
    await model.close()


@pytest.mark.parametrize(
    ("finish", "text", "says"),
    [
        ("content_filter", "One two three", "content filter stopped the answer"),
        ("length", "", "spent all 1024 tokens on thinking"),
        ("stop", "", "empty answer"),
    ],
)
async def test_an_answer_that_is_none_is_not_posted(
    openai: StandIn, finish: str, text: str, says: str
) -> None:
    """The desk goes on to the next model with the reason."""
    openai.finish, openai.says = finish, lambda _: text
    model = model_at(openai)
    with pytest.raises(ModelUnavailable, match=says):
        await model.answer(ASKED)
    await model.close()


async def test_an_answer_cut_at_its_limit_says_so(openai: StandIn) -> None:
    openai.finish = "length"
    model = model_at(openai)
    assert (await model.answer(ASKED)).finish == "length"
    await model.close()


async def test_doctor_hears_of_shutdowns_and_unknown_prices(openai: StandIn) -> None:
    """A model that will be switched off, and one whose cost would silently be 0, are both said."""
    fine, ending = model_at(openai), model_at(openai, model="gpt-4.1-mini")
    assert await fine.check() == f"The server at {openai.url}/v1 accepts the key and offers gpt-6-luna."
    told = await ending.check()
    assert "switched off on 2027-01-14" in told
    assert "price of gpt-4.1-mini is not known" in told
    assert (await ending.answer(ASKED)).cost_usd == 0.0
    await fine.close()
    await ending.close()


def test_the_sdk_is_not_imported_before_it_is_needed() -> None:
    """A bot without a key does not pay its memory."""
    code = (
        "import sys; from bot.models.openai import OpenAIModel; from bot.models.gemini import GeminiModel\n"
        "OpenAIModel(api_key='k', model='m'); GeminiModel(api_key='k', model='m')\n"
        "print([name for name in sys.modules if name in ('openai', 'google.genai', 'httpx2')])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize(
    ("model", "tokens", "cost"),
    [
        ("gpt-6-luna", (1_000_000, 0, 0), 0.10),
        ("gpt-6-luna", (1_000_000, 1_000_000, 1_000_000), 0.01 + 0.50),
        ("gpt-6-luna-2026-09-01", (0, 0, 1_000_000), 0.50),
        ("ft:gpt-4.1-mini:acme::abc", (1_000_000, 0, 0), 0.80),
        ("ft:gpt-4.1-mini-2025-04-14:acme::abc", (1_000_000, 0, 0), 0.80),
        ("models/gemini-3.5-flash", (0, 0, 1_000_000), 9.0),
        ("google/gemini-3.5-flash", (0, 0, 1_000_000), 9.0),
        ("ft:gpt-5-mini:acme::abc", (1, 1, 1), None),
        ("gpt-7", (1, 1, 1), None),
    ],
)
def test_prices_are_known_or_said_to_be_unknown(
    model: str, tokens: tuple[int, int, int], cost: float | None
) -> None:
    """Never silently 0: a model without a price has none, and the price of a fine-tune is not its base's."""
    prices = Prices.read()
    assert prices.cost(model, *tokens) == (None if cost is None else pytest.approx(cost))
    assert prices.known(model) is (cost is not None)


def test_writing_the_cache_costs_what_the_table_says() -> None:
    """The vendor bills 1.25 times for what it puts into its cache."""
    assert Prices.read().cost("gpt-6-luna", 1_000_000, 0, 0, tokens_cache_written=1_000_000) == pytest.approx(
        0.125
    )


def test_prices_carry_their_date_and_source_and_a_damaged_table_is_named(tmp_path: Path) -> None:
    assert Prices.read().as_of.startswith("20")
    assert Prices.read().source
    (tmp_path / "prices.json").write_text(json.dumps({"models": {"m": {"in": 1}}}))
    with pytest.raises(PublicError, match=r"prices\.json cannot be read"):
        Prices.read(tmp_path / "prices.json")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("soon", None),
        (None, None),
    ],
)
def test_retry_after_comes_as_seconds_or_as_a_date(header: str | None, seconds: float | None) -> None:
    assert seconds_to_wait(header) == seconds


def test_recorded_requests_pass_the_check_of_the_stand_in(shared_data: Path) -> None:
    """The stand-in's judge accepts what the vendor accepted, and refuses what is wrong."""
    spec = OpenAISpec.read()
    rows = [
        json.loads(line)
        for line in (shared_data / "provider_traffic" / "exchanges.jsonl").open(encoding="utf-8")
    ]
    asked = [row["request"] for row in rows if row["uri"].endswith("/v1/chat/completions")]
    assert len(asked) > 50
    path = "/v1/chat/completions"
    for request in asked:
        spec.check_request("POST", path, request)
    wrongs: list[dict[str, Any]] = [
        {"temperature": 3},
        {"max_words": 5},
        {"reasoning_effort": "extreme"},
        {"messages": [{"role": "wizard", "content": "?"}]},
        {"messages": []},
    ]
    for wrong in wrongs:
        with pytest.raises(NotTheirs):
            spec.check_request("POST", path, {**asked[0], **wrong})
    with pytest.raises(NotTheirs):
        spec.check_request("POST", "/v1/chat/complete", asked[0])


@pytest.mark.usefixtures("shared_data")
async def test_a_request_that_the_vendor_does_not_describe_fails_its_test() -> None:
    """Whatever an adapter sends in any test is held to it, also where nobody looks at the answer."""
    stand_in = StandIn(models={"gpt-6-luna": None})
    turns = [{"role": "user", "content": "?"}]
    body = {"model": "gpt-6-luna", "messages": turns, "max_words": 5}
    url, head = "/v1/chat/completions", {"Authorization": "Bearer sk-right"}

    async def ask() -> None:
        async with (
            served(stand_in, OpenAIServer(stand_in).routes()),
            aiohttp.ClientSession() as session,
            session.post(stand_in.url + url, json=body, headers=head) as reply,
        ):
            assert reply.status == 400

    with pytest.raises(AssertionError, match="max_words"):
        await ask()
