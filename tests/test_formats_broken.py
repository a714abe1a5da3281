"""Files as they really arrive: odd encodings, other countries' spreadsheets, endless lines, other people's conversations."""

import json
from pathlib import Path
from typing import Any

import pytest

from storage.errors import PublicError
from training.formats.reading import Faq, Reader, read_faq
from training.formats.records import LONGEST_LINE

PAIR = {"question": "Größe?", "answer": "Zwölf – genau."}
WANTED = [("Größe?", "Zwölf – genau.")]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]
TABLE = "question;answer\r\nGröße?;Zwölf – genau.\r\n"


def read(tmp_path: Path, content: bytes, name: str) -> Faq:
    """What is read from a file with this content."""
    file = tmp_path / name
    file.write_bytes(content)
    return read_faq(file)


def pairs(faq: Faq) -> list[tuple[str, str]]:
    """The questions and answers that were kept."""
    return [(entry.question, entry.answer) for entry in faq.entries]


def told(faq: Faq) -> dict[int, str]:
    """Line and reason of what was not."""
    return {bad.number: bad.reason for bad in faq.bad}


@pytest.mark.parametrize("encoding", [*ENCODINGS, "cp1252"])
def test_a_table_in_any_encoding_of_windows(tmp_path: Path, encoding: str) -> None:
    """Excel writes Windows-1252, UTF-8 with a mark, or UTF-16; scripts write UTF-16 without one."""
    assert pairs(read(tmp_path, TABLE.encode(encoding), "faq.csv")) == WANTED


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_lines_in_any_encoding_that_can_be_told(tmp_path: Path, encoding: str) -> None:
    """PowerShell's > writes UTF-16."""
    text = json.dumps(PAIR, ensure_ascii=False) + "\r\n"
    assert pairs(read(tmp_path, text.encode(encoding), "faq.jsonl")) == WANTED


def test_the_line_that_is_no_text_is_named(tmp_path: Path) -> None:
    """However far down it stands."""
    good = (json.dumps(PAIR, ensure_ascii=False) + "\n").encode()
    with pytest.raises(PublicError, match=r"not UTF-8 text \(line 40001\)\. Save it as UTF-8"):
        read(tmp_path, good * 40_000 + "größe\n".encode("cp1252"), "faq.jsonl")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_line_end(tmp_path: Path, end: str) -> None:
    """Unix, Windows and old Macs, in every kind of file."""
    files = {
        "faq.csv": f"question,answer{end}Größe?,Zwölf – genau.{end}",
        "faq.jsonl": f"{json.dumps(PAIR)}{end}",
        "faq.md": f"# Größe?{end}Zwölf – genau.{end}",
    }
    for name, text in files.items():
        assert pairs(read(tmp_path, text.encode(), name)) == WANTED


def test_excels_own_first_line_names_the_delimiter(tmp_path: Path) -> None:
    """It is what Excel needs to read a table of another country, and no header."""
    assert pairs(read(tmp_path, f"sep=;\r\n{TABLE}".encode(), "faq.csv")) == WANTED


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """Neither of the two is silently taken."""
    with pytest.raises(PublicError, match="'answer' stands there 2 times; rename"):
        read(tmp_path, b"question,answer,answer\nq,a,b\n", "faq.csv")
    two = read(tmp_path, b"question,answer,note,note\nq,a,b,c\n", "faq.csv")
    assert pairs(two) == [("q", "a")], "a column that is not read may stand there as often as it likes"


@pytest.mark.parametrize("name", ["faq.csv", "faq.jsonl", "faq.md"])
def test_a_line_without_end_costs_itself(tmp_path: Path, name: str) -> None:
    """It is passed over in pieces, and what stands behind it is read."""
    long = "x" * (2 * LONGEST_LINE + 5)
    rows = {
        "faq.csv": f"question,answer\nq1,a1\nq2,{long}\nq3,a3\n",
        "faq.jsonl": "\n".join(
            json.dumps({"question": q, "answer": a}) for q, a in (("q1", "a1"), ("q2", long), ("q3", "a3"))
        ),
        "faq.md": f"# q1\na1\n# q2\nx\n{long}\n# q3\na3\n",
    }
    faq = read(tmp_path, rows[name].encode(), name)
    assert [each.question for each in faq.entries if each.question != "q2"] == ["q1", "q3"]
    assert [why for why in told(faq).values() if "16,777,216 characters" in why]


def test_a_nul_is_told_with_its_line(tmp_path: Path) -> None:
    """A database would refuse it."""
    faq = read(tmp_path, b"question,answer\nq1,a1\nq\x002,a2\n", "faq.csv")
    assert pairs(faq) == [("q1", "a1")]
    assert "NUL" in told(faq)[3]


TURNS = [("user", "Größe?"), ("assistant", "Zwölf – genau.")]
SHAREGPT: dict[str, Any] = {
    "from and value": {"conversations": [{"from": "human", "value": "Größe?"}, {"from": "gpt", "value": "Zwölf – genau."}]},
    "role and content": {"conversations": [{"role": role, "content": text} for role, text in TURNS]},
    "one conversation": {"id": "x", "conversation": [{"from": role, "value": text} for role, text in TURNS]},
    "messages with from": {"messages": [{"from": role, "value": text} for role, text in TURNS]},
    "with a system prompt": {"system": "Be kind.", "conversations": [{"from": r, "value": t} for r, t in TURNS]},
    "with a system turn": {"conversations": [{"from": r, "value": t} for r, t in [("system", "Be kind."), *TURNS]]},
    "with parts": {"conversations": [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in TURNS]},
}  # fmt: skip


@pytest.mark.parametrize("name", SHAREGPT)
def test_every_dialect_of_sharegpt(tmp_path: Path, name: str) -> None:
    """As JSON lines and as one array, which is how most of them lie about."""
    for text in (json.dumps(SHAREGPT[name]), json.dumps([SHAREGPT[name]], indent=1)):
        assert pairs(read(tmp_path, text.encode(), "chats.json")) == WANTED


TOOL = {"from": "tool", "value": "42"}
UNUSABLE: dict[str, tuple[Any, str]] = {
    "tools": ({"conversations": [{"from": "human", "value": "q"}, TOOL, {"from": "gpt", "value": "a"}]}, "calls tools"),
    "a stranger": ({"conversations": [{"from": "narrator", "value": "q"}]}, "role 'narrator'"),
    "no turns": ({"conversations": []}, "not a list with something in it"),
    "no answer": ({"conversations": [{"from": "human", "value": "q"}]}, "no answer of it is to be learned"),
    "an empty answer": ({"conversations": [{"from": "user", "value": "q"}, {"from": "gpt", "value": " "}]}, "is empty"),
    "a picture": ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "not text"),
    "disliked": ({"prompt": "q", "completion": "a", "label": False}, "somebody disliked"),
    "only a later turn": (
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0},
                      {"role": "user", "content": "r"}, {"role": "assistant", "content": "b"}]},
        "only a later turn",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_record_that_teaches_nothing_is_named(tmp_path: Path, name: str) -> None:
    """With its line; the one below it comes in."""
    record, why = UNUSABLE[name]
    faq = read(tmp_path, (json.dumps(record) + "\n" + json.dumps(PAIR)).encode(), "chats.jsonl")
    assert pairs(faq) == WANTED
    assert why in told(faq)[1]


def test_every_line_of_a_file_is_accounted_for(tmp_path: Path) -> None:
    """Imported, or listed with a reason: the numbers add up."""
    lines = (
        [json.dumps(each) for each, _ in UNUSABLE.values()]
        + [json.dumps(PAIR)] * 3
        + ["{oops", "7", '"x"', "{}"]
    )
    file = tmp_path / "all.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    seen = Reader(file).survey()
    assert seen.entries + seen.left_out == len(lines)
    assert sorted({bad.number for bad in seen.bad}) == [
        n for n in range(1, len(lines) + 1) if n != len(UNUSABLE) + 1
    ]
