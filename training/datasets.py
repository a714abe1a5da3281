"""Freeze examples into a DatasetVersion: a folder named by the hash of its content that never changes again.

The split hashes the question, not the answer: a corrected answer must not move its question into training. The manifest is
written last, so a folder with a manifest is complete; freezing the same examples again finds the same folder.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import PublicError
from training.examples import Example
from storage.redaction import redact

FORMAT = 1
TEST_SHARE, VALIDATION_SHARE = 0.15, 0.10
LONGEST_ANSWER = 20_000
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Frozen:
    """A frozen dataset: its hash, its folder, the rows in each split, and the manifest's summary."""

    id: str
    path: Path
    counts: dict[str, int]
    summary: dict[str, Any]


@dataclass(frozen=True, slots=True)
class HeldOutRow:
    """One row of a frozen split."""

    id: str
    messages: tuple[dict[str, str], ...]
    answer: str
    cluster: str


def row_id(key: str) -> str:
    """The id that the question with this hash has in every dataset."""
    return key[:16]


def split_of(key: str, declared: str, *, salt: str) -> str:
    """Which split a question belongs to, for ever; a declared "test" or "train" is kept."""
    if declared == "test":
        return "test"
    place = int.from_bytes(hashlib.sha256(f"{salt}/{key}".encode()).digest()[:8]) / 2**64
    if declared != "train" and place < TEST_SHARE:
        return "test"
    return "validation" if TEST_SHARE <= place < TEST_SHARE + VALIDATION_SHARE else "train"


def freeze(examples: Sequence[Example], folder: Path, *, salt: str, system: str = "") -> Frozen:
    """Write the dataset under `folder`, unless it is there already. Raises PublicError when the disk is full."""
    rows, dropped = _rows(examples, salt, system)
    content = hashlib.sha256()
    content.update(f"apprentice dataset {FORMAT}\n".encode())
    for split in SPLITS:
        for row in rows[split]:
            content.update(f"{split}\t{_line(row)}\n".encode())
    dataset_id = content.hexdigest()
    path = folder / dataset_id
    if not (path / "manifest.json").exists():
        try:
            _write(path, rows, _manifest(dataset_id, rows, dropped))
        except OSError as error:
            raise PublicError(
                f"The dataset could not be written to {path} ({error.strerror}). "
                "Free some space and start the training again; nothing is lost."
            ) from None
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    summary = {key: value for key, value in manifest.items() if key != "rows"}
    return Frozen(dataset_id, path, dict(manifest["counts"]), summary)


def read_split(path: Path, split: str) -> Iterator[HeldOutRow]:
    """The rows of a frozen split, in their order, the answer apart from the messages."""
    with (path / f"{split}.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            *asked, answer = row["messages"]
            yield HeldOutRow(row["id"], tuple(asked), answer["content"], row["cluster"])


def authors_of(path: Path) -> dict[str, list[str]]:
    """Row id -> the people whose words it holds, from the manifest."""
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    return {row["id"]: row["authors"] for row in manifest["rows"]}


def _rows(
    examples: Sequence[Example], salt: str, system: str
) -> tuple[dict[str, list[dict[str, Any]]], Counter[str]]:
    rows: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    dropped: Counter[str] = Counter()
    for example in sorted(examples, key=lambda each: each.key):
        reason = _unfit(example)
        if reason:
            dropped[reason] += 1
            continue
        rows[split_of(example.key, example.split, salt=salt)].append(_row(example, system))
    _lend_validation(rows)
    return rows, dropped


def _lend_validation(rows: dict[str, list[dict[str, Any]]]) -> None:
    """A small dataset may have drawn no validation row; the first training rows by hash step in."""
    wanted = max(1, len(rows["train"]) // 20)
    if not rows["validation"] and len(rows["train"]) > wanted:
        rows["validation"], rows["train"] = rows["train"][:wanted], rows["train"][wanted:]


def _unfit(example: Example) -> str:
    if not example.question.strip():
        return "the question is empty"
    if not example.answer.strip():
        return "the answer is empty"
    if len(example.answer) > LONGEST_ANSWER:
        return f"the answer is longer than {LONGEST_ANSWER:,} characters"
    return ""


def _row(example: Example, system: str) -> dict[str, Any]:
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": turn.role, "content": redact(turn.content).text} for turn in example.turns]
    messages.append({"role": "assistant", "content": redact(example.answer.strip()).text})
    return {
        "id": row_id(example.key),
        "cluster": hashlib.sha256(example.thread.encode()).hexdigest()[:16],
        "messages": messages,
        "authors": list(example.authors),
        "origin": example.origin,
    }


def _line(row: dict[str, Any]) -> str:
    kept = {name: row[name] for name in ("id", "cluster", "messages")}
    return json.dumps(kept, ensure_ascii=False, sort_keys=True)


def _manifest(
    dataset_id: str, rows: dict[str, list[dict[str, Any]]], dropped: Counter[str]
) -> dict[str, Any]:
    everything = [(split, row) for split in SPLITS for row in rows[split]]
    return {
        "format": FORMAT,
        "id": dataset_id,
        "counts": {split: len(rows[split]) for split in SPLITS},
        "clusters": len({row["cluster"] for _, row in everything}),
        "origins": dict(sorted(Counter(row["origin"] for _, row in everything).items())),
        "dropped": dict(sorted(dropped.items())),
        "rows": [
            {
                "id": row["id"],
                "split": split,
                "sha256": hashlib.sha256(_line(row).encode()).hexdigest(),
                "origin": row["origin"],
                "authors": row["authors"],
            }
            for split, row in everything
        ],
    }


def _write(path: Path, rows: dict[str, list[dict[str, Any]]], manifest: dict[str, Any]) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        for split in SPLITS:
            lines = "".join(f"{_line(row)}\n" for row in rows[split])
            (draft / f"{split}.jsonl").write_text(lines, encoding="utf-8")
        text = json.dumps(manifest, ensure_ascii=False, indent=1, sort_keys=True)
        (draft / "manifest.json").write_text(text, encoding="utf-8")
        if path.exists():
            shutil.rmtree(path)
        os.replace(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
