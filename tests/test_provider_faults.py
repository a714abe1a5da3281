"""Everything that goes wrong at a provider, at both of them: what is said, whether it is asked again, and what is billed.

Where the vendor told its usage the bill is that, to the token; where it did not the bill is no less than what the vendor's
own books say; where it did nothing, nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from provider_books import Books, Reply, reading
from provider_standins import Failure, GeminiServer, OpenAIServer, StandIn, served

from bot.errors import BudgetSpent, ModelUnavailable, TooLongFor, Withheld
from bot.models.gemini import GeminiModel
from bot.models.openai import OpenAIModel
from bot.models.patience import Waits
from bot.models.prices import Price, Prices
from storage.values import Bill, Message

ASKED = [Message("system", "Be brief."), Message("user", "What is new?")]
PRICES = Prices(
    {"gpt-6-luna": Price(1.0, 0.1, 10.0, 1.25), "gemini-3.5-flash-lite": Price(1.0, 0.1, 10.0)},
    as_of="2026-11-22",
)
VENDORS = ("openai", "gemini", "vertex")


@dataclass
class Vendor:
    """A stand-in with our adapter in front of it."""

    stand_in: StandIn
    model: OpenAIModel | GeminiModel
    name: str

    async def ask(self, books: Books, on_text: Callable[[str], Any] | None = None) -> Any:
        return await self.model.answer(ASKED, on_text=on_text, meter=books)

    def refusal(
        self, status: int, code: str = "", headers: dict[str, str] | None = None, **more: Any
    ) -> Failure:
        """An error of this status as this vendor words it."""
        error: dict[str, Any] = {"message": f"No, {code}.", "code": code or None, "type": "x", "param": None}
        if self.name != "openai":
            error = {"code": status, "message": f"No, {code}.", "status": code, "details": []}
        return Failure(status=status, error=error, headers=headers or {}, **more)

    @property
    def owed(self) -> tuple[int, int]:
        """Tokens in and out that the vendor's own books say."""
        told_in, told_out = "prompt_tokens", "completion_tokens"
        if self.name != "openai":
            told_in, told_out = "promptTokenCount", "candidatesTokenCount"
        rows = self.stand_in.billed
        thoughts = sum(row.get("thoughtsTokenCount", 0) for row in rows)
        return sum(row[told_in] for row in rows), sum(row[told_out] for row in rows) + thoughts


def model_of(name: str, url: str, **changes: Any) -> OpenAIModel | GeminiModel:
    """The adapter for a vendor at an address."""
    usual: dict[str, Any] = {"prices": PRICES, "timeout_s": 40.0, **changes}
    if name == "openai":
        return OpenAIModel(**{"api_key": "right", "model": "gpt-6-luna", "base_url": f"{url}/v1", **usual})
    usual = {"model": "gemini-3.5-flash-lite", "base_url": url, **usual}
    if name == "gemini":
        return GeminiModel(**{"api_key": "right", **usual})
    from google.oauth2.credentials import Credentials

    token = usual.pop("api_key", "right")
    return GeminiModel(project="acme", location="europe-west4", credentials=Credentials(token=token), **usual)  # type: ignore[no-untyped-call]


@pytest.fixture(params=VENDORS)
async def vendor(request: pytest.FixtureRequest) -> AsyncIterator[Vendor]:
    """OpenAI, the Gemini API, and Gemini through Vertex AI."""
    stand_in = StandIn(keys={"right"}, models={"gpt-6-luna": None, "gemini-3.5-flash-lite": None})
    server = OpenAIServer(stand_in) if request.param == "openai" else GeminiServer(stand_in)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(served(stand_in, server.routes()))
        model = model_of(request.param, stand_in.url)
        stack.push_async_callback(model.close)
        yield Vendor(stand_in, model, request.param)


async def test_usage_that_was_told_is_the_bill(vendor: Vendor) -> None:
    """Fresh, cached, thought and written tokens are the vendor's, and so is the cost; the call was announced with more."""
    vendor.stand_in.thinks = 7
    books = Books()
    proposal = await vendor.ask(books)
    (bill,) = books.bills
    assert (bill.tokens_in, bill.tokens_out, bill.tokens_reasoning) == (*vendor.owed, 7)
    assert not bill.estimated
    assert bill.cost_usd == pytest.approx((bill.tokens_in * 1.0 + bill.tokens_out * 10.0) / 1e6)
    assert (bill.kind, bill.model, bill.price_version) == (
        vendor.model.kind,
        vendor.model.label,
        "2026-11-22",
    )
    assert (proposal.tokens_in, proposal.tokens_out, proposal.cost_usd) == (*vendor.owed, bill.cost_usd)
    assert books.balanced


async def test_what_the_cache_gave_is_billed_as_cached(vendor: Vendor) -> None:
    long = [Message("system", "Be brief. " * 30), *ASKED[1:]]
    books = Books()
    for _ in range(2):
        await vendor.model.answer(long, meter=books)
    assert [bill.tokens_cached for bill in books.bills] == [0, 40]
    assert books.bills[1].cost_usd == pytest.approx((23 * 1.0 + 40 * 0.1 + 5 * 10.0) / 1e6)


async def test_a_model_without_a_price_is_billed_without_a_cost(vendor: Vendor) -> None:
    """Not 0: nobody knows what it is."""
    books = Books()
    model = model_of(vendor.name, vendor.stand_in.url, prices=Prices({}))
    await model.answer(ASKED, meter=books)
    await model.close()
    assert (books.bills[0].cost_usd, books.bills[0].price_version) == (None, "")
    assert books.bills[0].tokens_in > 0


async def test_a_budget_that_is_spent_stops_the_call_before_it_is_made(vendor: Vendor) -> None:
    """Also the second attempt at one question, whose first was billed."""
    vendor.stand_in.fail_next.append(vendor.refusal(500, bills=True))
    books = Books(limit=1)
    with pytest.raises(BudgetSpent) as told:
        await vendor.ask(books)
    assert not told.value.fault
    assert len(vendor.stand_in.requests) == len(books.bills) == 1


def zero(bill: Bill) -> bool:
    return (bill.tokens_in, bill.tokens_out, bill.cost_usd, bill.estimated) == (0, 0, 0.0, False)


async def test_a_wrong_key_costs_nothing_and_is_named(vendor: Vendor) -> None:
    """401: asked once."""
    model = model_of(vendor.name, vendor.stand_in.url, api_key="wrong")
    books = Books()
    named = {
        "openai": "OPENAI_API_KEY",
        "gemini": "GEMINI_API_KEY",
        "vertex": "GOOGLE_APPLICATION_CREDENTIALS",
    }
    with pytest.raises(ModelUnavailable, match=named[vendor.name]) as told:
        await model.answer(ASKED, meter=books)
    await model.close()
    assert told.value.fault
    assert [zero(bill) for bill in books.bills] == [True]
    assert vendor.stand_in.billed == []


async def test_a_model_that_was_removed_costs_nothing_and_is_named(vendor: Vendor) -> None:
    """404, in the middle of the day."""
    books = Books()
    await vendor.ask(books)
    vendor.stand_in.models.clear()
    with pytest.raises(ModelUnavailable, match=r"(OPENAI|GEMINI)_MODEL"):
        await vendor.ask(books)
    assert zero(books.bills[1])
    assert len(books.bills) == 2


async def test_a_limit_costs_nothing_and_is_waited_for(vendor: Vendor) -> None:
    """429 with Retry-After: not asked again before its time."""
    vendor.stand_in.fail_next.append(vendor.refusal(429, headers={"retry-after": "0.7"}))
    books = Books()
    assert (await vendor.ask(books)).text
    first, second = vendor.stand_in.asked_at
    assert second - first >= 0.7
    assert [zero(bill) for bill in books.bills] == [True, False]
    assert books.tokens == vendor.owed


async def test_a_limit_without_a_time_is_asked_again_a_little_later(vendor: Vendor) -> None:
    """429 without Retry-After: three times in all, then the next model."""
    vendor.stand_in.fail_next.extend([vendor.refusal(429)] * 3)
    books = Books()
    with pytest.raises(ModelUnavailable, match="limits how fast") as told:
        await vendor.ask(books)
    assert told.value.fault
    assert [zero(bill) for bill in books.bills] == [True] * 3
    assert vendor.stand_in.asked_at == sorted(vendor.stand_in.asked_at)


async def test_work_lost_in_an_error_is_billed_rather_too_high(vendor: Vendor) -> None:
    """500 after doing the work: the vendor bills it, and so do we, without having heard how much."""
    vendor.stand_in.fail_next.append(vendor.refusal(500, bills=True))
    books = Books()
    assert (await vendor.ask(books)).text
    assert [bill.estimated for bill in books.bills] == [True, False]
    assert all(ours >= theirs for ours, theirs in zip(books.tokens, vendor.owed, strict=True))
    assert (books.bills[0].cost_usd or 0) > (books.bills[1].cost_usd or 0)
    assert books.balanced


@pytest.mark.parametrize(
    ("failure", "waits", "says"),
    [
        (Failure(silent_at=0), Waits(30.0, 0.6, 30.0), "did not begin to answer within 0.6 s"),
        (Failure(silent_at=3), Waits(30.0, 30.0, 0.6), "fell silent for 0.6 s in the middle"),
        (Failure(cut_after=3), None, "broke off in the middle"),
        (Failure(garbage_at=3), None, "broke off in the middle .* with something that cannot be read"),
    ],
    ids=["no first token", "no next token", "connection reset", "malformed chunk"],
)
async def test_a_stream_that_goes_wrong_is_no_answer_and_billed_rather_too_high(
    vendor: Vendor, failure: Failure, waits: Waits | None, says: str
) -> None:
    """It is not asked for again: text was shown, or time is lost."""
    vendor.stand_in.fail_next.append(failure)
    model = model_of(vendor.name, vendor.stand_in.url, waits=waits)
    books = Books()
    with pytest.raises(ModelUnavailable, match=says) as told:
        await model.answer(ASKED, meter=books)
    await model.close()
    assert told.value.fault
    assert len(vendor.stand_in.requests) <= 1
    (bill,) = books.bills
    assert bill.estimated
    assert all(ours >= theirs for ours, theirs in zip(books.tokens, vendor.owed, strict=True))


@pytest.mark.parametrize("failure", [Failure(cut_after=0), Failure(garbage_at=0)], ids=["reset", "malformed"])
async def test_a_stream_that_breaks_before_its_first_text_is_asked_for_again(
    vendor: Vendor, failure: Failure
) -> None:
    """Nobody has seen anything yet; both attempts are billed."""
    vendor.stand_in.fail_next.append(failure)
    books = Books()
    assert (await vendor.ask(books)).text == "You asked: What is new?"
    assert [bill.estimated for bill in books.bills] == [True, False]
    assert all(ours >= theirs for ours, theirs in zip(books.tokens, vendor.owed, strict=True))


async def test_an_empty_answer_is_refused_and_billed(vendor: Vendor) -> None:
    """The vendor read the question all the same."""
    vendor.stand_in.says = lambda _: ""
    books = Books()
    with pytest.raises(ModelUnavailable, match="empty answer"):
        await vendor.ask(books)
    assert books.tokens == vendor.owed
    assert not books.bills[0].estimated


async def test_thinking_without_an_answer_is_billed_and_not_the_providers_fault(vendor: Vendor) -> None:
    vendor.stand_in.says, vendor.stand_in.thinks = lambda _: "", 50
    vendor.stand_in.finish = "length" if vendor.name == "openai" else "MAX_TOKENS"
    books = Books()
    with pytest.raises(ModelUnavailable, match="on thinking") as told:
        await vendor.ask(books)
    assert not told.value.fault
    assert books.tokens == vendor.owed


async def test_a_withheld_answer_is_billed_and_told_to_its_asker(vendor: Vendor) -> None:
    """The words are kind, and the circuit breaker does not count it."""
    vendor.stand_in.finish = "content_filter" if vendor.name == "openai" else "PROHIBITED_CONTENT"
    books = Books()
    with pytest.raises(Withheld, match=r"filter stopped .*answer.*Asking in other words may help") as told:
        await vendor.ask(books)
    assert not told.value.fault
    assert books.tokens == vendor.owed


async def test_who_presses_stop_pays_rather_too_much(vendor: Vendor) -> None:
    """The vendor hears it, and bills as it likes."""
    vendor.stand_in.fail_next.append(Failure(silent_at=3))
    books = Books()
    began = asyncio.Event()

    async def note(_: str) -> None:
        began.set()

    asking = asyncio.create_task(vendor.ask(books, note))
    async with asyncio.timeout(30):
        await began.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await vendor.stand_in.hung_up.wait()
    assert [bill.estimated for bill in books.bills] == [True]
    assert all(ours >= theirs for ours, theirs in zip(books.tokens, vendor.owed, strict=True))


async def test_trouble_in_slack_is_not_blamed_on_the_provider(vendor: Vendor) -> None:
    """What showing the text raises comes out as it is, and the attempt is billed."""
    import aiohttp

    async def broken(_: str) -> None:
        raise aiohttp.ClientConnectionError("Slack is away")

    books = Books()
    with pytest.raises(aiohttp.ClientConnectionError, match="Slack is away"):
        await vendor.ask(books, broken)
    assert len(books.bills) == 1


@pytest.mark.parametrize("name", VENDORS)
async def test_a_server_that_is_not_there_costs_nothing(name: str, unused_tcp_port: int) -> None:
    """Connection refused: nothing was sent."""
    model = model_of(name, f"http://127.0.0.1:{unused_tcp_port}")
    books = Books()
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        await model.answer(ASKED, meter=books)
    await model.close()
    assert [zero(bill) for bill in books.bills] == [True] * 3


@pytest.mark.parametrize("name", VENDORS)
async def test_a_proxy_that_answers_in_html_is_an_outage(name: str) -> None:
    """502 with a page for people in it, and a time so long that nobody waits for it."""
    page = Reply("<html>Bad gateway</html>", "text/html", status=502, headers={"Retry-After": "300"})
    async with reading(page) as reader:
        model = model_of(name, reader.url)
        with pytest.raises(ModelUnavailable, match=r"out of order \(HTTP 502\)"):
            await model.answer(ASKED)
        await model.close()


async def test_a_question_that_is_too_long_is_told_to_its_asker(vendor: Vendor) -> None:
    """Nobody's fault but the question's."""
    failure = vendor.refusal(400, "context_length_exceeded")
    failure.error["message"] = (
        "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576)."
    )
    vendor.stand_in.fail_next.append(failure)
    books = Books()
    with pytest.raises(TooLongFor, match=r"too long for .* Please shorten it") as told:
        await vendor.ask(books)
    assert not told.value.fault
    assert books.bills[0].tokens_out == 0


@pytest.mark.parametrize("name", VENDORS)
async def test_an_estimate_is_dearer_than_any_way_of_caching(name: str) -> None:
    """A provider that puts the prompt into its cache may bill that higher than fresh input."""
    prices = Prices(
        {"gpt-6-luna": Price(1.0, 0.1, 10.0, 1.25), "gemini-3.5-flash-lite": Price(1.0, 2.0, 10.0)}
    )
    model = "gpt-6-luna" if name == "openai" else "gemini-3.5-flash-lite"
    for cached, written in ((0, 0), (1000, 0), (0, 1000)):
        cost = prices.cost(model, 1000, cached, 10, tokens_cache_written=written)
        assert (prices.ceiling(model, 1000, 10) or 0) >= (cost or 0)
