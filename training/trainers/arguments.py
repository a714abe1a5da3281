"""What SFT, DPO and KTO are all told, and the order of rows in which a run can be resumed."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import Sampler
from transformers import PrinterCallback

from training.plan import Plan

SORTED_BATCHES = (
    32  # are sorted among themselves: 5 % of padding is left, and who shares a batch still changes
)


def shared(
    made: Plan, folder: Path, *, seed: int, on_gpu: bool, watched: bool, decides: bool
) -> dict[str, Any]:
    """Arguments of TRL's configurations; `decides`: the watched rows say when to stop and which checkpoint is best."""
    # fmt: off
    return dict(  # noqa: C408 - they are arguments, and read as such
        output_dir=str(folder),
        # Speed: training.md 5.
        use_cpu=not on_gpu, bf16=made.bf16, optim=made.optimizer, dataloader_pin_memory=on_gpu,
        per_device_train_batch_size=made.batch_size, gradient_accumulation_steps=made.accumulation,
        per_device_eval_batch_size=32, max_length=made.max_length,
        # TRL's default for the first, the old name of the second, is True.
        gradient_checkpointing=None, activation_checkpointing=made.activation_checkpointing,
        # Learning.
        num_train_epochs=made.epochs, learning_rate=made.learning_rate, lr_scheduler_type="cosine",
        warmup_steps=made.warmup, weight_decay=0.0, seed=seed, data_seed=seed,
        # Looking and keeping: the best checkpoint stays, and the newest one.
        eval_strategy="steps" if watched else "no", eval_steps=made.eval_every,
        save_strategy="steps", save_steps=made.eval_every, save_total_limit=2,
        load_best_model_at_end=decides, metric_for_best_model="eval_loss", greater_is_better=False,
        restore_callback_states_from_checkpoint=True,
        # Telling: every step is looked at (a NaN must not live on), so the filter that hides NaNs is off.
        logging_steps=1, logging_nan_inf_filter=False, report_to="none", disable_tqdm=True,
    )
    # fmt: on


class ByLength(Sampler[int]):
    """Rows of like length together, in an order that is drawn from the seed and the epoch alone.

    The stock sampler draws from torch's running state: resumed within an epoch, the rest comes in another order. It also
    sorts smaller groups, which pads a seventh more on a few hundred rows. The longest batch comes first: if the memory
    does not do, that is known at once.
    """

    def __init__(self, trainer: Any, lengths: list[int], batch: int, seed: int) -> None:
        """`batch` rows are together, in every epoch other ones."""
        self._trainer, self._lengths, self._batch, self._seed = trainer, lengths, batch, seed

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        drawn = random.Random(self._seed + 1_000_003 * int(self._trainer.state.epoch or 0))
        places = list(range(len(self._lengths)))
        drawn.shuffle(places)
        sorted_at_once = SORTED_BATCHES * self._batch
        batches: list[list[int]] = []
        rest: list[int] = []
        for start in range(0, len(places), sorted_at_once):
            group = sorted(
                places[start : start + sorted_at_once] + rest, key=lambda place: -self._lengths[place]
            )
            whole = len(group) // self._batch * self._batch
            batches += [group[at : at + self._batch] for at in range(0, whole, self._batch)]
            rest = group[whole:]
        drawn.shuffle(batches)
        if batches:
            longest = max(range(len(batches)), key=lambda each: self._lengths[batches[each][0]])
            batches[0], batches[longest] = batches[longest], batches[0]
        return iter([place for each in batches for place in each] + rest)


def order_of(trainer: Any, lengths: list[int], made: Plan, *, seed: int) -> ByLength:
    """The order of a plan; every process that takes part draws the same one."""
    return ByLength(trainer, lengths, made.batch_size * made.accumulation * trainer.args.world_size, seed)


def quiet(trainer: Any) -> None:
    """Without the callback that prints Python dictionaries into the log."""
    trainer.remove_callback(PrinterCallback)
