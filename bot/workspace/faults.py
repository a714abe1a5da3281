"""Trouble on order: rate limits, server errors, lost answers, hanging calls, so that an app can be tested against them.

A fault waits for calls of one method (or of all, `*`) and is used up after `times` calls.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from bot.workspace.refused import Refused

ALL_METHODS: Final = "*"
NO_ANSWER: Final = 0
NUMBERS: Final[dict[str, Callable[[Any], float]]] = {
    "status": int,
    "retry_after": int,
    "times": int,
    "hang_s": float,
}


@dataclass
class Fault:
    """One kind of trouble.

    error: Slack's error code, answered with HTTP 200. status: an HTTP status; 429 carries Retry-After; 0 cuts the
    connection without an answer. after_work: the method does its work first, then fails (a lost answer).
    hang_s: wait that long before anything else. With neither error nor status the call succeeds after hanging.
    """

    method: str
    error: str | None = None
    status: int | None = None
    retry_after: int | None = None
    times: int = 1
    after_work: bool = False
    hang_s: float = 0.0


class Faults:
    """The trouble still to come."""

    def __init__(self, *faults: Fault) -> None:
        self._waiting = list(faults)

    def add(self, fault: Fault) -> None:
        self._waiting.append(fault)

    def take(self, method: str) -> Fault | None:
        """The fault this call meets, counted down; None for none."""
        for fault in self._waiting:
            if fault.method in (method, ALL_METHODS):
                fault.times -= 1
                if fault.times <= 0:
                    self._waiting.remove(fault)
                return fault
        return None

    def clear(self) -> None:
        self._waiting.clear()


def fault_from(body: dict[str, Any]) -> Fault:
    """A fault as /_control/fault describes it. Raises Refused: invalid_arguments."""
    known = {"method", "error", "status", "retry_after", "times", "after_work", "hang_s"}
    asked = {key: value for key, value in body.items() if key in known and value is not None}
    if not asked.get("method"):
        raise Refused("invalid_arguments", detail="Name the method that shall fail, or * for all.")
    if not {"error", "status", "hang_s"} & asked.keys():
        raise Refused("invalid_arguments", detail="Say how it shall fail: error, status or hang_s.")
    try:
        numbers = {key: kind(asked[key]) for key, kind in NUMBERS.items() if key in asked}
    except (TypeError, ValueError):
        raise Refused("invalid_arguments", detail=f"{', '.join(NUMBERS)} are numbers.") from None
    return Fault(**{**asked, **numbers})
