"""The bench `learning` in small: a few threads of the help desk, one seed, the same path from dataset to answers."""

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra [local] is not installed")

from tests.benchmarks import bench_learning
from tests.benchmarks.bench_learning import Desk

pytestmark = pytest.mark.training


def test_what_is_taught_is_answered_in_other_words_too(tmp_path: Path, shared_data: Path) -> None:
    """SFT raises token F1 on wordings that nobody trained on; the interval leaves 0 out."""
    assert bench_learning.sft_gain(tmp_path, 0, Desk(8), epochs=8.0) > 0


def test_pairs_widen_the_margin(tmp_path: Path, shared_data: Path) -> None:
    """After DPO the right answer stands further before a wrong one than SFT left it, on wordings that are new."""
    assert bench_learning.dpo_gain(tmp_path, 0, Desk(6), effort="quick") > 0
