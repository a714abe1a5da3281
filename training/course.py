"""Whether a training goes astray: the loss far above where it began, for a while. Pure.

One bad batch is no divergence, and a loss that is no number is caught elsewhere, at once.
"""

from dataclasses import dataclass, field
from statistics import fmean

OPENING = 5  # steps whose mean is "where it began"
FADING = 0.9  # of the running mean, kept from step to step: some ten steps of memory
FACTOR, MARGIN = 1.5, 0.5  # far above: half as much again, and half a nat
PATIENCE = 20  # steps in a row


@dataclass(slots=True)
class Course:
    """The loss as it went so far, in nats per token (or of the preference loss).

    `before` is the held-out loss before the first step, None where none was measured. Where the rate is far too high, the
    second step is lost already, and the mean of the first ones would tell of the wreck.
    """

    before: float | None = None
    opening: list[float] = field(default_factory=list)
    smooth: float = 0.0
    above: int = 0

    @property
    def began(self) -> float:
        """The mean of the first steps; or less, where both the first step and the measurement before it say so."""
        if not self.opening:
            return 0.0
        mean = fmean(self.opening)
        return mean if self.before is None else min(mean, max(self.opening[0], self.before))

    def note(self, loss: float) -> bool:
        """Take in a step's loss; True when it has been far above its beginning for PATIENCE steps."""
        if len(self.opening) < OPENING:
            self.opening.append(loss)
            self.smooth = fmean(self.opening)
            return False
        self.smooth = FADING * self.smooth + (1 - FADING) * loss
        far = self.smooth > FACTOR * self.began + MARGIN
        self.above = self.above + 1 if far else 0
        return self.above >= PATIENCE
