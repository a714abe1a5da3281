"""The folder of a frozen dataset: how it is laid out, written and read.

```
train.jsonl validation.jsonl test.jsonl   {"cluster", "id", "messages"[, "weight"]}, the last message is the answer
preferences.jsonl                         {"chosen", "cluster", "id", "messages", "rejected", "split"}
unpaired.jsonl                            {"cluster", "completion", "id", "label", "messages", "split"}: disliked answers
rows.jsonl, {preference,unpaired}_rows.jsonl  a line for each of those: id, split, sha256 of its line, subject, authors, ...
README.md croissant.json                  what it is, for people and for programs
manifest.json                             written last: a folder without it is no dataset
```
The id is a hash over the hashes of all lines. A row that was taken out leaves its hash in rows.jsonl and nothing else, so
that the id can still be checked (`training.dataset_erasing`). Nothing else ever changes in it.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

FORMAT = 2
SPLITS = ("train", "validation", "test")
ROWS, PREFERENCE_ROWS, PREFERENCES = "rows.jsonl", "preference_rows.jsonl", "preferences.jsonl"
UNPAIRED_ROWS, UNPAIRED = "unpaired_rows.jsonl", "unpaired.jsonl"
BESIDE = {PREFERENCE_ROWS: PREFERENCES, UNPAIRED_ROWS: UNPAIRED}
"""What there is besides the splits: the file that names the rows, and the one that holds them."""
CARD, CROISSANT, MANIFEST = "README.md", "croissant.json", "manifest.json"
ID_DIGITS = 16
BUFFER = 1 << 20


def row_id(key: str) -> str:
    """The id that the question with this hash has in every dataset."""
    return key[:ID_DIGITS]


@dataclass(frozen=True, slots=True)
class HeldOutRow:
    """One row of a frozen split."""

    id: str
    messages: tuple[dict[str, str], ...]
    answer: str
    cluster: str


class HashedFile:
    """A file that is written once, with the hash and the length of what went in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] = path.open("wb", buffering=BUFFER)
        self._hash = hashlib.sha256()
        self._pending: list[bytes] = []
        self.bytes = 0

    def write(self, line: bytes) -> None:
        """Append a line, its end included."""
        self._pending.append(line)
        if len(self._pending) >= 256:
            self._flush()

    def _flush(self) -> None:
        block = b"".join(self._pending)
        self._pending.clear()
        self._hash.update(block)
        self._file.write(block)
        self.bytes += len(block)

    def close(self) -> dict[str, Any]:
        """On disk for good; what the manifest says of it."""
        self._flush()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self.path.chmod(0o444)
        return {"bytes": self.bytes, "sha256": self._hash.hexdigest()}


class Writer:
    """Writes the lines of a dataset: examples, then preferences, then what was disliked, each in the order of ids."""

    def __init__(self, folder: Path, *, kind: str = "training") -> None:
        self._splits = {split: HashedFile(folder / f"{split}.jsonl") for split in SPLITS}
        self._rows = HashedFile(folder / ROWS)
        self._preferences = HashedFile(folder / PREFERENCES)
        self._preference_rows = HashedFile(folder / PREFERENCE_ROWS)
        self._unpaired = HashedFile(folder / UNPAIRED)
        self._unpaired_rows = HashedFile(folder / UNPAIRED_ROWS)
        self._content = Content(kind)
        self.counts = dict.fromkeys(SPLITS, 0)
        self.origins: dict[str, int] = {}
        self.preferences = self.unpaired = 0

    def example(
        self,
        key: str,
        split: str,
        cluster: str,
        *,
        subject: str,
        origin: str,
        authors: str,
        messages: str,
        weight: float,
    ) -> None:
        """Write an example; `messages` and `authors` are JSON texts."""
        row, weighs = row_id(key), "" if weight == 1.0 else f', "weight": {weight:.4g}'
        line = f'{{"cluster": "{cluster}", "id": "{row}", "messages": {messages}{weighs}}}\n'.encode()
        digest = hashlib.sha256(line[:-1]).hexdigest()
        self._splits[split].write(line)
        self._content.add(split, digest)
        words = hashlib.blake2b(messages.encode(), digest_size=8).hexdigest()
        self._rows.write(
            f'{{"authors": {authors}, "cluster": "{cluster}", "id": "{row}", "origin": "{origin}", "sha256": "{digest}", '
            f'"split": "{split}", "subject": "{subject}", "weight": {weight:.4g}, "words": "{words}"}}\n'.encode()
        )
        self.counts[split] += 1
        self.origins[origin] = self.origins.get(origin, 0) + 1

    def preference(
        self,
        name: str,
        split: str,
        cluster: str,
        *,
        subject: str,
        origin: str,
        authors: str,
        messages: str,
        chosen: str,
        rejected: str,
    ) -> None:
        """Write a preference; its texts are JSON texts."""
        line = (
            f'{{"chosen": {chosen}, "cluster": "{cluster}", "id": "{name}", "messages": {messages}, '
            f'"rejected": {rejected}, "split": "{split}"}}\n'
        ).encode()
        digest = hashlib.sha256(line[:-1]).hexdigest()
        self._preferences.write(line)
        self._content.add(f"preference {split}", digest)
        self._preference_rows.write(_named(name, split, cluster, digest, subject, origin, authors))
        self.preferences += 1

    def disliked(
        self,
        name: str,
        split: str,
        cluster: str,
        *,
        subject: str,
        origin: str,
        authors: str,
        messages: str,
        completion: str,
    ) -> None:
        """Write an answer that people disliked; its texts are JSON texts."""
        line = (
            f'{{"cluster": "{cluster}", "completion": {completion}, "id": "{name}", "label": false, '
            f'"messages": {messages}, "split": "{split}"}}\n'
        ).encode()
        digest = hashlib.sha256(line[:-1]).hexdigest()
        self._unpaired.write(line)
        self._content.add(f"unpaired {split}", digest)
        self._unpaired_rows.write(_named(name, split, cluster, digest, subject, origin, authors))
        self.unpaired += 1

    def close(self) -> tuple[str, dict[str, Any]]:
        """The dataset's id, and what the manifest says of each file."""
        files = [*self._splits.values(), self._rows, self._preferences, self._preference_rows]
        files += [self._unpaired, self._unpaired_rows]
        return self._content.id, {each.path.name: each.close() for each in files}


def _named(
    name: str, split: str, cluster: str, digest: str, subject: str, origin: str, authors: str
) -> bytes:
    return (
        f'{{"authors": {authors}, "cluster": "{cluster}", "id": "{name}", "origin": "{origin}", "sha256": "{digest}", '
        f'"split": "{split}", "subject": "{subject}"}}\n'
    ).encode()


class Content:
    """The hash that names a dataset, of the hashes of its lines in their order."""

    def __init__(self, kind: str) -> None:
        self._hash = hashlib.sha256(f"apprentice dataset {FORMAT} {kind}\n".encode())
        self._pending: list[str] = []

    def add(self, split: str, digest: str) -> None:
        """The next line: where it lies, and its hash."""
        self._pending.append(f"{split}\t{digest}\n")
        if len(self._pending) >= 256:
            self._flush()

    def _flush(self) -> None:
        self._hash.update("".join(self._pending).encode())
        self._pending.clear()

    @property
    def id(self) -> str:
        """The id so far."""
        self._flush()
        return self._hash.hexdigest()


def write_whole(path: Path, text: str) -> dict[str, Any]:
    """Write a small file for good, all of it or nothing; what the manifest says of it."""
    draft = path.with_name(f".{path.name}.part")
    with draft.open("wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    draft.chmod(0o444)
    draft.replace(path)
    return {"bytes": len(text.encode()), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """The manifest as it lies on disk."""
    return json.dumps(manifest, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def read_manifest(path: Path) -> dict[str, Any]:
    """What a dataset says of itself. Raises OSError or ValueError where it is none."""
    manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    return manifest


def read_split(path: Path, split: str) -> Iterator[HeldOutRow]:
    """The rows of a frozen split, in their order, the answer apart from the messages."""
    for row in lines_of(path / f"{split}.jsonl"):
        *asked, answer = row["messages"]
        yield HeldOutRow(row["id"], tuple(asked), answer["content"], row["cluster"])


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """What is known of each row that is still there, in the order of ids: id, split, sha256, subject, authors, ..."""
    if (path / ROWS).exists():
        yield from (row for row in lines_of(path / ROWS) if not row.get("erased"))
        return
    # Until format 1 the rows stood in the manifest, split by split.
    yield from sorted(read_manifest(path).get("rows", ()), key=lambda row: str(row["id"]))


def count_rows(path: Path) -> int:
    """How many rows are still there."""
    if not (path / ROWS).exists():
        return sum(1 for _ in rows_of(path))
    with (path / ROWS).open("rb", buffering=BUFFER) as lines:
        return sum(
            b'"erased":' not in line for line in lines
        )  # within a JSON text its quotes would be escaped


def authors_of(path: Path) -> dict[str, list[str]]:
    """Row id -> the people whose words it holds."""
    return {row["id"]: row["authors"] for row in rows_of(path)}


def lines_of(file: Path) -> Iterator[dict[str, Any]]:
    """The JSON lines of a file; none where there is no such file."""
    if not file.exists():
        return
    with file.open("rb", buffering=BUFFER) as lines:
        yield from map(json.loads, lines)
