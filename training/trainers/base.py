"""The base model and its tokenizer: loaded without running any code of theirs, frozen, and ready for an adapter."""

from collections.abc import Callable
from typing import Any

import bitsandbytes
import bitsandbytes.functional
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
)

from training.chat import PLAIN_CHAT_TEMPLATE
from training.failures import cannot_load, disk_is_full
from training.memory import Shape
from training.notebook import Notebook
from training.plan import Machine
from training.rundir import Event, Job, Quantization


def load_tokenizer(notebook: Notebook, job: Job) -> Any:
    """The base model's tokenizer, with a chat template in any case."""
    tokenizer = _loaded(job, lambda: AutoTokenizer.from_pretrained(job.base_model, **_kept(job)))
    if not tokenizer.chat_template:
        tokenizer.chat_template = PLAIN_CHAT_TEMPLATE
        notebook.tell(Event.LOADED, message="The base model has no chat template; a plain one is used.")
    return tokenizer


def load_base(job: Job, machine: Machine) -> PreTrainedModel:
    """The base model ready for an adapter: frozen, in NF4 with double quantisation or in floating point."""
    dtype = torch.bfloat16 if machine.fast_bf16 else torch.float32
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, **_kept(job)}
    if machine.device == "cuda":
        options["device_map"] = {"": torch.cuda.current_device()}
    if job.quantization == Quantization.NF4:
        nf4 = {
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": dtype,
        }
        options["quantization_config"] = BitsAndBytesConfig(load_in_4bit=True, **nf4)  # type: ignore[no-untyped-call]

    model: PreTrainedModel = _loaded(
        job, lambda: AutoModelForCausalLM.from_pretrained(job.base_model, **options)
    )
    keep_gradients(model)
    # peft.prepare_model_for_kbit_training is left out on purpose: it turns embeddings and norms to float32, and without
    # that a 0.5B model trains in a gigabyte less at the same speed (training.md 2c). What else it does is this:
    model.requires_grad_(False)
    model.config.use_cache = False
    return model


def keep_gradients(model: torch.nn.Module) -> None:
    """Keeps 4-bit layers on the path that has gradients. Call it before the first forward pass.

    bitsandbytes (0.50.2 and before) repacks 4-bit weights in an evaluation pass on a processor with AVX512-BF16, for a
    kernel without autograd, and never goes back: from then on most LoRA gradients are exactly 0, silently
    (training.md 2a; tests/test_qlora.py holds that gradient norms before and after an evaluation agree).
    """
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def unfolded(model: PreTrainedModel) -> PreTrainedModel:
    """The same 4-bit weights, each written out as the float that it stands for, so that no step unpacks them anew.

    A processor gains no speed from 4 bits: it unpacks every layer in every pass (a tenth of the time, training.md 2c). What
    is learned is learned on the rounded weights all the same.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            packed: Any = module.weight
            weight = bitsandbytes.functional.dequantize_4bit(packed.data, packed.quant_state)
            plain = torch.nn.Linear(
                module.in_features, module.out_features, bias=module.bias is not None, device="meta"
            )
            plain.weight = torch.nn.Parameter(weight.to(module.compute_dtype), requires_grad=False)
            plain.bias = module.bias
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, plain)
    return model


def _kept(job: Job) -> dict[str, bool]:
    return {"trust_remote_code": False, "local_files_only": not job.allow_downloads}


def _loaded(job: Job, load: Callable[[], Any]) -> Any:
    """`load()`, or a PublicError that names the base model and what to do."""
    try:
        return load()
    except (OSError, ValueError, ImportError) as error:
        if disk_is_full(error):
            raise
        raise cannot_load(job.base_model, error, allow_downloads=job.allow_downloads) from error


def shape_of(job: Job) -> Shape:
    """A base model's measures, from its config.json: no weight is read."""

    def skeleton() -> Any:
        config = AutoConfig.from_pretrained(job.base_model, **_kept(job))
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]

    model = _loaded(job, skeleton)
    head = model.get_output_embeddings()
    linear = [each for each in model.modules() if isinstance(each, torch.nn.Linear) and each is not head]
    parameters = sum(each.numel() for each in model.parameters())
    config = model.config.get_text_config()
    return Shape(
        parameters=parameters,
        outside=parameters - sum(each.weight.numel() for each in linear),
        sides=sum(each.in_features + each.out_features for each in linear),
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=config.num_attention_heads,
        vocabulary=config.vocab_size,
        context=int(getattr(config, "max_position_embeddings", None) or 2048),
    )
