"""A FAQ in Markdown: every line of text becomes an answer, or is told with its line and why it is none."""

import re
from pathlib import Path

import pytest

from training.formats.reading import Reader, Seen
from training.formats.records import UTF8


def read(tmp_path: Path, text: str) -> tuple[list[tuple[str, str, str]], dict[int, str]]:
    """Question, answer and topic of what comes in; line and reason of what does not."""
    file = tmp_path / "faq.md"
    file.write_text(text, encoding="utf-8")
    seen = Seen(UTF8)
    found = [(each.question, each.answer, each.topic) for each in Reader(file).entries(seen)]
    return found, {bad.number: bad.reason for bad in seen.bad}


CASES = {
    "a heading that asks keeps its own text beside the pair below it": (
        "# Where is the key?\nUnder the mat.\n\nQ: And the spare one?\nA: With Ann.\n",
        [("Where is the key?", "Under the mat.", ""), ("And the spare one?", "With Ann.", "Where is the key?")],
        {},
    ),
    "a heading that asks and holds only pairs is their topic": (
        "# Keys?\nQ: Where?\nA: There.\n",
        [("Where?", "There.", "Keys?")],
        {},
    ),
    "text before the first pair is told": (
        "# Keys\nThis page is about keys.\n\nQ: Where?\nA: There.\n",
        [("Where?", "There.", "Keys")],
        {2: "text before the first question"},
    ),
    "text before the first definition is told": (
        "# Words\n\nThey are many.\n\nVPN\n: A tunnel.\n",
        [("VPN", "A tunnel.", "Words")],
        {3: "text before the first question"},
    ),
    "a question that nobody answered is told": (
        "# Who?\n\n# When?\nNow.\n",
        [("When?", "Now.", "")],
        {1: "no answer below it"},
    ),
    "a heading with nothing below it is told": ("# Doors\n# When?\nNow.\n", [("When?", "Now.", "")], {1: "nothing below"}),
    "a pair without an answer is told": (
        "# When?\nNow.\n# More\nQ: Who?\n",
        [("When?", "Now.", "")],
        {4: "the answer is empty"},
    ),
    "text above all headings is told": ("Hello.\n# When?\nNow.\n", [("When?", "Now.", "")], {1: "under no heading"}),
    "the words above sub-headings are told": (
        "# Doors\nThere are two.\n## When?\nNow.\n",
        [("When?", "Now.", "Doors")],
        {2: "headings of its own"},
    ),
    "a question above sub-headings keeps its answer": (
        "# Doors?\nTwo.\n## When?\nNow.\n",
        [("Doors?", "Two.", ""), ("When?", "Now.", "Doors?")],
        {},
    ),
    "a line across the page is no front matter": (
        "---\n# When?\nNow.\n",
        [("When?", "Now.", "")],
        {1: "under no heading"},
    ),
    "front matter is passed over": ("---\ntitle: x\n---\n# When?\nNow.\n", [("When?", "Now.", "")], {}),
    "a code block that is never closed swallows no words": (
        "# When?\n```\n# now\n",
        [("When?", "```\n# now", "")],
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_lost_without_a_word(tmp_path: Path, case: str) -> None:
    """Each way in which a page can be laid out."""
    text, entries, told = CASES[case]
    found, bad = read(tmp_path, text)
    assert found == entries
    assert list(bad) == list(told)
    assert all(part in bad[line] for line, part in told.items())


def test_every_word_of_a_page_is_found_again(tmp_path: Path) -> None:
    """Words that stand nowhere else, in every place of a page: in an entry, or on a line that is told."""
    lines = (
        "alpha", "# bravo", "charlie", "", "## delta?", "echo", "Q: foxtrot", "A: golf", "hotel", "### india?", "## juliet",
        "kilo", "lima", ": mike", "november", "# oscar?", "# papa", "Q: quebec", "A: uniform",
        "# romeo?", "```", "# sierra", "```", "tango",
    )  # fmt: skip
    found, bad = read(tmp_path, "\n".join(lines) + "\n")
    said = " ".join(part for entry in found for part in entry)
    told = " ".join(lines[number - 1] for number in bad)
    names = [re.sub(r"^[QA]:|\W", "", line).strip() for line in lines]
    assert [name for name in names if name and name not in said + told] == []
