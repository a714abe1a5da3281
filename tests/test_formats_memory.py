"""Memory does not grow with the file, on the way in and on the way out; `tests.benchmarks` does it with a gigabyte."""

from pathlib import Path

import pytest

from tests.benchmarks.bench_formats import made, measured

SIZE_MB = 10
ROOM_MB = 9
"""What SQLite and Python's own arenas may keep. Holding the file would take more than its size, in objects. (pyarrow keeps
some 20 MB whatever it writes, hence a longer file there.)"""


@pytest.mark.parametrize("kind", ["jsonl", "csv", "md", "json"])
def test_an_import_streams(tmp_path: Path, kind: str) -> None:
    """JSON lines, tables, Markdown, and one array that goes on and on."""
    told = measured("read", made(tmp_path, kind, SIZE_MB))
    assert told["rows"] > 10_000
    assert told["grown_mb"] < ROOM_MB, told


@pytest.mark.parametrize("kind", ["openai", "hf"])
def test_an_export_streams(tmp_path: Path, kind: str) -> None:
    """Lines and Parquet."""
    if kind == "hf":
        pytest.importorskip("pyarrow")
    told = measured(kind, made(tmp_path, "frozen", 6 * SIZE_MB if kind == "hf" else SIZE_MB))
    assert told["rows"] > 10_000
    assert told["grown_mb"] < (3 * ROOM_MB if kind == "hf" else ROOM_MB), told
