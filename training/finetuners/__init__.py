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
    seed: int = 0
    allow_downloads: bool = False


@dataclass(frozen=True, slots=True)
class Pending:
    """Not finished. `progress` is the newest line the trainer wrote (step, max_steps, loss, eta_s, ...)."""

    progress: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    """Finished: the adapter's folder and hash, and what the trainer says of it."""

    adapter: Path
    sha256: str
    card: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Broken:
    """Ended without a model. `resumable`: a new launch goes on where it stopped."""

    reason: str
    resumable: bool = False
    cancelled: bool = False


class FineTuner(Protocol):
    """Something that can fine-tune."""

    async def launch(self, order: Order) -> str:
        """Start, or find what was started for this order; returns its handle. Raises PublicError if it cannot."""

    async def poll(self, handle: str) -> Pending | Done | Broken:
        """Look once."""

    async def cancel(self, handle: str) -> None:
        """Ask it to stop and to say that it was cancelled."""
