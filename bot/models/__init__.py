"""Something that can reply to a conversation: one protocol, one adapter file per kind of model.

Nothing here loads a model or an SDK: an adapter does that when it is asked the first time.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from storage.values import Message, Proposal

OnText = Callable[[str], Awaitable[None]]
"""Called with each new piece of text while a model writes; pieces joined in order are the text so far."""


class AnswerModel(Protocol):
    """Something that can reply to a conversation."""

    @property
    def kind(self) -> str:
        """ "memory", "local", "openai" or "gemini"."""

    @property
    def label(self) -> str:
        """What people read as the model's name."""

    async def answer(self, messages: Sequence[Message], *, on_text: OnText | None = None) -> Proposal:
        """Reply to the conversation. Raises `ModelUnavailable` when it cannot; the desk then asks the next model."""


__all__ = ["AnswerModel", "Message", "OnText", "Proposal"]
