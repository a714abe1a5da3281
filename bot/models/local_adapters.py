"""LoRA adapters as files: read, checked, and made ready to be added to a base model's products."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

_PREFIX = "base_model.model."
_UNSERVED = ("use_dora", "use_qalora", "lora_bias", "modules_to_save", "trainable_token_indices")


class CannotLoad(Exception):
    """The base model or an adapter cannot be used; the message is for people and names the remedy."""


class DoesNotFit(Exception):
    """Why an adapter is none for this base model."""


@dataclass(frozen=True)
class Update:
    """What an adapter adds to one product: x -> (x down) up; `up` is scaled already."""

    down: torch.Tensor  # (rank, in)
    up: torch.Tensor  # (out, rank)


def read_adapter(folder: Path) -> dict[str, Update]:
    """Module's name -> its update. Raises `CannotLoad` for missing or damaged files, else `DoesNotFit`."""
    config = _config(folder)
    if config.get("peft_type") != "LORA" or any(config.get(name) for name in _UNSERVED):
        raise DoesNotFit("It is not a plain LoRA adapter.")
    try:
        tensors = load_file(str(folder / "adapter_model.safetensors"))
    except Exception as error:
        raise DoesNotFit(f"adapter_model.safetensors is damaged ({error}).") from error
    if odd := [key for key in tensors if not re.search(r"\.lora_[AB]\.weight$", key)]:
        raise DoesNotFit(f"{len(odd)} tensors are unexpected, for example {odd[0]}.")
    modules = sorted({key.rpartition(".lora_")[0] for key in tensors})
    if not modules:
        raise DoesNotFit("It holds no tensors.")
    return {module.removeprefix(_PREFIX): _update(config, module, tensors) for module in modules}


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


def _update(config: dict[str, Any], module: str, tensors: dict[str, torch.Tensor]) -> Update:
    try:
        down, up = (tensors[f"{module}.lora_{side}.weight"].float() for side in "AB")
    except KeyError as error:
        raise DoesNotFit(f"{error.args[0]} is missing.") from error
    name = module.removeprefix(_PREFIX)
    rank = int(_pattern(config.get("rank_pattern"), name, config["r"]))
    alpha = float(_pattern(config.get("alpha_pattern"), name, config["lora_alpha"]))
    if down.dim() != 2 or up.dim() != 2 or down.shape[0] != rank or up.shape[1] != rank:
        raise DoesNotFit(f"{name} has shapes {tuple(down.shape)} and {tuple(up.shape)}, its rank is {rank}.")
    if not (torch.isfinite(down).all() and torch.isfinite(up).all()):
        raise DoesNotFit(f"{name} holds numbers that are not finite.")
    return Update(down, up * (alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)))


def _pattern(patterns: dict[str, Any] | None, name: str, otherwise: Any) -> Any:
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return otherwise
