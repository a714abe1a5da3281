"""Something that can reply to a conversation: one protocol, one adapter file per kind of model.

Nothing here loads a model or an SDK: an adapter does that when it is asked the first time.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from storage.values import Bill, Message, Proposal

OnText = Callable[[str], Awaitable[None]]
"""Called with each new piece of text while a model writes; pieces joined in order are the text so far."""


@dataclass(frozen=True, slots=True)
class Call:
    """A billed call that is about to be made, and the most tokens that it can take."""

    kind: str
    model: str
    tokens_in: int
    tokens_out: int


class Meter(Protocol):
    """Who watches the money while a model is asked."""

    async def before(self, call: Call) -> None:
        """Told before each attempt that may be billed. Raises `ModelUnavailable` where it could pass a hard limit."""

    def bill(self, bill: Bill) -> None:
        """Told exactly once for each `before` that returned, however the attempt ended, also when it was cancelled."""


class AnswerModel(Protocol):
    """Something that can reply to a conversation."""

    @property
    def kind(self) -> str:
        """ "memory", "local", "openai" or "gemini"."""

    @property
    def label(self) -> str:
        """What people read as the model's name."""

    async def answer(
        self, messages: Sequence[Message], *, on_text: OnText | None = None, meter: Meter | None = None
    ) -> Proposal:
        """Reply to the conversation. Raises `ModelUnavailable` when it cannot; the desk then asks the next model.

        What is never billed leaves the `meter` alone.
        """


__all__ = ["AnswerModel", "Bill", "Call", "Message", "Meter", "OnText", "Proposal"]
