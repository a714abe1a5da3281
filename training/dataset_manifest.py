"""What a frozen dataset says of how it was made: the rules, the code, whose words it holds and on what terms."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from training.fitness import LONGEST_ANSWER, LONGEST_QUESTION
from training.raters import CapRules

LICENCE = (
    "No licence is granted: these are the words of the people of one workspace, for training the models of that workspace. "
    "Do not publish it or pass it on."
)
CONSENT = (
    "Every row holds only words of people who opted in before it was frozen, or text that the operator imported. "
    "Who withdraws is left out of the next dataset; who is forgotten is taken out of this one."
)


def summary_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What the database remembers of a manifest."""
    return {name: value for name, value in manifest.items() if name not in {"rows", "difference"}}


def filters(caps: CapRules | None, languages: Sequence[str] = ()) -> dict[str, Any]:
    """The rules and thresholds that decide what gets in, by name."""
    from training.clusters import THRESHOLD
    from training.splits import TEST_SHARE, VALIDATION_SHARE

    rules = caps or CapRules()
    return {
        "longest_question": LONGEST_QUESTION,
        "longest_answer": LONGEST_ANSWER,
        "near_duplicate": THRESHOLD,
        "test_share": TEST_SHARE,
        "validation_share": VALIDATION_SHARE,
        **({"languages": sorted(languages)} if languages else {}),
        **{f"cap_{name}": value for name, value in sorted(asdict(rules).items())},
    }


def redaction_rules() -> int:
    """The version of the rules by which secrets and personal data are struck out."""
    from storage import redaction

    return int(getattr(redaction, "RULES_VERSION", 1))


SOURCES = (
    *(
        "training/examples.py",
        "training/gathering.py",
        "training/gathering_child.py",
        "training/dataset_spool.py",
        "training/dataset_items.py",
        "training/dataset_picking.py",
        "training/wording.py",
        "training/dataset_files.py",
    ),
    *("training/datasets.py", "training/clusters.py", "training/splits.py", "training/fitness.py"),
    "training/languages.py",
    *(
        "training/raters.py",
        "training/caps.py",
        "training/guards.py",
        "training/withdrawn.py",
        "storage/redaction.py",
    ),
    *(
        "training/dataset_sides.py",
        "training/dataset_writing.py",
        "training/dislikes.py",
        "training/shingles.py",
        "training/sketches.py",
    ),
)
"""The files that decide what a dataset holds."""


@cache
def code_version() -> str:
    """The package's version and a hash of the code that decides what a dataset holds."""
    try:
        package = version("apprentice-bot")
    except PackageNotFoundError:
        package = "unpackaged"
    root, code = Path(__file__).parent.parent, hashlib.sha256()
    for name in SOURCES:
        file = root / name
        code.update(name.encode() + (file.read_bytes() if file.exists() else b""))
    return f"{package}+{code.hexdigest()[:12]}"
