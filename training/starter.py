"""Trains the starter model from nothing: `python -m training.starter OUT_DIR [--quick]`.

A Llama of 2.4 million parameters with a tokenizer of its own, so that the whole loop (ask, rate, fine-tune, evaluate,
promote) runs with no download. It is a demo model: it has a manner of speaking and no knowledge, and invents what it was not
taught. It refuses to read anything but `training.starter_corpus`: no sample domain, no team's data.

The weights in `bot/starter` were made by this script; with the same Python, torch and seed it makes them again.
"""

import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from training import starter_corpus

END, START, END_OF_TURN, PAD = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"

# A question is read in lower case with a space before its first word, so that "Gmail", "gmail" and " gmail" are one token to
# a model too small to learn that they are one word. Answers keep their case.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{- '<|im_start|>assistant\\n' -}}
{%- generation -%}{{- message['content'] | trim -}}{{- '<|im_end|>' -}}{%- endgeneration -%}
{%- else -%}
{{- '<|im_start|>' ~ message['role'] ~ ' ' ~ message['content'] | trim | lower ~ '<|im_end|>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what comes out."""

    seed: int = 0
    vocabulary: int = 4096
    hidden: int = 192  # widths are multiples of 64: bitsandbytes' 4-bit kernels on CPU need it
    layers: int = 4
    ffn: int = 512
    heads: int = 6
    kv_heads: int = 3
    context: int = 1024
    steps: int = 1500
    batch: int = 16
    learning_rate: float = 3e-3
    passage_share: float = 0.08
    facts: int = 300
    docs: int = 800
    question_loss: float = 0.3


QUICK = Recipe(
    vocabulary=1024,
    hidden=64,
    layers=2,
    ffn=128,
    heads=2,
    kv_heads=1,
    context=512,
    steps=40,
    facts=60,
    docs=100,
)


@dataclass(frozen=True, slots=True)
class Row:
    """Token ids of one text, and the weight of each in the loss: 1 in an answer, less in a question."""

    ids: list[int]
    weights: list[float]


def train_tokenizer(corpus: starter_corpus.Corpus, vocabulary: int, context: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE over the corpus; digits stand alone, so that numbers are copied and not remembered."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END, START, END_OF_TURN, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    questions = {pair.fact: f" {pair.question.lower()}" for pair in corpus.pairs}.values()
    answers = {pair.fact: pair.answer for pair in corpus.pairs}.values()
    as_asked = (f" {passage.lower()}" for passage in corpus.passages)
    core.train_from_iterator((*questions, *answers, *corpus.passages, *as_asked), trainer=trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=END, eos_token=END_OF_TURN, pad_token=PAD, model_max_length=context,
        chat_template=CHAT_TEMPLATE, clean_up_tokenization_spaces=False, padding_side="left",
    )  # fmt: skip


def rows(
    corpus: starter_corpus.Corpus, tokenizer: PreTrainedTokenizerFast, recipe: Recipe
) -> tuple[list[Row], list[Row]]:
    """The pairs as conversations, and the passages as plain text."""
    turn = [_pair_row(tokenizer, pair.question, pair.answer, recipe.question_loss) for pair in corpus.pairs]
    plain = []
    for passage in corpus.passages:
        ids = tokenizer(f"{END}{passage}{END}", add_special_tokens=False)["input_ids"][:160]
        plain.append(Row(ids, [1.0] * len(ids)))
    return turn, plain


def _pair_row(tokenizer: PreTrainedTokenizerFast, question: str, answer: str, question_loss: float) -> Row:
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    prompt = tokenizer(asked, add_special_tokens=False)["input_ids"]
    reply = tokenizer(answer + END_OF_TURN, add_special_tokens=False)["input_ids"]
    return Row(prompt + reply, [question_loss] * len(prompt) + [1.0] * len(reply))


def batches(turns: list[Row], plain: list[Row], recipe: Recipe) -> Iterator[list[Row]]:
    """`recipe.steps` batches for ever new passes over the rows; rows of like length share a batch, so little is padding."""
    rng = random.Random(recipe.seed)
    made = 0
    while True:
        passages = rng.sample(plain, min(len(plain), int(len(turns) * recipe.passage_share)))
        order = turns + passages
        rng.shuffle(order)
        for start in range(0, len(order), recipe.batch * 50):
            near = sorted(order[start : start + recipe.batch * 50], key=lambda row: len(row.ids))
            groups = [near[at : at + recipe.batch] for at in range(0, len(near), recipe.batch)]
            rng.shuffle(groups)
            for group in groups:
                yield group
                made += 1
                if made == recipe.steps:
                    return


def loss_of(model: LlamaForCausalLM, group: list[Row], pad: int) -> torch.Tensor:
    """Mean next-token loss of a batch, weighted as its rows say."""
    longest = max(len(row.ids) for row in group)
    ids = torch.full((len(group), longest), pad)
    weights = torch.zeros(len(group), longest)
    for index, row in enumerate(group):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        weights[index, : len(row.ids)] = torch.tensor(row.weights)
    logits = model(input_ids=ids).logits[:, :-1]
    each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    return (each * weights[:, 1:]).sum() / weights[:, 1:].sum()


def train(
    recipe: Recipe, tokenizer: PreTrainedTokenizerFast, turns: list[Row], plain: list[Row]
) -> tuple[LlamaForCausalLM, list[float]]:
    """The trained model (float32) and its loss at every step."""
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=recipe.hidden, num_hidden_layers=recipe.layers, intermediate_size=recipe.ffn,
        num_attention_heads=recipe.heads, num_key_value_heads=recipe.kv_heads, max_position_embeddings=recipe.context,
        tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.05, fused=True
    )
    warm = max(1, recipe.steps // 25)
    losses: list[float] = []
    began = time.monotonic()
    for step, group in enumerate(batches(turns, plain, recipe)):
        share = step / recipe.steps
        scale = (step + 1) / warm if step < warm else 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share))
        for parameters in optimizer.param_groups:
            parameters["lr"] = recipe.learning_rate * scale
        loss = loss_of(model, group, tokenizer.pad_token_id)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % 50 == 49 or step + 1 == recipe.steps:
            recent = sum(losses[-50:]) / len(losses[-50:])
            left = (time.monotonic() - began) / (step + 1) * (recipe.steps - step - 1)
            print(f"step {step + 1}/{recipe.steps}  loss {recent:.3f}  {left:.0f} s left", flush=True)
    return model.eval(), losses
