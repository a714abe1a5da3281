"""Exchanges that other people really had with OpenAI and Google, read out to our adapters by a local server.

The bytes are those that were recorded. Our adapters ask for streams; where the recording is one whole answer it is read out
as such, because there are servers that answer a request for a stream like that, and both adapters understand it.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from provider_books import Books, Reply, reading
from test_provider_faults import model_of

from bot.errors import ModelUnavailable
from bot.models import AnswerModel
from storage.values import Bill, Message

Json = dict[str, Any]
ASKED = [Message("user", "Whatever it was.")]
NEVER: Final = {
    "/responses": "Responses: Chat Completions is what compatible servers speak",
    "/conversations": "Responses: Chat Completions is what compatible servers speak",
    "/embeddings": "embeddings: memory is lexical",
    ":batchEmbedContents": "embeddings: memory is lexical",
    ":countTokens": "counting: the bill says it afterwards",
    "/cachedContents": "explicit caches: prompts are short",
    "/files": "files: nothing is uploaded",
    "/vector_stores": "files: nothing is uploaded",
    "/fileSearchStores": "files: nothing is uploaded",
    "/realtime": "speech",
}
"""Endpoints that the product never calls, and why."""


@dataclass(frozen=True)
class Heard:
    """What an adapter made of a recording: what was shown, how it ended ("" for an answer), and the bill."""

    shown: str
    refusal: str
    bill: Bill


@pytest.fixture(scope="module")
def recorded(shared_data: Path) -> list[Json]:
    """All exchanges."""
    file = shared_data / "provider_traffic" / "exchanges.jsonl"
    return [json.loads(line) for line in file.open(encoding="utf-8")]


def adapter(row: Json) -> str:
    """Which adapter has to do with an exchange; "" for none."""
    if row["uri"].endswith("/chat/completions"):
        return "openai"
    if "enerateContent" in row["uri"]:
        return "vertex" if "/projects/" in row["uri"] else "gemini"
    return ""


def chunks(row: Json) -> list[Json]:
    """The objects of a recorded answer, by the form in which it came."""
    told = row["response"]
    if isinstance(told, dict):
        return [told]
    if not told.lstrip().startswith("data:"):
        return [json.loads(told)]
    lines = (line.removeprefix("data:").strip() for line in told.splitlines() if line.startswith("data:"))
    return [json.loads(line) for line in lines if line != "[DONE]"]


def text_of(row: Json) -> str:
    """The words for people in a recorded answer."""
    return "".join(_words(chunk) for chunk in chunks(row))


def _words(chunk: Json) -> str:
    for choice in chunk.get("choices") or chunk.get("candidates") or []:
        if "candidates" in chunk:
            parts = choice.get("content", {}).get("parts", [])
            return "".join(part.get("text", "") for part in parts if not part.get("thought"))
        said = choice.get("message") or choice["delta"]
        return said.get("content") or ""
    return ""


def usage_of(row: Json) -> tuple[int, int, int] | None:
    """Tokens in, out and from the cache that a recorded answer says last; None where it does not."""
    told = [usage for chunk in chunks(row) if (usage := chunk.get("usage") or chunk.get("usageMetadata"))]
    if not told:
        return None
    last = told[-1]
    if "promptTokenCount" in last:
        tokens_in = last["promptTokenCount"] + last.get("toolUsePromptTokenCount", 0)
        return tokens_in, last["totalTokenCount"] - tokens_in, last.get("cachedContentTokenCount", 0)
    cached = (last.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return last["prompt_tokens"], last["total_tokens"] - last["prompt_tokens"], cached


def reply(row: Json) -> Reply:
    """What was recorded, as the server reads it out."""
    told = row["response"]
    body = told if isinstance(told, str) else json.dumps(told)
    streamed = body.lstrip().startswith("data:")
    return Reply(body, "text/event-stream" if streamed else "application/json", row["status"])


async def heard(model: AnswerModel) -> Heard:
    """What the adapter makes of what is read out next."""
    shown: list[str] = []

    async def keep(piece: str) -> None:
        shown.append(piece)

    books, refusal = Books(), ""
    try:
        await model.answer(ASKED, on_text=keep, meter=books)
    except ModelUnavailable as error:
        refusal = str(error)
    (bill,) = books.bills
    return Heard("".join(shown), refusal, bill)


async def all_heard(rows: Sequence[Json], name: str) -> list[Heard]:
    """One adapter hears all that was said to its kind."""
    async with reading(*[reply(row) for row in rows]) as reader:
        model = model_of(name, reader.url)
        try:
            return [await heard(model) for _ in rows]
        finally:
            await model.close()


def outcomes(rows: Iterable[Json], said: Iterable[Heard]) -> Counter[str]:
    """How the recordings ended, by what their refusals are about."""
    return Counter(_outcome(row, each) for row, each in zip(rows, said, strict=True))


def _outcome(row: Json, said: Heard) -> str:
    if not said.refusal:
        return "answered"
    about = (
        "call a tool",
        "empty answer",
        "on thinking",
        "filter stopped",
        "offers no model",
        "does not accept",
    )
    return next((words for words in about if words in said.refusal), f"{row['id']}: {said.refusal}")


@pytest.mark.parametrize(
    ("name", "ended"),
    [
        ("openai", {"answered": 49, "call a tool": 53, "offers no model": 1, "does not accept": 2}),
        ("gemini", {"answered": 63, "call a tool": 50}),
        ("vertex", {"answered": 18, "call a tool": 22, "filter stopped": 1}),
    ],
)
async def test_every_recorded_answer_and_error_is_understood_or_clearly_refused(
    recorded: list[Json], name: str, ended: dict[str, int]
) -> None:
    """What is shown is what the recording says, and the bill is its usage, to the token."""
    rows = [row for row in recorded if adapter(row) == name]
    said = await all_heard(rows, name)
    for row, each in zip(rows, said, strict=True):
        if row["status"] != 200:
            assert (each.shown, each.bill.tokens_in, each.bill.cost_usd) == ("", 0, 0.0), row["id"]
            continue
        assert each.shown == text_of(row), row["id"]
        usage = usage_of(row)
        bill = each.bill
        assert bill.estimated is (usage is None), row["id"]
        if usage is not None:
            assert (bill.tokens_in, bill.tokens_out, bill.tokens_cached) == usage, row["id"]
    counted = outcomes(rows, said)
    print(f"{name}: {len(rows)} recordings: {dict(counted)}")
    assert counted == ended


def test_the_other_recordings_are_of_what_the_product_never_calls(recorded: list[Json]) -> None:
    """Each with the reason."""
    rest = [row for row in recorded if not adapter(row)]
    reasons = Counter(
        next((why for part, why in NEVER.items() if part in row["uri"]), row["uri"]) for row in rest
    )
    print(f"never called: {dict(reasons)}")
    assert set(reasons) <= set(NEVER.values())
    assert (len(recorded), len(rest)) == (416, 416 - 105 - 113 - 41)
