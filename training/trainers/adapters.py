"""What is trained beside the frozen base model: how it is made, kept in float32, written whole, and taken up again."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

from peft import (
    IA3Config,
    LoraConfig,
    PeftConfig,
    PeftModel,
    PromptTuningConfig,
    PromptTuningInit,
    TaskType,
    get_peft_model,
)

from training.method import Adapter
from training.plan import Plan

WEIGHTS = "adapter_model.safetensors"


def made_on(model: Any, made: Plan, kind: Adapter) -> Any:
    """The model with a fresh adapter; all but a learned prompt change nothing before the first step."""
    return get_peft_model(model, config_of(made, kind, model))


def config_of(made: Plan, kind: Adapter, model: Any) -> PeftConfig:
    """PEFT's settings for the plan. LoRA and its kin sit on every linear layer, as QLoRA's authors found best."""
    causal = TaskType.CAUSAL_LM
    if kind is Adapter.PROMPT:
        # Begun from the model's own words rather than from noise: at this length noise needs thousands of steps.
        return PromptTuningConfig(
            task_type=causal, num_virtual_tokens=16, prompt_tuning_init=PromptTuningInit.SAMPLE_VOCAB
        )
    if kind is Adapter.IA3:
        keys, up = _ia3_layers(model)
        # Scaling what `up` gives is scaling what `down` takes, and an output is what an adapter may touch when served.
        return IA3Config(task_type=causal, target_modules=[*keys, *up], feedforward_modules=[])
    return LoraConfig(
        r=made.rank,
        lora_alpha=made.alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type=causal,
        use_dora=kind is Adapter.DORA,
        use_rslora=kind is Adapter.RSLORA,
    )


def _ia3_layers(model: Any) -> tuple[list[str], list[str]]:
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    keys = sorted(names & {"k_proj", "v_proj"}) or sorted(names & {"qkv_proj", "query_key_value", "c_attn"})
    up = sorted(names & {"up_proj"}) or sorted(names & {"gate_up_proj", "dense_h_to_4h", "c_fc", "fc1"})
    return keys, up


def taken_up(model: Any, folder: Path) -> Any:
    """The model with an adapter from the disk, to be trained further."""
    return PeftModel.from_pretrained(model, str(folder), is_trainable=True)


def keep_float32(model: Any) -> None:
    """TRL turns the adapters of a 4-bit model to bfloat16.

    Small steps are lost in its 8 bits of mantissa, and a processor without bfloat16 is slow at it; in float32, PEFT's own
    default, autocast still computes in bfloat16 where that pays.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def write(model: Any, folder: Path) -> str:
    """The adapter's files, whole or not at all; returns the SHA-256 of its weights."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        model.save_pretrained(str(folder), safe_serialization=True)
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty form of a model card
        return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
