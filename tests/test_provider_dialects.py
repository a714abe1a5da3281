"""Servers that speak OpenAI's protocol with an accent: Azure, Together, Fireworks, Ollama, vLLM and proxies.

Each case is what such a server sends, read out by a local one to the real SDK.
"""

import json
from collections.abc import Sequence
from datetime import date
from typing import Any

import pytest
from provider_books import Books, Reader, Reply, reading

from bot.errors import ModelUnavailable, TooLongFor, Withheld
from bot.models.openai import OpenAIModel
from bot.models.openai_parameters import is_azure, parameters, without_refused
from bot.models.prices import Price, Prices
from storage.values import Message, Proposal

ASKED = [Message("user", "What is new?")]
PRICES = Prices({"some-model": Price(1.0, 0.1, 10.0)})
DONE = "data: [DONE]\n\n"
USAGE = {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}

Json = dict[str, Any]


def model_at(reader: Reader, **changes: Any) -> OpenAIModel:
    usual = {"api_key": "k", "model": "some-model", "prices": PRICES, "timeout_s": 30.0}
    return OpenAIModel(base_url=f"{reader.url}/v1", **{**usual, **changes})


def chunk(delta: Json | None = None, finish: str | None = None, **more: Any) -> Json:
    choice: Json = {"index": 0, "finish_reason": finish}
    if delta is not None:
        choice["delta"] = delta
    return {"id": "c1", "object": "chat.completion.chunk", "choices": [choice], **more}


def sse(chunks: Sequence[Json | str], end: str = DONE) -> Reply:
    """Chunks as server-sent events; what is text goes out as it is."""
    lines = [each if isinstance(each, str) else f"data: {json.dumps(each)}\n\n" for each in chunks]
    return Reply("".join(lines) + end)


async def hear(reply: Reply) -> tuple[Proposal, Books, list[str]]:
    """What the adapter makes of a reply."""
    books, shown = Books(), list[str]()

    async def keep(piece: str) -> None:
        shown.append(piece)

    async with reading(reply) as reader:
        model = model_at(reader)
        try:
            return await model.answer(ASKED, on_text=keep, meter=books), books, shown
        finally:
            await model.close()


WORDS = [chunk({"role": "assistant"}), chunk({"content": "All "}), chunk({"content": "well."})]
STOP = chunk({}, "stop")
TOLD = {"id": "c1", "object": "chat.completion.chunk", "choices": [], "usage": USAGE}
AZURE_FIRST = {"id": "", "object": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
AZURE_LATE = {
    **chunk(None),
    "choices": [{"index": 0, "finish_reason": None, "content_filter_results": {"hate": {}}}],
}


@pytest.mark.parametrize(
    "said",
    [
        [AZURE_FIRST, *WORDS, STOP, AZURE_LATE, TOLD],
        [": keepalive\n\n", *WORDS, ": OPENROUTER PROCESSING\n\n", STOP, TOLD],
        [chunk({"role": "assistant", "content": None}), *WORDS[1:], chunk({}, "eos", usage=USAGE)],
        [{**each, "usage": {**USAGE, "completion_tokens": 1, "total_tokens": 12}} for each in WORDS]
        + [chunk({"content": ""}, "stop", usage=USAGE)],
        [{"id": "c1", "choices": None}, *WORDS, STOP, {"choices": None, "usage": USAGE}],
        [chunk({"reasoning_content": "Hm. "}), chunk({"reasoning": "Hm. "}), *WORDS, STOP, TOLD],
        [
            chunk({"content": [{"type": "text", "text": "All well."}]}),
            chunk({"content": None}, "end_turn"),
            TOLD,
        ],
        [chunk({"content": "All well."}, "stop", usage={**USAGE, "completion_tokens": 1})],
    ],
    ids=[
        "Azure's filter results",
        "comments",
        "Together's eos",
        "usage in every chunk",
        "null choices",
        "reasoning",
        "parts",
        "hidden thoughts in the total only",
    ],
)
@pytest.mark.parametrize("end", [DONE, ""], ids=["[DONE]", "no [DONE]"])
async def test_an_answer_is_read_and_counted_in_every_dialect(said: list[Json | str], end: str) -> None:
    """The words are shown without thoughts, and the vendor's last count is the bill."""
    proposal, books, shown = await hear(sse(said, end))
    assert proposal.text == "".join(shown) == "All well."
    assert (books.tokens, books.bills[0].estimated) == ((11, 4), False)
    assert proposal.finish == "stop"


async def test_usage_that_never_comes_is_estimated_from_the_texts() -> None:
    """Thoughts included, which were written too."""
    plain, books, _ = await hear(sse([*WORDS, STOP]))
    _, thinking, _ = await hear(sse([chunk({"reasoning_content": "Let me think. " * 9}), *WORDS, STOP]))
    assert books.bills[0].estimated
    assert 3 <= plain.tokens_out < 10
    assert thinking.bills[0].tokens_out > 30
    assert books.bills[0].tokens_in == books.calls[0].tokens_in


async def test_a_server_that_does_not_stream_is_understood() -> None:
    """One JSON body in answer to a request for a stream."""
    said = {"choices": [{"message": {"role": "assistant", "content": "All well."}, "finish_reason": "stop"}]}
    reply = Reply(json.dumps({"object": "chat.completion", **said, "usage": USAGE}), "application/json")
    proposal, books, shown = await hear(reply)
    assert (proposal.text, shown, books.tokens) == ("All well.", ["All well."], (11, 4))


@pytest.mark.parametrize("finish", ["length", "max_tokens", "MAX_TOKENS"])
async def test_an_answer_cut_at_its_limit_says_so_in_every_dialect(finish: str) -> None:
    proposal, _, _ = await hear(sse([*WORDS, chunk({}, finish), TOLD]))
    assert proposal.finish == "length"


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ([*WORDS, chunk({}, "content_filter"), TOLD], Withheld, "content filter stopped the answer"),
        ([chunk({"refusal": "I cannot."}), STOP, TOLD], Withheld, "declined to answer: I cannot."),
        ([chunk({"tool_calls": []}, "tool_calls"), TOLD], ModelUnavailable, "wanted to call a tool"),
        ([*WORDS, chunk({}, "abort")], ModelUnavailable, "broke off in the middle"),
        (
            [*WORDS, {"error": {"message": "engine died", "code": 500}}],
            ModelUnavailable,
            "middle of its answer: engine died",
        ),
        (
            [*WORDS, {"object": "error", "message": "engine died"}],
            ModelUnavailable,
            "middle of its answer: engine died",
        ),
        ([*WORDS, "data: [1, 2]\n\n"], ModelUnavailable, "with something that cannot be read"),
        (WORDS, ModelUnavailable, "broke off in the middle"),
        ([{"error": {"message": "too fast", "code": 429}}], ModelUnavailable, "limits how fast"),
        (
            [{"error": {"message": "odd", "type": "odd"}}],
            ModelUnavailable,
            "could not finish the answer: odd",
        ),
    ],
    ids=lambda value: None if isinstance(value, list | type) else value,
)
async def test_an_answer_that_is_none_is_clearly_refused(
    said: list[Json | str], kind: type[ModelUnavailable], words: str
) -> None:
    """Also where the error comes inside a stream that began with status 200."""
    with pytest.raises(kind, match=words):
        await hear(sse(said))


def error(status: int, body: Json | str, kind: str = "application/json") -> Reply:
    return Reply(body if isinstance(body, str) else json.dumps(body), kind, status, {"retry-after": "300"})


def told(message: str = "No.", **more: Any) -> Json:
    """An error as OpenAI and Azure write it."""
    return {"error": {"message": message, **more}}


def flat(message: str, code: int) -> Json:
    """An error as vLLM wrote it for long."""
    return {"object": "error", "message": message, "code": code}


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (error(404, told(code="DeploymentNotFound")), ModelUnavailable, "offers no model some-model"),
        (
            error(404, told('model "some-model" not found, try pulling it first')),
            ModelUnavailable,
            "offers no model some-model",
        ),
        (error(404, {"detail": "Not Found"}), ModelUnavailable, "usually ends in /v1"),
        (error(404, flat("The model `x` does not exist.", 404)), ModelUnavailable, "OPENAI_MODEL"),
        (
            error(400, flat("This model's maximum context length is 512 tokens.", 400)),
            TooLongFor,
            "Please shorten it",
        ),
        (error(413, "too large", "text/plain"), TooLongFor, "Please shorten it"),
        (
            error(400, told("Filtered.", innererror={"code": "ResponsibleAIPolicyViolation"})),
            Withheld,
            "content filter stopped the question",
        ),
        (error(402, told("Insufficient Balance")), ModelUnavailable, "quota is used up"),
        (error(401, told("Invalid subscription key", code="401")), ModelUnavailable, "OPENAI_API_KEY"),
        (error(529, told("overloaded")), ModelUnavailable, r"out of order \(HTTP 529\)"),
    ],
)
async def test_each_servers_refusals_are_said_in_our_words(
    reply: Reply, kind: type[ModelUnavailable], words: str
) -> None:
    """They copy the form of the errors and not their codes."""
    with pytest.raises(kind, match=words):
        await hear(reply)


async def test_a_server_that_forbids_asking_again_is_obeyed() -> None:
    """x-should-retry."""
    reply = Reply("{}", "application/json", 500, {"x-should-retry": "false"})
    async with reading(reply) as reader:
        model = model_at(reader)
        with pytest.raises(ModelUnavailable, match="out of order"):
            await model.answer(ASKED)
        await model.close()
        assert len(reader.requests) == 1


@pytest.mark.parametrize(
    ("refusal", "gone", "there"),
    [
        ({"message": "Unrecognized request argument supplied: stream_options"}, {"stream_options"}, set()),
        ({"message": "logprobs is not available", "param": "logprobs"}, {"logprobs", "temperature"}, set()),
        ({"message": "[{'type': 'extra_forbidden', 'loc': ('body', 'logprobs')}]"}, {"logprobs"}, set()),
        (
            {
                "message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
                "param": "max_tokens",
            },
            {"max_tokens"},
            {"max_completion_tokens"},
        ),
    ],
)
@pytest.mark.parametrize("status", [400, 422])
async def test_what_a_server_does_not_know_is_learned(
    refusal: Json, gone: set[str], there: set[str], status: int
) -> None:
    """The second request has what it takes, and costs are right: the refused one costs nothing."""
    books = Books()
    async with reading(error(status, {"error": refusal}), sse([*WORDS, STOP, TOLD])) as reader:
        model = model_at(reader)
        assert (await model.answer(ASKED, meter=books)).text == "All well."
        await model.answer(ASKED)
        await model.close()
        first, second, third = (set(request) for request in reader.requests)
    assert first >= gone
    assert not second & gone
    assert second >= there
    assert third == second
    assert [bill.tokens_in for bill in books.bills] == [0, 11]


async def test_a_limit_that_is_refused_under_both_names_is_reported() -> None:
    """It bounds the cost, so it is never left out."""
    words = "Unknown parameters: max_tokens, max_completion_tokens"
    async with reading(error(400, {"error": {"message": words}})) as reader:
        model = model_at(reader)
        with pytest.raises(ModelUnavailable, match="does not accept the question: Unknown parameters"):
            await model.answer(ASKED)
        await model.close()
        assert len(reader.requests) == 2


@pytest.mark.parametrize(
    ("base_url", "model", "limit"),
    [
        (None, "gpt-4.1", "max_completion_tokens"),
        ("https://api.openai.com/v1", "gpt-4.1", "max_completion_tokens"),
        ("https://eu.api.openai.com/v1", "gpt-4.1", "max_completion_tokens"),
        ("https://acme.openai.azure.com/openai/v1/", "our-deployment", "max_completion_tokens"),
        ("http://127.0.0.1:11434/v1", "llama3.2", "max_tokens"),
        ("https://api.together.xyz/v1", "openai/gpt-oss-20b", "max_tokens"),
        ("https://proxy.example/v1", "openai/gpt-6-luna", "max_completion_tokens"),
        ("https://openai.com.evil.example/v1", "gpt-4.1", "max_tokens"),
    ],
)
def test_the_limit_has_the_name_that_a_server_knows(base_url: str | None, model: str, limit: str) -> None:
    """Who copies the protocol knows the older name, and some silently ignore the newer one."""
    sent = parameters(model, "none", 100, base_url)
    assert {name for name in sent if name.startswith("max_")} == {limit}


def test_a_refusal_about_something_else_teaches_nothing() -> None:
    """A limit that is too large is not a limit that is unknown."""
    sent = parameters("m", "none", 100, "http://127.0.0.1/v1")
    assert without_refused(sent, "max_tokens", "max_tokens is too large: 100", renamed=False) is None
    assert (
        without_refused(sent, "messages", "messages: unknown role; logprobs are fine", renamed=False) is None
    )
    assert without_refused(sent, "", "The sky is unsupported", renamed=False) is None


async def test_azure_does_not_list_deployments() -> None:
    """So that doctor does not call a deployment missing that works."""
    assert is_azure("https://acme.openai.azure.com/openai/v1/")
    assert is_azure("https://acme.services.ai.azure.com/openai/v1/")
    assert not is_azure("https://azure.com.example/v1")
    assert not is_azure(None)
    listed = {
        "object": "list",
        "data": [{"id": "gpt-4.1", "object": "model", "created": 1, "owned_by": "azure"}],
    }
    async with reading(Reply(json.dumps(listed), "application/json")) as reader:
        model = model_at(reader)
        with pytest.raises(ModelUnavailable, match="offers no model some-model"):
            await model.check()
        model._azure = True  # what the host's name says, which a server on loopback cannot have
        assert "whether it has a deployment some-model shows when it is asked" in await model.check()
        await model.close()


@pytest.mark.parametrize(
    ("model", "day"),
    [
        ("gpt-4.1-mini", date(2027, 1, 14)),
        ("ft:gpt-4.1-mini:acme::x", date(2027, 1, 14)),
        ("some-model", None),
        ("odd", None),
        ("missing", None),
    ],
)
async def test_the_day_of_a_models_end_is_known_where_the_server_tells(model: str, day: date | None) -> None:
    """A fine-tune ends with its base."""
    rows = [
        {"id": "gpt-4.1-mini", "shutdown_date": "2027-01-14"},
        {"id": "some-model", "shutdown_date": None},
        {"id": "odd", "shutdown_date": "some day"},
    ]
    async with reading(Reply(json.dumps({"object": "list", "data": rows}), "application/json")) as reader:
        asked = model_at(reader, model=model)
        assert await asked.ends_on() == day
        await asked.close()
