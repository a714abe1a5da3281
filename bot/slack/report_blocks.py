"""Reports as Block Kit: a run as it goes on, its scores, the decision; and an evaluation. Pure.

Each message can be built twice: with the blocks of 2026 (plan, data_table, data_visualization) and with the older ones for
workspaces that refuse those. `text` says the essence to notifications and screen readers. The verdict comes first.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from bot.slack import report_beside
from bot.slack import report_text as words
from bot.slack.blocks import Block, context, plain, section
from bot.slack.charts import Chart, chart_block
from bot.slack.report_standing import Standing
from bot.slack.report_text import ARM_NAMES, METRICS
from storage.records import Evaluation, Promotion, RunState, TrainingRun
from storage.values import who
from training.evaluating import BASE, CANCELLED, CHALLENGER, CURRENT
from training.evaluation import ArmScores, Sheet
from training.promotion import Difference
from training.sweep_words import doing

PROMOTE, KEEP, ROLL_BACK, CANARY = "promote", "keep", "roll_back", "canary"
TEXT_LIMIT = 2_900
CHARTS_LIMIT = 2
ENDED_EARLY = frozenset({"failed", "cancelled", "declined"})
NOTHING = "–"

COLLECT, FREEZE, TRAIN, EVALUATE, COMPARE = "collect", "freeze", "train", "evaluate", "compare"
STAGES: Mapping[str, str] = {
    COLLECT: "Collect examples",
    FREEZE: "Freeze the dataset",
    TRAIN: "Train",
    EVALUATE: "Evaluate on held-out questions",
    COMPARE: "Compare",
}
DOING: Mapping[str, str] = {
    COLLECT: "Collecting examples",
    FREEZE: "Freezing the dataset",
    TRAIN: "Training",
    EVALUATE: "Evaluating",
    COMPARE: "Comparing",
}
MARKS: Mapping[str, str] = {
    "complete": ":white_check_mark:",
    "in_progress": ":hourglass_flowing_sand:",
    "error": ":x:",
    "pending": ":white_circle:",
}


class Look(StrEnum):
    """Which blocks a workspace takes: the new ones; or older ones, with charts as pictures in the thread, or none."""

    NATIVE = "native"
    PICTURES = "pictures"
    NO_PICTURES = "no pictures"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The scores of every arm; `gains` is the challenger minus `against`, metric by metric, where there is one."""

    arms: tuple[ArmScores, ...]
    against: str = ""
    gains: Mapping[str, Difference] = field(default_factory=dict)
    agreed: str = ""
    """What was agreed beforehand, with its hash, as a sentence."""
    beside: Mapping[str, Any] = field(default_factory=dict)
    """What the sheet tells beside its rows (`report_beside`)."""

    @property
    def clusters(self) -> int:
        """How many different topics were asked about; 0 where nothing was compared."""
        return next((gain.clusters for gain in self.gains.values()), 0)


def compare(sheet: Sheet) -> Comparison:
    """The figures of an evaluation. Slow for many questions (intervals are resampled): call it in a thread."""
    arms = sheet.arms
    names = {arm.name for arm in arms if not arm.failed}
    against = CURRENT if CURRENT in {arm.name for arm in arms} else BASE
    if not {CHALLENGER, against} <= names:
        return Comparison(arms)
    gains = {metric: sheet.difference(CHALLENGER, against, metric) for metric in METRICS}
    return Comparison(arms, against, gains)


def comparison_of(evaluation: Evaluation) -> Comparison:
    """Everything that a finished evaluation's sheet tells. Slow, as `compare` is."""
    return replace(
        compare(Sheet.from_json(evaluation.sheet)),
        agreed=words.agreed(evaluation.verdict),
        beside=report_beside.of(evaluation.sheet),
    )


def run_report(
    run: TrainingRun,
    *,
    comparison: Comparison | None = None,
    standing: Standing | None = None,
    charts: Sequence[Chart] = (),
    look: Look = Look.NATIVE,
) -> dict[str, Any]:
    """The one message of a training run, as it stands now."""
    title = f"Training run #{run.number}"
    said = [words.verdict(run.outcome), words.reason(run.outcome, run.reason)]
    blocks: list[Block] = [_header(title)]
    if run.outcome:
        blocks.append(section(f"*{said[0]}* {said[1]}".strip() if said[0] else said[1] or run.outcome))
    if comparison is not None:
        blocks += scores(comparison, look=look)
    if standing is not None:
        blocks += decision(run, standing)
    blocks += drawn(charts, look=look)
    blocks += [plan(run, look=look), _last(words.asked_by(run), comparison)]
    gist = " ".join(part for part in said if part) if run.outcome else stage_now(run)
    return _message(
        f"{title}: {gist}",
        blocks,
        {"event_type": "apprentice_run", "event_payload": {"run_id": run.id}},
    )


def evaluation_report(
    evaluation: Evaluation,
    *,
    names: Mapping[str, str],
    comparison: Comparison | None = None,
    charts: Sequence[Chart] = (),
    look: Look = Look.NATIVE,
) -> dict[str, Any]:
    """The message of an evaluation asked for by `/eval`. `names` are the versions' names by arm."""
    title = f"Evaluation #{evaluation.number}"
    blocks: list[Block] = [_header(title)]
    gist = "asking every model the held-out questions"
    if evaluation.reason.startswith(CANCELLED):
        gist = words.literal(evaluation.reason)
        blocks.append(section(gist))
    elif evaluation.reason:
        gist = f"it failed. {words.literal(evaluation.reason)}"
        blocks.append(section(f"*It failed.* {words.literal(evaluation.reason)}"))
    elif comparison is None:
        blocks.append(section(":hourglass_flowing_sand: Asking every model the held-out questions..."))
    else:
        gist, headline = _evaluated(evaluation, comparison)
        blocks.append(section(headline))
        blocks += [*scores(comparison, look=look), *drawn(charts, look=look)]
        named = [f"{ARM_NAMES.get(arm, arm)}: {words.literal(name)}" for arm, name in names.items()]
        blocks.append(context(" · ".join(named)))
    blocks.append(_last(f"Asked for by {who(evaluation.requested_by)}", comparison))
    metadata = {"event_type": "apprentice_evaluation", "event_payload": {"evaluation_id": evaluation.id}}
    return _message(f"{title}: {gist}", blocks, metadata)


def _evaluated(evaluation: Evaluation, comparison: Comparison) -> tuple[str, str]:
    """An evaluation's essence, plain and as a section."""
    if evaluation.verdict:
        outcome = str(evaluation.verdict["outcome"])
        said = words.verdict(outcome)
        reason = words.reason(outcome, str(evaluation.verdict["reason"]))
        return f"{said} {reason}", f"*{said}* {reason}"
    best = max(arm.scores.token_f1 for arm in comparison.arms)
    level = [arm.name for arm in comparison.arms if arm.scores.token_f1 == best]
    said = words.closest([ARM_NAMES.get(name, name) for name in level], best)
    return said, f"*{said}*"


# --- Stages -------------------------------------------------------------------------------------------------


def plan(run: TrainingRun, *, look: Look = Look.NATIVE) -> Block:
    """The stages of a run, each with how far it is."""
    statuses = stages(run)
    if look is not Look.NATIVE:
        lines = [
            f"{MARKS[status]} {STAGES[stage]}{_after(': ', stage_details(run, stage))}"
            for stage, status in statuses.items()
        ]
        return section("\n".join(lines))
    tasks = []
    for stage, status in statuses.items():
        details = stage_details(run, stage) if status != "pending" else ""
        folded = bool(details) and status != "in_progress"
        title = STAGES[stage] if folded else f"{STAGES[stage]}{_after(': ', details)}"
        task: Block = {"type": "task_card", "task_id": stage, "title": title, "status": status}
        if folded:
            task["details"] = _rich(details)
        tasks.append(task)
    return {"type": "plan", "title": _plan_title(run), "tasks": tasks}


def stages(run: TrainingRun) -> dict[str, str]:
    """Each stage's status: pending, in_progress, complete or error."""
    order = list(STAGES)
    ended = run.outcome in ENDED_EARLY
    over = run.state is RunState.REPORTING or run.state.final
    at = len(order) if over and not ended else order.index(_stage(run))
    here = "error" if ended else "in_progress"
    return {
        stage: "complete" if place < at else here if place == at else "pending"
        for place, stage in enumerate(order)
    }


def _stage(run: TrainingRun) -> str:
    """The stage that a run is in, or was in when it ended early."""
    if run.state is RunState.EVALUATING or run.version_id:
        return EVALUATE
    if run.state is RunState.TRAINING or run.dataset_id:
        return TRAIN
    return FREEZE if "gathered" in run.progress else COLLECT


def stage_now(run: TrainingRun) -> str:
    """The stage that a run is in and how far it is, on one plain line."""
    return f"{_plan_title(run)}{_after(', ', stage_details(run, _stage(run)))}"


def _plan_title(run: TrainingRun) -> str:
    if run.outcome in ENDED_EARLY:
        return run.outcome.capitalize()
    return "Done" if run.state is RunState.REPORTING or run.state.final else DOING[_stage(run)]


def stage_details(run: TrainingRun, stage: str) -> str:
    """How far a stage is, or what it gave; "" where there is nothing to say yet."""
    progress = run.progress
    if stage == TRAIN and run.awaiting:
        return words.literal(run.awaiting)
    if stage == COLLECT and "gathered" in progress:
        return f"{progress['gathered']} examples"
    if stage == FREEZE and "counts" in progress:
        counts = progress["counts"]
        return f"{counts['train']} to train on, {counts['validation']} to watch it, {counts['test']} held out"
    if stage == TRAIN and progress.get("max_steps"):
        return ", ".join(_training(run))
    if stage == TRAIN and progress.get("provider"):
        return words.literal(str(progress["provider"]))
    if stage == EVALUATE and progress.get("to_evaluate"):
        return f"{progress['evaluated']} of {progress['to_evaluate']} answers"
    return ""


def _training(run: TrainingRun) -> list[str]:
    progress = run.progress
    going = run.state is RunState.TRAINING
    said = [doing(progress)] if going and doing(progress) else []
    said.append(f"step {progress.get('step', 0)} of {progress['max_steps']}")
    if progress.get("loss") is not None:
        said.append(f"loss {progress['loss']:.3f}")
    if progress.get("eval_loss") is not None:
        said.append(f"held-out loss {progress['eval_loss']:.3f}")
    if going and progress.get("tokens_per_s"):
        said.append(f"{progress['tokens_per_s']:,.0f} tokens/s")
    if going and progress.get("eta_s"):
        said.append(f"about {words.span(progress['eta_s'])} left")
    return said


def _after(mark: str, said: str) -> str:
    return f"{mark}{said}" if said else ""


def _rich(said: str) -> Block:
    part = {"type": "rich_text_section", "elements": [{"type": "text", "text": said}]}
    return {"type": "rich_text", "elements": [part]}


# --- Scores -------------------------------------------------------------------------------------------------


def scores(comparison: Comparison, *, look: Look = Look.NATIVE) -> list[Block]:
    """A table of every arm's figures and the challenger's difference, and a line for each arm that failed."""
    rows = [_head(comparison), *_score_rows(comparison), *_cost_rows(comparison)]
    if look is Look.NATIVE:
        cells = [[_text_cell(cell) for cell in rows[0]], *([_cell(cell) for cell in row] for row in rows[1:])]
        table: Block = {
            "type": "data_table",
            "caption": _caption(comparison),
            "page_size": len(rows) - 1,
            "row_header_column_index": 0,
            "rows": cells,
        }
        blocks = [table]
    else:
        columns = [{"align": "left"}, *({"align": "right"} for _ in rows[0][1:])]
        plainly = [[_text_cell(cell) for cell in row] for row in rows]
        blocks = [
            {"type": "table", "column_settings": columns, "rows": plainly},
            context(_caption(comparison)),
        ]
    failed = [
        f"{ARM_NAMES.get(arm.name, arm.name)} {words.literal(arm.failed)}"
        for arm in comparison.arms
        if arm.failed
    ]
    return [*blocks, *(context(f":warning: {each}") for each in failed)]


def _caption(comparison: Comparison) -> str:
    asked = f"{comparison.arms[0].n} held-out questions"
    if not comparison.gains:
        return f"{asked}. Scores are points of 100."
    gain = next(iter(comparison.gains.values()))
    against = "the base, which serves" if comparison.against == BASE else "current"
    return (
        f"{asked} on {gain.clusters} topics. Scores are points of 100. Difference: challenger minus {against}; "
        f"interval: {100 * gain.interval.level:.0f} %."
    )


def _head(comparison: Comparison) -> list[str]:
    names = [ARM_NAMES.get(arm.name, arm.name) for arm in comparison.arms]
    return ["Metric", *names, *(["Difference", "Interval"] if comparison.gains else [])]


def _score_rows(comparison: Comparison) -> list[list[str]]:
    rows = []
    for metric, name in METRICS.items():
        row = [
            name,
            *(
                "failed" if arm.failed else words.points(getattr(arm.scores, metric))
                for arm in comparison.arms
            ),
        ]
        if gain := comparison.gains.get(metric):
            low, high = words.difference(gain.interval.low), words.difference(gain.interval.high)
            row += [words.difference(gain.mean), f"{low} to {high}"]
        rows.append(row)
    return rows


def _cost_rows(comparison: Comparison) -> list[list[str]]:
    return [
        *_refusal_row(comparison),
        _cost_row("Median seconds", comparison, {arm.name: arm.latency_p50_s for arm in comparison.arms}),
        _cost_row(
            "Seconds, 95th percentile", comparison, {arm.name: arm.latency_p95_s for arm in comparison.arms}
        ),
        _cost_row(
            "Tokens per answer",
            comparison,
            {arm.name: arm.tokens_out / arm.n for arm in comparison.arms},
            places=0,
        ),
        _cost_row(
            "Cost per 1,000 answers",
            comparison,
            {arm.name: 1000 * arm.cost_usd / arm.n for arm in comparison.arms},
            sign="$",
        ),
    ]


def _refusal_row(comparison: Comparison) -> list[list[str]]:
    """The share of answers that refuse, in points of 100; none where that was not counted."""
    shares = {arm.name: report_beside.refusal_share(comparison.beside, arm.name) for arm in comparison.arms}
    if all(share is None for share in shares.values()):
        return []
    values = {name: 100 * (share or 0.0) for name, share in shares.items()}
    return [_cost_row("Refusals", comparison, values, places=1)]


def _cost_row(
    name: str, comparison: Comparison, values: Mapping[str, float], *, places: int = 2, sign: str = ""
) -> list[str]:
    row = [
        name,
        *("failed" if arm.failed else f"{sign}{values[arm.name]:.{places}f}" for arm in comparison.arms),
    ]
    if comparison.gains:
        more = round(values[CHALLENGER] - values[comparison.against], places)
        direction = "-" if more < 0 else "+" if more > 0 else ""
        row += [f"{direction}{sign}{abs(more):.{places}f}", NOTHING]
    return row


def _text_cell(said: str) -> Block:
    return {"type": "raw_text", "text": said}


def _cell(said: str) -> Block:
    """A number where it is one, so that people can sort by it."""
    try:
        return {"type": "raw_number", "value": float(said.replace("$", "")), "text": said}
    except ValueError:
        return _text_cell(said)


def drawn(charts: Sequence[Chart], *, look: Look) -> list[Block]:
    """The charts, or where they are."""
    if look is Look.NATIVE:
        return [chart_block(chart) for chart in charts[:CHARTS_LIMIT]]
    said = words.CHARTS_IN_THREAD if look is Look.PICTURES else words.NO_CHARTS
    return [context(said)] if charts else []


# --- The decision -------------------------------------------------------------------------------------------


def decision(run: TrainingRun, standing: Standing) -> list[Block]:
    """Who decided what, and the buttons for what may be decided now."""
    beside = run.requested_at
    if standing.promotion is not None:
        return _promoted(run, standing, standing.promotion)
    if standing.kept is not None:
        return [context(words.kept(standing.kept, beside))]
    blocks = [context(words.overtaken(standing.serving))] if standing.changed else []
    if standing.approved and standing.approvals > 1:
        blocks.append(context(words.approved(standing.approved[0], beside, admins=len(standing.admins))))
    advised = run.outcome == "promote"
    promote = _button(
        f"Promote {standing.challenger}", PROMOTE, run.id, standing, style="primary" if advised else ""
    )
    promote["confirm"] = _confirm(
        "Promote?",
        f"{standing.challenger} will answer from the next question on{_when(standing)}."
        + ("" if advised else " The evaluation did not show that it is better."),
        "Promote",
    )
    keep = _button("Keep", KEEP, run.id, standing, style="" if advised else "primary")
    keep["confirm"] = _confirm("Keep?", f"{standing.serving} goes on answering.", "Keep")
    canary = _button("Canary", CANARY, run.id, standing, style="")
    canary["confirm"] = _confirm(
        "Canary?",
        f"{standing.challenger} will answer a share of the threads. Ratings are compared, and it goes back by itself "
        "if it turns out worse.",
        "Begin",
    )
    if standing.canary is not None:
        blocks.append(context(words.canary(standing.canary, standing.challenger, beside)))
    choices = [promote] if standing.watched else [promote, canary, keep]
    return [*blocks, {"type": "actions", "elements": choices}]


def _when(standing: Standing) -> str:
    return ", once a second admin agrees" if standing.approvals > 1 and not standing.approved else ""


def _promoted(run: TrainingRun, standing: Standing, promotion: Promotion) -> list[Block]:
    beside = run.requested_at
    blocks = [context(words.promoted(promotion, standing.approved, standing.challenger, beside))]
    if standing.serves:
        back = _button("Roll back", ROLL_BACK, run.id, standing, style="danger")
        said = f"{standing.before} will answer again from the next question on."
        back["confirm"] = {**_confirm("Roll back?", said, "Roll back"), "style": "danger"}
        return [*blocks, {"type": "actions", "elements": [back]}]
    if standing.undone is not None:
        blocks.append(context(words.rolled_back(standing.undone, standing.before, beside)))
    else:
        blocks.append(context(words.serves_now(standing.serving)))
    return blocks


def _button(label: str, action_id: str, value: str, standing: Standing, *, style: str) -> Block:
    button: Block = {"type": "button", "action_id": action_id, "text": plain(label[:75]), "value": value}
    if standing.admins:
        button["visible_to_user_ids"] = list(standing.admins)
    return button | ({"style": style} if style else {})


def _confirm(title: str, said: str, yes: str) -> Block:
    return {"title": plain(title), "text": plain(said[:300]), "confirm": plain(yes), "deny": plain("Not now")}


# --- The message --------------------------------------------------------------------------------------------


def _header(title: str) -> Block:
    return {"type": "header", "text": plain(title)}


def _last(asked_by: str, comparison: Comparison | None) -> Block:
    """The last line: who asked, and what was agreed before the first answer."""
    line = context(asked_by)
    if comparison is not None and comparison.agreed:
        line["elements"] += context(comparison.agreed)["elements"]
    return line


def _message(gist: str, blocks: Sequence[Block], metadata: Block) -> dict[str, Any]:
    return {"text": gist[:TEXT_LIMIT].strip(), "blocks": with_ids(blocks), "metadata": metadata}


def with_ids(blocks: Sequence[Block]) -> list[Block]:
    """The blocks with ids that change whenever anything in the message does, as Slack asks of an edited message."""
    drawing = hashlib.sha256(json.dumps(blocks, sort_keys=True).encode()).hexdigest()[:10]
    return [{**block, "block_id": f"{block['type']}-{place}-{drawing}"} for place, block in enumerate(blocks)]
