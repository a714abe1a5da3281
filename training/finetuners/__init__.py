"""Something that can fine-tune: launch once, look at it from time to time, and learn how it ended.

A handle survives restarts of the bot. `launch` is idempotent: launching what is already running returns the same handle.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be trained: on which data, into which directory, with which choices (None: derived)."""

    run_id: str
    directory: Path
    base_model: str
    dataset_path: Path
    dataset_id: str
    quantization: str
    epochs: float | None = None
    method: str = ""  # "sft", "dpo" or "kto"; "": what the data allows
    adapter: str = "lora"  # or "dora", "rslora", "prompt", "ia3"
    rank: int | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    max_length: int | None = None
    seed: int = 0
    allow_downloads: bool = False
    number: int = 0  # what people call the run
    effort: str = ""  # "quick", "normal" or "thorough"; "": normal
    trials: int | None = None  # ways of training that a sweep tries; None: no sweep
    ends_at: float | None = None  # when it has to be over, in seconds since 1970


@dataclass(frozen=True, slots=True)
class Pending:
    """Not finished. `progress` is the newest line the trainer wrote (step, max_steps, loss, eta_s, ...)."""

    progress: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    """Finished: the adapter's folder and hash, and what the trainer says of it.

    A provider's fine-tune has no folder: `model` is the name under which its API answers, of `base_model`.
    """

    adapter: Path | None
    sha256: str
    card: dict[str, Any]
    model: str = ""
    base_model: str = ""


@dataclass(frozen=True, slots=True)
class Broken:
    """Ended without a model. `resumable`: a new launch goes on where it stopped."""

    reason: str
    resumable: bool = False
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether somebody can be asked to train. `because`: why not, a sentence with its remedy, "" where they can.

    `until`: what would change that, as it follows "until"; "" where nothing is known that would.
    """

    because: str = ""
    until: str = ""


class NotYet(Exception):
    """Whether the order was taken is not known, or it could not be told: launching it again finds out. Words for people."""


class FineTuner(Protocol):
    """Something that can fine-tune."""

    async def available(self, *, insist: bool = False) -> str:
        """Why nothing can be trained with it, "" where it can. `insist`: an earlier refusal does not count."""

    async def quote(self, order: Order) -> str:
        """What somebody must agree to before it is carried out, "" for nothing. Nothing leaves this machine for it."""

    async def find(self, order: Order) -> str:
        """The handle of what was started for this order; "" for nothing. Raises NotYet where that cannot be told."""

    async def launch(self, order: Order) -> str:
        """Start, or find what was started for this order; returns its handle. Raises PublicError if it cannot, NotYet."""

    async def poll(self, handle: str) -> Pending | Done | Broken:
        """Look once."""

    async def cancel(self, handle: str) -> None:
        """Ask it to stop and to say that it was cancelled."""

    async def close(self) -> None:
        """Let go of connections; what was launched goes on."""
