"""What a small model is given of a conversation, and what is shown of its answer: tables, without a model."""

from collections.abc import Sequence

import pytest
from tiny_models import byte_tokenizer

from bot.models.local_text import TextPieces, TooLong, fit
from storage.values import Message


def words(messages: Sequence[Message]) -> list[int]:
    """A tokenizer for tables: each word is its length."""
    return [len(word) for message in messages for word in message.content.split()]


SYSTEM, OLD, REPLY, NEW = (
    Message("system", "be kind"),
    Message("user", "one two three"),
    Message("assistant", "four five"),
    Message("user", "six"),
)


@pytest.mark.parametrize(
    ("room", "kept"),
    [(8, [SYSTEM, OLD, REPLY, NEW]), (7, [SYSTEM, NEW]), (3, [SYSTEM, NEW])],
)
def test_the_system_message_and_the_question_are_never_dropped(room: int, kept: list[Message]) -> None:
    """With a person's turn goes the reply to it, so that what is left still starts with a person."""
    assert fit([SYSTEM, OLD, REPLY, NEW], room=room, render=words) == words(kept)


def test_what_cannot_fit_says_by_how_much() -> None:
    with pytest.raises(TooLong) as told:
        fit([SYSTEM, OLD, REPLY, NEW], room=2, render=words)
    assert (told.value.tokens, told.value.room) == (3, 2)


@pytest.mark.parametrize("text", ["plain", "Straße 🙂👩‍👩‍👧 日本語", "  spaced  out \n\n", "🙂", ""])
def test_pieces_are_whole_characters_whatever_the_tokens(text: str) -> None:
    """Joined they are the text without the space around it."""
    tokenizer = byte_tokenizer()
    pieces = TextPieces(lambda ids: str(tokenizer.decode(list(ids))))
    shown = [pieces.add(token) for token in tokenizer(text)["input_ids"]]
    shown.append(pieces.finish())
    assert "".join(shown) == pieces.text == text.strip()
    assert not any("\ufffd" in piece for piece in shown)


def test_broken_bytes_inside_a_text_do_not_hold_the_rest_back() -> None:
    """A model may write half a character and go on; what follows is still shown, and half a character at the end is not."""
    tokenizer = byte_tokenizer()
    half, whole = tokenizer("ü")["input_ids"][:1], tokenizer("ok")["input_ids"]
    pieces = TextPieces(lambda ids: str(tokenizer.decode(list(ids))))
    shown = [pieces.add(token) for token in [*half, *whole, *half]] + [pieces.finish()]
    assert "".join(shown) == pieces.text == "\ufffdok"
