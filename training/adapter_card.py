"""The card of an adapter: README.md in its folder, with front matter that programs read. Pure.

It says what the adapter belongs to, what it was taught from and on what terms, how, and what came of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from training.method import STAGE_NAMES, Method
from training.sweep_words import SWEEP, markdown

UNKNOWN_TERMS = "The dataset does not say on what terms it was collected."


def adapter_card(
    *,
    base_model: str,
    run_id: str,
    kind: str,
    quantization: str,
    dataset_hash: str,
    counts: Mapping[str, int],
    manifest: Mapping[str, Any],
    reason: str,
    stages: Sequence[Mapping[str, Any]],
    versions: Mapping[str, str],
    device: str,
) -> str:
    """The card's Markdown. `stages` are the facts of each stage, as result.json has them."""
    front = {
        "base_model": base_model,
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "adapter": kind,
        "method": "+".join(str(stage["stage"]) for stage in stages),
        "quantization": quantization,
        "dataset": dataset_hash,
        "run": run_id,
    }
    lines = [
        "---",
        *(f"{name}: {_quoted(value)}" for name, value in front.items()),
        "tags: [apprentice]",
        "---",
    ]
    lines += ["", "# An adapter made by Apprentice", ""]
    lines += [
        f"It was trained on {base_model} and works with that model alone. Dataset {dataset_hash}: {_counted(counts)}."
    ]
    lines += [reason] if reason else []
    for stage in stages:
        lines += ["", *_stage(stage)]
    lines += ["", "## Terms", ""]
    lines += [str(manifest.get("licence") or UNKNOWN_TERMS)]
    lines += [str(manifest["consent"])] if manifest.get("consent") else []
    lines += ["", "## Made with", ""]
    lines += [", ".join(f"{name} {version}" for name, version in versions.items()) + f"; {device}."]
    return "\n".join(lines) + "\n"


def _stage(facts: Mapping[str, Any]) -> list[str]:
    name = str(facts["stage"])
    lines = [f"## {name.upper()}: {STAGE_NAMES[Method(name)]}", "", "| | |", "|---|---|"]
    shown = {
        "Rows": facts.get("rows"),
        "Steps": facts.get("steps"),
        "Epochs": facts.get("epochs"),
        "Training loss": facts.get("train_loss"),
        "Held-out loss before": facts.get("eval_loss_before"),
        "Held-out loss after": facts.get("eval_loss"),
        "Held-out margin": facts.get("margin"),
        "Held-out pairs told apart": facts.get("accuracy"),
    }
    lines += [f"| {label} | {_number(value)} |" for label, value in shown.items() if value is not None]
    lines += [f"| {name} | {_number(value)} |" for name, value in facts.get("hyperparameters", {}).items()]
    lines += ["", str(facts["stopped_early"])] if facts.get("stopped_early") else []
    return [*lines, *(["", "### What was tried", "", *markdown(facts[SWEEP])] if facts.get(SWEEP) else [])]


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items())


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
