"""Reads a part of what may be learned from, in a process of its own: see `training.gathering_apart`, which starts it."""

import asyncio
import gc
import json
import os
import sys
import threading

from storage.database import Database
from storage.store import Store
from storage.stretches import LaidOutAnew
from training.dataset_items import ItemFile, save_columns
from training.gathering import Sifting, ahead
from training.gathering_apart import ANEW, DISK, Part

NICE = 10
"""How far behind the bot, which answers people meanwhile, a reader stands in the line for a core."""


def main() -> int:
    """Read what the parent tells on stdin; the exit status."""
    part = Part.from_json(sys.stdin.buffer.readline())
    if hasattr(os, "nice"):
        os.nice(NICE)
    threading.Thread(target=_leave_with_the_parent, daemon=True).start()
    gc.disable()  # looking for cycles among so many rows, of which there are none, costs a tenth of the time
    try:
        asyncio.run(_carry_out(part))
    except LaidOutAnew:
        return ANEW
    except OSError as error:
        print(error.strerror or error, flush=True)
        return DISK
    return 0


def _leave_with_the_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


async def _carry_out(part: Part) -> None:
    store = Store(Database(part.url))
    sifting = Sifting(part.allowed, frozenset(), part.golden)
    sifting.sieve.verbatim.update(part.verbatim)
    file = ItemFile(part.file, system=part.system)
    try:
        async for answers in ahead(store.learnable_between(part.team, part.stretch)):
            file.add(*sifting.answers(answers))
    finally:
        file.close()
        await store.close()
    save_columns(file.columns, part.file.with_suffix(".columns"))
    told = {"raters": sifting.raters.told(), "left_out": sifting.left_out}
    part.file.with_suffix(".json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
