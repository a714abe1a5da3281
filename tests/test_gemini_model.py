"""Gemini as a model that answers: the real SDK against a server that bills, refuses and fails as the vendor does."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from provider_books import Books, Reply, reading
from provider_schema import GoogleSpec, NotTheirs
from provider_standins import Failure, GeminiServer, StandIn, served

from bot.errors import ModelUnavailable, Withheld
from bot.models.gemini import GeminiModel
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
    model = model_at(google, timeout_s=1.5)
    with pytest.raises(ModelUnavailable, match=r"did not finish within 1\.5 s"):
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
        ("SAFETY", "One two", "safety filter stopped its answer: it may touch on something harmful"),
        ("RECITATION", "One two", "safety filter stopped its answer: it would have repeated a text"),
        ("BLOCKED", "", "safety filter stopped your question: it may touch on something harmful"),
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


@pytest.mark.usefixtures("shared_data")
def test_the_stand_in_refuses_fields_that_google_does_not_know() -> None:
    """What passes it is written as the service's own description has it."""
    spec = GoogleSpec.read()
    right: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "?"}]}]}
    path = "/v1beta1/projects/p/locations/l/publishers/google/models/m:streamGenerateContent"
    spec.check_request(path, right, vertex=True)
    wrongs: list[dict[str, Any]] = [
        {**right, "max_tokens": 5},
        {**right, "generationConfig": {"maxTokens": 5}},
        {"contents": [{"role": "user", "content": "?"}]},
    ]
    for wrong in wrongs:
        with pytest.raises(NotTheirs):
            spec.check_request(path, wrong, vertex=True)
    with pytest.raises(NotTheirs, match="Vertex has no"):
        spec.check_request(path.replace("publishers/google", "makers/google"), right, vertex=True)


@pytest.fixture
async def vertex() -> AsyncIterator[GeminiModel]:
    """Gemini through Vertex AI, whose models are in a region of a project."""
    from google.oauth2.credentials import Credentials

    stand_in = StandIn(keys={"ya29.right"}, models={"gemini-3.5-flash-lite": None})
    async with served(stand_in, GeminiServer(stand_in).routes()) as running:
        model = GeminiModel(
            model="gemini-3.5-flash-lite",
            project="acme",
            location="europe-west4",
            credentials=Credentials(token="ya29.right"),  # type: ignore[no-untyped-call]
            base_url=running.url,
            prices=PRICES,
        )
        yield model
        await model.close()


async def test_vertex_is_asked_with_the_credentials_of_the_machine(vertex: GeminiModel) -> None:
    """The same questions and answers, in the project's region."""
    assert (await vertex.answer(ASKED)).text == "You asked: What is new?"
    assert await vertex.check() == "Gemini lets the project acme in and offers gemini-3.5-flash-lite."


async def test_missing_credentials_are_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was asked, nothing is billed."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    model = GeminiModel(model="gemini-3.5-flash-lite", project="acme", base_url="http://127.0.0.1:9")
    books = Books()
    with pytest.raises(ModelUnavailable, match="gcloud auth application-default login"):
        await model.answer(ASKED, meter=books)
    with pytest.raises(ModelUnavailable, match="gcloud auth application-default login"):
        await model.check()
    await model.close()
    assert [bill.cost_usd for bill in books.bills] == [0.0]


NEWS = {
    "usageMetadata": {
        "promptTokenCount": 9,
        "candidatesTokenCount": 2,
        "serviceTier": "standard",
        "zeta": {"a": 1},
    }
}


def told(finish: str, *parts: dict[str, Any], **more: Any) -> Reply:
    """One chunk of a stream, with counts that this release of the SDK does not know."""
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": finish, "newField": [1]}
    return Reply(f"data: {json.dumps({'candidates': [candidate], **NEWS, **more})}\n\n")


@pytest.mark.parametrize(
    ("reply", "kind", "says"),
    [
        (told("NEW_REASON", {"text": "Hm."}), ModelUnavailable, r"reason of its own \(NEW_REASON\)"),
        (told("OTHER"), ModelUnavailable, r"reason of its own \(OTHER\)"),
        (told("SPII", {"text": "Hm."}), Withheld, "may hold personal data"),
        (told("MODEL_ARMOR"), Withheld, "organization's own filter"),
        (
            told("STOP", {"functionCall": {"name": "f", "args": {}}}),
            ModelUnavailable,
            "wanted to call a tool",
        ),
        (told("MALFORMED_FUNCTION_CALL"), ModelUnavailable, "wanted to call a tool"),
        (told("", promptFeedback={"blockReason": "NEW_BLOCK"}), Withheld, "it gave NEW_BLOCK as the reason"),
        (
            told("STOP", {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}),
            ModelUnavailable,
            "empty answer",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("ignore:.*is not a valid")
async def test_reasons_and_counts_that_nobody_knows_yet_are_taken_as_they_are(
    reply: Reply, kind: type[ModelUnavailable], says: str
) -> None:
    """No traceback, and the bill is right."""
    books = Books()
    async with reading(reply) as reader:
        model = GeminiModel(api_key="k", model="gemini-3.5-flash-lite", base_url=reader.url, prices=PRICES)
        with pytest.raises(ModelUnavailable) as refused:
            await model.answer(ASKED, meter=books)
        await model.close()
    assert isinstance(refused.value, kind)
    assert re.search(says, str(refused.value))
    assert books.tokens == (9, 2)


@pytest.mark.parametrize(
    "rubbish", ["[1]", '{"candidates": 5}', '{"candidates": [{"content": "Hm."}]}', "Hm."]
)
async def test_json_that_is_no_chunk_breaks_the_answer_off(rubbish: str) -> None:
    """The SDK fails at it in ways of its own; a person reads a sentence."""
    first = json.dumps({"candidates": [{"content": {"role": "model", "parts": [{"text": "Well, "}]}}]})
    async with reading(Reply(f"data: {first}\n\ndata: {rubbish}\n\n")) as reader:
        model = GeminiModel(api_key="k", model="gemini-3.5-flash-lite", base_url=reader.url, prices=PRICES)
        with pytest.raises(ModelUnavailable, match="broke off in the middle of its answer"):
            await model.answer(ASKED)
        await model.close()


async def test_an_answer_that_could_be_continued_is_not_asked_on_behind_our_back() -> None:
    """The SDK would ask again by itself, and nobody would have billed it. The day of the model's end is remembered."""
    status = {"modelStatus": {"modelStage": "LEGACY", "retirementTime": "2027-03-01T00:00:00Z"}}
    async with reading(told("CONTINUATION", {"text": "First half"}, **status)) as reader:
        model = GeminiModel(api_key="k", model="gemini-3.5-flash-lite", base_url=reader.url, prices=PRICES)
        assert await model.ends_on() is None
        proposal = await model.answer(ASKED)
        ends = await model.ends_on()
        await model.close()
        assert len(reader.requests) == 1
    assert (proposal.text, proposal.finish) == ("First half", "length")
    assert ends == date(2027, 3, 1)
