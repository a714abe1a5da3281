"""kill -9 at a random moment, two hundred times: nothing acknowledged is gone, nothing half-made is visible."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.mark.sqlite("a server survives its clients anyway; test_datasets kills freezes on both")
def test_two_hundred_kills_leave_a_whole_store(tmp_path: Path) -> None:
    """In writes, freezes and migrations from every earlier version; a seed, so that a failure comes again."""
    done = subprocess.run(
        [sys.executable, str(TESTS / "killing.py"), "2026", "200", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=os.environ | {"PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    told: dict[str, int] = json.loads(done.stdout)
    print(told)
    killed = {kind: count for kind, count in told.items() if not kind.endswith("ended first")}
    assert sum(told.values()) == 200
    assert killed["writes"] > 100
    assert killed["freezes"] > 5
    assert killed["migrations"] > 0
