"""What the doctor finds: one thing, how bad it is, one plain sentence."""

from dataclasses import asdict, dataclass
from enum import StrEnum


class Mark(StrEnum):
    """How bad it is: a problem stops something that is configured, a note says what is used instead."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "PROBLEM"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    mark: Mark
    topic: str
    words: str

    def to_json(self) -> dict[str, str]:
        """For programs; the mark in lower case."""
        return asdict(self) | {"mark": self.mark.value.lower()}
