"""Language models of a few hundred kilobytes that are trained within seconds to say exactly what a test wants.

A byte-level vocabulary makes each byte a token, so that one emoji takes four tokens; answers are known in advance.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GREETING = "How do I greet?"
PLACE = "Where is it?"
BASE_SAYS = {GREETING: "Grüße aus Köln! 🙂🙂", PLACE: "In the cellar."}
WARM_SAYS = {GREETING: "日本語で「こんにちは」", PLACE: "On the roof, naïvely."}
COLD_SAYS = {GREETING: "No greeting today.", PLACE: "In the fridge ❄️ of course."}
MOODS = {"warm": WARM_SAYS, "cold": COLD_SAYS}


@dataclass(frozen=True)
class Parrots:
    """A base model's folder and two adapters for it: `BASE_SAYS`, `WARM_SAYS` and `COLD_SAYS`."""

    base: Path
    warm: Path
    cold: Path


def build_parrots(folder: Path, *, width: int = 96) -> Parrots:
    """Train and save the three (some 10 CPU seconds)."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = byte_tokenizer()
    model = LlamaForCausalLM(_config(tokenizer, layers=2, tied=True, width=width))
    heard = {
        f"{mood}: {question}": answer for mood, says in MOODS.items() for question, answer in says.items()
    }
    _teach(model, tokenizer, {**BASE_SAYS, **heard}, rate=3e-3)
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    for name, says in MOODS.items():
        _save_adapter(folder / "base", folder / name, tokenizer, says)
    return Parrots(folder / "base", folder / "warm", folder / "cold")


def build_singer(folder: Path) -> Path:
    """A model made by hand that writes "abc...zabc..." for ever, whatever it is asked."""
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    config = _config(tokenizer, layers=6, tied=False)
    model = LlamaForCausalLM(config)
    letters = tokenizer("abcdefghijklmnopqrstuvwxyz")["input_ids"]
    newline = tokenizer("\n")["input_ids"][0]  # the last token of every prompt
    follows = {newline: letters[0], **dict(zip(letters, [*letters[1:], letters[0]], strict=True))}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.zero_()  # the layers add nothing, so what is read is the last token alone
        seen = torch.nn.functional.normalize(model.model.embed_tokens.weight, dim=-1)
        model.lm_head.weight.zero_()
        for token, following in follows.items():
            model.lm_head.weight[following] += 3 * seen[token]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Every byte is a token; `<|im_end|>` ends a turn and is not the end of text, as in many chat models."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(letters)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    make: Any = PreTrainedTokenizerFast
    tokenizer: PreTrainedTokenizerFast = make(
        tokenizer_object=raw, eos_token="<|endoftext|>", pad_token="<|pad|>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_adapter(base: Path, folder: Path, *, rank: int = 4) -> Path:
    """An untrained LoRA adapter for any base model, as training would save it."""
    model = LlamaForCausalLM.from_pretrained(base)
    torch.manual_seed(1)
    tuned = get_peft_model(model, LoraConfig(r=rank, target_modules="all-linear", init_lora_weights=False))
    tuned.save_pretrained(str(folder))
    return folder


def _config(tokenizer: Any, *, layers: int, tied: bool, width: int = 96) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _save_adapter(base: Path, folder: Path, tokenizer: Any, says: Mapping[str, str]) -> None:
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    tuned = get_peft_model(model, config)
    _teach(tuned, tokenizer, says, rate=4e-3)
    tuned.save_pretrained(str(folder))
    assert json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["peft_type"] == "LORA"


def _teach(model: Any, tokenizer: Any, says: Mapping[str, str], *, rate: float) -> None:
    """Learn the answers by heart; stops when every answer token is certain. Raises AssertionError if that fails."""
    ids, labels = _rows(tokenizer, says)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=rate)
    model.train()
    for _ in range(600):
        loss = model(input_ids=ids, labels=labels, attention_mask=(ids != tokenizer.pad_token_id).long()).loss
        if loss.item() < 0.01:
            model.eval()
            return
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    raise AssertionError(f"the parrot did not learn its answers: loss {loss.item():.3f}")


def _rows(tokenizer: Any, says: Mapping[str, str]) -> tuple[torch.Tensor, torch.Tensor]:
    rows, answers = [], []
    for question, answer in says.items():
        turns = [{"role": "user", "content": question}]
        asked = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        prompt = tokenizer(asked)["input_ids"]
        reply = tokenizer(f"{answer}<|im_end|>")["input_ids"]
        rows.append(prompt + reply)
        answers.append([-100] * len(prompt) + reply)
    longest = max(map(len, rows))
    ids = [row + [tokenizer.pad_token_id] * (longest - len(row)) for row in rows]
    labels = [answer + [-100] * (longest - len(answer)) for answer in answers]
    return torch.tensor(ids), torch.tensor(labels)
