"""What a training run carries from page to page: where it writes, whether it was asked to stop, what is known by now.

Needs no torch.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from training import rundir
from training.rundir import Event, ProgressLine, Status, TrainingResult


class Stopped(Exception):
    """This run was asked to stop; whatever can be resumed is on the disk."""


@dataclass(slots=True)
class Notebook:
    """A run as it is being written; `result` is what it would say if it ended now."""

    run_dir: Path
    progress: TextIO
    began: float
    stop_requested: bool = False
    rank: int = 0  # of several processes that train together; the first one alone writes
    ranks: int = 1
    result: TrainingResult = field(default_factory=lambda: TrainingResult(Status.FAILED, ""))

    def tell(self, event: Event, step: int = 0, max_steps: int = 0, **facts: Any) -> None:
        """Writes a progress line."""
        rundir.append_progress(self.progress, ProgressLine(event, step, max_steps, **facts))

    def know(self, **facts: Any) -> None:
        """Keeps what the result is going to say."""
        self.result = replace(self.result, **facts)

    @property
    def to_be_closed(self) -> bool:
        """Whether this run was asked to stop: by SIGTERM, or by the word `cancel` in its directory."""
        return self.stop_requested or rundir.cancel_requested(self.run_dir)

    def turn_page(self) -> None:
        """Between two stages: the place to stop."""
        if self.to_be_closed:
            raise Stopped
