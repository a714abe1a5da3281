"""DPO on pairs and KTO on thumbs.

The reference is the model as the stage finds it: the base with its adapter off, or with the adapter that SFT left. What the
reference thinks is computed once, before the first step, and its copy is dropped then.
"""

import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from training.plan import Plan
from training.rows import PairRow, ThumbRow
from training.trainers import arguments

REFERENCE = "ref"  # TRL's name for the copy of an adapter that is trained further
KEEP_LIKED = 1.0  # times the mean loss of the liked answers, beside KTO's own (figures: training.plan)
KEEP_SAYING = 0.2  # of the loss: the chosen answer itself must not become less likely while the gap widens


class SharedReference:
    """A trainer of TRL whose processes find what the reference thinks, which the first of them writes for all.

    TRL (1.16.0) takes a file of the dataset's cache; of rows in memory each process would look into a folder of its own.
    """

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        trainer: Any = self
        folder = Path(trainer.args.output_dir) / "reference"
        if trainer.accelerator.num_processes > 1:
            folder.mkdir(parents=True, exist_ok=True)
            dataset._get_cache_file_path = lambda _fingerprint: str(folder / f"{name}.arrow")
        found = super()._precompute_ref_logps(dataset, name, batch_size)  # type: ignore[misc]
        trainer.accelerator.wait_for_everyone()  # whoever reads has the file open by now
        if trainer.accelerator.is_main_process:
            shutil.rmtree(folder, ignore_errors=True)
        return found


class PairTrainer(SharedReference, DPOTrainer):  # type: ignore[misc]
    """TRL's DPO on pairs that are tokens already."""

    made: Plan
    drawn_from: int

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        columns = (self.train_dataset[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
        lengths = [len(prompt) + max(len(a), len(b)) for prompt, a, b in zip(*columns, strict=True)]
        return arguments.order_of(self, lengths, self.made, seed=self.drawn_from)


class ThumbTrainer(SharedReference, KTOTrainer):  # type: ignore[misc]
    """TRL's KTO on answers that are tokens already, each beside its batch's neighbour for the distance to the reference.

    KTO alone only asks that liked answers gain on the others; both may become unlikely, and what is said then is neither. So
    the loss of the liked answers themselves is added, as for pairs.
    """

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
        heard: list[torch.Tensor] = []
        hook = model.register_forward_hook(lambda *told: heard.append(told[-1].log_probs))
        try:
            found = super()._compute_loss(model, inputs, return_outputs)
        finally:
            hook.remove()
        kept = KEEP_LIKED * _unlikely(heard[-1], inputs)
        return (found[0] + kept, *found[1:]) if return_outputs else found + kept


def _unlikely(likely: torch.Tensor, inputs: Any) -> torch.Tensor:
    """The mean loss of the liked answers' tokens, 0 where a batch has none. `likely`: log-probabilities (rows, tokens)."""
    said = inputs["completion_mask"][:, 1:].to(likely.device)
    liked = torch.as_tensor(inputs["label"], device=likely.device)[:, None].to(said.dtype)
    counting = (said * liked).to(likely.dtype)
    found: torch.Tensor = -(likely[:, -said.shape[1] :] * counting).sum() / counting.sum().clamp(min=1)
    return found


def make_dpo(
    model: Any,
    made: Plan,
    folder: Path,
    tokenizer: Any,
    pairs: Sequence[PairRow],
    watched: Sequence[PairRow],
    *,
    seed: int,
    decides: bool,
    callbacks: list[Any],
) -> PairTrainer:
    """The trainer of a model that has its adapter; the one it comes with is the reference."""
    shared = arguments.shared(
        made, folder, seed=seed, on_gpu=model.device.type == "cuda", watched=bool(watched), decides=decides
    )
    config = DPOConfig(
        **shared,
        beta=made.beta,
        precompute_ref_log_probs=True,
        precompute_ref_batch_size=16,
        loss_type=["sigmoid", "sft"],
        loss_weights=[1.0, KEEP_SAYING],
    )
    trainer = PairTrainer(
        model=model,
        args=config,
        train_dataset=_pairs(pairs),
        eval_dataset=_pairs(watched) if watched else None,
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    trainer.made, trainer.drawn_from = made, seed
    arguments.quiet(trainer)
    _drop_reference(trainer)
    return trainer


def make_kto(
    model: Any,
    made: Plan,
    folder: Path,
    tokenizer: Any,
    thumbs: Sequence[ThumbRow],
    watched: Sequence[ThumbRow],
    *,
    seed: int,
    decides: bool,
    callbacks: list[Any],
) -> ThumbTrainer:
    """As `make_dpo`. KTO reads its rows in one order for ever, so they are mixed here, by the seed."""
    shared = arguments.shared(
        made, folder, seed=seed, on_gpu=model.device.type == "cuda", watched=bool(watched), decides=decides
    )
    liked = sum(each.liked for each in thumbs)
    disliked = len(thumbs) - liked
    config = KTOConfig(
        **shared,
        beta=made.beta,
        precompute_ref_log_probs=True,
        precompute_ref_batch_size=made.batch_size,
        # Both kinds count alike in all (the KTO paper's equation 8).
        desirable_weight=max(1.0, disliked / liked),
        undesirable_weight=max(1.0, liked / disliked),
    )
    trainer = ThumbTrainer(
        model=model,
        args=config,
        train_dataset=_thumbs(thumbs, made.batch_size, seed),
        eval_dataset=_thumbs(watched, made.batch_size, seed) if watched else None,
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    arguments.quiet(trainer)
    _drop_reference(trainer)
    return trainer


def _drop_reference(trainer: Any) -> None:
    """What it thinks is in the datasets now; its copy would be saved with every checkpoint."""
    if REFERENCE in trainer.model.peft_config:
        trainer.model.delete_adapter(REFERENCE)


def _pairs(rows: Sequence[PairRow]) -> Dataset:
    return Dataset.from_list(
        [{"prompt_ids": row.prompt, "chosen_ids": row.chosen, "rejected_ids": row.rejected} for row in rows]
    )


def _thumbs(rows: Sequence[ThumbRow], batch: int, seed: int) -> Dataset:
    mixed = list(rows)
    random.Random(seed).shuffle(mixed)
    shifted = [_neighbour(mixed, place, batch).completion for place in range(len(mixed))]
    return Dataset.from_list(
        [
            {
                "prompt_ids": row.prompt,
                "completion_ids": row.completion,
                "KL_completion_ids": other,
                "label": row.liked,
            }
            for row, other in zip(mixed, shifted, strict=True)
        ]
    )


def _neighbour(rows: Sequence[ThumbRow], place: int, batch: int) -> ThumbRow:
    """The row before it in its batch; the batch's last for the first."""
    start = place - place % batch
    end = min(start + batch, len(rows))
    return rows[place - 1] if place > start else rows[end - 1]
