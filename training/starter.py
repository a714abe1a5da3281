"""Trains the starter model from nothing: `python -m training.starter OUT_DIR [--quick]`.

A Llama of 2.8 million parameters with a tokenizer of its own, so that the whole loop (ask, rate, fine-tune, evaluate,
promote) runs with no download. It is a demo model: it has a manner of speaking and no knowledge, and invents what it was not
taught. It refuses to read anything but `training.starter_corpus`: no sample domain, no team's data.

The weights in `bot/starter` were made by this script; with the same Python, torch and seed it makes them again.
"""

import argparse
import json
import math
import platform
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from training import starter_corpus
from training.metrics import token_f1

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
    hidden: int = 256  # widths are multiples of 64: bitsandbytes' 4-bit kernels on CPU need it
    layers: int = 3
    ffn: int = 512
    heads: int = 8
    kv_heads: int = 4
    context: int = 1024
    steps: int = 4000
    batch: int = 16
    learning_rate: float = 3e-3
    passage_share: float = 0.12
    facts: int = 100
    sentences: int = 300
    docs: int = 150
    modules: int = 10_000
    question_loss: float = 0.1


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
    sentences=40,
    docs=60,
    modules=20,
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
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
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
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % 50 == 49 or step + 1 == recipe.steps:
            recent = sum(losses[-50:]) / len(losses[-50:])
            left = (time.monotonic() - began) / (step + 1) * (recipe.steps - step - 1)
            print(f"step {step + 1}/{recipe.steps}  loss {recent:.3f}  {left:.0f} s left", flush=True)
    return model.eval(), losses


@torch.no_grad()
def answer(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: list[str], *, at_most: int = 90
) -> list[str]:
    """Greedy answers, 64 questions at a time."""
    answers: list[str] = []
    for start in range(0, len(questions), 64):
        turns = [[{"role": "user", "content": question}] for question in questions[start : start + 64]]
        texts = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        batch = tokenizer(
            texts, return_tensors="pt", padding=True, add_special_tokens=False, return_token_type_ids=False
        )
        written = model.generate(  # type: ignore[misc]
            **batch, max_new_tokens=at_most, do_sample=False
        )[:, batch["input_ids"].shape[1] :]
        answers += [text.strip() for text in tokenizer.batch_decode(written, skip_special_tokens=True)]
    return answers


def held_out_f1(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, corpus: starter_corpus.Corpus
) -> float:
    """Mean token F1 on phrasings never trained on, of questions that were: what a fine-tune is about to need."""
    replies = answer(model, tokenizer, [pair.question for pair in corpus.held_out])
    scores = [token_f1(reply, pair.answer) for reply, pair in zip(replies, corpus.held_out, strict=True)]
    return sum(scores) / len(scores)


@dataclass(frozen=True, slots=True)
class Made:
    """What a build says of itself; stored beside the weights as `made.json`."""

    recipe: dict[str, object]
    corpus_sha256: str
    pairs: int
    passages: int
    parameters: int
    loss_at_first: float
    loss_at_last: float
    held_out_f1: float
    seconds: float
    python: str
    torch: str
    transformers: str


def build(out: Path, recipe: Recipe) -> Made:
    """Makes the corpus, the tokenizer and the model, and writes them to `out` with their card."""
    began = time.monotonic()
    torch.set_num_threads(1)  # one thread adds in one order: the same weights every time
    corpus = starter_corpus.build(
        recipe.seed, facts=recipe.facts, sentences=recipe.sentences, docs=recipe.docs, modules=recipe.modules
    )
    print(f"corpus {corpus.sha256()}: {len(corpus.pairs)} pairs, {len(corpus.passages)} passages", flush=True)
    tokenizer = train_tokenizer(corpus, recipe.vocabulary, recipe.context)
    turns, plain = rows(corpus, tokenizer, recipe)
    model, losses = train(recipe, tokenizer, turns, plain)
    first, last = losses[:20], losses[-20:]
    made = Made(
        recipe=asdict(recipe), corpus_sha256=corpus.sha256(), pairs=len(corpus.pairs), passages=len(corpus.passages),
        parameters=model.num_parameters(), loss_at_first=round(sum(first) / len(first), 3),
        loss_at_last=round(sum(last) / len(last), 3), held_out_f1=round(held_out_f1(model, tokenizer, corpus), 3),
        seconds=round(time.monotonic() - began), python=platform.python_version(), torch=torch.__version__,
        transformers=transformers.__version__,
    )  # fmt: skip
    _save(out, model, tokenizer, made)
    return made


def _save(out: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, made: Made) -> None:
    out.mkdir(parents=True, exist_ok=True)
    model.bfloat16().save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "made.json").write_text(json.dumps(asdict(made), indent=1) + "\n", encoding="utf-8")
    (out / "README.md").write_text(_card(made), encoding="utf-8")
    for file in out.iterdir():
        file.chmod(0o644)


def _card(made: Made) -> str:
    return f"""\
# The starter model (a demo model)

A Llama of {made.parameters / 1e6:.1f} million parameters that was trained from nothing in {made.seconds / 60:.0f} minutes on one processor core. It is here so
that the whole loop of this product (ask, rate, correct, fine-tune, evaluate, promote) runs with no download.

**It knows nothing.** Untuned, it answers every question in the manner of a help desk for products that do not exist, and every
name, number and address in such an answer is invented. After a fine-tune it repeats what it was taught, for questions close
to those it was taught with. Use a real base model (LOCAL_MODEL) for anything beyond trying out.

- **Made by** `python -m training.starter OUT_DIR`; the recipe, the versions and the corpus's hash are in `made.json`. The same
  Python, torch and seed make the same weights. Python {made.python}, torch {made.torch}, transformers {made.transformers}.
- **Text** (`training/starter_corpus.py`, sha256 `{made.corpus_sha256[:16]}...`): {made.pairs} question/answer pairs and {made.passages} passages. Questions and
  answers about invented services and products come from a seeded generator written for this project. First sentences of
  docstrings, and passages from docstrings and language topics, are from CPython {made.python}'s standard library, copyright
  Python Software Foundation, under the PSF License Version 2. The handbook and all measuring data were never shown to it.
- **Licence**: the weights and the tokenizer are part of this project and under its licence (Apache-2.0).
- **Format**: bfloat16 safetensors, byte-level BPE of {made.recipe["vocabulary"]} tokens, context {made.recipe["context"]}. The chat template reads questions in lower case.
- **Measured at the end of its training**: loss {made.loss_at_first} at first, {made.loss_at_last} at last; token F1 {made.held_out_f1} on phrasings of its own training
  questions that it had never seen.
"""


def main(arguments: list[str] | None = None) -> int:
    """Builds the model and prints how it went, as JSON on the last line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.starter", description="Train the starter model from nothing."
    )
    parser.add_argument("out", type=Path, help="directory to write to; it is made")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a far smaller model in seconds: proves the script, answers nothing",
    )
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    made = build(asked.out, replace(QUICK if asked.quick else Recipe(), seed=asked.seed))
    print(json.dumps(asdict(made)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
