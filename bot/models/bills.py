"""What an attempt at a provider took: the most it can take beforehand, and its bill afterwards.

Usage that the vendor told is the bill. Where none came an estimate is: from the texts if the answer arrived whole, else all
that the attempt could have taken, because a provider may do and bill work whose result we never see.
"""

import math
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bot.models import Call, Meter
from bot.models.patience import Refused, Work
from bot.models.prices import Prices
from storage.values import Bill, Message

_MESSAGE_TOKENS = 8  # what a vendor wraps around each message, and around the conversation
_LETTERS = re.compile(r"[A-Za-z\s]")


def most_tokens(text: str) -> int:
    """About the most tokens that a text is for any vendor: words have three characters or more to a token, signs one."""
    ascii_only = text.encode("ascii", "ignore").decode()
    letters = len(_LETTERS.findall(ascii_only))
    foreign_bytes = len(text.encode(errors="replace")) - len(ascii_only)
    return math.ceil(letters / 3 + (len(ascii_only) - letters) + foreign_bytes / 2)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as a `Bill` counts them."""

    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_cache_written: int = 0
    tokens_out: int = 0
    tokens_reasoning: int = 0


@dataclass
class Heard:
    """What a stream has told so far: pieces of the answer, thoughts that nobody is shown, and the vendor's count."""

    pieces: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    usage: Usage | None = None

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self.pieces).strip()


@dataclass
class Tab:
    """One attempt while it runs. `whole` is set when the stream came to its proper end; `bill` is there afterwards."""

    call: Call
    whole: bool = False
    work: Work = Work.ALL
    bill: Bill | None = None


class Till:
    """Where the attempts of one model are announced and billed."""

    def __init__(self, kind: str, model: str, prices: Prices, max_output_tokens: int) -> None:
        self._kind = kind
        self._model = model
        self._prices = prices
        self._max_output_tokens = max_output_tokens

    def call(self, messages: Sequence[Message]) -> Call:
        """The most that an answer to these messages can take."""
        tokens_in = _MESSAGE_TOKENS + sum(_MESSAGE_TOKENS + most_tokens(each.content) for each in messages)
        return Call(self._kind, self._model, tokens_in, self._max_output_tokens)

    @asynccontextmanager
    async def attempt(
        self, messages: Sequence[Message], heard: Heard, meter: Meter | None
    ) -> AsyncIterator[Tab]:
        """Announce an attempt; bill it once however it ends. Raises what the meter's `before` raises."""
        tab = Tab(self.call(messages))
        if meter is not None:
            await meter.before(tab.call)
        try:
            yield tab
        except Refused as refused:
            tab.work = refused.work
            raise
        finally:
            tab.bill = self._bill(tab, heard)
            if meter is not None:
                meter.bill(tab.bill)

    def _bill(self, tab: Tab, heard: Heard) -> Bill:
        if tab.work is Work.NONE:
            return Bill(
                self._kind, self._model, cost_usd=0.0, price_version=self._prices.version(self._model)
            )
        if tab.whole and heard.usage is not None:
            return self._exact(heard.usage)
        return self._estimated(_estimate(tab, heard))

    def _exact(self, usage: Usage) -> Bill:
        cost = self._prices.cost(
            self._model,
            usage.tokens_in,
            usage.tokens_cached,
            usage.tokens_out,
            tokens_cache_written=usage.tokens_cache_written,
        )
        return self._of(usage, cost, estimated=False)

    def _estimated(self, usage: Usage) -> Bill:
        cost = self._prices.ceiling(self._model, usage.tokens_in, usage.tokens_out)
        return self._of(usage, cost, estimated=True)

    def _of(self, usage: Usage, cost: float | None, *, estimated: bool) -> Bill:
        return Bill(
            self._kind,
            self._model,
            tokens_in=usage.tokens_in,
            tokens_cached=usage.tokens_cached,
            tokens_cache_written=usage.tokens_cache_written,
            tokens_out=usage.tokens_out,
            tokens_reasoning=usage.tokens_reasoning,
            cost_usd=cost,
            price_version=self._prices.version(self._model),
            estimated=estimated,
        )


def _estimate(tab: Tab, heard: Heard) -> Usage:
    """Rather too much than too little; never less than what the vendor told before the stream broke."""
    told = heard.usage or Usage()
    if tab.whole:
        written = most_tokens("".join([*heard.thoughts, *heard.pieces]))
        return Usage(tokens_in=tab.call.tokens_in, tokens_out=min(tab.call.tokens_out, written))
    tokens_in = max(tab.call.tokens_in, told.tokens_in)
    if tab.work is Work.PROMPT:
        return Usage(tokens_in=tokens_in)
    return Usage(tokens_in=tokens_in, tokens_out=max(tab.call.tokens_out, told.tokens_out))
