"""Values that every layer speaks of: a message of a conversation, and a model's proposed reply.

They are plain and frozen; what is remembered of them are the tables in `storage.records`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]
STOPPED = "stopped"
"""How an answer ended that a person stopped."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, as a model sees it.

    `verified` marks the turns that were not said here: a verified answer shown as an example, and its question.
    """

    role: Role
    content: str
    verified: bool = False

    def stored(self) -> dict[str, Any]:
        """As JSON, without the mark where there is none."""
        plain = {"role": self.role, "content": self.content}
        return {**plain, "verified": True} if self.verified else plain


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a model proposes as the reply to a conversation; stored as a Candidate.

    `seconds` is wall time, `cost_usd` is 0.0 where nothing is billed, `logprobs` holds one natural log-probability per
    generated token (empty where the model gives none), `source` says where a memory's answer comes from, `finish` is
    "stop", "length" or "stopped" (a person pressed Stop), and `certainty` (0..1) is how sure a memory is of its match.

    The router reads `margins` (for each generated token, how much likelier it was than the second likeliest, natural log)
    and `first_entropy` (of the first token's distribution, in nats; None where the model gives none). `features` is what it
    made of them and `p_good` (0..1) what it expects; None where no router looked.
    """

    text: str
    kind: str  # "memory", "local", "openai", "gemini"
    model: str  # what people read: "starter", "starter + local-3", "gpt-6-luna", "memory"
    version_id: str | None = None  # the ModelVersion that answered, for models we keep versions of
    seconds: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    cost_usd: float = 0.0
    logprobs: tuple[float, ...] = field(default=(), repr=False)
    finish: str = "stop"
    source: str = ""
    certainty: float = 0.0
    margins: tuple[float, ...] = field(default=(), repr=False)
    first_entropy: float | None = None
    features: Mapping[str, float] = field(default_factory=dict, repr=False)
    p_good: float | None = None


@dataclass(frozen=True, slots=True)
class Bill:
    """What one call of a provider cost, or must be taken to have cost.

    `tokens_in` includes those read from and written to the provider's cache; `tokens_out` includes `tokens_reasoning`.
    `cost_usd` is None for a model without a known price. `estimated` says that the provider told no usage (the stream broke,
    the answer was lost on the way, somebody pressed Stop) and the tokens were counted from the texts, rather too many than
    too few.
    """

    kind: str
    model: str
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_cache_written: int = 0
    tokens_out: int = 0
    tokens_reasoning: int = 0
    cost_usd: float | None = None
    price_version: str = ""
    estimated: bool = False


def who(actor: str) -> str:
    """A person as Slack mentions them; anybody else (the schedule, the terminal) by name."""
    return f"<@{actor}>" if re.fullmatch(r"[UW][A-Z0-9]{2,}", actor) else actor
