"""What runs the local model: a process of ours (`bot.models.local`), or a server elsewhere (`bot.models.remote`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bot.models import OnText
from storage.values import Message, Proposal


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What runs. `context` is in tokens; `device` is torch's name, `dtype` the precision that serves, and `why` says why.

    A server says less about itself: `device` is then its address, and what it does not tell is 0.
    """

    model: str
    device: str
    dtype: str
    context: int
    parameters: int
    why: str = ""


class Engine(Protocol):
    """Runs one base model and any number of its versions side by side."""

    @property
    def label(self) -> str:
        """What people read as the base model's name."""

    @property
    def info(self) -> EngineInfo | None:
        """What runs now; None while nothing does."""

    async def start(self) -> EngineInfo:
        """Make sure that it can answer. Raises `ModelUnavailable`."""

    async def stop(self) -> None:
        """Let go of everything; a later question starts it again."""

    async def load(self, version_id: str, path: Path) -> None:
        """Make the adapter in `path` answer as `version_id`, in place of what had that name. Raises `PublicError`
        naming the cause and the remedy, or `ModelUnavailable` where the base cannot answer either.
        """

    async def unload(self, version_id: str) -> None:
        """Forget an adapter."""

    async def answer(
        self,
        messages: Sequence[Message],
        *,
        version_id: str | None,
        on_text: OnText | None = None,
        max_new_tokens: int | None = None,
    ) -> Proposal:
        """Reply with a version, or with the base where `version_id` is None; greedy. Raises `ModelUnavailable`.

        Cancelling the waiting task stops the generation.
        """
