"""`make bench`: every figure, one JSON line each; `make bench ONLY=name` just that one."""

import sys
from collections.abc import Callable, Iterator, Mapping

from tests.benchmarks import (
    bench_bot,
    bench_clusters,
    bench_forget,
    bench_formats,
    bench_freeze,
    bench_guards,
    bench_learning,
    bench_llamacpp,
    bench_load,
    bench_local,
    bench_memory,
    bench_redaction,
    bench_routing,
    bench_training,
    bench_verdict,
    bench_writes,
)
from tests.benchmarks.figure import Figure

BENCHES: Mapping[str, tuple[Callable[[], Iterator[Figure]], tuple[str, ...]]] = {
    "memory speed": (
        bench_memory.speed,
        (
            "memory_replace_10k_ms",
            "memory_add_ms",
            "memory_nearest_10k_ms_p50",
            "memory_nearest_10k_ms_p99",
        ),
    ),
    "memory rightness": (
        bench_memory.rightness,
        ("memory_near_certain_right", "memory_near_certain_answered"),
    ),
    "memory of others": (bench_memory.others, ("memory_top1_stackfaq", "memory_top1_banking77")),
    "memory of a million": (
        bench_memory.million,
        (
            "memory_lookup_p95_ms",
            "memory_start_million_ms",
            "memory_rss_million_mb",
            "memory_import_million_s",
        ),
    ),
    "routing": (bench_routing.routing, ("router_mmlu_cpt50", "router_ece")),
    "local": (
        bench_local.small,
        ("local_throughput_ratio", "local_latency_ratio", "local_first_token_ratio_16", "loop_lag_p99_ms"),
    ),
    "local 135m": (bench_local.large, ("local_throughput_ratio_135m", "local_latency_ratio_135m")),
    "llama.cpp": (bench_llamacpp.against_llamacpp, ("local_vs_llamacpp_16",)),
    "core": (bench_bot.core, ("rss_mb_core",)),
    "starter": (bench_bot.starter, ("rss_mb_starter", "ack_p99_ms_idle", "ack_p99_ms_busy")),
    "redaction": (bench_redaction.cost, ("redaction_us", "redaction_everything_us")),
    "redaction through every sink": (bench_redaction.sinks, ("secrets_survived",)),
    "redaction rightness": (bench_redaction.rightness, ("redaction_survived", "redaction_touched_pct")),
    "files": (bench_formats.formats, ("import_grown_mb", "export_grown_mb")),
    "forget": (bench_forget.forget, ("forget_s", "forgotten_traces")),
    "weighing": (bench_guards.weighing, ("weighed_rows_per_s", "weighing_rss_mb")),
    "alarms": (bench_guards.alarms, ("guard_false_alarms_per_100_teams",)),
    "clusters": (bench_clusters.million, ("clusters_million_s", "clusters_rss_mb")),
    "freeze": (bench_freeze.freeze, ("freeze_rows_per_s", "freeze_rss_mb", "freeze_growth")),
    "verdicts": (
        bench_verdict.verdicts,
        ("false_promotion_rate", "promotion_power", "promotion_detectable"),
    ),
    "canaries": (
        bench_verdict.canaries,
        ("canary_detect_ratings_median", "canary_detect_at_a_fifth", "canary_false_alarm_rate"),
    ),
    "training": (bench_training.help_desk, ("training_tokens_ratio", "training_loss_gap")),
    "training on long rows": (
        bench_training.slack_length,
        ("training_tokens_ratio_long", "training_loss_gap_long"),
    ),
    "learning": (
        bench_learning.learning,
        ("learning_sft_f1_gain_low", "learning_kto_liked_gain", "learning_dpo_margin_gain"),
    ),
    "writes": (bench_writes.writes, ("writes_per_s", "writes_p99_ms", "writes_lost")),
    "load": (bench_load.load, ("ack_p99_ms_load", "lost_or_doubled", "press_p99_ms", "votes_lost")),
}


def main(only: str = "") -> int:
    """Run the benches that give the wanted figures; 2 for a name that no bench gives."""
    known = [name for _, names in BENCHES.values() for name in names]
    if only and only not in known:
        print(f"There is no figure {only!r}. There are: {', '.join(known)}.", file=sys.stderr)
        return 2
    for measure, names in BENCHES.values():
        if only and only not in names:
            continue
        for figure in measure():
            if not only or figure.name == only:
                print(figure.line(), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:2]))
