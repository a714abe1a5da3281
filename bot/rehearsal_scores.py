"""The figures of a rehearsal: each model's scores on the held-out questions, with intervals. Pure."""

from dataclasses import asdict
from typing import Any

from storage.records import Evaluation
from training.evaluating import BASE, CHALLENGER, MEMORY
from training.evaluation import Sheet
from training.promotion import paired_bootstrap


def scores_of(evaluation: Evaluation) -> dict[str, Any]:
    """Each arm's scores with an interval on its token F1, and the differences that matter."""
    sheet = Sheet.from_json(evaluation.sheet)
    found: dict[str, Any] = {}
    for arm in sheet.arms:
        rows = sheet.rows_of(arm.name)
        f1 = paired_bootstrap([row.scores.token_f1 for row in rows], [row.cluster for row in rows])
        found[arm.name] = {
            "n": arm.n,
            **asdict(arm.scores),
            "token_f1_interval": [f1.interval.low, f1.interval.high],
            "seconds_p50": arm.latency_p50_s,
        }
    for other in (BASE, MEMORY):
        if other in found:
            gain = sheet.difference(CHALLENGER, other, "token_f1")
            found[f"challenger_minus_{other}"] = {
                "token_f1": gain.mean,
                "interval": [gain.interval.low, gain.interval.high],
            }
    return found
