"""Two processes that train one model, as TRAIN_PROCESSES=2 has it: the first one alone writes, and the same is learned."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the extra [local] is not installed")

from test_qlora import ROOT, events, order, result_of, tiny, wait_for

from training import qlora, rundir
from training.finetuners import Done, Order
from training.finetuners.local import LocalFineTuner
from training.rundir import Event

__all__ = ["tiny"]

pytestmark = pytest.mark.training


async def test_two_processes_learn_what_one_learns_and_one_of_them_writes(tmp_path: Path, tiny: Path) -> None:
    """Launched as the bot launches it: same steps, same losses up to rounding, every line told once."""
    choices: dict[str, Any] = {"epochs": 3.0, "batch_size": 8, "learning_rate": 3e-3, "quantization": "none"}
    alone = order(tmp_path / "alone" / "run", tiny, **choices)
    assert qlora.main([str(alone)]) == rundir.EXIT_DONE
    both = order(tmp_path / "both" / "run", tiny, **choices)
    finetuner = LocalFineTuner(environment={**os.environ, "PYTHONPATH": str(ROOT)}, processes=2)
    wanted = Order("run-1", both, str(tiny), both / "data", "sha-of-facts", "none")
    handle = await finetuner.launch(wanted)
    await asyncio.to_thread(wait_for, lambda: rundir.read_result(both) is not None)
    found = await finetuner.poll(handle)
    log = (both / rundir.LOG).read_text(errors="replace")[-3000:]
    assert isinstance(found, Done), log

    one, two = result_of(alone), result_of(both)
    assert two.steps == one.steps == 6
    assert two.eval_loss_before == pytest.approx(one.eval_loss_before, rel=1e-4)
    assert two.train_loss == pytest.approx(one.train_loss, rel=1e-3)
    assert two.eval_loss == pytest.approx(one.eval_loss, rel=1e-3)
    for event in (Event.STARTED, Event.FINISHED):
        assert len(events(both, event)) == 1
    assert two.epochs == one.epochs
