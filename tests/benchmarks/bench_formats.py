"""Memory that an import and an export of a gigabyte take: it must not grow with the file."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.figure import Figure

ROOT = Path(__file__).parents[2]
ANSWER = "Open the settings, choose the account, and press the button below the name. " * 8
SIZE_MB = 1_000
BAR_MB = 100
SMALL = 50  # rows


def formats() -> Iterator[Figure]:
    """Megabytes beyond what the process had before, the most of all formats."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        grown = [
            measured("read", made(folder, kind, SIZE_MB))["grown_mb"]
            for kind in ("jsonl", "csv", "md", "json")
        ]
        yield Figure("import_grown_mb", round(max(grown), 1), "MB", BAR_MB, "lower")
        frozen = made(folder, "frozen", SIZE_MB)
        grown = [measured(kind, frozen)["grown_mb"] for kind in ("openai", "vertex", "csv", "hf")]
        yield Figure("export_grown_mb", round(max(grown), 1), "MB", BAR_MB, "lower")


def measured(kind: str, path: Path) -> dict[str, float]:
    """What the child says; see `formats_child`."""
    command = [sys.executable, "-m", "tests.benchmarks.formats_child", kind, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3_000, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2_000:])
    print(f"{kind} of {path.name}: {done.stdout.strip()}", file=sys.stderr)
    told: dict[str, float] = json.loads(done.stdout)
    return told


def made(folder: Path, kind: str, size_mb: float) -> Path:
    """A file of that kind and size, or the folder of a frozen dataset; beside it the same with a few rows, in warm/."""
    name = "frozen" if kind == "frozen" else f"faq.{kind}"
    (folder / "warm").mkdir(exist_ok=True)
    for path, size in ((folder / "warm" / name, 0.0), (folder / name, size_mb)):
        file = path / "train.jsonl" if kind == "frozen" else path
        file.parent.mkdir(exist_ok=True)
        with file.open("w", encoding="utf-8") as opened:
            opened.writelines(lines(kind, size))
    return folder / name


def lines(kind: str, size_mb: float) -> Iterator[str]:
    """Rows of one kind until there are so many megabytes, at least a few."""
    head, between, tail = {"csv": ("question,answer\n", "", ""), "json": ("[", ",\n", "]")}.get(
        kind, ("", "", "")
    )
    yield head
    written, number = 0, 0
    while number < SMALL or written < size_mb * 1e6:
        line = (between if number else "") + row(kind, number)
        written, number = written + len(line), number + 1
        yield line
    yield tail


def row(kind: str, number: int) -> str:
    """One record."""
    question, answer = f"How do I change the name of account {number}?", f"{ANSWER}{number}"
    if kind == "csv":
        return f'"{question}","{answer}"\n'
    if kind == "md":
        return f"# {question}\n\n{answer}\n\n"
    if kind == "frozen":
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return json.dumps({"cluster": f"c{number}", "id": f"{number:016x}", "messages": turns}) + "\n"
    return json.dumps({"question": question, "answer": answer}) + ("" if kind == "json" else "\n")
