"""Freezes a dataset in a process of its own, and says how long it took and how much memory it had at most.

`python -m tests.benchmarks.freeze_child URL FOLDER`; one JSON line on stdout.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

from storage.store import Store
from training.datasets import freeze

TEAM, SALT = "T1", "a salt for benches"


async def main(url: str, folder: str) -> None:
    """Freeze what the database holds."""
    store = await Store.open(url)
    try:
        since = time.monotonic()
        frozen = await freeze(store, Path(folder), team=TEAM, salt=SALT)
        told = {
            "seconds": time.monotonic() - since,
            "id": frozen.id,
            "examples": frozen.examples,
            "peak_mb": peak_mb(),
        }
        print(json.dumps(told), flush=True)
    finally:
        await store.close()


def peak_mb() -> float:
    """The most memory this process ever had, in MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
