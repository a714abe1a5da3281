"""The help desk of ../shared/data/stackfaq as dataset folders for the trainer: 75 questions in eleven wordings each."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

STACKFAQ = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "stackfaq" / "qa.jsonl"


def asked(split: str) -> list[dict[str, Any]]:
    """The lines of "train" or "test": `id`, `thread`, `question`, `short_answer`, `top_answer`."""
    lines = map(json.loads, STACKFAQ.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line["split"] == split]


def turns(question: str, answer: str) -> list[dict[str, str]]:
    """A conversation of one question."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def example(line: Mapping[str, Any], answer: str = "short_answer") -> dict[str, Any]:
    """A line of train.jsonl."""
    messages = turns(str(line["question"]), str(line[answer]))
    return {"id": line["id"], "cluster": f"thread-{line['thread']}", "messages": messages}


def write(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """A file of a dataset folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def write_answers(folder: Path, *, answer: str = "short_answer", leave_out: Sequence[str] = ()) -> Path:
    """A dataset of answers: one wording of each question watches the training, the "test" wordings stay outside."""
    lines = [line for line in asked("train") if line["id"] not in set(leave_out)]
    watched = {line["thread"]: line["id"] for line in lines}
    write(
        folder / "train.jsonl",
        (example(line, answer) for line in lines if line["id"] != watched[line["thread"]]),
    )
    write(
        folder / "validation.jsonl",
        (example(line, answer) for line in lines if line["id"] == watched[line["thread"]]),
    )
    return folder
