"""Why a training run failed, in words for people. Pure; standard library only.

torch, safetensors and the system say "the disk is full" in five ways and "the memory is full" in four; people read one.
"""

import errno
from pathlib import Path

from storage.errors import PublicError

_FULL = (
    "No space left on device",
    "File too large",
    "Disk quota exceeded",
    "PytorchStreamWriter failed",
    "inline_container",
)
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "CUDA out of memory")


class LossIsNotANumber(Exception):
    """The loss left the numbers at a step: nothing that comes after can be used."""


def disk_is_full(error: BaseException) -> bool:
    """Whether this, or what caused it, is "no space left": safetensors and torch have errors of their own for it."""
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return True
    if not isinstance(error, PublicError) and any(sign in str(error) for sign in _FULL):
        return True
    cause = error.__cause__ or error.__context__
    return cause is not None and disk_is_full(cause)


def cannot_load(base_model: str, error: Exception, *, allow_downloads: bool) -> PublicError:
    """Which base model cannot be loaded, why, and what to set."""
    why = str(error).strip().split("\n", 1)[0].rstrip(".")
    remedy = "LOCAL_MODEL must name a folder with config.json, model.safetensors and tokenizer.json"
    if not Path(base_model).is_dir():
        remedy += (
            ", or a model of the Hugging Face hub" if allow_downloads else "; downloads are switched off"
        )
    return PublicError(f"The base model {base_model} could not be loaded ({why}). {remedy}.")


def in_plain_words(
    error: Exception, *, checkpoint: str | None, learning_rate: object, batch_size: object
) -> str:
    """Why the run failed, and what to do; `checkpoint` names the last good one. An unforeseen error is named as it is."""
    if isinstance(error, PublicError):
        return str(error)
    if disk_is_full(error):
        kept = (
            f"The last good checkpoint ({checkpoint}) is kept."
            if checkpoint
            else "No checkpoint was written yet."
        )
        return f"The disk is full, so the model could not be saved. {kept} Free some space and train again."
    if isinstance(error, LossIsNotANumber):
        return (
            f"Training went astray: {error}. The learning rate ({learning_rate}) is probably too high for this model; "
            "try a tenth of it."
        )
    if isinstance(error, MemoryError) or any(sign in str(error) for sign in _OUT_OF_MEMORY):
        return (
            f"The memory is full. Choose a smaller batch_size (now {batch_size}), 4-bit quantization, "
            "or a smaller base model."
        )
    return f"{type(error).__name__}: {error}"
