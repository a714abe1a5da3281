"""What a record of any format teaches, in one shape. Pure."""

from dataclasses import dataclass

Turns = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that was left out, and why."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Piece:
    """An answer with what came before it: (role, text) pairs, an optional system turn first, the last one a user's.

    `rejected` is the answer that somebody liked less; `liked` is False for an answer that was disliked, with none better.
    """

    prompt: Turns
    answer: str
    rejected: str = ""
    liked: bool = True
    topic: str = ""
    thread: str = ""
    split: str = ""

    @property
    def system(self) -> str:
        """The system prompt; empty where there is none."""
        return self.prompt[0][1] if self.prompt and self.prompt[0][0] == "system" else ""

    @property
    def asked(self) -> Turns:
        """What came before the answer, without the system prompt."""
        return self.prompt[1:] if self.system else self.prompt
