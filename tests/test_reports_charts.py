"""Charts and tables of reports keep Slack's limits whatever a run was like, and say what happened."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from report_rig import write_progress

from bot.slack import report_blocks
from bot.slack.charts import Chart, Kind, chart_block, loss_chart, picture, score_chart
from bot.slack.report_blocks import Comparison, Look, compare
from bot.workspace.blocks import message_problems
from storage.records import RunState, TrainingRun
from training.evaluation import Answered, Row, Sheet
from training.metrics import Scores
from training.rundir import read_progress

NONE = Scores(0.0, 0.0, 0.0, 0.0)


def sheet(*arms: str, questions: int = 30, error: str = "") -> Sheet:
    """Arms that answered, the last one better; with `error` the last one failed."""
    return Sheet(
        tuple(
            Row(
                Answered(
                    arm,
                    f"q{number}",
                    text="" if error and arm == arms[-1] else "yes",
                    seconds=0.5,
                    tokens_out=3,
                    error=error if arm == arms[-1] else "",
                ),
                f"topic {number % 10}",
                NONE if error and arm == arms[-1] else Scores(0.5, 0.1 * place, 0.2, 0.3),
            )
            for place, arm in enumerate(arms)
            for number in range(questions)
        )
    )


def run_in(state: RunState, **row: Any) -> TrainingRun:
    return TrainingRun(
        number=3,
        team="T",
        occasion="test",
        requested_by="U0ANN",
        options={},
        state=state,
        **{"progress": {}, **row},
    )


@pytest.mark.parametrize(
    ("steps", "every", "names", "points"),
    [
        (1000, 10, ["Training", "Held-out"], 20),
        (1000, 2000, ["Training"], 20),
        (60, 20, ["Training", "Held-out"], 3),
        (2, 5, ["Training"], 2),
    ],
)
def test_a_loss_curve_of_any_length_fits(
    tmp_path: Path, steps: int, every: int, names: list[str], points: int
) -> None:
    """At most 20 points, the last step among them, a value for each point in each series; Slack would take it."""
    write_progress(tmp_path, steps=steps, every=every)
    chart = loss_chart(read_progress(tmp_path))
    assert chart is not None
    assert list(chart.series) == names
    assert len(chart.categories) == points
    assert chart.categories[-1] == str(steps)
    assert len(set(chart.categories)) == len(chart.categories)
    assert all(len(values) == points for values in chart.series.values())
    assert all(values[0] > values[-1] for values in chart.series.values())
    assert message_problems([chart_block(chart)]) == []


@pytest.mark.parametrize("steps", [0, 1])
def test_a_run_without_two_steps_has_no_curve(tmp_path: Path, steps: int) -> None:
    """One point is no curve, and a run that never began has none either."""
    if steps:
        write_progress(tmp_path, steps=steps)
    assert loss_chart(read_progress(tmp_path)) is None


def test_a_resumed_run_is_one_curve() -> None:
    """Steps that were done again after a crash count once, the newest loss of each."""
    lines: list[dict[str, Any]] = [
        {"event": "step", "step": step, "loss": loss}
        for step, loss in [(1, 4.0), (2, 3.0), (3, 9.0), (3, 2.0), (4, 1.0)]
    ]
    chart = loss_chart(lines)
    assert chart is not None
    assert chart.categories == ("1", "2", "3", "4")
    assert chart.series == {"Training": (4.0, 3.0, 2.0, 1.0)}


def test_the_mean_since_the_last_measurement_stands_beside_it() -> None:
    """A point of the training loss is the mean of its steps, not of one lucky batch."""
    lines: list[dict[str, Any]] = []
    for step in range(1, 7):
        lines.append({"event": "step", "step": step, "loss": float(step)})
        if step % 2 == 0:
            lines.append({"event": "evaluated", "step": step, "eval_loss": 10.0 + step})
    chart = loss_chart(lines)
    assert chart is not None
    assert chart.series == {"Training": (1.5, 3.5, 5.5), "Held-out": (12.0, 14.0, 16.0)}


def test_an_arm_that_failed_is_no_bar_of_zero() -> None:
    """What gave no answer is left out of the chart, and of a comparison of one with itself there is none."""
    failed = sheet("base", "challenger", "memory", error="no memory left").arms
    chart = score_chart(failed)
    assert chart is not None
    assert list(chart.series) == ["Base", "Challenger"]
    assert score_chart(sheet("base").arms) is None


def test_a_picture_is_a_png_with_the_charts_words() -> None:
    """The fallback: a real picture, and a description for who cannot see it."""
    pytest.importorskip("matplotlib")
    chart = Chart(
        "Scores", Kind.BAR, "", "Points", ("F1", "chrF"), {"Base": (1.0, 2.0), "Memory": (3.0, 4.5)}
    )
    content = picture(chart)
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    assert (width, height) == (1050, 540)
    assert chart.description == "Scores. Base: F1 1, chrF 2; Memory: F1 3, chrF 4.5."


def messages() -> Iterator[tuple[str, dict[str, Any]]]:
    """Reports at every stage and end, in each look."""
    full = {
        "gathered": 99,
        "counts": {"train": 80, "validation": 4, "test": 15},
        "step": 3,
        "max_steps": 9,
        "loss": 1.0,
        "eval_loss": 2.0,
        "eta_s": 4000,
        "evaluated": 16,
        "to_evaluate": 60,
    }
    four = compare(sheet("base", "current", "challenger", "memory"))
    broken = compare(sheet("base", "challenger", error="ModelUnavailable: <b>it died</b> & more"))
    for look in Look:
        for state in RunState:
            for progress in ({}, full):
                run = run_in(state, progress=progress)
                yield f"{state}, {look}", report_blocks.run_report(run, look=look)
        for outcome, comparison in (("promote", four), ("keep", broken), ("failed", None)):
            run = run_in(RunState.REPORTING, outcome=outcome, reason="x" * 5000, progress=full)
            charts = [chart for chart in [score_chart(four.arms)] if chart] * 3
            yield outcome, report_blocks.run_report(run, comparison=comparison, charts=charts, look=look)


def test_slack_takes_every_report() -> None:
    """No stage, no end and no reason makes a message that Slack would refuse, or one without words."""
    seen = 0
    for name, message in messages():
        assert message_problems(message["blocks"]) == [], name
        assert 0 < len(message["text"]) < 4000, name
        seen += 1
    assert seen == len(Look) * (2 * len(RunState) + 3)


def test_every_report_fits_slacks_own_types(shared_data: Path) -> None:
    """The blocks are those of @slack/types 3.2.0; only charts are younger than it, and judged by slackblocks above."""
    schema = json.loads((shared_data / "slack_schemas" / "block_kit.schema.json").read_text(encoding="utf-8"))
    schema = {"$ref": "#/definitions/Blocks", "definitions": schema["definitions"]}
    judge = Draft7Validator(schema)
    assert list(judge.iter_errors([{"type": "header"}])), "the schema refuses nothing"
    judged = set()
    for name, message in messages():
        blocks = [block for block in message["blocks"] if block["type"] != "data_visualization"]
        judged |= {block["type"] for block in blocks}
        for block in blocks:
            assert [error.message for error in judge.iter_errors([block])] == [], name
    assert {"data_table", "plan", "table"} <= judged


def test_what_failed_is_said_and_not_compared() -> None:
    """No difference to an arm that gave nothing, "failed" instead of a zero, and the reason as it is, harmless."""
    comparison: Comparison = compare(sheet("base", "challenger", error="<!channel> & more"))
    table, note = report_blocks.scores(comparison)
    assert [cell["text"] for cell in table["rows"][0]] == ["Metric", "Base", "Challenger"]
    assert {row[2]["text"] for row in table["rows"][1:]} == {"failed"}
    assert "<!channel>" not in json.dumps(note)
    assert "&lt;!channel&gt;" in json.dumps(note)


def test_a_failed_run_shows_where_it_failed() -> None:
    """Training that broke is an error at Train; what came before is done, what follows never began."""
    run = run_in(
        RunState.FAILED, outcome="failed", reason="No space.", dataset_id="d", progress={"gathered": 3}
    )
    assert report_blocks.stages(run) == {
        "collect": "complete",
        "freeze": "complete",
        "train": "error",
        "evaluate": "pending",
        "compare": "pending",
    }
    assert report_blocks.run_report(run)["text"] == "Training run #3: The run failed. No space."


def test_the_verdict_is_said_once() -> None:
    """Outcome and reason read as one sentence, not as the same words twice."""
    reason = "Not enough evidence yet: 8 held-out answers; about 80 more rated answers."
    run = run_in(RunState.DONE, outcome="not enough evidence", reason=reason)
    assert report_blocks.run_report(run)["text"] == (
        "Training run #3: Verdict: not enough evidence. 8 held-out answers; about 80 more rated answers."
    )
