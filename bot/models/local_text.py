"""What a small model can read of a conversation, and which pieces of its answer can be shown while it writes.

Pure and free of torch, so that both rules can be read and tested as tables. It renders and decodes nothing itself:
the tokenizer is passed in as two functions.
"""

from collections.abc import Callable, Sequence

from storage.values import Message

Render = Callable[[Sequence[Message]], list[int]]
"""A conversation as token ids, ready for the assistant's turn."""

Decode = Callable[[Sequence[int]], str]
"""Token ids as text, without special tokens."""

_BROKEN = "\ufffd"  # what a decoder writes for bytes that are no character (yet)


class TooLong(Exception):
    """The last message alone does not fit; `tokens` and `room` say by how much."""

    def __init__(self, tokens: int, room: int) -> None:
        super().__init__(f"The question has {tokens} tokens; this model can read {room}. Please shorten it.")
        self.tokens = tokens
        self.room = room


def fit(messages: Sequence[Message], *, room: int, render: Render) -> list[int]:
    """Token ids of as much of the conversation as `room` tokens hold.

    Oldest turns go first, never the system message and never the last message, and what is left starts with a
    person's turn as chat templates demand. Raises `TooLong` where system and last message alone do not fit.
    """
    system = [message for message in messages[:-1] if message.role == "system"]
    turns = [message for message in messages[:-1] if message.role != "system"]
    while True:
        tokens = render([*system, *turns, messages[-1]])
        if len(tokens) <= room:
            return tokens
        if not turns:
            raise TooLong(len(tokens), room)
        turns = without_oldest(turns)


def without_oldest(turns: list[Message]) -> list[Message]:
    """What is left of turns when the oldest is dropped; it starts with a person's turn."""
    rest = turns[1:]
    while rest and rest[0].role == "assistant":
        rest = rest[1:]
    return rest


class TextPieces:
    """Turns token ids, one at a time, into pieces of text that may be shown at once.

    A piece never ends inside a character that takes several tokens. Space at the answer's start and end is dropped,
    and the pieces joined are exactly `text`.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._shown_from = 0  # ids before this index no longer influence how the next ones are spelled
        self._shown_to = 0
        self._space = ""  # held back until something follows it
        self.text = ""

    def add(self, token: int) -> str:
        """The piece that `token` completes; "" where nothing can be shown yet."""
        self.hold(token)
        return self.shown()

    def hold(self, token: int) -> None:
        """Keep a token whose text nobody needs yet."""
        self._ids.append(token)

    def shown(self) -> str:
        """The piece that can be shown now; "" where there is none."""
        new = self._undelivered()
        if not new or new.endswith(_BROKEN):
            return ""
        self._shown_from, self._shown_to = self._shown_to, len(self._ids)
        return self._deliver(new)

    def finish(self) -> str:
        """The last piece: what was held back and still is text; half a character is dropped."""
        rest = self._undelivered().rstrip(_BROKEN)
        self._shown_from = self._shown_to = len(self._ids)
        return self._deliver(rest)

    def _undelivered(self) -> str:
        shown = self._decode(self._ids[self._shown_from : self._shown_to])
        return self._decode(self._ids[self._shown_from :])[len(shown) :]

    def _deliver(self, new: str) -> str:
        piece = self._space + new if self.text else new.lstrip()
        bare = piece.rstrip()
        self._space = piece[len(bare) :]
        self.text += bare
        return bare
