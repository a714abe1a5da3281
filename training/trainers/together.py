"""Several processes that train one model: `python -m torch.distributed.run --nproc-per-node N -m training.trainers.together
RUN_DIR [--resume]`.

Each reads its part of every step's rows; the first one alone writes progress, checkpoints, adapter and result. What a step
learns is what one process would have learned from the same rows.
"""

import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

PATIENCE = timedelta(days=2)  # who waits for a device that another training has, waits long


def wait() -> None:
    """Until all are here."""
    if dist.is_initialized():
        dist.barrier()


def any_of_us(said: bool) -> bool:
    """Whether any process says so: all stop at the same step, or they would wait for each other for ever."""
    if not dist.is_initialized():
        return said
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    heard = torch.tensor(int(said), device=device)
    dist.all_reduce(heard, op=dist.ReduceOp.MAX)
    return bool(heard.item())


def not_yet_prepared(trainer: Any) -> None:
    """Call it between an evaluation and the training.

    accelerate (1.15.0 and before) marks a model that it evaluates as prepared, and then returns it as it is where it should
    join the processes' gradients: each would learn by itself, silently (tests/test_together.py).
    """
    trainer.accelerator.free_memory()
    trainer.model._is_accelerate_prepared = False


def main(arguments: Sequence[str]) -> int:
    """The exit code of this process."""
    from training import qlora

    on_gpu = torch.cuda.is_available()
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    if on_gpu:
        torch.cuda.set_device(dist.get_rank() % torch.cuda.device_count())
    try:
        return qlora.main(arguments, rank=dist.get_rank(), ranks=dist.get_world_size())
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
