"""Adapters as they are kept: in a folder named by the sha256 of their weights, never written to again."""

import hashlib
import re
from pathlib import Path

WEIGHTS = "adapter_model.safetensors"
HASH = re.compile(r"[0-9a-f]{64}")


def why_damaged(home: Path, sha256: str) -> str:
    """Why a kept adapter is not what was trained, in words with the remedy; "" where it is.

    A folder that is not named by its hash was not put there by a run: nothing is known of it, and nothing is refused.
    """
    if home.name != sha256 or not HASH.fullmatch(sha256):
        return ""
    try:
        with (home / WEIGHTS).open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        return (
            f"its files in {home} cannot be read ({error.strerror}). Restore them from a backup, "
            "or roll back to another model."
        )
    if found != sha256:
        return (
            f"its weights in {home} are not those that were trained (their hash differs). Restore them from a backup, "
            "or roll back to another model."
        )
    return ""
