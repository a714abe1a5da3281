"""SFT: the loss is on the answer alone, rows of like length share a batch, long ones are packed whole.

What the loss is (`AnswerTrainer.compute_loss`): the mean over the answers' tokens, in which a token at an answer's opening
counts more where the plan says so, and a row of weight 0.25 pulls a quarter as hard as a whole one. A step's mean is taken
over all its rows at once, however they are spread over micro-batches, packed lines and processes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from training.plan import Plan
from training.rows import IGNORED, Row
from training.trainers import arguments
from training.trainers.lines import Joined, lines_of

OPENING_FADES = 0.7  # from one token of an answer to the next


class AnswersOnly:
    """Logits of the scored places alone: the head reads no prompt, and no padding, whose logits nobody asks for.

    With a vocabulary of 32,000 and 30 million parameters the head is four tenths of all the work. It sits before the head,
    so that whatever a model does to its logits afterwards (scaling, capping) is done.
    """

    def __init__(self, head: torch.nn.Module) -> None:
        """`head` turns hidden states into logits."""
        self._scored: torch.Tensor | None = None
        head.register_forward_pre_hook(self._select)

    def logits(self, model: Any, inputs: dict[str, Any], scored: torch.Tensor) -> torch.Tensor:
        """Float32 logits [scored places, vocabulary]; `scored` [rows, tokens] marks what predicts a learned token."""
        self._scored = scored
        try:
            found = model(**inputs, use_cache=False).logits
        finally:
            self._scored = None
        if found.dim() == 3 and found.size(0) == scored.size(0) and found.size(1) >= scored.size(1) > 1:
            found = found[:, -scored.size(1) :][scored]  # a model that does not call its head as a module
        return found.reshape(-1, found.size(-1)).float()  # type: ignore[no-any-return]

    def _select(self, _head: torch.nn.Module, taken: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._scored is None:
            return None
        hidden = taken[0][:, -self._scored.size(1) :]  # a learned prompt stands before the row's own tokens
        return (hidden[self._scored][None], *taken[1:])


class AnswerTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's trainer on tokens and labels that are made already."""

    made: Plan
    drawn_from: int
    answers: AnswersOnly

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Which answer it is, is decided in its first tokens; the rest follows by heart, and would drown them.

        What is watched is measured plainly: nats per token of the answers.
        """
        labels = inputs["labels"][:, 1:]
        learned = labels != IGNORED
        read = {
            name: inputs[name] for name in ("input_ids", "attention_mask", "position_ids") if name in inputs
        }
        scored = torch.nn.functional.pad(learned, (0, 1))
        logits = self.answers.logits(model, read, scored)
        each = torch.nn.functional.cross_entropy(logits, labels[learned], reduction="none")
        if not model.training:
            loss = each.sum() / learned.sum().clamp(min=1)
            return (loss, {}) if return_outputs else loss
        pulls = (inputs["pulls"] * inputs["openings"])[:, 1:][learned]
        whole = self._openings([inputs]) if num_items_in_batch is None else num_items_in_batch
        # Gradients are averaged over the processes, and `whole` counts the tokens of all of them.
        loss = (each * pulls).sum() / whole * self.accelerator.num_processes
        return (loss, {}) if return_outputs else loss

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> torch.Tensor:
        whole = self._openings(batch_samples).to(device)
        return self.accelerator.gather(whole).sum() if self.args.world_size > 1 else whole

    @staticmethod
    def _openings(batches: list[Any]) -> torch.Tensor:
        """What the step's tokens would pull in all if every row had weight 1."""
        found = [(each["openings"] * (each["labels"] != IGNORED))[:, 1:].sum() for each in batches]
        return torch.stack(found).sum()

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        lengths = list(map(len, self.train_dataset["input_ids"]))
        return arguments.order_of(self, lengths, self.made, seed=self.drawn_from)


def make(
    model: Any,
    made: Plan,
    folder: Path,
    tokenizer: Any,
    rows: Sequence[Row],
    watched: Sequence[Row],
    *,
    seed: int,
    decides: bool,
    callbacks: list[Any],
) -> AnswerTrainer:
    """The trainer of a model that has its adapter."""
    shared = arguments.shared(
        made, folder, seed=seed, on_gpu=model.device.type == "cuda", watched=bool(watched), decides=decides
    )
    longest = made.max_length if made.packing else 0
    trainer = AnswerTrainer(
        model=model,
        args=SFTConfig(**shared, remove_unused_columns=False, dataset_kwargs={"skip_prepare_dataset": True}),
        train_dataset=_dataset(rows, made, packed_to=longest),
        eval_dataset=_dataset(watched, made) if watched else None,
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    trainer.made, trainer.drawn_from = made, seed
    trainer.answers = AnswersOnly(model.get_output_embeddings())
    trainer.data_collator = Joined(tokenizer.pad_token_id)
    trainer.model_accepts_loss_kwargs = True  # the loss is of the whole step already: not to be divided again
    arguments.quiet(trainer)
    return trainer


def _dataset(rows: Sequence[Row], made: Plan, *, packed_to: int = 0) -> Dataset:
    return Dataset.from_list(
        lines_of(rows, opening_weight=made.opening_weight, fades=OPENING_FADES, packed_to=packed_to)
    )
