"""Two processes that train one model, as TRAIN_PROCESSES=2 has it: the first one alone writes, and the same is learned."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("torch", reason="the extra [local] is not installed")

from test_qlora import ROOT, events, order, result_of, tiny, wait_for
from test_trainers import with_preferences

from training import qlora, rundir
from training.finetuners import Broken, Done, Order
from training.finetuners.local import LocalFineTuner
from training.rundir import Event

__all__ = ["tiny"]

pytestmark = pytest.mark.training

ps: Any = psutil  # it carries no types

SHORT: dict[str, Any] = {"epochs": 5.0, "batch_size": 8, "learning_rate": 3e-3, "quantization": "none"}


def two_processes() -> LocalFineTuner:
    """As TRAIN_PROCESSES=2 makes it."""
    return LocalFineTuner(environment={**os.environ, "PYTHONPATH": str(ROOT)}, processes=2)


async def trained(run_dir: Path, base: Path) -> None:
    """Launched as the bot launches it, or launches it again, until it is done."""
    finetuner = two_processes()
    wanted = Order("run-1", run_dir, str(base), run_dir / "data", "sha-of-facts", "none")
    handle = await finetuner.launch(wanted)
    await asyncio.to_thread(wait_for, lambda: rundir.read_result(run_dir) is not None)
    found = await finetuner.poll(handle)
    assert isinstance(found, Done), (run_dir / rundir.LOG).read_text(errors="replace")[-3000:]


async def test_two_processes_learn_what_one_learns_and_one_of_them_writes(tmp_path: Path, tiny: Path) -> None:
    """Launched as the bot launches it: same steps, same losses up to rounding, every line told once."""
    choices: dict[str, Any] = {"epochs": 3.0, "batch_size": 8, "learning_rate": 3e-3, "quantization": "none"}
    alone = order(tmp_path / "alone" / "run", tiny, **choices)
    assert qlora.main([str(alone)]) == rundir.EXIT_DONE
    both = order(tmp_path / "both" / "run", tiny, **choices)
    await trained(both, tiny)

    one, two = result_of(alone), result_of(both)
    assert two.steps == one.steps == 6
    assert two.eval_loss_before == pytest.approx(one.eval_loss_before, rel=1e-4)
    assert two.train_loss == pytest.approx(one.train_loss, rel=1e-3)
    assert two.eval_loss == pytest.approx(one.eval_loss, rel=1e-3)
    for event in (Event.STARTED, Event.FINISHED):
        assert len(events(both, event)) == 1
    assert two.epochs == one.epochs


@pytest.mark.parametrize(("method", "rows"), [("dpo", "24 pairs"), ("kto", "48 rated answers")])
async def test_two_processes_learn_what_is_preferred(
    tmp_path: Path, tiny: Path, method: str, rows: str
) -> None:
    """Both stages, all rows, and what is preferred is likelier afterwards."""
    run_dir = with_preferences(order(tmp_path / "run", tiny, method=method, **SHORT))
    await trained(run_dir, tiny)
    stages = result_of(run_dir).stages
    assert [stage["stage"] for stage in stages] == ["sft", method]
    assert stages[1]["rows"] == rows
    assert stages[1]["margin"] > 0


def first_one(run_dir: Path) -> int:
    """The process that writes."""
    return rundir.trainer_pid(run_dir) or 0


def other_one(run_dir: Path) -> int:
    """The process that learns beside it."""
    writer = ps.Process(first_one(run_dir))
    beside = [each for each in (writer.parent() or writer).children() if each.pid != writer.pid]
    return int(beside[0].pid)


@pytest.mark.parametrize("who", [first_one, other_one])
async def test_either_process_may_be_killed(tmp_path: Path, tiny: Path, who: Callable[[Path], int]) -> None:
    """kill -9: nobody learns on alone, the bot hears of it, and both go on from the checkpoint to the same end."""
    whole = order(tmp_path / "whole" / "run", tiny, **SHORT)
    assert qlora.main([str(whole)]) == rundir.EXIT_DONE
    run_dir = order(tmp_path / "killed" / "run", tiny, **SHORT)
    finetuner = two_processes()
    handle = await finetuner.launch(
        Order("run-1", run_dir, str(tiny), run_dir / "data", "sha-of-facts", "none")
    )
    await asyncio.to_thread(wait_for, lambda: bool(events(run_dir, Event.SAVED)))
    os.kill(who(run_dir), signal.SIGKILL)

    def is_over() -> bool:
        return not rundir.is_locked(run_dir) and not ps.pid_exists(first_one(run_dir))

    await asyncio.to_thread(wait_for, is_over)
    assert rundir.read_result(run_dir) is None
    found = await finetuner.poll(handle)
    while not isinstance(found, Broken):
        await asyncio.sleep(0.1)
        found = await finetuner.poll(handle)
    assert found.resumable
    await trained(run_dir, tiny)
    assert result_of(run_dir).steps == result_of(whole).steps
    assert result_of(run_dir).eval_loss == pytest.approx(result_of(whole).eval_loss, rel=1e-3)
    assert len(events(run_dir, Event.FINISHED)) == 1
