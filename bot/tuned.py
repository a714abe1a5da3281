"""A provider's fine-tune as it answers people: its name is on each answer, and the usual model stands behind it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from bot.errors import BudgetSpent, ModelUnavailable, ToldToAsker
from bot.models import AnswerModel, Meter, OnText
from storage.records import ModelVersion
from storage.values import Message, Proposal

Failed = Callable[[str], Awaitable[None]]
"""Told why the fine-tune did not answer, where that speaks against it."""


class TunedModel:
    """Asks the fine-tune, and the usual model where that one is gone or out of order: a question is never lost to it."""

    def __init__(
        self, model: AnswerModel, version: ModelVersion, *, usual: AnswerModel, failed: Failed
    ) -> None:
        self._model = model
        self._version = version
        self._usual = usual
        self._failed = failed

    @property
    def kind(self) -> str:
        """ "openai" or "gemini"."""
        return self._version.kind

    @property
    def label(self) -> str:
        """The version's name."""
        return self._version.name

    async def answer(
        self, messages: Sequence[Message], *, on_text: OnText | None = None, meter: Meter | None = None
    ) -> Proposal:
        """Reply to the conversation. Raises `ModelUnavailable` where neither can, or where text was shown already."""
        shown = False

        async def show(text: str) -> None:
            nonlocal shown
            shown = True
            if on_text is not None:
                await on_text(text)

        try:
            said = await self._model.answer(messages, on_text=show if on_text else None, meter=meter)
        except (BudgetSpent, ToldToAsker):
            raise
        except ModelUnavailable as error:
            if error.fault:
                await self._failed(str(error))
            if shown:
                raise
            return await self._usual.answer(messages, on_text=on_text, meter=meter)
        return replace(said, version_id=self._version.id)
