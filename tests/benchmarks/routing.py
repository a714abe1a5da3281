"""The product's own router on questions that two models answered.

`python -m tests.benchmarks.routing --file F --labels N --json`

Half of the questions is the test, N of the other half are the labels, of both models each, as duels and draws give
them. A row holds `prompt`, `weak` and `strong` (right or wrong), maybe `subject` (it stands for the channel) and
`weak_response` (its features are those of a local answer; no file of this form holds token log-probabilities).
Contaminated rows are left out.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from storage.values import Proposal
from training.router import RatedAnswer, fit
from training.router_calibration import brier, calibration_error
from training.router_features import answer_features
from training.router_fit import Asked
from training.router_value import apgr, cpt

REPEATS = 5
RANDOM_CPT50 = 50.0
ROUTELLM_MMLU_CPT50 = 35.4
"""RouteLLM's best router on MMLU: README and paper (arXiv 2406.18665, table of MMLU results), as issue 4 gives it."""


@dataclass(frozen=True, slots=True)
class Case:
    """One question and whether both models were right."""

    asked: Asked
    weak: float
    strong: float


@dataclass(frozen=True, slots=True)
class Spread:
    """The mean of several repeats and the standard deviation between them."""

    mean: float
    spread: float


@dataclass(frozen=True, slots=True)
class Result:
    """All figures of a file; `with_answers` says whether local answers' texts were there."""

    file: str
    questions: int
    left_out: int
    labels: int
    repeats: int
    with_answers: bool
    apgr: Spread
    cpt50: Spread
    cpt80: Spread
    ece: Spread
    brier: Spread
    random_cpt50: float = RANDOM_CPT50
    routellm_mmlu_cpt50: float = ROUTELLM_MMLU_CPT50


def measure(file: Path, *, labels: int, repeats: int = REPEATS, seed: int = 0) -> Result:
    """Fit and test `repeats` times. Raises ValueError where the file has too few questions."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    kept = [row for row in rows if not row.get("contaminated")]
    cases = [_case(row) for row in kept]
    if len(cases) < 2 * labels:
        raise ValueError(
            f"{file.name} has {len(cases)} questions; {labels} labels need at least {2 * labels}"
        )
    with threadpool_limits(1):  # as the bot fits
        told = [_once(cases, labels, np.random.default_rng(seed + number)) for number in range(repeats)]
    figures = {
        name: Spread(mean(each[name] for each in told), pstdev(each[name] for each in told))
        for name in told[0]
    }
    answers = any(row.get("weak_response") for row in kept)
    return Result(file.name, len(cases), len(rows) - len(kept), labels, repeats, answers, **figures)


def _case(row: dict[str, Any]) -> Case:
    answer = row.get("weak_response") or ""
    features = (
        answer_features(Proposal(text=answer, kind="local", model="weak"), row["prompt"]) if answer else {}
    )
    return Case(
        Asked(row["prompt"], row.get("subject") or row.get("bench") or "", features),
        float(row["weak"]),
        float(row["strong"]),
    )


def _once(cases: list[Case], labels: int, dice: np.random.Generator) -> dict[str, float]:
    order = dice.permutation(len(cases))
    half = len(cases) // 2
    test = [cases[place] for place in order[:half]]
    rows = [row for place in order[half : half + labels] for row in _rated(str(place), cases[place])]
    router = fit(rows)
    if router is None:
        raise ValueError("no router could be fitted on these labels")
    expected = router.expect_all([case.asked for case in test])
    weak, strong = [case.weak for case in test], [case.strong for case in test]
    return {
        "apgr": apgr(expected.gain, weak, strong),
        "cpt50": cpt(expected.gain, weak, strong, share=0.5),
        "cpt80": cpt(expected.gain, weak, strong, share=0.8),
        "ece": calibration_error(expected.p_local, weak),
        "brier": brier(expected.p_local, weak),
    }


def _rated(name: str, case: Case) -> list[RatedAnswer]:
    asked = case.asked
    return [
        RatedAnswer(name, asked.question, name, kind, label, asked.topic, asked.features)
        for kind, label in (("local", case.weak), ("openai", case.strong))
    ]


def _words(result: Result) -> str:
    left_out = f" ({result.left_out} contaminated left out)" if result.left_out else ""
    lines = [
        f"{result.file}: {result.questions} questions{left_out}, {result.labels} labels, {result.repeats} repeats"
    ]
    for name in ("apgr", "cpt50", "cpt80", "ece", "brier"):
        spread = getattr(result, name)
        lines.append(f"{name:6} {spread.mean:8.3f} +- {spread.spread:.3f}")
    lines.append(f"beside it, cpt50: random {RANDOM_CPT50}, RouteLLM on MMLU {ROUTELLM_MMLU_CPT50}")
    return "\n".join(lines)


def main() -> int:
    """Measure one file and print it; 2 where it cannot be measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--labels", type=int, required=True)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        result = measure(options.file, labels=options.labels, repeats=options.repeats, seed=options.seed)
    except (OSError, ValueError, KeyError) as error:
        print(f"{options.file} cannot be measured: {error}", file=sys.stderr)
        return 2
    print(json.dumps(asdict(result)) if options.json else _words(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
