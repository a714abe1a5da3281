"""How few API calls recover half of the gap, and how far the router's chances can be trusted, on RouteLLM's MMLU table."""

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.figure import Figure
from tests.benchmarks.routing import measure

FILE = Path(__file__).parents[3] / "shared" / "data" / "router_routellm" / "queries.jsonl"
LABELS = 1000
CPT50_BAR = 32.0
ECE_BAR = 0.05


def routing() -> Iterator[Figure]:
    """With 1,000 labels, the mean of five repeats."""
    if not FILE.is_file():
        print(
            "router_mmlu_cpt50, router_ece: skipped, the shared material is not beside this checkout",
            file=sys.stderr,
        )
        return
    result = measure(FILE, labels=LABELS)
    yield Figure("router_mmlu_cpt50", round(result.cpt50.mean, 2), "percent", CPT50_BAR, "lower")
    yield Figure("router_ece", round(result.ece.mean, 4), "share", ECE_BAR, "lower")
