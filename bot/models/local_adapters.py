"""Adapters as files: read, checked, and made ready to ride on a base model. LoRA, DoRA, (IA)3 and learned prompts.

Whatever the kind, a product's output y = Wx + b becomes gain * (y + x down up) + shift for the rows that have the adapter.
LoRA has no gain; DoRA's (arXiv:2402.09353, eq. 5) depends on the base's weights, see `riding`; (IA)3 is a gain alone
(arXiv:2205.05638); a learned prompt (arXiv:2104.08691) stands before the question and leaves products as they are.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from bot.models.local_linear import Pair

_PREFIX = "base_model.model."
_UNSERVED = ("use_qalora", "lora_bias", "modules_to_save", "trainable_token_indices")
_LORA = re.compile(r"\.(lora_[AB]\.weight|lora_magnitude_vector(\.weight)?)$")
_IA3 = re.compile(r"\.ia3_l$")
_PROMPT = "prompt_embeddings"

Tensors = dict[str, torch.Tensor]


class CannotLoad(Exception):
    """The base model or an adapter cannot be used; the message is for people and names the remedy."""


class DoesNotFit(Exception):
    """Why an adapter is none for this base model."""


@dataclass(frozen=True)
class Update:
    """What an adapter does to one product of shape (out, in); (IA)3 has no `down`, of which the width is then not known."""

    up: torch.Tensor  # (out, rank), scaled
    down: torch.Tensor | None = None  # (rank, in)
    lengths: torch.Tensor | None = None  # DoRA: what each row of W + up down is stretched to, (out)
    gain: torch.Tensor | None = None  # (IA)3, (out)

    def fits(self, outputs: int, inputs: int) -> bool:
        """Whether it is for a product of this shape."""
        return len(self.up) == outputs and (self.down is None or self.down.shape[1] == inputs)

    @property
    def shape(self) -> tuple[int, int | None]:
        """(out, in) of the product that it is for."""
        return len(self.up), None if self.down is None else self.down.shape[1]


@dataclass(frozen=True)
class Adapter:
    """Module's name -> its update, and what stands before each question: (tokens, width), or nothing."""

    updates: Mapping[str, Update] = field(default_factory=dict)
    prompt: torch.Tensor | None = None


def read_adapter(folder: Path) -> Adapter:
    """What the files say. Raises `CannotLoad` for missing or damaged ones, else `DoesNotFit`."""
    config = _config(folder)
    readers = {"LORA": _lora, "IA3": _ia3, "PROMPT_TUNING": _learned_prompt}
    read = readers.get(str(config.get("peft_type")))
    if read is None or any(config.get(name) for name in _UNSERVED):
        raise DoesNotFit("It is no plain LoRA, DoRA, (IA)3 or prompt.")
    try:
        tensors = load_file(str(folder / "adapter_model.safetensors"))
    except Exception as error:
        raise DoesNotFit(f"adapter_model.safetensors is damaged ({error}).") from error
    if not tensors:
        raise DoesNotFit("It holds no tensors.")
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise DoesNotFit(f"{name.removeprefix(_PREFIX)} holds numbers that are not finite.")
    return read(config, {name: tensor.float() for name, tensor in tensors.items()})


def riding(
    update: Update,
    like: torch.Tensor,
    *,
    start: int,
    base_lengths: torch.Tensor | None,
    base: Any,
    bias: torch.Tensor | None,
) -> Pair:
    """The update as it rides on a product, from its output `start` on; device and dtype are those of `like`.

    `base_lengths` (out) are those of W's rows, None where nobody knows them; `base` gives Wx for each row x of (n, in),
    without bias. Raises `DoesNotFit`.
    """
    down, up, gain = update.down, update.up, update.gain
    shift = None
    if update.lengths is not None and down is not None:
        if base_lengths is None:
            raise DoesNotFit("It is DoRA, and the weights of this base model cannot be read.")
        # |w + v|^2 = |w|^2 + 2 wv + |v|^2 for each row, without ever writing W + up down.
        across = base(down.to(like)).to(up).T  # (out, rank)
        squared = base_lengths.to(up) ** 2 + 2 * (across * up).sum(1) + ((up @ (down @ down.T)) * up).sum(1)
        gain = update.lengths / squared.clamp_min(1e-12).sqrt()
        if bias is not None:
            shift = bias.to(up) * (1 - gain)  # DoRA leaves it alone
    return Pair(
        down=None if down is None else down.to(like),
        up=up.to(like),
        start=start,
        gain=None if gain is None else gain.to(like),
        shift=None if shift is None else shift.to(like),
    )


def _config(folder: Path) -> dict[str, Any]:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise CannotLoad(
                f"{folder / name} is missing. Train again with /train, or roll back to another version."
            )
    path = folder / "adapter_config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CannotLoad(f"{path} is damaged ({error}). Train again with /train.") from error
    return config


def _lora(config: dict[str, Any], tensors: Tensors) -> Adapter:
    _only(_LORA, tensors)
    modules = sorted({key.rpartition(".lora_")[0] for key in tensors})
    return Adapter({module.removeprefix(_PREFIX): _of_lora(config, module, tensors) for module in modules})


def _of_lora(config: dict[str, Any], module: str, tensors: Tensors) -> Update:
    try:
        down, up = (tensors[f"{module}.lora_{side}.weight"] for side in "AB")
    except KeyError as error:
        raise DoesNotFit(f"{error.args[0]} is missing.") from error
    name = module.removeprefix(_PREFIX)
    rank = int(_pattern(config.get("rank_pattern"), name, config["r"]))
    alpha = float(_pattern(config.get("alpha_pattern"), name, config["lora_alpha"]))
    if down.dim() != 2 or up.dim() != 2 or down.shape[0] != rank or up.shape[1] != rank:
        raise DoesNotFit(f"{name} has shapes {tuple(down.shape)} and {tuple(up.shape)}, its rank is {rank}.")
    lengths = None
    if config.get("use_dora"):
        lengths = tensors.get(
            f"{module}.lora_magnitude_vector", tensors.get(f"{module}.lora_magnitude_vector.weight")
        )
        if lengths is None or lengths.numel() != len(up):
            raise DoesNotFit(f"{name} has no length for each of its {len(up)} outputs, which DoRA learns.")
        lengths = lengths.flatten()
    return Update(up * (alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)), down, lengths)


def _ia3(config: dict[str, Any], tensors: Tensors) -> Adapter:
    _only(_IA3, tensors)
    if config.get("feedforward_modules"):
        raise DoesNotFit("It scales what goes into products; only what comes out can be scaled here.")
    updates = {}
    for key, tensor in tensors.items():
        gain = tensor.flatten()
        name = key.removeprefix(_PREFIX).removesuffix(".ia3_l")
        updates[name] = Update(gain.new_zeros((len(gain), 0)), gain=gain)
    return Adapter(updates)


def _learned_prompt(config: dict[str, Any], tensors: Tensors) -> Adapter:
    prompt = tensors.get(_PROMPT)
    if (
        len(tensors) != 1
        or prompt is None
        or prompt.dim() != 2
        or len(prompt) != config.get("num_virtual_tokens")
    ):
        raise DoesNotFit(f"It is no prompt of {config.get('num_virtual_tokens')} learned words.")
    return Adapter(prompt=prompt)


def _only(expected: re.Pattern[str], tensors: Tensors) -> None:
    if odd := [key for key in tensors if not expected.search(key)]:
        raise DoesNotFit(f"{len(odd)} tensors are unexpected, for example {odd[0]}.")


def _pattern(patterns: dict[str, Any] | None, name: str, otherwise: Any) -> Any:
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return otherwise
