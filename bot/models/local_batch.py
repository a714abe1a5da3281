"""The local model's weights and how a batch of questions is answered with them: the worker process's half with torch.

Only `bot.models.local_worker` imports this. It knows nothing of the protocol: rows go in, and each row tells its listener
when it has a new piece of text and when it is done. Nothing here trains, unpickles, or runs code that came with a model.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch
from jinja2 import TemplateError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)

from bot.models.local_text import TextPieces, fit, merged
from storage.values import Message

PLAIN_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] }}\n"
    "{% elif message['role'] == 'user' %}Question: {{ message['content'] }}\n"
    "{% else %}Answer: {{ message['content'] }}{{ eos_token }}\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}Answer:{% endif %}"
)
"""For base models that come without a chat template."""

_BF16_FROM_PARAMETERS = 50_000_000
# bf16 gave 1.4 times the speed of fp32 at 135 M on AVX512-BF16 (shared facts on inference); a small model is bound by
# the overhead of each operation instead, and fp32 keeps greedy answers the same alone and in a batch.

log = logging.getLogger(__name__)


class CannotLoad(Exception):
    """The base model or an adapter cannot be used; the message is for people and names the remedy."""


class Listener(Protocol):
    """Who hears of a row's progress, on the generating thread."""

    def on_text(self, row: "Row", piece: str) -> None:
        """`piece` follows what was told before."""

    def on_done(self, row: "Row") -> None:
        """`row.finish` is set and `row.pieces.text` is final."""


@dataclass(eq=False)
class Row:
    """One question on its way through a batch; `adapter` is the weights' own name of it, None for the base."""

    id: str
    adapter: str | None
    prompt: list[int]
    max_new_tokens: int
    temperature: float
    streams: bool
    pieces: TextPieces
    since: float
    tokens: int = 0
    logprobs: list[float] = field(default_factory=list)
    finish: str | None = None

    @property
    def length(self) -> int:
        """The most tokens that prompt and answer can take."""
        return len(self.prompt) + self.max_new_tokens


class Weights:
    """A base model with any number of LoRA adapters beside it, of which one or none is in force."""

    def __init__(self, model: PreTrainedModel, tokenizer: Any, device: torch.device) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._peft: Any = None
        self._adapters = 0  # ever loaded; gives each one a name that PEFT accepts
        self.device = device
        self.parameters = int(sum(weight.numel() for weight in model.parameters()))
        self.context = _context(model, tokenizer)
        self._end_tokens = _end_tokens(model, tokenizer)
        pad = tokenizer.pad_token_id
        self._pad_token = int(pad if pad is not None else min(self._end_tokens, default=0))
        # What the checkpoint says about sampling and penalties must not leak into greedy answers.
        model.generation_config = GenerationConfig()

    @property
    def dtype(self) -> str:
        return str(self._model.dtype).removeprefix("torch.")

    def row(self, id: str, messages: Sequence[Message], *, adapter: str | None, max_new_tokens: int,
            temperature: float, streams: bool) -> Row:
        """A question made ready for a batch. Raises `TooLong`.

        The answer gets at least a quarter of the context or `max_new_tokens`, whichever is less; older turns make room.
        """  # fmt: skip
        room = self.context - max(1, min(max_new_tokens, self.context // 4))
        prompt = fit(messages, room=room, render=self._render)
        allowed = min(max_new_tokens, self.context - len(prompt))
        pieces = TextPieces(self._decode)
        return Row(id, adapter, prompt, allowed, temperature, streams, pieces, time.monotonic())

    def answer(self, rows: Sequence[Row], *, listener: Listener, between_steps: Callable[[], None]) -> None:
        """Answer rows of one adapter and one temperature together; each is told as done the moment it is.

        `between_steps` is called before each token with no forward pass under way: it may load adapters and may set a
        row's `finish` to "stopped".
        """
        self.select(rows[0].adapter)
        longest = max(len(row.prompt) for row in rows)
        padding = [longest - len(row.prompt) for row in rows]
        ids = [[self._pad_token] * pad + row.prompt for pad, row in zip(padding, rows, strict=True)]
        mask = [[0] * pad + [1] * len(row.prompt) for pad, row in zip(padding, rows, strict=True)]
        temperature = rows[0].temperature
        config = GenerationConfig(
            max_new_tokens=max(row.max_new_tokens for row in rows),
            do_sample=temperature > 0,
            pad_token_id=self._pad_token,
            **({"top_k": 0, "top_p": 1.0, "temperature": 1.0} if temperature > 0 else {}),
        )
        glance = _Glance(temperature)
        steps = _Steps(rows, self._end_tokens, glance, listener, between_steps, lambda: self.select(rows[0].adapter))
        with torch.inference_mode():
            self._model.generate(  # type: ignore[operator]
                input_ids=torch.tensor(ids, device=self.device),
                attention_mask=torch.tensor(mask, device=self.device),
                generation_config=config,
                logits_processor=LogitsProcessorList([glance]),
                stopping_criteria=StoppingCriteriaList([steps]),
            )

    def load_adapter(self, folder: Path) -> str:
        """Load a LoRA adapter beside the others and return its name here. Raises `CannotLoad`."""
        _check_adapter(folder)
        from peft import PeftConfig, PeftModelForCausalLM

        self._adapters += 1
        name = f"adapter_{self._adapters}"
        try:
            if self._peft is None:
                config = PeftConfig.from_pretrained(str(folder))
                config.inference_mode = True
                self._peft = PeftModelForCausalLM(self._model, config, adapter_name=name)
            told = self._peft.load_adapter(str(folder), adapter_name=name, torch_device=str(self.device))
            if told.unexpected_keys or _of_adapter(told.missing_keys, name):
                raise ValueError(f"tensors are missing or unexpected: {(told.unexpected_keys or told.missing_keys)[:3]}")
        except Exception as error:
            self._forget(name)
            raise CannotLoad(
                f"The adapter in {folder} does not fit this base model: {_first_line(error)} It was probably trained on "
                "another LOCAL_MODEL. Train again with /train, or roll back to a version of this base model."
            ) from error
        self._model.eval()
        return name

    def unload_adapter(self, name: str) -> None:
        """Free an adapter that no row uses."""
        self._forget(name)

    def select(self, name: str | None) -> None:
        """Put one adapter in force, or none: the base as it was loaded."""
        if self._peft is None:
            return
        if name is None:
            self._peft.base_model.disable_adapter_layers()
        else:
            self._peft.base_model.enable_adapter_layers()
            self._peft.set_adapter(name)

    def _forget(self, name: str) -> None:
        if self._peft is not None and name in self._peft.peft_config:
            self._peft.delete_adapter(name)

    def _render(self, messages: Sequence[Message]) -> list[int]:
        try:
            text = self._template(messages)
        except TemplateError:
            text = self._template(merged(messages))
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _template(self, messages: Sequence[Message]) -> str:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return str(self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def _decode(self, ids: Sequence[int]) -> str:
        spelled = self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(spelled)


class _Glance(LogitsProcessor):
    """Keeps the model's own log-probabilities of the step, before the temperature changes them."""

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature
        self.logprobs = torch.empty(0)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.logprobs = torch.log_softmax(scores.float(), dim=-1)
        return scores / self._temperature if self._temperature > 0 else scores


class _Steps(StoppingCriteria):
    """Runs after each token of `generate`: hands tokens to their rows, tells listeners, and says which rows are done."""

    def __init__(self, rows: Sequence[Row], end_tokens: frozenset[int], glance: _Glance, listener: Listener,
                 between_steps: Callable[[], None], restore: Callable[[], None]) -> None:  # fmt: skip
        self._rows = rows
        self._end_tokens = end_tokens
        self._glance = glance
        self._listener = listener
        self._between_steps = between_steps
        self._restore = restore

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        chosen = input_ids[:, -1]
        logprobs = self._glance.logprobs.gather(1, chosen[:, None])[:, 0].tolist()
        for row, token, logprob in zip(self._rows, chosen.tolist(), logprobs, strict=True):
            if row.finish is None:
                self._take(row, token, logprob)
        self._between_steps()
        self._restore()  # loading an adapter changes which one is in force
        return torch.tensor([row.finish is not None for row in self._rows], device=input_ids.device)

    def _take(self, row: Row, token: int, logprob: float) -> None:
        row.tokens += 1
        row.logprobs.append(round(logprob, 5))
        ended = token in self._end_tokens
        piece = "" if ended else row.pieces.add(token)
        if ended or row.tokens >= row.max_new_tokens:
            row.finish = "stop" if ended else "length"
            piece += row.pieces.finish()
        if piece and row.streams:
            self._listener.on_text(row, piece)
        if row.finish is not None:
            self._listener.on_done(row)


def load_weights(model: str, *, device: str = "auto", allow_downloads: bool = False) -> Weights:
    """The base model from a folder, this machine's Hugging Face cache, or (if allowed) the hub. Raises `CannotLoad`."""
    _keep_quiet(model)
    torch.set_num_threads(_threads())
    place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    kept = {"local_files_only": not allow_downloads, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, **kept)
        loaded = AutoModelForCausalLM.from_pretrained(model, dtype="auto", use_safetensors=True, **kept)
        if getattr(loaded, "quantization_method", None) is None:
            loaded.to(device=place, dtype=_dtype(loaded, place))
    except Exception as error:
        raise CannotLoad(_why_not(model, error, allow_downloads=allow_downloads)) from error
    if not tokenizer.chat_template:
        tokenizer.chat_template = PLAIN_CHAT_TEMPLATE
    loaded.eval()
    return Weights(loaded, tokenizer, loaded.device)


def _keep_quiet(model: str) -> None:
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if not _is_quantised(model):
        # PEFT imports bitsandbytes wherever it is installed (2.5 CPU seconds, 46 MB) and here nothing would use it.
        sys.modules.setdefault("bitsandbytes", None)  # type: ignore[arg-type]


def _is_quantised(model: str) -> bool:
    config = Path(model) / "config.json"
    return not config.is_file() or "quantization_config" in config.read_text(encoding="utf-8")


def _threads() -> int:
    """All physical cores this process may use but one, which stays with the bot."""
    physical = psutil.cpu_count(logical=False) or 1
    return max(1, min(physical, len(os.sched_getaffinity(0))) - 1)


def _dtype(model: PreTrainedModel, device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    fast = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return torch.bfloat16 if fast and model.num_parameters() >= _BF16_FROM_PARAMETERS else torch.float32


def _context(model: PreTrainedModel, tokenizer: Any) -> int:
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    limits = [n for n in (longest, tokenizer.model_max_length) if isinstance(n, int) and 0 < n < 10**7]
    return min(limits, default=2048)


def _end_tokens(model: PreTrainedModel, tokenizer: Any) -> frozenset[int]:
    """What ends an answer: the tokens that tokenizer and checkpoint name, and the one the chat template closes a turn with."""
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


def _check_adapter(folder: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise CannotLoad(f"{folder / name} is missing. Train again with /train, or roll back to an earlier version.")
    try:
        json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise CannotLoad(f"{folder / 'adapter_config.json'} is damaged ({error}). Train again with /train.") from error


def _of_adapter(keys: Sequence[str], name: str) -> list[str]:
    return [key for key in keys if f".{name}." in key]


def _why_not(model: str, error: Exception, *, allow_downloads: bool) -> str:
    said = _first_line(error)
    looks_local = Path(model).is_absolute() or model.startswith((".", "~")) or Path(model).exists()
    if looks_local and not Path(model).is_dir():
        remedy = "There is no such folder. Set LOCAL_MODEL to a folder with config.json and *.safetensors, or to a hub id."
    elif looks_local and not (Path(model) / "config.json").is_file():
        remedy = "The folder has no config.json. Set LOCAL_MODEL to a folder that save_pretrained wrote."
    elif looks_local and not list(Path(model).glob("*.safetensors")):
        remedy = "The folder has no *.safetensors (pickled weights are not read). Convert it with save_pretrained."
    elif not looks_local and not allow_downloads:
        remedy = (
            "It is not in this machine's Hugging Face cache and downloads are off. Allow downloads, fetch it with "
            "`hf download`, or set LOCAL_MODEL to a folder."
        )
    elif isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        remedy = "It does not fit into memory. Set LOCAL_MODEL to a smaller model."
    else:
        remedy = "Set LOCAL_MODEL to a causal language model in safetensors that transformers knows."
    return f"LOCAL_MODEL={model} cannot be loaded: {said} {remedy}"


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    first = text[0].strip() if text else type(error).__name__
    return first if first.endswith((".", "!", "?")) else f"{first}."
