"""A question on its way through the local model: values that the worker and its batch share, free of torch."""

import time
from dataclasses import dataclass, field
from typing import Protocol

from bot.models.local_text import TextPieces


@dataclass(eq=False)
class Row:
    """One question; `adapter` is what `load_adapter` returned, None for the base.

    `margins` holds ln p(likeliest) - ln p(second) for each token, `first_entropy` is in nats.
    """

    id: str
    adapter: str | None
    prompt: list[int]
    max_new_tokens: int
    temperature: float
    streams: bool
    pieces: TextPieces
    since: float = field(default_factory=time.monotonic)
    answer: list[int] = field(default_factory=list)  # with the end token
    logprobs: list[float] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    first_entropy: float | None = None
    finish: str | None = None

    @property
    def tokens(self) -> int:
        """Generated so far, with the end token."""
        return len(self.answer)

    @property
    def length(self) -> int:
        """The most tokens that prompt and answer can take."""
        return len(self.prompt) + self.max_new_tokens

    def take(self, token: int, *, ends: bool) -> str:
        """Write down one more token, and what it ends; the piece of text that can be shown now."""
        self.answer.append(token)
        if not ends:
            self.pieces.hold(token)
        if ends or self.tokens >= self.max_new_tokens:
            self.finish = "stop" if ends else "length"
            return self.pieces.finish()
        return self.pieces.shown() if self.streams else ""


class Listener(Protocol):
    """Who hears of a row's progress, on the generating thread."""

    def on_text(self, row: Row, piece: str) -> None:
        """`piece` follows what was told before."""

    def on_done(self, row: Row) -> None:
        """`row.finish` is set and `row.pieces.text` is final."""

    def on_refused(self, row: Row, words: str) -> None:
        """The row was given up; `words` say why."""
