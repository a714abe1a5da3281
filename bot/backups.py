"""A backup: one archive with the database, the models and the datasets; and the way back.

The archive is a tar file whose first member, `backup.json`, names every other with its size and hash. What can be made again
(the memory's index, logs, checkpoints) is not in it. A restore replaces nothing before everything was unpacked and checked.
"""

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from bot.errors import PublicError
from storage.backup import check_database, copy_database

FORMAT = 1
DATABASE, CONTENTS = "apprentice.sqlite", "backup.json"
FOLDERS = ("models", "datasets", "golden", "evaluations")
PIECE = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive holds: name -> (bytes, sha256), and when it was made."""

    made_at: str
    revision: str
    files: Mapping[str, tuple[int, str]]

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(size for size, _ in self.files.values())


def default_name(folder: Path) -> Path:
    """Where a backup goes if nobody says: named by the time in UTC."""
    return folder / "backups" / f"apprentice-{datetime.now(UTC):%Y%m%d-%H%M%S}.tar"


def back_up(data_dir: Path, database: Path | None, out: Path) -> Contents:
    """Write an archive while the bot goes on. `database` is None where a server keeps it: then only the files are in it.

    Raises PublicError where there is nothing to back up, where `out` exists, or where the disk is full.
    """
    if out.exists():
        raise PublicError(
            f"{out} is there already and is left alone. Choose another name, or delete it first."
        )
    if database is not None and not database.exists():
        raise PublicError(f"There is no database {database} yet, so there is nothing to back up.")
    with _told(out):
        return _pack(data_dir, database, out)


def _pack(data_dir: Path, database: Path | None, out: Path) -> Contents:
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.{os.getpid()}.part")
    copy = out.with_name(f".{out.name}.{os.getpid()}.sqlite")
    try:
        revision = ""
        sources: dict[str, Path] = {}
        if database is not None:
            copy_database(database, copy)
            revision = check_database(copy)
            sources[DATABASE] = copy
        sources |= {str(file.relative_to(data_dir)): file for file in _kept_files(data_dir)}
        files = {name: (file.stat().st_size, _sha256(file)) for name, file in sources.items()}
        contents = Contents(datetime.now(UTC).isoformat(timespec="seconds"), revision, files)
        with draft.open("xb") as opened:
            with tarfile.open(fileobj=opened, mode="w", format=tarfile.PAX_FORMAT) as archive:
                _add_contents(archive, contents)
                for name, file in sources.items():
                    archive.add(file, arcname=name, recursive=False, filter=_without_owner)
            opened.flush()
            os.fsync(opened.fileno())
        draft.replace(out)
        return contents
    finally:
        draft.unlink(missing_ok=True)
        copy.unlink(missing_ok=True)


def _kept_files(data_dir: Path) -> Iterator[Path]:
    """Whole files only: drafts begin with a dot."""
    for folder in FOLDERS:
        for file in sorted((data_dir / folder).rglob("*")):
            hidden = any(part.startswith(".") for part in file.relative_to(data_dir).parts)
            if file.is_file() and not file.is_symlink() and not hidden:
                yield file


def _add_contents(archive: tarfile.TarFile, contents: Contents) -> None:
    told = {
        "format": FORMAT,
        "made_at": contents.made_at,
        "revision": contents.revision,
        "files": contents.files,
    }
    data = json.dumps(told, indent=1, ensure_ascii=False).encode()
    member = tarfile.TarInfo(CONTENTS)
    member.size, member.mode = len(data), 0o600
    archive.addfile(member, io.BytesIO(data))


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o600
    return member


def restore(archive: Path, data_dir: Path, database: Path | None) -> tuple[Contents, list[Path]]:
    """Put back what an archive holds; the contents, and where what was there before lies now.

    The bot must not be running. Raises PublicError before anything is changed where the archive is damaged, made by a newer
    program, or holds a database while another one is configured.
    """
    if not archive.exists():
        raise PublicError(f"There is no file {archive}.")
    with _told(data_dir):
        return _restore(archive, data_dir, database)


def _restore(archive: Path, data_dir: Path, database: Path | None) -> tuple[Contents, list[Path]]:
    stage = data_dir / f".restore-{os.getpid()}"
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True, mode=0o700)
    try:
        contents = _unpack(archive, stage)
        if (stage / DATABASE).exists():
            if database is None:
                raise PublicError(
                    f"{archive} holds a SQLite database, but DATABASE_URL names a server. "
                    "Leave DATABASE_URL empty to restore it."
                )
            check_database(stage / DATABASE)
        return contents, _swap(stage, data_dir, database)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _unpack(archive: Path, stage: Path) -> Contents:
    """Everything that the contents name, and nothing else, each with the size and hash that they say."""
    damaged = PublicError(f"{archive} is not a whole backup of Apprentice. Choose another one.")
    try:
        with tarfile.open(archive, mode="r:") as opened:
            contents = _contents_of(opened, damaged)
            left = dict(contents.files)
            for member in opened:
                if member.name == CONTENTS:
                    continue
                if not member.isreg() or left.pop(member.name, None) is None or not _is_ours(member.name):
                    raise damaged
                source = opened.extractfile(member)
                if source is None:
                    raise damaged
                target = stage / member.name
                target.parent.mkdir(parents=True, exist_ok=True)
                if _copied(source, target) != contents.files[member.name]:
                    raise damaged
    except (tarfile.TarError, EOFError, KeyError, ValueError, TypeError):
        raise damaged from None
    if left:
        raise damaged
    return contents


def _contents_of(opened: tarfile.TarFile, damaged: PublicError) -> Contents:
    first = opened.next()
    source = opened.extractfile(first) if first is not None and first.name == CONTENTS else None
    if source is None:
        raise damaged
    told: dict[str, Any] = json.loads(source.read())
    if told["format"] != FORMAT:
        raise PublicError(
            f"This backup has format {told['format']}, made by a newer Apprentice. Update the program first."
        )
    files = {str(name): (int(size), str(sha256)) for name, (size, sha256) in told["files"].items()}
    return Contents(str(told["made_at"]), str(told["revision"]), files)


def _is_ours(name: str) -> bool:
    parts = Path(name).parts
    inside = parts[0] in FOLDERS and len(parts) > 1 and not any(part in {"..", "/"} for part in parts)
    return name == DATABASE or inside


def _copied(source: IO[bytes], target: Path) -> tuple[int, str]:
    size, content = 0, hashlib.sha256()
    with target.open("xb") as opened:
        while piece := source.read(PIECE):
            opened.write(piece)
            content.update(piece)
            size += len(piece)
        os.fsync(opened.fileno())
    return size, content.hexdigest()


def _swap(stage: Path, data_dir: Path, database: Path | None) -> list[Path]:
    """Put what was there aside, and the restored in its place; the database last, because it names the files."""
    mark = f".before-restore-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    aside: list[Path] = []
    for folder in FOLDERS:
        if (data_dir / folder).exists() and (stage / folder).exists():
            aside.append(data_dir / f"{folder}{mark}")
            (data_dir / folder).rename(aside[-1])
        if (stage / folder).exists():
            (stage / folder).rename(data_dir / folder)
    if database is not None and (stage / DATABASE).exists():
        for ending in ("", "-wal", "-shm"):
            old = database.with_name(f"{database.name}{ending}")
            if old.exists():
                kept = database.with_name(f"{database.name}{mark}{ending}")
                old.rename(kept)
                aside += [kept] if not ending else []
        database.parent.mkdir(parents=True, exist_ok=True)
        (stage / DATABASE).rename(database)
    return aside


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def _told(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PublicError(
            f"{where} could not be written ({error.strerror}). Free some space or choose another folder; "
            "nothing was changed."
        ) from None


def in_words(contents: Contents, out: Path) -> str:
    """What a backup holds, for people."""
    kinds = _kinds(list(contents.files))
    return f"{out}: {kinds}, {contents.size / 1e6:,.1f} MB."


def _kinds(names: Sequence[str]) -> str:
    counted = {
        folder: len({Path(name).parts[1] for name in names if Path(name).parts[0] == folder})
        for folder in FOLDERS
    }
    words = [f"{count} {folder}" for folder, count in counted.items() if count]
    return ", ".join((["the database"] if DATABASE in names else []) + words) or "nothing"
