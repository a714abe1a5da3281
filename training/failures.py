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
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "Cannot allocate memory",
    "not enough memory",
    "CUDA out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "failed to map segment from shared object",
    "std::bad_alloc",
    # oneDNN's words where it gets no room for the code it makes: what worked at the step before fails for nothing else.
    "could not create a primitive",
    "could not create a memory object",
)


_NEIGHBOUR_IS_GONE = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "NCCL",
    "remote process exited",
)


class LossIsNotANumber(Exception):
    """The loss left the numbers at a step: nothing that comes after can be used."""


class Diverged(Exception):
    """The loss has been far above its beginning for many steps: what is learned now is worse than nothing."""

    def __init__(self, began: float, now: float, step: int) -> None:
        super().__init__(f"the loss began at {began:.3f} and is at {now:.3f} by step {step}, and stays there")


def memory_is_full(error: BaseException) -> bool:
    """Whether this, or what caused it, is "no memory left": the system's, torch's or the GPU's words for it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if not isinstance(error, PublicError) and any(sign in str(error) for sign in _OUT_OF_MEMORY):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    cause = error.__cause__ or error.__context__
    return cause is not None and memory_is_full(cause)


def disk_is_full(error: BaseException) -> bool:
    """Whether this, or what caused it, is "no space left": safetensors and torch have errors of their own for it."""
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return True
    if not isinstance(error, PublicError) and any(sign in str(error) for sign in _FULL):
        return True
    cause = error.__cause__ or error.__context__
    return cause is not None and disk_is_full(cause)


def neighbour_is_gone(error: BaseException) -> bool:
    """Whether another process that trains along has ended: gloo's and NCCL's words for it, said by all that are left."""
    named = type(error).__name__ in {"DistBackendError", "DistNetworkError"}
    return named or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NEIGHBOUR_IS_GONE)
    )


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
    if isinstance(error, LossIsNotANumber | Diverged):
        return (
            f"Training went astray: {error}. The learning rate ({learning_rate}) is probably too high for this model; "
            "try a tenth of it."
        )
    if memory_is_full(error):
        return (
            f"The memory is full. Choose a smaller batch_size (now {batch_size}), 4-bit quantization, "
            "or a smaller base model."
        )
    return f"{type(error).__name__}: {error}"
