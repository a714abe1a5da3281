"""A base model as the worker holds it: found, loaded in the precision that serves here, with its adapters and its words.

Nothing here trains, unpickles, or runs code that came with a model.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from jinja2 import TemplateError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
)

from bot.models.local_adapters import CannotLoad, DoesNotFit, read_adapter
from bot.models.local_net import Net
from bot.models.local_precision import Precision, Verdicts, choose
from bot.models.local_rows import Row
from bot.models.local_text import TextPieces, fit
from storage.values import Message
from training.chat import PLAIN_CHAT_TEMPLATE, Turn, merged

_GPU_SHARE = 0.8  # of the free memory for 16-bit weights; the rest is for keys and values


class Weights:
    """A base model with any number of LoRA adapters beside it, each of which a row can ask for."""

    def __init__(self, net: Net, why: str, model: PreTrainedModel, tokenizer: Any) -> None:
        self.net = net
        self.why = why
        self._tokenizer = tokenizer
        self._adapters = 0  # ever loaded; gives each one a name
        self.device = model.device
        self.parameters = _parameters(model)
        self.context = _context(model, tokenizer)
        self.end_tokens = _end_tokens(model, tokenizer)

    @property
    def dtype(self) -> str:
        """The precision that serves."""
        return self.net.precision

    def row(self, messages: Sequence[Message], *, max_new_tokens: int, **rest: Any) -> Row:
        """A question made ready for a batch; `rest` are further fields of `Row`. Raises `TooLong`.

        The answer has room for `max_new_tokens` or a quarter of the context, whichever is less; older turns give way.
        """
        learned = self.net.prompts.ids(rest.get("adapter"))
        room = self.context - max(1, min(max_new_tokens, self.context // 4)) - len(learned)
        prompt = learned + fit(messages, room=room, render=self._render)
        allowed = min(max_new_tokens, self.context - len(prompt))
        return Row(prompt=prompt, max_new_tokens=allowed, pieces=TextPieces(self._decode), **rest)

    def load_adapter(self, folder: Path) -> str:
        """Load an adapter beside the others and return its name here. Raises `CannotLoad`."""
        self._adapters += 1
        name = f"adapter_{self._adapters}"
        try:
            self.net.put(name, read_adapter(folder))
        except DoesNotFit as error:
            raise CannotLoad(
                f"The adapter in {folder} does not fit this base model: {_first_line(error)} It was probably trained "
                "on another LOCAL_MODEL. Train again with /train, or roll back to a version of this base model."
            ) from error
        return name

    def unload_adapter(self, name: str) -> None:
        """Free an adapter that no row uses."""
        self.net.drop(name)

    def _render(self, messages: Sequence[Message]) -> list[int]:
        """As in training: the same template, without special tokens but those that it writes itself."""
        turns: list[Turn] = [{"role": message.role, "content": message.content} for message in messages]
        try:
            text = self._template(turns)
        except TemplateError:
            text = self._template(merged(turns))
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _template(self, turns: Sequence[Turn]) -> str:
        return str(self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def _decode(self, ids: Sequence[int]) -> str:
        quick = getattr(self._tokenizer, "_tokenizer", None)
        if quick is not None:  # ten times faster than by way of transformers, and this runs for every token
            return str(quick.decode(ids, skip_special_tokens=True))
        as_written = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return str(self._tokenizer.decode(list(ids), **as_written))


def load_weights(
    model: str,
    *,
    device: str = "auto",
    allow_downloads: bool = False,
    precision: Precision = "auto",
    verdicts: Path | None = None,
) -> Weights:
    """The base model from a folder, the Hugging Face cache, or (if allowed) the hub. Raises `CannotLoad`.

    `verdicts` is a file that remembers which precision serves a model on this machine.
    """
    _keep_quiet()
    torch.set_num_threads(_threads())
    place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    kept: dict[str, Any] = {"local_files_only": not allow_downloads, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, **kept)
        loaded = _load(model, place, precision, kept)
    except Exception as error:
        raise CannotLoad(_why_not(model, error, allow_downloads=allow_downloads)) from error
    if not tokenizer.chat_template:
        tokenizer.chat_template = PLAIN_CHAT_TEMPLATE
    loaded.eval()
    net, why = choose(loaded, tokenizer, precision, Verdicts(verdicts, model))
    weights = Weights(net, why, loaded, tokenizer)
    loaded.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    return weights


def _load(model: str, place: torch.device, precision: Precision, kept: dict[str, Any]) -> Any:
    loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype="auto", use_safetensors=True, **kept)
    if getattr(loaded, "quantization_method", None) is not None:
        return loaded
    if place.type != "cuda":
        return loaded.to(device=place, dtype=torch.float32)
    half = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    fits = 2 * _parameters(loaded) < _GPU_SHARE * torch.cuda.mem_get_info()[0]
    if precision == "4bit" or (precision == "auto" and not fits):
        del loaded
        four = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=half
        )
        return AutoModelForCausalLM.from_pretrained(
            model, dtype=half, use_safetensors=True, quantization_config=four, device_map={"": 0}, **kept
        )
    return loaded.to(device=place, dtype=torch.float32 if precision == "fp32" else half)


def _keep_quiet() -> None:
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _threads() -> int:
    """All physical cores this process may use but one, which stays with the bot."""
    physical = psutil.cpu_count(logical=False) or 1  # type: ignore[no-untyped-call]
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return max(1, min(physical, allowed) - 1)


def _parameters(model: PreTrainedModel) -> int:
    return int(sum(weight.numel() for weight in model.parameters()))


def _context(model: PreTrainedModel, tokenizer: Any) -> int:
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    limits = [n for n in (longest, tokenizer.model_max_length) if isinstance(n, int) and 0 < n < 10**7]
    return min(limits, default=2048)


def _end_tokens(model: PreTrainedModel, tokenizer: Any) -> frozenset[int]:
    """What ends an answer: tokens that tokenizer and checkpoint name, and what the chat template closes a turn with."""
    named = model.generation_config.eos_token_id if model.generation_config else None
    ends = set(named if isinstance(named, list) else [named]) | {tokenizer.eos_token_id, _turn_end(tokenizer)}
    return frozenset(int(token) for token in ends if token is not None)


def _turn_end(tokenizer: Any) -> int | None:
    probe = "zzprobezz"
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": probe}]
    try:
        after = tokenizer.apply_chat_template(turns, tokenize=False).rpartition(probe)[2]
    except TemplateError:
        return None
    ids = tokenizer(after, add_special_tokens=False)["input_ids"]
    marks = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return ids[0] if ids and ids[0] in marks else None


def _why_not(model: str, error: Exception, *, allow_downloads: bool) -> str:
    said = _first_line(error)
    folder = Path(model)
    is_hub_id = not (folder.is_absolute() or model.startswith((".", "~")) or folder.exists())
    if is_hub_id and not allow_downloads:
        remedy = (
            "It is not in this machine's Hugging Face cache and downloads are off. Set ALLOW_DOWNLOADS=true, or set "
            "LOCAL_MODEL to a folder."
        )
    elif not is_hub_id and not folder.is_dir():
        remedy = "There is no such folder. Set LOCAL_MODEL to one with config.json and *.safetensors, or to a hub id."
    elif not is_hub_id and not (folder / "config.json").is_file():
        remedy = "The folder has no config.json. Set LOCAL_MODEL to a folder that save_pretrained wrote."
    elif not is_hub_id and not list(folder.glob("*.safetensors")):
        remedy = "The folder has no *.safetensors, and pickled weights are not read. Convert it with save_pretrained."
    elif isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        remedy = "It does not fit into memory. Set LOCAL_MODEL to a smaller model."
    else:
        remedy = "Set LOCAL_MODEL to a causal language model in safetensors that transformers knows."
    return f"LOCAL_MODEL={model} cannot be loaded: {said} {remedy}"


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    first = text[0].strip() if text else type(error).__name__
    return first if first.endswith((".", "!", "?")) else f"{first}."
