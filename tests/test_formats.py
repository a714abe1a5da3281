"""Files of other people's formats: what both sides can express comes back equal, and what cannot be held is said."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from training.formats.pieces import Piece
from training.formats.reading import Reader, Seen, read_faq
from training.formats.records import UTF8
from training.formats.writing import PAIRED, SHAPES, lines_of, pieces_of, write_hugging_face

WORDS = [
    "Größe",
    "<EMAIL_1>",
    'a "quote"',
    "line\nbreak",
    "```py\nx = 1\n```",
    "U+2028:\u2028.",
    "🙂",
    "; , \t",
]


def pieces(seed: int, *, rejected: bool, plain: bool) -> list[Piece]:
    """Generated conversations; `plain` ones have one question and nothing else."""
    chance = random.Random(seed)

    def text(kind: str, number: int) -> str:
        return f"{kind} {number} {' '.join(chance.sample(WORDS, 3))} end"

    made = []
    for number in range(40):
        prompt = [("user", text("question", number))]
        if not plain and chance.random() < 0.5:
            prompt = [("user", text("earlier", number)), ("assistant", text("said", number)), *prompt]
        if not plain and chance.random() < 0.5:
            prompt.insert(0, ("system", text("system", number)))
        made.append(Piece(tuple(prompt), text("answer", number), text("worse", number) if rejected else ""))
    return made


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_written_is_read_again_as_it_was(tmp_path: Path, name: str, seed: int) -> None:
    """Every format, with line breaks, quotes, code blocks and placeholders."""
    made = pieces(seed, rejected=name in PAIRED, plain=name == "csv")
    file = tmp_path / ("out.csv" if name == "csv" else "out.jsonl")
    file.write_text("".join(lines_of(made, name)), encoding="utf-8", newline="")
    seen = Seen(UTF8)
    found = [piece for _, piece in Reader(file).pieces(seen)]
    if name in ("sharegpt", "vertex"):  # no weights there: earlier answers are learned, too
        found = [each for each in found if not each.answer.startswith("said")]
    assert found == made
    assert not seen.left_out
    assert list(seen.formats) == [name]


def test_a_markdown_faq_keeps_code_and_topics(tmp_path: Path) -> None:
    """Headings, pairs and definitions; a # in a code block is no heading, and front matter is passed over."""
    file = tmp_path / "faq.md"
    file.write_text(
        "---\ntitle: x\n---\n# Help\n## Keys\n### Where is it?\nRun\n\n```sh\n# look\nls\n```\n"
        "## Doors\n**Q:** Is it open?\n**A:** Yes.\nAlways.\n\n**Q: And now?**\nA: No.\n## Words\nVPN\n: A tunnel.\n"
    )
    found = [(each.question, each.answer, each.topic) for each in read_faq(file).entries]
    assert found == [
        ("Where is it?", "Run\n\n```sh\n# look\nls\n```", "Help / Keys"),
        ("Is it open?", "Yes.\nAlways.", "Help / Doors"),
        ("And now?", "No.", "Help / Doors"),
        ("VPN", "A tunnel.", "Help / Words"),
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252", "utf-8-sig"])
def test_a_table_is_read_as_excel_wrote_it(tmp_path: Path, encoding: str) -> None:
    """The encoding is found and can be told."""
    file = tmp_path / "faq.csv"
    file.write_bytes('question;answer\r\nGröße?;"zwei\r\nZeilen – so"\r\n'.encode(encoding))
    assert [(each.question, each.answer) for each in read_faq(file).entries] == [
        ("Größe?", "zwei\nZeilen – so")
    ]
    names = {"utf-16": "UTF-16", "cp1252": "Windows-1252", "utf-8-sig": "UTF-8"}
    assert Reader(file).encoding == names[encoding]


def test_what_an_entry_cannot_hold_is_counted(tmp_path: Path) -> None:
    """Later turns, system prompts and weights: the first answer stands alone, the rest is said; tools are refused."""
    turns = [
        ("system", "Be kind."),
        ("user", "Q?"),
        ("assistant", "A."),
        ("user", "More?"),
        ("assistant", "B."),
    ]
    chat = [{"role": role, "content": text} for role, text in turns]
    tools = {"messages": [*chat[:2], {"role": "assistant", "content": None, "tool_calls": [{}]}]}
    unlearned = {"messages": [chat[1], {**chat[2], "weight": 0}]}
    file = tmp_path / "chat.jsonl"
    file.write_text("\n".join(json.dumps(each) for each in ({"messages": chat}, tools, unlearned)))
    reader = Reader(file)
    seen = reader.survey()
    assert [(each.question, each.answer) for each in reader.entries()] == [("Q?", "A.")]
    assert sum(count for why, count in seen.lost.items() if "later turn" in why) == 1
    assert "calls tools" in seen.bad[0].reason
    assert "weight 0" in seen.bad[1].reason


def test_a_frozen_dataset_goes_out(tmp_path: Path) -> None:
    """Weights that a format cannot hold are counted; disliked answers are unpaired rows; Hugging Face opens the folder."""
    frozen, chat = (
        tmp_path / "frozen",
        [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A."}],
    )
    frozen.mkdir()
    row = {"id": "1", "cluster": "c", "messages": chat, "weight": 0.5}
    worse = {
        "id": "1",
        "cluster": "c",
        "split": "train",
        "messages": chat[:1],
        "chosen": "A.",
        "rejected": "B.",
    }
    (frozen / "train.jsonl").write_text(json.dumps(row) + "\n")
    (frozen / "preferences.jsonl").write_text(json.dumps(worse) + "\n")
    lost: Counter[str] = Counter()
    found = list(pieces_of(frozen, "train", "trl-unpaired", lost))
    assert [(each.answer, each.liked) for each in found] == [("A.", True), ("A.", True), ("B.", False)]
    assert sum(lost.values()) == 1
    datasets = pytest.importorskip("datasets")
    assert write_hugging_face(frozen, tmp_path / "hf") == {"train": 1}
    loaded = datasets.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"][0]["messages"] == chat
    assert loaded["train"][0]["weight"] == 0.5
