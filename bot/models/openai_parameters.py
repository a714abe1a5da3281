"""What a Chat Completions request says besides model and messages: one rule set for OpenAI, one for who copies it. Pure.

No list of servers can be kept right, so what a server refuses is learned from its refusal.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_REASONS = re.compile(r"^(.*/)?(ft:)?(gpt-([5-9]|\d\d)|o\d)")
_OPENAI = re.compile(r"(^|\.)openai\.com$")
_AZURE = re.compile(r"(^|\.)(azure\.(com|us|cn)|cognitiveservices\.azure\.cn)$")
_LIMITS = {"max_completion_tokens": "max_tokens", "max_tokens": "max_completion_tokens"}
_SAMPLING = frozenset({"temperature", "logprobs"})
"""A model that refuses one of these reasons, and refuses the other one too."""
_OPTIONAL = (*sorted(_SAMPLING), "reasoning_effort", "stream_options")
_NOT_TAKEN = re.compile(
    r"unsupported|unknown|unrecogni[sz]ed|unexpected|not (supported|permitted|allowed|recogni[sz]ed)|"
    r"does ?n[o']t support|extra (inputs|fields)|deprecated|instead",
    re.IGNORECASE,
)


def is_azure(base_url: str | None) -> bool:
    """Whether models are deployments of Azure's, with names that their operator chose."""
    return _AZURE.search(_host(base_url)) is not None


def parameters(
    model: str, effort: str | None, max_output_tokens: int, base_url: str | None = None
) -> dict[str, Any]:
    """What a request says at first.

    A model that reasons accepts neither temperature nor log-probabilities; one that cannot reason knows no effort. None
    leaves the effort to the vendor, whose default is to reason where the model can. Who copies the protocol knows the older
    name of the limit, and some of them silently ignore the newer one.
    """
    can_reason = _REASONS.match(model) is not None
    reasons = effort != "none" if effort is not None else can_reason
    vendor = base_url is None or is_azure(base_url) or _OPENAI.search(_host(base_url)) is not None
    limit = "max_completion_tokens" if vendor or can_reason else "max_tokens"
    chosen: dict[str, Any] = {limit: max_output_tokens, "stream_options": {"include_usage": True}}
    if effort is not None and (reasons or can_reason):
        chosen["reasoning_effort"] = effort
    if not reasons:
        chosen |= {"temperature": 0.0, "logprobs": True}
    return chosen


def without_refused(
    sent: Mapping[str, Any], param: str, words: str, *, renamed: bool
) -> dict[str, Any] | None:
    """The parameters to try after a server refused those that were sent; None where the refusal is about something else.

    `param` is what it names as wrong ("" if it does not), `words` all that it said. The limit is never left out, since it
    bounds the cost: it gets its other name, unless it is `renamed` already.
    """
    named = {name for name in sent if name == param or (not param and re.search(rf"\b{name}\b", words))}
    optional = named & set(_OPTIONAL)
    if optional & _SAMPLING:
        optional |= _SAMPLING
    if optional:
        return {name: value for name, value in sent.items() if name not in optional}
    limit = next((name for name in named if name in _LIMITS), None)
    if limit is None or renamed or not _NOT_TAKEN.search(words):
        return None
    return {_LIMITS.get(name, name): value for name, value in sent.items()}


def _host(base_url: str | None) -> str:
    return urlsplit(base_url or "").hostname or ""
