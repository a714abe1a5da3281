"""Rows are taken out of a frozen dataset when somebody is to be forgotten; and whether a dataset is what was frozen.

Streams: a file is written anew beside the old one and takes its place. What is left of a row is the hash of its line, so
that the dataset's id can still be checked, and nobody can read what stood there.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.dataset_card import card, croissant
from training.dataset_files import (
    BESIDE,
    BUFFER,
    CARD,
    CROISSANT,
    FORMAT,
    MANIFEST,
    PREFERENCE_ROWS,
    PREFERENCES,
    ROWS,
    SPLITS,
    UNPAIRED,
    UNPAIRED_ROWS,
    Content,
    HashedFile,
    lines_of,
    manifest_text,
    read_manifest,
    rows_of,
    write_whole,
)

ERASING = "erasing"


@dataclass(frozen=True, slots=True)
class Erased:
    """How many rows were taken out of a dataset, by split, and how many of them were preferences, and disliked answers."""

    rows: int = 0
    splits: Mapping[str, int] = field(default_factory=dict)
    preferences: int = 0
    unpaired: int = 0


def erase(path: Path, *, subjects: Collection[str] = (), authors: Collection[str] = ()) -> Erased:
    """Take the rows of these answers or entries, and those with words of these people, out of a dataset, for good.

    Each file is replaced in one step, and a marker says that it is not done yet: cut off anywhere, the dataset can be read,
    and calling it again brings it to an end. What is left of a row is the hash of its line.
    """
    if not (path / MANIFEST).exists():
        return Erased()

    def meant(row: Mapping[str, Any]) -> bool:
        return row.get("subject") in subjects or any(author in authors for author in row["authors"])

    gone = [row for row in rows_of(path) if meant(row)]
    beside = {
        name: {row["id"] for row in lines_of(path / name) if not row.get("erased") and meant(row)}
        for name in BESIDE
    }
    if not gone and not any(beside.values()) and not (path / ERASING).exists():
        return Erased()
    (path / ERASING).touch()
    splits = {split: {row["id"] for row in gone if row["split"] == split} for split in SPLITS}
    for split, ids in splits.items():
        _without(path / f"{split}.jsonl", ids)
    if (path / ROWS).exists():
        for name, ids in beside.items():
            _without(path / BESIDE[name], ids)
        _emptied(path / ROWS, {row["id"] for row in gone})
        for name, ids in beside.items():
            _emptied(path / name, ids)
        _recounted(path)
    else:
        _recounted_in_format_1(path, {row["id"] for row in gone})
    (path / ERASING).unlink()
    found = {split: len(ids) for split, ids in splits.items() if ids}
    preferences, unpaired = len(beside[PREFERENCE_ROWS]), len(beside[UNPAIRED_ROWS])
    return Erased(len(gone) + preferences + unpaired, found, preferences, unpaired)


def _without(file: Path, ids: Collection[str]) -> None:
    if ids and file.exists():
        _rewritten(file, lambda row, line: b"" if row["id"] in ids else line)


def _emptied(file: Path, ids: Collection[str]) -> None:
    def left(row: Mapping[str, Any], line: bytes) -> bytes:
        if row.get("erased") or row["id"] not in ids:
            return line
        kept = {"erased": True, "sha256": row["sha256"], "split": row["split"]}
        return f"{json.dumps(kept)}\n".encode()

    if ids and file.exists():
        _rewritten(file, left)


def _rewritten(file: Path, change: Callable[[dict[str, Any], bytes], bytes]) -> None:
    draft = HashedFile(file.with_name(f".{file.name}.part"))
    with file.open("rb", buffering=BUFFER) as lines:
        for line in lines:
            if kept := change(json.loads(line), line):
                draft.write(kept)
    draft.close()
    draft.path.replace(file)


def _recounted(path: Path) -> None:
    """The manifest of what is there now."""
    manifest = read_manifest(path)
    erased = sum(bool(row.get("erased")) for name in (ROWS, *BESIDE) for row in lines_of(path / name))
    counts = dict.fromkeys(SPLITS, 0)
    for row in rows_of(path):
        counts[row["split"]] += 1
    manifest |= {"counts": counts, "erased": erased}
    files = {name: _described(path / name) for name in manifest["files"] if name not in {CARD, CROISSANT}}
    if CARD in manifest["files"]:
        files[CARD] = write_whole(path / CARD, card(manifest))
        files[CROISSANT] = write_whole(path / CROISSANT, croissant(manifest, files))
    manifest["files"] = dict(sorted(files.items()))
    write_whole(path / MANIFEST, manifest_text(manifest))


def _recounted_in_format_1(path: Path, gone: Collection[str]) -> None:
    """Rows stood in the manifest then, and the id was of the lines themselves: it cannot be checked any more."""
    manifest = read_manifest(path)
    rows = [row for row in manifest["rows"] if row["id"] not in gone]
    manifest |= {
        "rows": rows,
        "counts": {split: sum(row["split"] == split for row in rows) for split in SPLITS},
        "erased": manifest.get("erased", 0) + len(manifest["rows"]) - len(rows),
    }
    write_whole(path / MANIFEST, manifest_text(manifest))


def _described(file: Path) -> dict[str, Any]:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return {"bytes": file.stat().st_size, "sha256": digest}


def verify(path: Path) -> list[str]:
    """What is wrong with a dataset on disk, one sentence each; nothing where every byte is as it was frozen."""
    try:
        manifest = read_manifest(path)
    except (OSError, ValueError) as error:
        return [f"its manifest cannot be read ({error})"]
    if manifest.get("format", 1) < FORMAT:
        return _wrong_in_format_1(path, manifest)
    if (path / ERASING).exists():
        return ["rows are being taken out of it; if nobody is at it, forget the person again"]
    found = []
    for name, told in manifest["files"].items():
        file = path / name
        if not file.is_file():
            found.append(f"{name} is gone")
        elif _described(file) != told:
            found.append(f"{name} is not what was frozen")
    return found or _wrong_lines(path, manifest)


def _wrong_lines(path: Path, manifest: Mapping[str, Any]) -> list[str]:
    """The id is that of the rows, and every line is the one that its row names."""
    content = Content(manifest["kind"])
    files = {split: (path / f"{split}.jsonl").open("rb", buffering=BUFFER) for split in SPLITS}
    beside = {"preference ": PREFERENCES, "unpaired ": UNPAIRED}
    files |= {
        prefix.strip(): (path / name).open("rb", buffering=BUFFER)
        for prefix, name in beside.items()
        if (path / name).exists()  # earlier versions knew no disliked answers
    }
    try:
        for name, prefix in ((ROWS, ""), (PREFERENCE_ROWS, "preference "), (UNPAIRED_ROWS, "unpaired ")):
            for row in lines_of(path / name):
                content.add(f"{prefix}{row['split']}", row["sha256"])
                if row.get("erased"):
                    continue
                line = files[prefix.strip() or row["split"]].readline()
                if hashlib.sha256(line[:-1]).hexdigest() != row["sha256"]:
                    return [f"row {row['id']} is not what was frozen"]
        if any(file.read(1) for file in files.values()):
            return ["it holds lines that no row names"]
    finally:
        for file in files.values():
            file.close()
    return [] if content.id == manifest["id"] else ["its rows do not give its id"]


def _wrong_in_format_1(path: Path, manifest: Mapping[str, Any]) -> list[str]:
    if manifest.get("erased"):
        return []
    content = hashlib.sha256(b"apprentice dataset 1\n")
    for split in SPLITS:
        try:
            lines = (path / f"{split}.jsonl").read_bytes().splitlines()
        except OSError as error:
            return [f"{split}.jsonl cannot be read ({error.strerror})"]
        for line in lines:
            content.update(f"{split}\t".encode() + line + b"\n")
    return [] if content.hexdigest() == manifest["id"] else ["its rows do not give its id"]
