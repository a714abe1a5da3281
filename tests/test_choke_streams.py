"""A model may say a secret of its own: what is shown while an answer is written never holds a part of one."""

from pathlib import Path

import pytest
from answer_rig import room_at
from bot_process import is_from_bot

from bot.slack.showable import HELD_BACK, showable
from storage.words import clean

KEY = "sk-proj-" + "Ab3dEf9hIj" * 5
MAIL = "jane.roe@customer.example.com"
PEM = "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join("MIIEow" + "IBAAKCAQEA7x" * 4 for _ in range(30))
PEM += "\n-----END RSA PRIVATE KEY-----"
AROUND = "Here is what you asked for, and some words before it that nobody minds reading at all. " * 3
AFTER = " That was it, and these are the words that follow it, as many as it takes to be shown. " * 4

SPLIT = "the card is 4111\n1111 1111\n1111, keep it safe"
SAID = [f"{AROUND}{secret}{AFTER}" for secret in (KEY, MAIL, PEM, SPLIT, f"postgresql://ann:{KEY}@db/x")]


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("step", [1, 7, 64])
def test_what_is_shown_only_grows_and_holds_no_part_of_a_secret(said: str, step: int) -> None:
    """However the pieces fall, each thing that is shown is a beginning of the answer as it is kept."""
    whole, shown = clean(said), ""
    assert whole != said
    for end in range(step, len(said) + step, step):
        now = showable(said[:end], clean)
        assert whole.startswith(now), "it would have to be taken back"
        shown = now if len(now) > len(shown) else shown
    assert len(shown) > len(AROUND)


def test_harmless_words_are_held_back_for_a_line_or_two_only() -> None:
    """A stream does not wait for the end of the answer."""
    said = " ".join(f"word{number}" for number in range(200))
    for end in range(HELD_BACK + 20, len(said), 50):
        assert len(showable(said[:end], clean)) > end - HELD_BACK - 20


def test_a_text_without_gaps_is_shown_too_where_its_script_has_none() -> None:
    """Not every language puts spaces between words."""
    assert len(showable("请在门户上重置密码，然后重新登录。" * 40, clean)) > 300


async def test_a_secret_of_a_model_is_in_no_message_of_the_stream(tmp_path: Path) -> None:
    """Through the whole bot: what Slack was ever told, every call of it, holds the placeholder only."""
    async with room_at(tmp_path) as room:
        room.says(f"{AROUND}{KEY}{AFTER}{MAIL}{AFTER}")
        gate = room.hold_at(130)
        ts = await room.asked(f"What is the key of {MAIL}?")
        begun = await room.begun(ts)
        assert begun["text"].startswith(AROUND[:80])
        gate.opened.set()
        answer = await room.answer(ts)
        calls = await room.team.calls(
            "chat.startStream", "chat.appendStream", "chat.stopStream", "chat.update"
        )
        said = repr(calls) + repr([each for each in await room.thread(ts) if is_from_bot(each)])
        assert len(calls) > 1
        assert KEY not in said
        assert "sk-proj-" not in said
        assert MAIL not in said
        assert "<SECRET_1>" in repr(answer)
        assert "<EMAIL_1>" in repr(answer), "the address of the question is the address of the answer"
