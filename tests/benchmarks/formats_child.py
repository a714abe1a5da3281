"""A process that reads or writes one big file and says how much memory that took, beyond what it had before."""

import json
import sys
import time
from collections import Counter
from pathlib import Path

from training.formats.reading import Reader
from training.formats.writing import lines_of, pieces_of, write_hugging_face


def main(kind: str, path: str) -> None:
    """Print {"rows", "grown_mb", "cpu_s"} of an import (`read`) or of an export in the format `kind`."""
    for _ in range(2):  # once with almost nothing, for the libraries and their caches
        work(kind, Path(path).parent / "warm" / Path(path).name)
    before, since = peak_mb(), time.process_time()
    rows = work(kind, Path(path))
    told = {"rows": rows, "grown_mb": peak_mb() - before, "cpu_s": time.process_time() - since}
    print(json.dumps(told))


def work(kind: str, path: Path) -> int:
    """Everything that an import or an export does with a file, but for the database."""
    if kind == "read":
        reader = Reader(path)
        seen = reader.survey()
        assert sum(1 for _ in reader.entries()) == seen.entries
        return seen.entries
    out = path.with_name(f"{path.name}.{kind}.{time.monotonic_ns()}")
    if kind == "hf":
        return sum(write_hugging_face(path, out).values())
    with out.open("w", encoding="utf-8") as opened:
        opened.writelines(lines_of(pieces_of(path, "train", kind, Counter()), kind))
    with out.open(encoding="utf-8", newline="\n") as opened:
        return sum(1 for _ in opened)


def peak_mb() -> float:
    """The most memory that this process ever held. getrusage would count the process that it was forked from, too."""
    told = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in told.splitlines() if line.startswith("VmHWM:")) / 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
