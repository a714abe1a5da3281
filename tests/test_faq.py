"""Files that somebody else wrote: good lines are kept, bad ones are named with their number and their reason."""

import json
from pathlib import Path

import pytest

from bot.errors import PublicError
from bot.settings import HANDBOOK
from training.formats.reading import Faq, read_faq


def read(tmp_path: Path, text: str | bytes, name: str = "faq.jsonl") -> Faq:
    """What is read from a file with this content."""
    file = tmp_path / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return read_faq(file)


def pairs(faq: Faq) -> list[tuple[str, str]]:
    """The questions and answers that were kept."""
    return [(entry.question, entry.answer) for entry in faq.entries]


def reasons(faq: Faq) -> dict[int, str]:
    """Line number -> reason, of what was left out."""
    return {bad.number: bad.reason for bad in faq.bad}


GOOD = '{"question": "Where is the key?", "answer": "Under the mat."}'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{oops", "not JSON"),
        ('"just text"', "not a JSON object"),
        ('{"question": "Only that?"}', "no answer (fields: question)"),
        ('{"title": "x"}', "no question (fields: title)"),
        ("{}", "fields: none"),
        ('{"question": "How many?", "answer": 42}', "the answer is not text"),
        ('{"question": "  ", "answer": "x"}', "the question is empty"),
        ('{"question": "x", "answer": ""}', "the answer is empty"),
        (json.dumps({"question": "long", "answer": "x" * 20_001}), "longer than 20,000 characters"),
        ('{"question": "q", "answer": "a", "split": "holdout?"}', 'write "train", "test" or nothing'),
        ('{"question": "Half", "answer": "\\ud83d"}', "lone surrogate"),
        ('{"question": "Nul", "answer": "a\\u0000b"}', "NUL"),
        ('{"question": "where is the KEY", "answer": "Elsewhere."}', "the same question as line 1"),
        ('{"question": "big", "answer": ' + "1" * 5000 + "}", "JSON that I cannot read"),
        ("[" * 200_000, "JSON that I cannot read"),
    ],
)
def test_a_bad_line_is_named_and_its_neighbours_are_kept(tmp_path: Path, line: str, reason: str) -> None:
    """One bad line costs one line: what stands before and after it is imported, and people learn where and why."""
    after = '{"question": "And the door?", "answer": "It is open."}'
    faq = read(tmp_path, f"{GOOD}\n{line}\n\n{after}\n")
    assert pairs(faq) == [("Where is the key?", "Under the mat."), ("And the door?", "It is open.")]
    assert list(reasons(faq)) == [2]
    assert reason in reasons(faq)[2]


@pytest.mark.parametrize(
    "record",
    [
        {"question": "Q?", "answer": "A."},
        {"prompt": "Q?", "completion": "A."},
        {"Question ": "Q?", "ANSWER": "A."},
        {"instruction": "Q?", "output": "A.", "extra": [1, 2]},
    ],
)
def test_fields_go_by_the_names_that_people_give_them(tmp_path: Path, record: dict[str, object]) -> None:
    """Files made for fine-tuning elsewhere can be imported as they are."""
    assert pairs(read(tmp_path, json.dumps(record))) == [("Q?", "A.")]


def test_a_line_separator_inside_an_answer_does_not_end_the_line(tmp_path: Path) -> None:
    """JSON allows U+2028 and U+0085 inside strings; only a newline ends a record."""
    text = "first\u2028second\u0085third"
    faq = read(tmp_path, json.dumps({"question": "Q?", "answer": text}, ensure_ascii=False) + "\n" + GOOD)
    assert pairs(faq)[0] == ("Q?", text)
    assert len(faq.entries) == 2
    assert not faq.bad


def test_an_array_of_objects_is_read_up_to_where_it_is_broken(tmp_path: Path) -> None:
    """The line is where the object begins; what follows a broken one cannot be told apart and is said to be left."""
    whole = f'[\n  {GOOD},\n  7,\n  {{"question": "Q?", "answer": "A."}}\n]'
    faq = read(tmp_path, whole, "faq.json")
    assert [question for question, _ in pairs(faq)] == ["Where is the key?", "Q?"]
    assert reasons(faq) == {3: "not a JSON object"}
    broken = read(tmp_path, f"[{GOOD},\n{GOOD[:30]}\n]", "faq.json")
    assert len(broken.entries) == 1
    assert "what follows it is not read" in reasons(broken)[2]


CSV = 'question,answer,split\n"Where, exactly?","Left; then, ""right"".\nThen up.",test\nWho?,Ann,\n'


@pytest.mark.parametrize(
    ("name", "delimiter", "newline"),
    [("a.csv", ",", "\n"), ("a.csv", ";", "\r\n"), ("a.tsv", "\t", "\n"), ("A.CSV", ",", "\r\n")],
)
def test_csv_is_read_however_a_spreadsheet_wrote_it(
    tmp_path: Path, name: str, delimiter: str, newline: str
) -> None:
    """Commas, quotes and newlines inside an answer stay there, with any of the delimiters, with or without a BOM."""
    rows = [
        ["question", "answer", "split"],
        ['"Where, exactly?"', '"Left; then, ""right"".\nThen up."', "test"],
        ["Who?", "Ann", ""],
    ]
    text = newline.join(delimiter.join(row).replace("\n", newline) for row in rows)
    faq = read(tmp_path, b"\xef\xbb\xbf" + text.encode(), name)
    assert pairs(faq) == [("Where, exactly?", 'Left; then, "right".\nThen up.'), ("Who?", "Ann")]
    assert [entry.split for entry in faq.entries] == ["test", ""]
    assert not faq.bad


def test_a_quote_that_is_never_closed_costs_one_line_of_a_csv(tmp_path: Path) -> None:
    """It must not swallow the rest of the file into one answer, silently."""
    text = 'question,answer\nq1,a1\nq2,"not closed\nq3,a3\nq4,"with ""quotes"""\nq5,a5,more,columns\nq6,a6\n'
    faq = read(tmp_path, text, "faq.csv")
    assert pairs(faq) == [("q1", "a1"), ("q3", "a3"), ("q4", 'with "quotes"'), ("q6", "a6")]
    assert "is a quote missing?" in reasons(faq)[3]
    assert "more columns" in reasons(faq)[6]
    assert list(reasons(faq)) == [3, 6]


def test_a_field_that_is_too_large_costs_one_line_of_a_csv(tmp_path: Path) -> None:
    """Python's reader gives up at 131,072 characters; we go on behind it."""
    faq = read(tmp_path, f"question,answer\nq1,a1\nq2,{'x' * 140_000}\nq3,a3\n", "faq.csv")
    assert [question for question, _ in pairs(faq)] == ["q1", "q3"]
    assert "not CSV" in reasons(faq)[3]


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"", "faq.jsonl", "It is empty"),
        (b"\n\n", "faq.jsonl", "It is empty"),
        (b"question,answer\n", "faq.csv", "It is empty"),
        (b"What is this?,A list without a header\n", "faq.csv", "must name the columns question and answer"),
        (b"{}\n{}\n", "faq.jsonl", "Line 1: no question"),
        ('{"question": "Größe?"}'.encode("latin-1"), "faq.jsonl", "is not UTF-8 text"),
        ('{"a": 1}\n{"question": "Größe?"}'.encode("latin-1"), "faq.jsonl", "is not UTF-8 text (line 2)"),
        ("# Größe?\nJa".encode("latin-1"), "faq.md", "is not UTF-8 text (line 1). Save it as UTF-8"),
        (b"[]", "faq.json", "It is empty"),
    ],
)
def test_a_file_without_anything_to_import_says_what_to_write(
    tmp_path: Path, content: bytes, name: str, said: str
) -> None:
    """The sentence names the file and what was wrong."""
    with pytest.raises(PublicError) as refused:
        read(tmp_path, content, name)
    assert said in str(refused.value)
    assert str(tmp_path / name) in str(refused.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    """No traceback for a typing mistake."""
    with pytest.raises(PublicError, match=r"There is no file .*nothing"):
        read_faq(tmp_path / "nothing.jsonl")
    with pytest.raises(PublicError, match="cannot be read"):
        read_faq(tmp_path)


def test_split_thread_and_source_are_kept(tmp_path: Path) -> None:
    """Held-out questions stay held out, and phrasings of one question stay together under their own file's name."""
    lines = [
        {"question": "a?", "answer": "x", "split": "test", "thread": 7},
        {"question": "b?", "answer": "x", "split": "validation", "thread": 7, "topic": "keys"},
        {"question": "c?", "answer": "x", "split": "Held-Out"},
    ]
    faq = read(tmp_path, "\n".join(json.dumps(line) for line in lines), "it.jsonl")
    assert [entry.split for entry in faq.entries] == ["test", "train", "test"]
    assert [entry.thread for entry in faq.entries] == ["it.jsonl/7", "it.jsonl/7", ""]
    assert {entry.source for entry in faq.entries} == {"it.jsonl"}
    assert faq.entries[1].topic == "keys"


def test_the_handbook_is_read_whole() -> None:
    """Not one line of our own is refused."""
    handbook = read_faq(HANDBOOK, source="the handbook")
    assert len(handbook.entries) >= 480
    assert not handbook.bad


def test_of_a_real_file_only_repeated_questions_are_left_out(shared_data: Path) -> None:
    """Every line of a file that nobody here wrote is accounted for."""
    file = shared_data / "stackfaq" / "qa.jsonl"
    faq = read_faq(file)
    assert len(faq.entries) + len(faq.bad) == file.read_text(encoding="utf-8").count("\n")
    assert {bad.reason.rpartition(" ")[0] for bad in faq.bad} <= {"the same question as line"}
