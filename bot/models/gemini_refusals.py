"""What Google's refusals mean: a sentence for people, whether to ask again, and what it may bill. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bot.errors import TooLongFor
from bot.models.patience import Refused, Work, seconds_to_wait

_TOO_LONG = re.compile(
    r"token count.*exceeds|exceeds the maximum number of tokens|input.*too long", re.IGNORECASE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Fault:
    """An error as Google told it. `details` are the rows that it adds to its message."""

    status: int
    message: str = ""
    details: tuple[Mapping[str, Any], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, status: int, message: str, body: object, headers: Mapping[str, str]) -> "Fault":
        """From the error's body, whatever of it is there."""
        told = body.get("error", body) if isinstance(body, dict) else {}
        rows = told.get("details") if isinstance(told, dict) else None
        details = tuple(row for row in rows if isinstance(row, dict)) if isinstance(rows, list) else ()
        return cls(status, message, details, headers)

    @property
    def bad_key(self) -> bool:
        """A wrong key comes with status 400, and only its details tell."""
        return self.status == 401 or any(row.get("reason") == "API_KEY_INVALID" for row in self.details)

    @property
    def daily(self) -> bool:
        """Whether the limit is one that a short wait does not lift."""
        limits = [limit for row in self.details for limit in row.get("violations", [])]
        return any("PerDay" in str(limit.get("quotaId", "")) for limit in limits if isinstance(limit, dict))

    @property
    def wait_s(self) -> float | None:
        """The Gemini API puts its Retry-After into the body: {"retryDelay": "37s"}; Vertex may send the header."""
        for row in self.details:
            delay = seconds_to_wait(str(row.get("retryDelay", "")).removesuffix("s"))
            if delay is not None:
                return delay
        return seconds_to_wait(self.headers.get("retry-after"))


@dataclass(frozen=True, slots=True)
class Refusals:
    """Puts Google's faults into words. `project` is "" with a key of AI Studio."""

    model: str
    project: str = ""
    location: str = ""

    @property
    def unreachable(self) -> Refused:
        """No connection came about, so nothing was done."""
        words = "Gemini cannot be reached. Check the network and GEMINI_BASE_URL."
        return Refused(words, again=True, work=Work.NONE)

    @property
    def no_credentials(self) -> Refused:
        """Nobody gave us any, or they cannot be renewed."""
        return Refused(
            "Google's credentials cannot be used. Run `gcloud auth application-default login`, or name the key file of a "
            "service account in GOOGLE_APPLICATION_CREDENTIALS.",
            work=Work.NONE,
        )

    def broken(self, *, begun: bool, why: str = "") -> Refused:
        """The answer ended before its end. Nothing is asked again once there was text."""
        if begun:
            return Refused(f"Gemini broke off in the middle of its answer{why}.")
        return Refused(f"Gemini broke off before its answer{why}.", again=True)

    def silent(self, *, begun: bool, after_s: float) -> Refused:
        """Nothing came for too long."""
        if begun:
            return Refused(f"Gemini fell silent for {after_s:g} s in the middle of its answer.")
        return Refused(f"Gemini did not begin to answer within {after_s:g} s.")

    def of(self, fault: Fault) -> Refused:
        """The fault in words."""
        if fault.status == 429 and not fault.daily:
            return self._passing("Gemini limits how fast it may be asked.", fault, Work.NONE)
        if fault.status == 408 or fault.status >= 500:
            return self._passing(f"Gemini is out of order (HTTP {fault.status}).", fault, Work.ALL)
        if fault.status == 413 or (fault.status == 400 and _TOO_LONG.search(fault.message)):
            words = f"The question is too long for {self.model}. Please shorten it."
            return Refused(words, work=Work.NONE, asker=TooLongFor)
        return Refused(self._lasting(fault), work=Work.NONE)

    def _lasting(self, fault: Fault) -> str:
        """Sentences about what will be the same next time."""
        if fault.bad_key:
            return str(self.no_credentials) if self.project else self._bad_key
        if fault.status == 403 and self.project:
            return (
                f"Google does not let this account use {self.model} in the project {self.project} ({self.location}): "
                f"{fault.message[:300]}"
            )
        if fault.status == 403:
            return f"Gemini does not let this key use {self.model}: {fault.message[:300]}"
        if fault.status == 404 and self.project:
            return (
                f"Google offers no model {self.model} in {self.location} to the project {self.project}. Set GEMINI_MODEL, "
                "or GEMINI_VERTEX_LOCATION to where it is."
            )
        if fault.status == 404:
            return f"Gemini offers no model {self.model} to this key. Set GEMINI_MODEL to one that it has."
        if fault.status == 429:
            return "Gemini's quota for today is used up. Enable billing in Google AI Studio, or wait for tomorrow."
        return f"Gemini does not accept the question: {fault.message[:300]}"

    @property
    def _bad_key(self) -> str:
        return "Gemini refuses the key. Set GEMINI_API_KEY to a valid one from Google AI Studio."

    def _passing(self, sentence: str, fault: Fault, work: Work) -> Refused:
        return Refused(sentence, again=True, wait_s=fault.wait_s, work=work)
