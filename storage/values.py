"""Values that every layer speaks of: a message of a conversation, and a model's proposed reply.

They are plain and frozen; what is remembered of them are the tables in `storage.records`.
"""

import re
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["system", "user", "assistant"]
STOPPED = "stopped"
"""How an answer ended that a person stopped."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, as a model sees it."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a model proposes as the reply to a conversation; stored as a Candidate.

    `seconds` is wall time, `cost_usd` is 0.0 where nothing is billed, `logprobs` holds one natural log-probability per
    generated token (empty where the model gives none), `source` says where a memory's answer comes from, `finish` is
    "stop", "length" or "stopped" (a person pressed Stop), and `certainty` (0..1) is how sure a memory is of its match.
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


def who(actor: str) -> str:
    """A person as Slack mentions them; anybody else (the schedule, the terminal) by name."""
    return f"<@{actor}>" if re.fullmatch(r"[UW][A-Z0-9]{2,}", actor) else actor
