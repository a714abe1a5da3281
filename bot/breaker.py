"""A circuit breaker for each kind of model: who failed several times in a row is left alone for a while.

Closed, everything passes. Open, nobody is asked until the rest is over. Then one question tries: if it is answered the
breaker closes, if not it rests again, for longer. What does not speak against a provider (a question that is too long, a
spent budget) is not counted.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

FAULTS = 3
"""This many in a row open it: one failure may be an accident, and adapters have repeated what may be repeated before."""
REST_S = 30.0
LONGEST_REST_S = 600.0


@dataclass
class Breaker:
    """One kind of model. `clock` gives seconds that only grow."""

    clock: Callable[[], float] = time.monotonic
    faults: int = 0
    _rests: int = 0
    _until: float | None = None
    _trying: bool = False

    @property
    def rest_s(self) -> float:
        """Seconds until somebody may try again; 0.0 where nobody has to wait."""
        return max(0.0, self._until - self.clock()) if self._until is not None else 0.0

    @property
    def open(self) -> bool:
        """Whether questions pass it by."""
        return self._until is not None and (self.rest_s > 0 or self._trying)

    def enter(self) -> bool:
        """Whether this question may ask. Whoever may says how it went: `answered`, `failed` or `left`."""
        if self.open:
            return False
        self._trying = self._until is not None
        return True

    def answered(self) -> None:
        """It works: closed."""
        self.faults, self._rests, self._until, self._trying = 0, 0, None, False

    def failed(self) -> None:
        """It speaks against the provider."""
        self.faults += 1
        if self._trying or self.faults >= FAULTS:
            self._until = self.clock() + min(LONGEST_REST_S, REST_S * 2**self._rests)
            self._rests += 1
        self._trying = False

    def left(self) -> None:
        """Nothing was learned: the asker stopped, or the question was not for this model."""
        self._trying = False
