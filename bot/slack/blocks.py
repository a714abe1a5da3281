"""Block Kit messages and views, built by pure functions. What people read comes from `text`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bot.slack import text
from storage.asking import Answered
from storage.records import Evaluation, Promotion, RunState, TrainingRun
from storage.values import who
from training.evaluation import Sheet

Block = dict[str, Any]

MARKDOWN_LIMIT = 11_500  # a payload takes 12,000 characters of markdown; the rest is left for our own lines
NEAR_END = 1_000
SECTION_LIMIT = 2_900
RATE, IMPROVE, CONSENT = "rate", "improve", "consent"
PROMOTE, KEEP = "promote", "keep"
CORRECTION_VIEW = "correction"
BETTER, REASON, MAY_TRAIN = "better", "reason", "may_train"

METRICS: Mapping[str, str] = {
    "exact_match": "Exact match",
    "token_f1": "Token F1",
    "rouge_l": "ROUGE-L",
    "chrf": "chrF",
}
ARM_NAMES: Mapping[str, str] = {
    "base": "Base",
    "current": "Current",
    "challenger": "Challenger",
    "memory": "Memory",
}


def section(mrkdwn: str) -> Block:
    """A paragraph."""
    return {"type": "section", "text": {"type": "mrkdwn", "text": mrkdwn[:SECTION_LIMIT]}}


def context(mrkdwn: str) -> Block:
    """A small grey line."""
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": mrkdwn[:SECTION_LIMIT]}]}


def plain(words: str) -> Block:
    """A plain_text object."""
    return {"type": "plain_text", "text": words}


def answer_message(answered: Answered, *, admin_hint: str = "") -> dict[str, Any]:
    """The posted answer: its text, who gave it, and the rating buttons."""
    said = text.without_mentions(answered.candidate.text.strip()) or "I have no answer to that."
    if len(said) > MARKDOWN_LIMIT:
        said = _beginning(said) + "\n\n_(cut: the answer was too long for one message)_"
    blocks: list[Block] = [
        {"type": "markdown", "text": said},
        context(_who_answered(answered, admin_hint)),
        rating_buttons(answered.answer.id),
    ]
    return {
        "text": text.escape(said)[:3_000],
        "blocks": blocks,
        "unfurl_links": False,
        "unfurl_media": False,
        "metadata": {
            "event_type": "apprentice_answer",
            "event_payload": {"answer_id": answered.answer.id},
        },
    }


def _beginning(said: str) -> str:
    """As much as a message takes, up to the end of a line or a word if one is near; a code block is closed."""
    begun = said[:MARKDOWN_LIMIT]
    end = next(
        (at for mark in ("\n", " ") if (at := begun.rfind(mark)) > MARKDOWN_LIMIT - NEAR_END), len(begun)
    )
    begun = begun[:end]
    return begun + "\n```" if begun.count("```") % 2 else begun


def _who_answered(answered: Answered, hint: str) -> str:
    candidate = answered.candidate
    parts = [text.escape(candidate.model), f"{candidate.seconds:.1f} s"]
    if candidate.source:
        parts.append(f"verified answer, from {text.escape(candidate.source)}")
    if candidate.finish == "length":
        parts.append("cut at the length limit")
    if hint:
        parts.append(hint)
    return " · ".join(parts)


def rating_buttons(answer_id: str) -> Block:
    """Thumbs, and the way to write a better answer."""
    return {
        "type": "context_actions",
        "elements": [
            {
                "type": "feedback_buttons",
                "action_id": RATE,
                "positive_button": {"text": plain("Good answer"), "value": f"{answer_id}:1"},
                "negative_button": {"text": plain("Bad answer"), "value": f"{answer_id}:-1"},
            }
        ],
    }


def consent_message() -> dict[str, Any]:
    """Asked once, in plain words."""
    return {
        "text": text.CONSENT_ASK,
        "blocks": [
            section(text.CONSENT_ASK),
            {
                "type": "actions",
                "elements": [
                    _button("Yes, you may", f"{CONSENT}_yes", "yes", style="primary"),
                    _button("No, thank you", f"{CONSENT}_no", "no"),
                ],
            },
        ],
    }


def _button(words: str, action_id: str, value: str, *, style: str = "") -> Block:
    button: Block = {"type": "button", "action_id": action_id, "text": plain(words), "value": value}
    if style:
        button["style"] = style
    return button


def correction_view(
    answer_id: str, question: str, said: str, *, place: Mapping[str, str], agreed: bool
) -> dict[str, Any]:
    """The window that opens after a thumbs-down. The box for training is ticked only for who has `agreed` before."""
    reasons = [{"text": plain(words), "value": value} for value, words in text.REASONS.items()]
    agree = {
        "text": plain("My words here may be used to train this team's model"),
        "value": "yes",
    }
    return {
        "type": "modal",
        "callback_id": CORRECTION_VIEW,
        "private_metadata": json.dumps({"answer_id": answer_id, **place}),
        "title": plain("What was wrong?"),
        "submit": plain("Send"),
        "close": plain("Only the vote"),
        "blocks": [
            section(f"*Question*\n{text.escape(question)[:1000]}"),
            section(f"*Answer*\n{text.escape(said)[:1800]}"),
            {
                "type": "input",
                "block_id": REASON,
                "optional": True,
                "label": plain("Why was it not good?"),
                "element": {"type": "radio_buttons", "action_id": REASON, "options": reasons},
            },
            {
                "type": "input",
                "block_id": BETTER,
                "optional": True,
                "label": plain("The better answer"),
                "hint": plain("As you would answer a colleague. Leave it empty to give the reason only."),
                "element": {
                    "type": "plain_text_input",
                    "action_id": BETTER,
                    "multiline": True,
                    "max_length": 3000,
                },
            },
            {
                "type": "input",
                "block_id": MAY_TRAIN,
                "optional": True,
                "label": plain("Training"),
                "element": {
                    "type": "checkboxes",
                    "action_id": MAY_TRAIN,
                    "options": [agree],
                    **({"initial_options": [agree]} if agreed else {}),
                },
            },
        ],
    }


STAGES: Sequence[tuple[RunState, str]] = (
    (RunState.FREEZING, "Freeze the dataset"),
    (RunState.TRAINING, "Train"),
    (RunState.EVALUATING, "Evaluate on held-out questions"),
    (RunState.REPORTING, "Report"),
)


def run_report(
    run: TrainingRun,
    *,
    evaluation: Evaluation | None,
    promotion: Promotion | None,
    kept_by: str,
    challenger: str,
) -> dict[str, Any]:
    """The one message of a training run, as it stands now."""
    title = f"Training run #{run.number}"
    blocks: list[Block] = [{"type": "header", "text": plain(title)}, section(stages(run))]
    headline = _headline(run)
    if headline:
        blocks.append(section(headline))
    if evaluation is not None and evaluation.sheet:
        blocks += scores(evaluation)
    settled = run.state in {RunState.REPORTING, RunState.DONE}
    if settled and run.version_id and run.outcome not in {"failed", "cancelled"}:
        blocks.append(decision(run, promotion=promotion, kept_by=kept_by, challenger=challenger))
    blocks.append(context(f"Asked for by {who(run.requested_by)} · run `{run.id[-8:]}`"))
    return {
        "text": f"{title}: {run.outcome or run.state.value}. {run.reason}".strip(),
        "blocks": blocks,
        "metadata": {"event_type": "apprentice_run", "event_payload": {"run_id": run.id}},
    }


def stages(run: TrainingRun) -> str:
    """Each stage of a run on a line, with its mark."""
    order = [state for state, _ in STAGES]
    ended = run.outcome in {"failed", "cancelled", "declined"}
    at = order.index(run.state) if run.state in order else (len(order) if run.state.final else -1)
    reached = _reached(run) if ended else at
    lines = []
    for place, (state, words) in enumerate(STAGES[:-1]):
        if place < reached or (at >= len(order) - 1 and not ended):
            lines.append(f":white_check_mark: {words}{_stage_note(run, state)}")
        elif place == reached:
            mark = ":x:" if ended else ":hourglass_flowing_sand:"
            lines.append(f"{mark} {words}{_stage_note(run, state)}")
        else:
            lines.append(f":white_circle: {words}")
    return "\n".join(lines)


def stage_now(run: TrainingRun) -> str:
    """The stage that a run is in and how far it is, on one plain line."""
    words = dict(STAGES).get(run.state, run.state.value)
    return f"{words}{_stage_note(run, run.state)}"


def _reached(run: TrainingRun) -> int:
    if run.evaluation_id or run.version_id:
        return 2
    return 1 if run.dataset_id else 0


def _stage_note(run: TrainingRun, state: RunState) -> str:
    progress = run.progress
    if state is RunState.FREEZING and "counts" in progress:
        counts = progress["counts"]
        return f": {counts['train']} train, {counts['validation']} validation, {counts['test']} held out"
    if state is RunState.TRAINING and progress.get("max_steps"):
        note = f": step {progress.get('step', 0)} of {progress['max_steps']}"
        if progress.get("loss") is not None:
            note += f", loss {progress['loss']:.3f}"
        if progress.get("eval_loss") is not None:
            note += f", held-out loss {progress['eval_loss']:.3f}"
        if run.state is RunState.TRAINING and progress.get("eta_s"):
            note += f", about {_minutes(progress['eta_s'])} left"
        return note
    if state is RunState.EVALUATING and progress.get("to_evaluate"):
        return f": {progress['evaluated']} of {progress['to_evaluate']} answers"
    return ""


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _headline(run: TrainingRun) -> str:
    words = {
        "promote": "*Verdict: promote.*",
        "keep": "*Verdict: keep what serves now.*",
        "not enough evidence": "*Verdict: not enough evidence.*",
        "failed": "*The run failed.*",
        "cancelled": "*The run was cancelled.*",
        "declined": "*The run was declined.*",
    }.get(run.outcome, "")
    return f"{words} {run.reason}".strip()


def scores(evaluation: Evaluation) -> list[Block]:
    """A table of every arm's scores, and the difference with its interval."""
    arms = Sheet.from_json(evaluation.sheet).arms
    header = ["Metric", *(ARM_NAMES.get(arm.name, arm.name) for arm in arms)]
    rows = [
        [words, *("failed" if arm.failed else f"{getattr(arm.scores, metric):.3f}" for arm in arms)]
        for metric, words in METRICS.items()
    ]
    rows.append(["Seconds, median", *(f"{arm.latency_p50_s:.2f}" for arm in arms)])
    rows.append(["Tokens per answer", *(f"{arm.tokens_out / arm.n:.0f}" for arm in arms)])
    rows.append(["Cost per 1,000", *(f"${1000 * arm.cost_usd / arm.n:.2f}" for arm in arms)])
    cells = [[{"type": "raw_text", "text": cell} for cell in row] for row in [header, *rows]]
    notes = [f"{ARM_NAMES.get(arm.name, arm.name)} failed: {arm.failed}" for arm in arms if arm.failed]
    notes.insert(0, difference_line(evaluation.verdict))
    return [{"type": "table", "rows": cells}, *(context(note) for note in notes if note)]


def difference_line(verdict: Mapping[str, Any]) -> str:
    """The difference to what serves now, with its interval and what it rests on; and to memory."""
    gain = verdict.get("gain")
    if not gain:
        return ""
    metric = METRICS.get(str(verdict.get("metric")), str(verdict.get("metric")))
    line = f"{metric}, challenger minus current: {_signed(gain)} ({gain['n']} held-out questions, {gain['clusters']} topics)"
    if verdict.get("over_memory"):
        line += f" · minus memory: {_signed(verdict['over_memory'])}"
    return line


def _signed(gain: Mapping[str, Any]) -> str:
    interval = gain["interval"]
    return f"{gain['mean']:+.3f}, {100 * interval['level']:.0f} % interval {interval['low']:+.3f} to {interval['high']:+.3f}"


def decision(run: TrainingRun, *, promotion: Promotion | None, kept_by: str, challenger: str) -> Block:
    """The buttons, or who decided what."""
    if promotion is not None:
        return context(
            f"Promoted by {who(promotion.by)} {promotion.promoted_at:%H:%M} UTC: {challenger} serves."
        )
    if kept_by:
        return context(f"Kept what serves now: decided by {who(kept_by)}.")
    advised = run.outcome == "promote"
    promote = _button(f"Promote {challenger}", PROMOTE, run.id, style="primary" if advised else "")
    promote["confirm"] = {
        "title": plain("Promote?"),
        "text": plain(
            f"{challenger} will answer from the next question on."
            + ("" if advised else " The evaluation did not show that it is better.")
        ),
        "confirm": plain("Promote"),
        "deny": plain("Not now"),
    }
    keep = _button("Keep", KEEP, run.id, style="" if advised else "primary")
    return {"type": "actions", "elements": [promote, keep]}


def evaluation_report(evaluation: Evaluation, *, names: Mapping[str, str]) -> dict[str, Any]:
    """The message of an evaluation asked for by `/eval`."""
    title = f"Evaluation #{evaluation.number}"
    blocks: list[Block] = [{"type": "header", "text": plain(title)}]
    if evaluation.reason:
        blocks.append(section(f"*It failed.* {evaluation.reason}"))
    elif not evaluation.sheet:
        blocks.append(section(":hourglass_flowing_sand: Asking every model the held-out questions..."))
    else:
        named = " · ".join(f"{ARM_NAMES.get(arm, arm)}: {name}" for arm, name in names.items())
        if evaluation.verdict:
            said = f"*Verdict: {evaluation.verdict['outcome']}.* {evaluation.verdict['reason']}"
            blocks.append(section(said))
        blocks += [
            *scores(evaluation),
            context(f"{named} · {Sheet.from_json(evaluation.sheet).arms[0].n} held-out questions"),
        ]
    blocks.append(context(f"Asked for by {who(evaluation.requested_by)}"))
    return {
        "text": f"{title}: {evaluation.reason or evaluation.verdict.get('reason') or 'scores of every model'}",
        "blocks": blocks,
        "metadata": {
            "event_type": "apprentice_evaluation",
            "event_payload": {"evaluation_id": evaluation.id},
        },
    }


def privacy_message(said: str, *, agreed: bool | None) -> dict[str, Any]:
    """What is held, with the buttons that change it."""
    flip = (
        _button("Withdraw my consent", f"{CONSENT}_no", "no")
        if agreed
        else _button("I agree to training", f"{CONSENT}_yes", "yes", style="primary")
    )
    forget = _button("Delete everything of mine", "forget_me", "me", style="danger")
    forget["confirm"] = {
        "title": plain("Delete everything?"),
        "text": plain("Your questions, votes and corrections are deleted for good."),
        "confirm": plain("Delete"),
        "deny": plain("Keep"),
    }
    export = _button("Show me everything", "export_me", "me")
    return {
        "text": said,
        "blocks": [section(said), {"type": "actions", "elements": [flip, export, forget]}],
    }
