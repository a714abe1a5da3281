"""What an OpenAI-compatible server's refusals mean: a sentence for people, whether to ask again, and what it may bill. Pure.

Vendors copy the form of the errors and not their codes, so status, code and words are all looked at.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bot.errors import TooLongFor, Withheld
from bot.models.patience import Refused, Work, seconds_to_wait

_QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_balance")
_FILTER = ("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation", "moderation_blocked")
_MODEL = ("model_not_found", "DeploymentNotFound")
_TOO_LONG = re.compile(
    r"context.?length|context window|maximum context|context size|too many tokens|"
    r"(prompt|input|message)s? (is|are) too long|"
    r"reduce the length|max_new_tokens|max_model_len",
    re.IGNORECASE,
)
_KEYS = re.compile(r"\b(sk|gsk|fw|key|tgp|AIza)[-_][\w*.-]{3,}")


@dataclass(frozen=True, slots=True)
class Fault:
    """An error as the server told it. `status` is 0 where it came inside a stream that had begun well."""

    status: int = 0
    code: str = ""
    message: str = ""
    param: str = ""
    words: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, status: int, body: object, words: str, headers: Mapping[str, str] | None = None) -> "Fault":
        """From the error's body, whatever of it is there."""
        told: Mapping[str, Any] = body if isinstance(body, dict) else {}
        inner = told.get("innererror")
        codes = [told.get("code"), inner.get("code") if isinstance(inner, dict) else None, told.get("type")]
        known = (*_QUOTA, *_FILTER, *_MODEL, "context_length_exceeded")
        code = next((str(each) for each in codes if each in known), str(codes[0] or ""))
        message = str(told.get("message") or words)
        return cls(status, code, message, str(told.get("param") or ""), f"{words} {told}", headers or {})

    @property
    def said(self) -> str:
        """The server's own sentence, without keys, which some of them repeat."""
        return _KEYS.sub(r"\1-...", self.message)[:300]


@dataclass(frozen=True, slots=True)
class Refusals:
    """Puts a server's faults into words. `provider` is what people read, `azure` that models are deployments."""

    provider: str
    model: str
    own_server: bool
    azure: bool = False

    @property
    def no_model(self) -> str:
        """There is no such model."""
        if self.azure:
            return f"{self.provider} has no deployment {self.model}. Set OPENAI_MODEL to the name of one that exists."
        return (
            f"{self.provider} offers no model {self.model} to this key. Set OPENAI_MODEL to one that it has."
        )

    @property
    def unreachable(self) -> Refused:
        """No connection came about, so nothing was done."""
        words = f"{self.provider} cannot be reached. Check the network and OPENAI_BASE_URL."
        return Refused(words, again=True, work=Work.NONE)

    def broken(self, *, begun: bool, why: str = "") -> Refused:
        """The answer ended before its end. Nothing is asked again once there was text."""
        if begun:
            return Refused(f"{self.provider} broke off in the middle of its answer{why}.")
        return Refused(f"{self.provider} broke off before its answer{why}.", again=True)

    def silent(self, *, begun: bool, after_s: float) -> Refused:
        """Nothing came for too long."""
        if begun:
            return Refused(f"{self.provider} fell silent for {after_s:g} s in the middle of its answer.")
        return Refused(f"{self.provider} did not begin to answer within {after_s:g} s.")

    def of(self, fault: Fault, *, begun: bool = False) -> Refused:
        """The fault in words. One that came inside a stream may be billed for what was done before."""
        refused = self._of(fault)
        if begun:
            return Refused(f"{self.provider} broke off in the middle of its answer: {fault.said}")
        if fault.status == 0:
            refused.work = Work.ALL
        return refused

    def _of(self, fault: Fault) -> Refused:
        status, code = fault.status or _number(fault.code), fault.code
        if code in _FILTER:
            return self.withheld("question")
        if (
            code == "context_length_exceeded"
            or status == 413
            or (400 <= status < 500 and _TOO_LONG.search(fault.words))
        ):
            words = f"The question is too long for {self.model}. Please shorten it."
            return Refused(words, work=Work.PROMPT, asker=TooLongFor)
        if code in _QUOTA or status == 402:
            return self._final(
                f"{self.provider} says that the quota is used up. Add credit to the account, or wait for the next month."
            )
        if status == 429 or code == "rate_limit_exceeded":
            return self._passing(f"{self.provider} limits how fast it may be asked.", fault, Work.NONE)
        if status in (408, 409) or status >= 500:
            return self._passing(f"{self.provider} is out of order (HTTP {status}).", fault, Work.ALL)
        if status == 0:
            return Refused(f"{self.provider} could not finish the answer: {fault.said}", again=True)
        return self._final(self._lasting(status, fault))

    def _lasting(self, status: int, fault: Fault) -> str:
        """Sentences about what will be the same next time."""
        if status == 401:
            return f"{self.provider} refuses the key. Set OPENAI_API_KEY to a valid one."
        if fault.code in _MODEL or (
            status == 404 and re.search("model|deployment", fault.words, re.IGNORECASE)
        ):
            return self.no_model
        if status == 404 and self.own_server:
            return f"{self.provider} has no Chat Completions. Check OPENAI_BASE_URL: it usually ends in /v1."
        if status == 404:
            return self.no_model
        if status == 403:
            return f"{self.provider} does not let this key use {self.model}: {fault.said}"
        return f"{self.provider} does not accept the question: {fault.said}"

    def withheld(self, what: str) -> Refused:
        """A content filter stepped in; Azure bills that like an answer."""
        return Refused(
            f"{self.provider}'s content filter stopped the {what}. Asking in other words may help.",
            asker=Withheld,
        )

    def _passing(self, sentence: str, fault: Fault, work: Work) -> Refused:
        again = fault.headers.get("x-should-retry", "true").lower() != "false"
        return Refused(sentence, again=again, wait_s=_wait_s(fault.headers), work=work)

    def _final(self, sentence: str) -> Refused:
        return Refused(sentence, work=Work.NONE)


def _wait_s(headers: Mapping[str, str]) -> float | None:
    exact = seconds_to_wait(headers.get("retry-after-ms"))
    return exact / 1000 if exact is not None else seconds_to_wait(headers.get("retry-after"))


def _number(code: str) -> int:
    """A status where a server put it into the code, as some do inside a stream."""
    return int(code) if code.isdecimal() and 400 <= int(code) < 600 else 0
