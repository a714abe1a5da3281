"""Markdown on its way into Slack: what may be shown while more comes, and where a long text is cut."""

import re

import pytest

from bot.slack.markdown import settled, split
from bot.slack.text import without_mentions


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Hello <!chan", "Hello "),
        ("Hello <!channel>", "Hello <!channel>"),
        ("Ask @her", "Ask "),
        ("Ask @here now", "Ask @here now"),
        ("1 < 2 and so on.\n", "1 < 2 and so on.\n"),
        ("R&am", "R"),
        ("", ""),
    ],
)
def test_what_may_become_a_mention_is_held_back(text: str, shown: str) -> None:
    """Half a mention is not shown, because the other half would come after it was checked."""
    assert settled(text) == shown


def test_a_text_that_grows_is_shown_as_it_will_stand() -> None:
    """However a model cuts its pieces, what was shown is a beginning of what will stand there."""
    whole = "Ask <@U0ANN> or @channel, <!here|here> & <!subteam^S1>! `@here` a<b @everyone."
    final = without_mentions(whole)
    for end in range(len(whole) + 1):
        assert final.startswith(without_mentions(settled(whole[:end]))), whole[:end]


def test_a_short_text_is_one_part() -> None:
    """Nothing is cut that fits."""
    assert split("Hello", 100) == ["Hello"]
    assert split("", 100) == [""]


def test_parts_keep_every_word_in_order() -> None:
    """Cut at paragraphs, lines or words; nothing is lost or said twice."""
    text = "\n\n".join(" ".join(f"w{p}x{n}" for n in range(40)) for p in range(40))
    parts = split(text, 1000)
    assert len(parts) > 5
    assert all(len(part) <= 1000 for part in parts)
    assert " ".join(parts).split() == text.split()


def test_one_endless_word_is_cut_too() -> None:
    """A text without any gap still fits."""
    parts = split("x" * 5000, 1000)
    assert "".join(parts) == "x" * 5000
    assert all(len(part) <= 1000 for part in parts)


def test_a_cut_code_block_stays_code_in_both_parts() -> None:
    """Each part closes what it opened, and the next opens it in the same language."""
    code = "\n".join(f"print({number})" for number in range(300))
    parts = split(f"Look:\n\n```python\n{code}\n```\n\nDone.", 800)
    assert all(part.count("```") % 2 == 0 for part in parts)
    assert all(part.startswith("```python\n") for part in parts[1:-1])
    assert re.findall(r"print\(\d+\)", "".join(parts)) == code.split("\n")
