"""Reads what may be learned from in two processes, each half of the answers: a million take minutes in one.

A child (`training.gathering_child`) is told in JSON on its stdin what to read, because the address of the database may
hold a password. It writes the words into a file in the freeze's own folder, and what else it found beside that. It ends when
its stdin does: nobody is left behind when the bot is killed. A child that ends early ends the freeze, with nothing visible.
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from storage.errors import PublicError
from storage.learnable import LearningPlaces, Reviewed
from storage.stretches import LaidOutAnew, Stretch
from training.dataset_items import Columns, load_columns
from training.examples import Allowed
from training.raters import Raters

DISK = 74
"""The exit status of a child that could not write."""
ANEW = 75
"""That of one whose stretch is not what it was any more."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a child reads: a stretch of the answers, and the rules by which it sifts them.

    `verbatim` is what the entries told of quoted answers, `golden` the questions that must not be trained on.
    """

    url: str
    team: str
    stretch: Stretch
    file: Path
    system: str
    allowed: Allowed
    verbatim: Mapping[bytes, tuple[str, ...] | None]
    golden: tuple[str, ...]

    def as_json(self) -> bytes:
        """As it is told to a child, in one line."""
        allowed = self.allowed
        told = {
            **{name: getattr(self, name) for name in ("url", "team", "stretch", "system", "golden")},
            "file": str(self.file),
            "verbatim": [[mark.hex(), authors] for mark, authors in self.verbatim.items()],
            "consenting": list(allowed.consenting),
            "refusing": list(allowed.refusing),
            "nominated": dict(allowed.nominated),
            "channels_off": list(allowed.places.channels_off),
            "workspace_off": allowed.places.workspace_off,
            "reviews": dict(allowed.reviews),
            "quarantine": [list(each) for each in allowed.quarantine],
            "review_required": allowed.review_required,
            "languages": list(allowed.languages),
        }
        return json.dumps(told).encode() + b"\n"

    @classmethod
    def from_json(cls, line: bytes) -> "Part":
        """What `as_json` told."""
        told = json.loads(line)
        allowed = Allowed(
            consenting=frozenset(told["consenting"]),
            refusing=frozenset(told["refusing"]),
            nominated={name: tuple(authors) for name, authors in told["nominated"].items()},
            places=LearningPlaces(frozenset(told["channels_off"]), told["workspace_off"]),
            reviews={subject: Reviewed(*each) for subject, each in told["reviews"].items()},
            quarantine=frozenset((kind, name) for kind, name in told["quarantine"]),
            review_required=told["review_required"],
            languages=tuple(told["languages"]),
        )
        return cls(
            **{name: told[name] for name in ("url", "team", "system")},
            stretch=Stretch(*told["stretch"]),
            file=Path(told["file"]),
            allowed=allowed,
            verbatim={
                bytes.fromhex(mark): None if authors is None else tuple(authors)
                for mark, authors in told["verbatim"]
            },
            golden=tuple(told["golden"]),
        )


@dataclass(frozen=True, slots=True)
class Found:
    """What a child found, but for the words themselves, which lie in `file`; `left_out` counts by reason."""

    file: Path
    columns: Columns
    raters: Raters
    left_out: Counter[str]


async def read_apart(parts: list[Part]) -> list[Found]:
    """What each part gave, all of them read at once.

    Raises PublicError where a child ended early, OSError where it could not write, LaidOutAnew where the database was
    written anew meanwhile.
    """
    children = [asyncio.create_task(_read(part)) for part in parts]
    try:
        return list(await asyncio.gather(*children))
    finally:
        for child in children:
            child.cancel()
        await asyncio.gather(*children, return_exceptions=True)


async def _read(part: Part) -> Found:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "training.gathering_child"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(part.as_json())
            await child.stdin.drain()  # and stays open: its end would tell the child that we are gone
        except (BrokenPipeError, ConnectionResetError):
            pass  # it ended already, and its status says more
        said = (await child.stdout.read()).decode("utf-8", "replace").strip()
        status = await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if status == DISK:
        raise OSError(0, said or "it could not be written")
    if status == ANEW:
        raise LaidOutAnew
    if status:
        raise PublicError(
            f"A process that read for the dataset ended early (status {status}); most often memory was short. "
            "Start the training again; nothing is lost."
        )
    return await asyncio.to_thread(_found, part.file)


def _found(file: Path) -> Found:
    told = json.loads(file.with_suffix(".json").read_bytes())
    columns = load_columns(file.with_suffix(".columns"))
    for suffix in (".json", ".columns"):
        file.with_suffix(suffix).unlink()
    return Found(file, columns, Raters.from_told(told["raters"]), Counter(told["left_out"]))
