"""Gemini as a model that answers: the real SDK against a server that bills, refuses and fails as the vendor does."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from provider_standins import Failure, GeminiServer, StandIn, gemini_request_schema, served

from bot.errors import ModelUnavailable
from bot.models.gemini import GeminiModel, _Heard
from bot.models.prices import Price, Prices
from storage.values import Message

ASKED = [Message("system", "Be brief."), Message("user", "What is new?")]
PRICES = Prices({"gemini-3.5-flash-lite": Price(1.0, 0.1, 10.0)})


@pytest.fixture
async def google() -> AsyncIterator[StandIn]:
    """The Gemini API with two models."""
    stand_in = StandIn(keys={"AIza-right"}, models={"gemini-3.5-flash-lite": None, "gemini-9": None})
    async with served(stand_in, GeminiServer(stand_in).routes()) as running:
        yield running


def model_at(stand_in: StandIn, **changes: Any) -> GeminiModel:
    usual = {"api_key": "AIza-right", "model": "gemini-3.5-flash-lite", "prices": PRICES}
    return GeminiModel(base_url=stand_in.url, **{**usual, **changes})


async def test_an_answer_is_streamed_counted_and_priced(google: StandIn) -> None:
    """Pieces joined are the text; the second time the prompt is cached and cheaper."""
    pieces: list[str] = []

    async def keep(piece: str) -> None:
        pieces.append(piece)

    model = model_at(google)
    long = [Message("system", "Be brief. " * 30), *ASKED[1:]]
    first = await model.answer(long, on_text=keep)
    again = await model.answer(long)
    await model.close()
    assert first.text == "".join(pieces) == "You asked: What is new?"
    assert len(pieces) == 5
    assert (first.kind, first.model, first.finish) == ("gemini", "gemini-3.5-flash-lite", "stop")
    assert (first.tokens_in, first.tokens_cached, first.tokens_out) == (63, 0, 5)
    assert first.cost_usd == pytest.approx((63 * 1.0 + 5 * 10.0) / 1e6)
    assert (again.tokens_in, again.tokens_cached) == (63, 40)
    assert again.cost_usd == pytest.approx((23 * 1.0 + 40 * 0.1 + 5 * 10.0) / 1e6)


async def test_thoughts_are_billed_but_not_shown(google: StandIn) -> None:
    """People read the answer; the bill has the thinking too."""
    google.thinks = 100
    model = model_at(google)
    proposal = await model.answer(ASKED)
    await model.close()
    assert proposal.text == "You asked: What is new?"
    assert proposal.tokens_out == 105
    assert proposal.cost_usd == pytest.approx((5 * 1.0 + 105 * 10.0) / 1e6)


async def test_a_conversation_has_the_roles_that_gemini_knows(google: StandIn) -> None:
    """System text is an instruction, the assistant is "model", and neighbours of one role are one turn."""
    talk = [
        *ASKED,
        Message("user", "I mean here."),
        Message("assistant", "Nothing."),
        Message("user", "Sure?"),
    ]
    model = model_at(google)
    await model.answer(talk)
    await model.close()
    (request,) = google.requests
    assert request["systemInstruction"]["parts"] == [{"text": "Be brief."}]
    assert request["contents"] == [
        {"role": "user", "parts": [{"text": "What is new?"}, {"text": "I mean here."}]},
        {"role": "model", "parts": [{"text": "Nothing."}]},
        {"role": "user", "parts": [{"text": "Sure?"}]},
    ]
    assert request["generationConfig"] == {"temperature": 0.0, "maxOutputTokens": 1024}


def failing(status: int, message: str = "No.", *details: dict[str, Any], bills: bool = False) -> Failure:
    error = {"code": status, "message": message, "status": "SOME_STATUS", "details": list(details)}
    return Failure(status=status, error=error, bills=bills)


DAILY = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (failing(429, "Quota exceeded", DAILY, {"retryDelay": "1s"}), "quota for today is used up"),
        (
            failing(403, "Your location is not supported."),
            "does not let this key use gemini-3.5-flash-lite: Your loc",
        ),
        (failing(401), "GEMINI_API_KEY"),
        (failing(400, "Request too large"), "does not accept the question: Request too large"),
    ],
)
async def test_each_refusal_is_said_in_its_own_words_and_not_repeated(
    google: StandIn, failure: Failure, says: str
) -> None:
    """What will not pass is asked once."""
    google.fail_next.append(failure)
    model = model_at(google)
    with pytest.raises(ModelUnavailable, match=says):
        await model.answer(ASKED)
    await model.close()
    assert len(google.requests) == 1


async def test_a_wrong_key_and_a_wrong_model_name_their_setting(google: StandIn) -> None:
    """The operator reads which of the two to change."""
    wrong_key, wrong_model = model_at(google, api_key="AIza-wrong"), model_at(google, model="gemini-0")
    for model, setting in ((wrong_key, "GEMINI_API_KEY"), (wrong_model, "GEMINI_MODEL")):
        for ask in (model.answer(ASKED), model.check()):
            with pytest.raises(ModelUnavailable, match=setting):
                await ask
        await model.close()
    assert google.billed == []


async def test_a_short_outage_is_sat_out_and_a_long_one_reported(google: StandIn) -> None:
    """Two errors in a row pass unnoticed, three do not, and the SDK adds no attempts of its own."""
    down = failing(503, "The model is overloaded.", bills=True)
    google.fail_next.extend([down, down])
    model = model_at(google)
    assert (await model.answer(ASKED)).text == "You asked: What is new?"
    assert len(google.requests) == len(google.billed) == 3
    google.fail_next.extend([down, down, down])
    with pytest.raises(ModelUnavailable, match=r"out of order \(HTTP 503\)"):
        await model.answer(ASKED)
    await model.close()
    assert len(google.requests) == 6


async def test_the_delay_that_google_asks_for_is_obeyed(google: StandIn) -> None:
    """It comes in the body; a short one is waited for, a long one holds for later questions too."""
    google.fail_next.append(failing(429, "Slow down", {"retryDelay": "0.7s"}))
    model = model_at(google, timeout_s=8.0)
    assert (await model.answer(ASKED)).text
    first, second = google.asked_at
    assert second - first >= 0.7
    google.fail_next.append(failing(429, "Slow down", {"retryDelay": "37s"}))
    with pytest.raises(ModelUnavailable, match="limits how fast"):
        await model.answer(ASKED)
    with pytest.raises(ModelUnavailable, match=r"asked again in 3[67] s"):
        await model.answer(ASKED)
    await model.close()
    assert len(google.requests) == 3


@pytest.mark.parametrize("cut_after", [2, 5])
async def test_a_stream_that_breaks_off_is_no_answer(google: StandIn, cut_after: int) -> None:
    """Half an answer, or one without its end, is not passed off as whole, and not asked for again."""
    google.fail_next.append(Failure(cut_after=cut_after))
    model = model_at(google)
    with pytest.raises(ModelUnavailable, match="broke off in the middle"):
        await model.answer(ASKED)
    await model.close()
    assert len(google.requests) == 1


async def test_silence_has_a_limit(google: StandIn) -> None:
    """The limit is for the whole answer, and the connection is given up."""
    google.fail_next.append(Failure(silent=True))
    model = model_at(google, timeout_s=3.0)
    with pytest.raises(ModelUnavailable, match=r"did not finish within 3 s"):
        await model.answer(ASKED)
    async with asyncio.timeout(60):
        await google.hung_up.wait()
    await model.close()


async def test_cancelling_hangs_up(google: StandIn) -> None:
    """A person's Stop reaches the vendor, who stops writing."""
    google.fail_next.append(Failure(silent=True))
    began = asyncio.Event()

    async def note(_: str) -> None:
        began.set()

    model = model_at(google)
    waiting = asyncio.create_task(model.answer(ASKED, on_text=note))
    async with asyncio.timeout(10):
        await began.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await google.hung_up.wait()
    await model.close()


@pytest.mark.parametrize(
    ("finish", "text", "says"),
    [
        ("SAFETY", "One two", r"safety filter withheld the answer \(SAFETY\)"),
        ("RECITATION", "One two", r"safety filter withheld the answer \(RECITATION\)"),
        ("BLOCKED", "", r"safety filter refused the question \(SAFETY\)"),
        ("MAX_TOKENS", "", "spent all 1024 tokens on thinking"),
        ("STOP", "", "empty answer"),
    ],
)
async def test_an_answer_that_is_none_is_not_posted(
    google: StandIn, finish: str, text: str, says: str
) -> None:
    """The desk goes on to the next model with the reason."""
    google.finish, google.says = finish, lambda _: text
    model = model_at(google)
    with pytest.raises(ModelUnavailable, match=says):
        await model.answer(ASKED)
    await model.close()


async def test_an_answer_cut_at_its_limit_says_so(google: StandIn) -> None:
    google.finish = "MAX_TOKENS"
    model = model_at(google)
    assert (await model.answer(ASKED)).finish == "length"
    await model.close()


async def test_a_server_that_is_not_there_is_named(unused_tcp_port: int) -> None:
    """Connection refused is no traceback."""
    model = model_at(StandIn(url=f"http://127.0.0.1:{unused_tcp_port}"))
    with pytest.raises(ModelUnavailable, match="Gemini cannot be reached"):
        await model.answer(ASKED)
    await model.close()


async def test_a_project_of_google_cloud_in_the_environment_changes_nothing(
    google: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK would go to Vertex by itself; the key in the settings decides."""
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "somebody-elses")
    monkeypatch.setenv("GOOGLE_API_KEY", "AIza-other")
    model = model_at(google)
    assert (await model.answer(ASKED)).text == "You asked: What is new?"
    await model.close()


async def test_doctor_hears_of_an_unknown_price(google: StandIn) -> None:
    """A model whose cost would silently be 0 is named."""
    fine, unpriced = model_at(google), model_at(google, model="gemini-9")
    assert await fine.check() == "Gemini accepts the key and offers gemini-3.5-flash-lite."
    assert "price of gemini-9 is not known" in await unpriced.check()
    await fine.close()
    await unpriced.close()


def test_answers_that_google_really_gave_are_understood(shared_data: Path) -> None:
    """Recorded replies, of which many only call tools: text, tokens and end are read as they are written there."""
    from google.genai.types import GenerateContentResponse
    from pydantic import ValidationError

    read = 0
    for line in (shared_data / "provider_traffic" / "exchanges.jsonl").open(encoding="utf-8"):
        row = json.loads(line)
        if row["provider"] != "google" or ":generateContent" not in row["uri"] or row["status"] != 200:
            continue
        try:
            reply = GenerateContentResponse.model_validate(row["response"])
        except ValidationError:
            continue  # fields that this release of the SDK does not know
        heard = _Heard()
        text = heard.take(reply)
        parts = row["response"].get("candidates", [{}])[0].get("content", {}).get("parts", [])
        assert text == "".join(part.get("text", "") for part in parts if not part.get("thought"))
        usage = row["response"].get("usageMetadata", {})
        assert heard.tokens_in == usage.get("promptTokenCount", 0)
        assert heard.tokens_out == usage.get("candidatesTokenCount", 0) + usage.get("thoughtsTokenCount", 0)
        read += 1
    assert read > 50


def test_the_stand_in_refuses_fields_that_google_does_not_know(shared_data: Path) -> None:
    """What passes it is written as the service's own description has it."""
    judge = jsonschema.Draft202012Validator(gemini_request_schema())
    right: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "?"}]}]}
    assert judge.is_valid(right)
    assert not judge.is_valid({**right, "max_tokens": 5})
    assert not judge.is_valid({**right, "generationConfig": {"maxTokens": 5}})
    assert not judge.is_valid({"contents": [{"role": "user", "content": "?"}]})
