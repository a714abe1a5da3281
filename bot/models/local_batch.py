"""The local model's weights and how a batch of questions is answered with them: the worker's half with torch.

Only `bot.models.local_worker` imports this. It knows nothing of the protocol: rows go in, and a listener is told when
a row has a new piece of text and when it is done. Nothing here trains, unpickles, or runs code that came with a model.
"""

import json
import os
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

from bot.models.local_text import TextPieces, fit
from storage.values import Message
from training.chat import PLAIN_CHAT_TEMPLATE, Turn, merged

_BF16_FROM_PARAMETERS = 50_000_000
# bf16 gave 1.4 times the speed of fp32 at 135 M parameters on AVX512-BF16; a small model is bound by the overhead of
# each operation instead, and fp32 keeps greedy answers the same alone and in a batch.


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
    """One question on its way through a batch; `adapter` is what `load_adapter` returned, None for the base."""

    id: str
    adapter: str | None
    prompt: list[int]
    max_new_tokens: int
    temperature: float
    streams: bool
    pieces: TextPieces
    since: float = field(default_factory=time.monotonic)
    tokens: int = 0  # generated so far, with the end token
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
        self.parameters = _parameters(model)
        self.context = _context(model, tokenizer)
        self.end_tokens = _end_tokens(model, tokenizer)
        pad = tokenizer.pad_token_id
        self._pad_token = int(pad if pad is not None else min(self.end_tokens, default=0))
        # What the checkpoint says about sampling and penalties must not leak into greedy answers.
        model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]

    @property
    def dtype(self) -> str:
        return str(self._model.dtype).removeprefix("torch.")

    def row(self, messages: Sequence[Message], *, max_new_tokens: int, **rest: Any) -> Row:
        """A question made ready for a batch; `rest` are further fields of `Row`. Raises `TooLong`.

        The answer has room for `max_new_tokens` or a quarter of the context, whichever is less; older turns give way.
        """
        room = self.context - max(1, min(max_new_tokens, self.context // 4))
        prompt = fit(messages, room=room, render=self._render)
        allowed = min(max_new_tokens, self.context - len(prompt))
        return Row(prompt=prompt, max_new_tokens=allowed, pieces=TextPieces(self._decode), **rest)

    def answer(self, rows: Sequence[Row], *, listener: Listener, between_steps: Callable[[], None]) -> None:
        """Answer rows of one adapter and one temperature together; each is told as done the moment it is.

        `between_steps` is called after each token with no forward pass under way: it may load adapters and may set
        a row's `finish` to "stopped".
        """
        self.select(rows[0].adapter)
        glance = _Glance(rows[0].temperature)
        steps = _Steps(rows, self, glance, listener, between_steps)
        ids, mask = self._left_padded([row.prompt for row in rows])
        # `generate` needs no gradients and says so itself; inference mode would leave adapters that are loaded between
        # two steps unusable afterwards.
        self._model.generate(  # type: ignore[operator]
            input_ids=ids,
            attention_mask=mask,
            generation_config=self._config(rows),
            logits_processor=LogitsProcessorList([glance]),
            stopping_criteria=StoppingCriteriaList([steps]),
        )

    def _left_padded(self, prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and attention mask, both (rows, longest prompt)."""
        longest = max(len(prompt) for prompt in prompts)
        gaps = [longest - len(prompt) for prompt in prompts]
        ids = [[self._pad_token] * gap + list(prompt) for gap, prompt in zip(gaps, prompts, strict=True)]
        mask = [[0] * gap + [1] * len(prompt) for gap, prompt in zip(gaps, prompts, strict=True)]
        return torch.tensor(ids, device=self.device), torch.tensor(mask, device=self.device)

    def _config(self, rows: Sequence[Row]) -> GenerationConfig:
        """No end token is named: `_Steps` ends rows one by one. The temperature is applied by `_Glance`."""
        samples = {"do_sample": True, "top_k": 0, "top_p": 1.0} if rows[0].temperature > 0 else {}
        longest = max(row.max_new_tokens for row in rows)
        return GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=longest, pad_token_id=self._pad_token, **{"do_sample": False, **samples}
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
            odd = [*told.unexpected_keys, *(key for key in told.missing_keys if f".{name}." in key)]
            if odd:
                raise ValueError(f"{len(odd)} tensors are missing or unexpected, for example {odd[0]}.")
        except Exception as error:
            self._forget(name)
            raise CannotLoad(
                f"The adapter in {folder} does not fit this base model: {_first_line(error)} It was probably trained "
                "on another LOCAL_MODEL. Train again with /train, or roll back to a version of this base model."
            ) from error
        self._model.eval()  # type: ignore[no-untyped-call]
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
        as_written = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return str(self._tokenizer.decode(list(ids), **as_written))


class _Glance(LogitsProcessor):
    """Keeps the model's own log-probabilities of the step, before the temperature changes them."""

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature
        self.logprobs = torch.empty(0)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.logprobs = torch.log_softmax(scores.float(), dim=-1)
        return scores / self._temperature if self._temperature > 0 else scores


class _Steps(StoppingCriteria):
    """Runs after each token of `generate`: hands tokens to their rows, tells of it, and says which rows are done."""

    def __init__(
        self,
        rows: Sequence[Row],
        weights: Weights,
        glance: _Glance,
        listener: Listener,
        between_steps: Callable[[], None],
    ) -> None:
        self._rows = rows
        self._weights = weights
        self._glance = glance
        self._listener = listener
        self._between_steps = between_steps

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        chosen = input_ids[:, -1]
        logprobs = self._glance.logprobs.gather(1, chosen[:, None])[:, 0].tolist()
        for row, token, logprob in zip(self._rows, chosen.tolist(), logprobs, strict=True):
            if row.finish is None:
                self._take(row, token, logprob)
        self._between_steps()
        self._weights.select(self._rows[0].adapter)  # loading another adapter may have put it in force
        return torch.tensor([row.finish is not None for row in self._rows], device=input_ids.device)

    def _take(self, row: Row, token: int, logprob: float) -> None:
        row.tokens += 1
        row.logprobs.append(round(logprob, 5))
        ended = token in self._weights.end_tokens
        piece = "" if ended else row.pieces.add(token)
        if ended or row.tokens >= row.max_new_tokens:
            row.finish = "stop" if ended else "length"
            piece += row.pieces.finish()
        if piece and row.streams:
            self._listener.on_text(row, piece)
        if row.finish is not None:
            self._listener.on_done(row)


def load_weights(model: str, *, device: str = "auto", allow_downloads: bool = False) -> Weights:
    """The base model from a folder, the Hugging Face cache, or (if allowed) the hub. Raises `CannotLoad`."""
    _keep_quiet()
    torch.set_num_threads(_threads())
    place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    kept = {"local_files_only": not allow_downloads, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, **kept)
        loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype="auto", use_safetensors=True, **kept)
        if getattr(loaded, "quantization_method", None) is None:
            loaded.to(device=place, dtype=_dtype(loaded, place))
    except Exception as error:
        raise CannotLoad(_why_not(model, error, allow_downloads=allow_downloads)) from error
    if not tokenizer.chat_template:
        tokenizer.chat_template = PLAIN_CHAT_TEMPLATE
    loaded.eval()
    return Weights(loaded, tokenizer, loaded.device)


def _keep_quiet() -> None:
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _threads() -> int:
    """All physical cores this process may use but one, which stays with the bot."""
    physical = psutil.cpu_count(logical=False) or 1  # type: ignore[no-untyped-call]
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return max(1, min(physical, allowed) - 1)


def _dtype(model: PreTrainedModel, device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    fast = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return torch.bfloat16 if fast and _parameters(model) >= _BF16_FROM_PARAMETERS else torch.float32


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


def _check_adapter(folder: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise CannotLoad(
                f"{folder / name} is missing. Train again with /train, or roll back to another version."
            )
    config = folder / "adapter_config.json"
    try:
        json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CannotLoad(f"{config} is damaged ({error}). Train again with /train.") from error


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
