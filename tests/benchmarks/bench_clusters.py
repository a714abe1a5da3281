"""Clusters of a million questions: how long, and how much memory in a process of its own."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.conversations import COLUMNS, Workspace
from tests.benchmarks.figure import Figure

MILLION = 1_000_000
TEXT = COLUMNS["question"].split().index("text")


def million() -> Iterator[Figure]:
    """A million made-up questions, of Zipf's words, one in fifty another wording of an earlier one."""
    told = json.loads(
        subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.bench_clusters", str(MILLION)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )
    # Half of what a freeze may take, and of the memory that it may have.
    yield Figure("clusters_million_s", told["seconds"], "s", 50, "lower")
    yield Figure("clusters_rss_mb", told["rss_mb"], "MB", 250, "lower")


def measure(count: int) -> dict[str, float]:
    """Seconds of `Clusters` alone, and the memory it added."""
    from training.clusters import Clusters

    spent, cpu, before = 0.0, 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        clusters = Clusters(Path(folder))
        for page in Workspace().pages(count):
            questions = [row[TEXT] for row in page["question"]]
            before = before or peak_mb()
            since, used = time.monotonic(), time.process_time()
            clusters.add(["key"] * len(questions), questions, [""] * len(questions))
            spent, cpu = spent + time.monotonic() - since, cpu + time.process_time() - used
        since, used = time.monotonic(), time.process_time()
        roots = clusters.roots()
        spent, cpu = spent + time.monotonic() - since, cpu + time.process_time() - used
        rss = peak_mb() - before
        clusters.close()
    found = sum(1 for row, root in enumerate(roots.tolist()) if row == root)
    return {"seconds": spent, "cpu": cpu, "rss_mb": rss, "clusters": found}


def peak_mb() -> float:
    """The most memory this process ever had, in MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
