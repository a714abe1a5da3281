"""Copies of a person's words in files under the data directory: lines that go, files that go, and what is left.

The database and the memory's index have their own ways (`storage`, `bot.models.memory_keeper`); the local workspace's file
is Slack's side and is not touched.
"""

import fcntl
import json
import mmap
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from training.dataset_erasing import ERASING, erase
from training.dataset_files import BESIDE, MANIFEST, lines_of, rows_of

EVALUATIONS, EXPORTS, RUNS, BACKUPS = "evaluations", "exports", "runs", "backups"
CHECKPOINTS = "checkpoints"
_BEFORE = ".before-"
_ELSEWHERE = ("datasets", "golden", "memory", "workspace.sqlite", "apprentice.sqlite", "apprentice.lock")

IsTheirs = Callable[[str, str], bool]
"""(the id of an example or "", a text) -> whether it is about, or quotes, the person."""


@dataclass(slots=True)
class FilesErased:
    """How many lines went, and which files and folders as a whole (their names in the data directory)."""

    lines: int = 0
    files: list[str] = field(default_factory=list)
    backups: list[str] = field(default_factory=list)


def erase_files(folder: Path, person: str, is_theirs: IsTheirs) -> FilesErased:
    """Take a person out of evaluations, exports, logs of runs, and delete backups that know them. Again does no harm."""
    erased = FilesErased()
    _clear_drafts(folder / "datasets")
    for file in _files(folder / EVALUATIONS, folder / EXPORTS):
        _erase_lines(file, folder, person, is_theirs, erased)
    for file in _files(folder / RUNS):
        if file.suffix in {".log", ".jsonl", ".txt"} and _quotes(file, person, is_theirs):
            _delete(file, folder, erased.files)
    for file in [*_files(folder / BACKUPS), *_beside(folder)]:
        if file.is_dir() or names(file, person):
            _delete(file, folder, erased.backups)
    return erased


def _clear_drafts(datasets: Path) -> None:
    """What a freeze that was cut off left behind. One that goes on sees by itself that somebody is forgotten."""
    if not datasets.is_dir():
        return
    with (datasets / ".freezing").open("a") as lock, suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for draft in datasets.glob(".*/"):
            shutil.rmtree(draft, ignore_errors=True)


def delete_checkpoints(folder: Path, run_id: str, shared: Path | None = None) -> bool:
    """The checkpoints of a run that learned from somebody who is forgotten; True if there were any.

    `shared` is the folder that a cluster sees (RAY_STORAGE): what a run left there, its copy of the dataset too, goes whole.
    """
    left = [folder / RUNS / run_id / CHECKPOINTS, *([shared / run_id] if shared is not None else [])]
    there = any(each.is_dir() and any(each.iterdir()) for each in left)
    for each in left:
        shutil.rmtree(each, ignore_errors=True)
    return there


def dataset_knows(dataset: Path, person: str, subjects: frozenset[str]) -> bool:
    """Whether a frozen dataset holds a row with words of this person, or of these answers or entries."""
    if not (dataset / MANIFEST).exists():
        return False
    if (dataset / ERASING).exists():  # cut off in the middle: to be brought to an end
        return True
    beside = (row for name in BESIDE for row in lines_of(dataset / name) if not row.get("erased"))
    return any(
        person in row["authors"] or row.get("subject") in subjects
        for part in (rows_of(dataset), beside)
        for row in part
    )


def erase_dataset(dataset: Path, person: str, subjects: frozenset[str]) -> int:
    """Take these rows out; how many they were."""
    return erase(dataset, subjects=subjects, authors={person}).rows


def files_that_name(folder: Path, person: str) -> list[str]:
    """The files under the data directory in which the id still stands, those aside that are erased by other ways."""
    wanted = [file for file in _files(folder) if file.relative_to(folder).parts[0] not in _ELSEWHERE]
    rest = [file for file in wanted if not file.name.startswith(tuple(f"{each}-" for each in _ELSEWHERE))]
    return [str(file.relative_to(folder)) for file in rest if names(file, person)]


def names(file: Path, person: str) -> bool:
    """Whether the id stands anywhere among the bytes of a file."""
    whole = re.compile(rb"(?<![A-Za-z0-9])" + re.escape(person.encode()) + rb"(?![A-Za-z0-9])")
    try:
        with file.open("rb") as opened:
            if os.fstat(opened.fileno()).st_size == 0:
                return False
            with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return whole.search(content) is not None
    except FileNotFoundError:
        return False


def _files(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from sorted(each for each in folder.rglob("*") if each.is_file() and not each.is_symlink())


def _beside(folder: Path) -> list[Path]:
    """What migrations and restores put aside; a folder goes as a whole."""
    there = folder.iterdir() if folder.is_dir() else ()
    return sorted(each for each in there if _BEFORE in each.name)


def _quotes(file: Path, person: str, is_theirs: IsTheirs) -> bool:
    if names(file, person):
        return True
    return any(
        is_theirs("", line) for line in file.read_text(encoding="utf-8", errors="replace").splitlines()
    )


def _erase_lines(file: Path, folder: Path, person: str, is_theirs: IsTheirs, erased: FilesErased) -> None:
    if file.suffix not in {".jsonl", ".csv"}:
        if _quotes(file, person, is_theirs):
            _delete(file, folder, erased.files)
        return
    whole = re.compile(rf"(?<![A-Za-z0-9]){re.escape(person)}(?![A-Za-z0-9])")
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if not whole.search(line) and not _is_theirs(line, is_theirs)]
    if len(kept) == len(lines):
        return
    draft = file.with_name(f".{file.name}.{os.getpid()}.part")
    draft.write_text("".join(kept), encoding="utf-8")
    draft.replace(file)
    erased.lines += len(lines) - len(kept)


def _is_theirs(line: str, is_theirs: IsTheirs) -> bool:
    try:
        told = json.loads(line)
    except ValueError:
        return is_theirs("", line)
    if not isinstance(told, dict):
        return is_theirs("", line)
    example = str(told.get("example") or told.get("id") or "")
    return any(is_theirs(example, text) for text in _texts(told))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _delete(file: Path, folder: Path, gone: list[str]) -> None:
    if file.is_dir():
        shutil.rmtree(file)
    else:
        file.unlink(missing_ok=True)
    gone.append(str(file.relative_to(folder)))
