"""What freezing a dataset takes: a million rated conversations, on SQLite and on PostgreSQL, the worse of the two.

FREEZE_ROWS=50000 makes it a small one. Each freeze is a process of its own, watched from outside with all its children; the
second one of the same rows must give the same hash.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from storage.database import sqlite_file
from storage.store import Store
from tests.benchmarks.conversations import fill
from tests.benchmarks.figure import Figure
from tests.postgres import PostgresServer, server_programs, server_user

ROWS = int(os.environ.get("FREEZE_ROWS", "1000000"))
SMALL = 10_000
LOOK_EVERY_S = 0.1
MB = 1024**2


def freeze() -> Iterator[Figure]:
    """Rows a second, megabytes at the peak, and how much longer a row takes among many than among few."""
    with tempfile.TemporaryDirectory() as folder:
        found = [_measured("sqlite", url, Path(folder)) for url in _sqlite(Path(folder))]
        found += [_measured("postgresql", url, Path(folder)) for url in _postgres()]
    rate = min(ROWS / large["seconds"] for _, large in found)
    peak = max(large["peak_mb"] for _, large in found)
    growth = max(large["seconds"] / ROWS / (small["seconds"] / SMALL) for small, large in found)
    yield Figure("freeze_rows_per_s", round(rate), "rows/s", 10_000, "higher")
    yield Figure("freeze_rss_mb", round(peak), "MB", 600, "lower")
    yield Figure("freeze_growth", round(growth, 2), "ratio", 1.3, "lower")


Took = dict[str, float]


def _sqlite(folder: Path) -> Iterator[tuple[str, str]]:
    yield (f"sqlite:///{folder / 'small.sqlite'}", f"sqlite:///{folder / 'large.sqlite'}")


def _postgres() -> Iterator[tuple[str, str]]:
    """Two empty databases of a server that goes afterwards; nothing where there is no server."""
    programs = server_programs()
    if programs is None:
        print("no PostgreSQL server here: SQLite alone is measured", file=sys.stderr)
        return
    home = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    user = server_user()
    if user is not None:
        shutil.chown(home, user)
    server = PostgresServer(programs, home, user)
    server.start()
    try:
        yield server.fresh(), server.fresh()
    finally:
        server.stop()


def _measured(kind: str, urls: tuple[str, str], folder: Path) -> tuple[Took, Took]:
    """What the small and the large freeze took; both twice where that shows that the hash is the same."""
    small, large = urls
    for url, count in ((small, SMALL), (large, ROWS)):
        since = time.monotonic()
        asyncio.run(_ready(url))
        fill(url, count)
        _say(f"{kind}: {count:,} conversations written in {time.monotonic() - since:.0f} s")
    first = min(
        (_frozen(small, folder / f"{kind}-small-{nth}") for nth in range(2)), key=lambda took: took["seconds"]
    )
    took, again = (_frozen(large, folder / f"{kind}-large-{nth}") for nth in range(2))
    if took["id"] != again["id"]:
        raise AssertionError(f"{kind}: the same rows gave {took['id']} and {again['id']}")
    _say(
        f"{kind}: {ROWS:,} rows in {took['seconds']:.0f} s, again in {again['seconds']:.0f} s, {took['peak_mb']:.0f} MB"
    )
    if (file := sqlite_file(large) if large.startswith("sqlite") else None) is not None:
        file.unlink()
    return first, took


async def _ready(url: str) -> None:
    """As after the start of a bot: tables made, everything struck out under today's rules."""
    store = await Store.open(url)
    while not (await store.strike_again()).done:
        pass
    await store.close()


def _frozen(url: str, folder: Path) -> Took:
    command = [sys.executable, "-m", "tests.benchmarks.freeze_child", url, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child, _watched(child.pid) as peaks:
        out, _ = child.communicate()
        if child.returncode:
            raise AssertionError(f"the freeze ended with {child.returncode}")
    shutil.rmtree(folder)
    told: Took = json.loads(out.splitlines()[-1])
    return told | {"peak_mb": max(peaks[0], told["peak_mb"])}


@contextmanager
def _watched(pid: int) -> Iterator[list[float]]:
    """The most memory that the process and its children have together, in MB, as the only item of a list."""
    peak, over = [0.0], threading.Event()

    def look() -> None:
        while not over.wait(LOOK_EVERY_S):
            try:
                parent = psutil.Process(pid)
                family = [parent, *parent.children(recursive=True)]
                peak[0] = max(peak[0], sum(each.memory_info().rss for each in family) / MB)
            except psutil.Error:
                continue

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
