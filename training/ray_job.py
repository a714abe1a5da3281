"""A training run inside a Ray cluster: `python -m training.ray_job RUN_DIR [--workers N] [--gpus PER_WORKER]`.

One worker is `training.qlora` itself, in this process. Several are workers of Ray Train, wherever the cluster has room; they
train together as `training.trainers.together` has it: the first one alone writes into RUN_DIR, which all of them see.
A worker that is lost is replaced, and all go on from the last checkpoint.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training import qlora, rundir

REPLACED = 2
"""How often lost workers are replaced within one job."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code, as `training.qlora` has them."""
    parser = argparse.ArgumentParser(prog="python -m training.ray_job", description="Fine-tune on Ray.")
    parser.add_argument("run_dir", type=Path, help="the shared directory with job.json")
    parser.add_argument("--workers", type=int, default=1, help="how many train together")
    parser.add_argument("--gpus", type=float, default=0.0, help="GPUs of each worker")
    asked = parser.parse_args(arguments)
    if asked.workers <= 1:
        return qlora.main([str(asked.run_dir), "--resume"])
    if not asked.run_dir.is_dir():
        print(
            f"{asked.run_dir} does not exist here. RAY_STORAGE must be the same folder on every node.",
            file=sys.stderr,
        )
        return rundir.EXIT_FAILED
    return spread(asked.run_dir.resolve(), workers=asked.workers, gpus=asked.gpus)


def spread(run_dir: Path, *, workers: int, gpus: float) -> int:
    """Train with Ray Train; returns once every worker is done, or was lost too often."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from training.trainers.together import PATIENCE

    each: dict[str, float] = {"CPU": 1.0, "GPU": gpus} if gpus else {"CPU": 1.0}
    trainer = TorchTrainer(
        learn,
        train_loop_config={"run_dir": str(run_dir)},
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo", timeout_s=int(PATIENCE.total_seconds())),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus > 0, resources_per_worker=each),
        run_config=RunConfig(
            name=run_dir.name,
            storage_path=str(run_dir / "ray"),
            failure_config=FailureConfig(max_failures=REPLACED),
        ),
    )
    trainer.fit()
    result = rundir.read_result(run_dir)
    if result is None:
        return rundir.EXIT_STOPPED
    return rundir.EXIT_FAILED if result.status is rundir.Status.FAILED else rundir.EXIT_DONE


def learn(wish: Mapping[str, Any]) -> None:
    """What each worker does. Ray has joined them by now."""
    from ray.train import get_context

    context: Any = get_context()
    code = qlora.main(
        [wish["run_dir"], "--resume"], rank=context.get_world_rank(), ranks=context.get_world_size()
    )
    if code == rundir.EXIT_LOCKED:
        raise RuntimeError(f"Another trainer is at work in {wish['run_dir']}.")


if __name__ == "__main__":
    sys.exit(main())
