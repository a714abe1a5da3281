"""Write a frozen dataset as somebody else's format, line by line; whatever that format cannot say is counted and said."""

import csv
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from storage.errors import PublicError
from training.dataset_files import PREFERENCES, SPLITS, UNPAIRED
from training.formats.pieces import Piece

WEIGHT = "had a weight between 0 and 1, which this format cannot hold; each counts fully"
SYSTEM = "had a system prompt, which this format cannot hold; it was dropped"
EARLIER = "had earlier turns, which this format cannot hold; only the last question is kept"
LEARNED = "had earlier answers, which this format cannot mark as not to be learned; whoever reads it learns them, too"
Told = list[dict[str, str]]


def _turns(piece: Piece) -> Told:
    return [{"role": role, "content": text} for role, text in piece.prompt]


def _said(text: str) -> Told:
    return [{"role": "assistant", "content": text}]


def _openai(piece: Piece) -> dict[str, Any]:
    # Earlier answers are only context: OpenAI learns every assistant turn that is not weighted 0.
    turns: list[dict[str, Any]] = [
        {**turn, "weight": 0} if turn["role"] == "assistant" else turn for turn in _turns(piece)
    ]
    return {"messages": [*turns, *_said(piece.answer)]}


def _openai_preference(piece: Piece) -> dict[str, Any]:
    return {
        "input": {"messages": _turns(piece), "tools": [], "parallel_tool_calls": True},
        "preferred_output": _said(piece.answer),
        "non_preferred_output": _said(piece.rejected),
    }


def _content(role: str, text: str) -> dict[str, Any]:
    return {"role": "model" if role == "assistant" else role, "parts": [{"text": text}]}


def _vertex_prompt(piece: Piece, system: str) -> dict[str, Any]:
    head = {system: {"role": "system", "parts": [{"text": piece.system}]}} if piece.system else {}
    return {**head, "contents": [_content(role, text) for role, text in piece.asked]}


def _vertex(piece: Piece) -> dict[str, Any]:
    told = _vertex_prompt(piece, "systemInstruction")
    told["contents"].append(_content("model", piece.answer))
    return told


def _vertex_preference(piece: Piece) -> dict[str, Any]:
    both = ((1, piece.answer), (0, piece.rejected))
    scored = [{"score": score, "completion": _content("model", text)} for score, text in both]
    return {**_vertex_prompt(piece, "system_instruction"), "completions": scored}


def _trl(piece: Piece) -> dict[str, Any]:
    return {"prompt": _turns(piece), "completion": _said(piece.answer)}


def _trl_preference(piece: Piece) -> dict[str, Any]:
    return {"prompt": _turns(piece), "chosen": _said(piece.answer), "rejected": _said(piece.rejected)}


def _trl_unpaired(piece: Piece) -> dict[str, Any]:
    return {**_trl(piece), "label": piece.liked}


def _sharegpt(piece: Piece) -> dict[str, Any]:
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    turns = [*piece.prompt, ("assistant", piece.answer)]
    return {"conversations": [{"from": names[role], "value": text} for role, text in turns]}


def _csv(piece: Piece) -> dict[str, Any]:
    return {"question": piece.asked[-1][1], "answer": piece.answer}


SHAPES: dict[str, Callable[[Piece], dict[str, Any]]] = {
    "openai": _openai,
    "openai-preference": _openai_preference,
    "vertex": _vertex,
    "vertex-preference": _vertex_preference,
    "trl": _trl,
    "trl-preference": _trl_preference,
    "trl-unpaired": _trl_unpaired,
    "sharegpt": _sharegpt,
    "csv": _csv,
}
HUGGING_FACE = "hf"
FORMATS = (*SHAPES, HUGGING_FACE)
WITHOUT_WEIGHTS = {"sharegpt", "vertex"}
PAIRED = {"openai-preference", "vertex-preference", "trl-preference"}


def pieces_of(
    folder: Path, split: str, name: str, lost: Counter[str], *, without: Collection[str] = ()
) -> Iterator[Piece]:
    """The rows of a frozen dataset that the format takes; `lost` counts what it cannot hold.

    Examples whose names are in `without` are left out.
    """
    if name not in PAIRED:
        for row in _lines(folder / f"{split}.jsonl"):
            if row.get("id") in without:
                continue
            if name != HUGGING_FACE and row.get("weight", 1) not in (0, 1):
                lost[WEIGHT] += 1
            *before, last = row["messages"]
            yield _checked(Piece(_prompt(before), last["content"]), name, lost)
    if name in PAIRED or name == "trl-unpaired":
        for row in _lines(folder / PREFERENCES):
            if row["split"] != split:
                continue
            prompt = _prompt(row["messages"])
            if name in PAIRED:
                yield Piece(prompt, row["chosen"], rejected=row["rejected"])
                continue
            yield Piece(prompt, row["chosen"])
            yield Piece(prompt, row["rejected"], liked=False)
    if name == "trl-unpaired":
        for row in _lines(folder / UNPAIRED):
            if row["split"] == split:
                yield Piece(_prompt(row["messages"]), row["completion"], liked=row["label"])


def _checked(piece: Piece, name: str, lost: Counter[str]) -> Piece:
    if name == "csv":
        lost[SYSTEM] += bool(piece.system)
        lost[EARLIER] += len(piece.asked) > 1
    if name in WITHOUT_WEIGHTS:
        lost[LEARNED] += len(piece.asked) > 1
    return piece


def _prompt(turns: Iterable[Mapping[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((turn["role"], turn["content"]) for turn in turns)


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    if not file.exists():
        return
    with file.open(encoding="utf-8", newline="\n") as opened:
        for line in opened:
            if line.strip():
                yield json.loads(line)


def lines_of(pieces: Iterable[Piece], name: str) -> Iterator[str]:
    """The text of a file in the format, piece by piece."""
    shape = SHAPES[name]
    if name == "csv":
        yield from _table(shape(piece) for piece in pieces)
        return
    for piece in pieces:
        yield json.dumps(shape(piece), ensure_ascii=False) + "\n"


def _table(rows: Iterable[Mapping[str, str]]) -> Iterator[str]:
    page = io.StringIO()
    writer = csv.DictWriter(page, ["question", "answer"], lineterminator="\r\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(row)
        yield page.getvalue()
        page.seek(0)
        page.truncate()
    yield page.getvalue()


def write_hugging_face(dataset: Path, out: Path, splits: Sequence[str] = SPLITS) -> dict[str, int]:
    """A new folder that `datasets.load_dataset` opens: Parquet for each split, and a card. Returns the rows by split."""
    if find_spec("pyarrow") is None:
        raise PublicError("Parquet needs pyarrow. Install it: pip install 'apprentice-bot[local]'.")
    draft = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        (draft / "data").mkdir(parents=True)
        counts = {split: _parquet(dataset, split, draft / "data") for split in splits}
        counts = {split: count for split, count in counts.items() if count}
        (draft / "README.md").write_text(_card(counts, dataset.name), encoding="utf-8")
        draft.rename(out)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise PublicError(
            f"{out} could not be written ({error.strerror}). Free some space or choose another folder; nothing was lost."
        ) from None
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return counts


def _parquet(dataset: Path, split: str, folder: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    fields = [("id", pa.string()), ("cluster", pa.string()), ("messages", pa.list_(turn))]
    schema = pa.schema([*fields, ("weight", pa.float64())])
    file, count = folder / f"{split}-00000-of-00001.parquet", 0
    with pq.ParquetWriter(file, schema) as writer:
        for page in _pages(_lines(dataset / f"{split}.jsonl")):
            rows = [{**row, "weight": float(row.get("weight", 1.0))} for row in page]
            writer.write_table(pa.Table.from_pylist(rows, schema))
            count += len(rows)
    if not count:
        file.unlink()
    return count


def _pages(rows: Iterable[dict[str, Any]], size: int = 2_000) -> Iterator[list[dict[str, Any]]]:
    page: list[dict[str, Any]] = []
    for row in rows:
        page.append(row)
        if len(page) == size:
            yield page
            page = []
    if page:
        yield page


def _card(counts: Mapping[str, int], name: str) -> str:
    files = "".join(f"  - split: {split}\n    path: data/{split}-*.parquet\n" for split in counts)
    head = f"---\nlicense: other\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n\n"
    rows = "".join(f"- {split}: {count:,} rows\n" for split, count in counts.items())
    return f"{head}# Apprentice dataset {name}\n\nConversations, the last turn of each is the answer to learn.\n\n{rows}"
