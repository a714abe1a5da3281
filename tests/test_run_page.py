"""A training run's report as a page: what Slack shows of it, its curves and topics; and the terminal's way to it."""

import asyncio
import re
from pathlib import Path

import pytest
from report_rig import write_progress
from terminal import Terminal
from test_doctor import terminal  # noqa: F401
from test_reports_charts import run_in, sheet

from bot.run_page import markup, page
from bot.slack.charts import loss_chart, score_chart
from bot.slack.report_blocks import compare
from storage.records import RunState
from training.evaluation import Sheet
from training.rundir import read_progress


def test_a_run_with_its_comparison_is_one_page_that_holds_everything(tmp_path: Path) -> None:
    """The verdict, every metric with its interval, the curves in words; nothing is fetched, nothing runs."""
    write_progress(tmp_path, steps=60, every=10)
    comparison = compare(sheet("base", "current", "challenger", "memory"))
    charts = [loss_chart(read_progress(tmp_path)), score_chart(comparison.arms)]
    run = run_in(
        RunState.DONE,
        outcome="promote",
        reason="The challenger is better <script>alert(1)</script>",
        progress={
            "counts": {"train": 80, "validation": 4, "test": 15},
            "step": 60,
            "max_steps": 60,
            "loss": 0.5,
        },
    )
    shown = page(run, comparison, [chart for chart in charts if chart is not None])
    assert "<strong>Verdict: promote.</strong>" in shown
    assert "<script" not in shown
    assert not re.search(r"(src|href)\s*=|url\(|@import|http", shown)
    for said in (
        "Token F1",
        "Difference",
        "Interval",
        "80 to train on",
        "step 60 of 60",
        "held-out questions",
    ):
        assert said in shown, said
    assert shown.count("<polyline") == 2
    assert shown.count("<svg") == shown.count("<desc>") >= 3
    assert "Training from" in shown
    assert not re.search(r":[a-z_]{3,}:", re.sub(r"<style>.*</style>", "", shown, flags=re.S))


def test_a_run_that_failed_has_a_page_too() -> None:
    """Nothing to compare, no curve: where it stopped and why."""
    shown = page(run_in(RunState.DONE, outcome="failed", reason="The disk is full."), None, [])
    assert "The disk is full." in shown
    assert "<svg" not in shown


@pytest.mark.parametrize(
    ("said", "html"),
    [
        ("*bold* and `code`", "<strong>bold</strong> and <code>code</code>"),
        ("a &amp; b &lt;c&gt;", "a &amp; b &lt;c&gt;"),
        (":white_check_mark: done\nnext", "done<br>next"),
        ("<b>raw</b>", "&lt;b&gt;raw&lt;/b&gt;"),
    ],
)
def test_slacks_marks_become_html_and_words_stay_words(said: str, html: str) -> None:
    """Neither more nor less."""
    assert markup(said) == html


async def test_the_terminal_writes_a_runs_page(terminal: Terminal, tmp_path: Path) -> None:  # noqa: F811
    """With the evaluation of the store and the course of its directory; an unknown number is named with what lists them."""
    store = await terminal.store()
    team, told = "T0LOCAL", sheet("base", "challenger")
    run = (await store.request_run(team=team, occasion="o", by="U0ANN", options={})).run
    evaluation = await store.request_evaluation(
        team=team, by="U0ANN", challenger_id=None, current_id=None, dataset_id=None
    )
    await store.note_on_evaluation(evaluation.id, sheet=told.to_json(), verdict={"outcome": "keep"})
    write_progress(tmp_path, steps=40, every=10)
    await store.note_on_run(
        run.id, evaluation_id=evaluation.id, directory=str(tmp_path), outcome="keep", reason="Equal."
    )
    await store.close()
    assert Sheet.from_json(told.to_json()).arms
    out = tmp_path / "run.html"

    def report(*arguments: str) -> tuple[int, str]:
        ended = terminal.run("report", *arguments)
        return ended.code, ended.out + ended.err

    code, words = await asyncio.to_thread(report, "--run", str(run.number), "--out", str(out))
    assert code == 0, words
    shown = out.read_text(encoding="utf-8")
    assert f"Training run #{run.number}" in shown
    assert "Equal." in shown
    assert "<polyline" in shown
    code, words = await asyncio.to_thread(report, "--run", "99")
    assert (code != 0, "`apprentice runs` lists them" in words) == (True, True)
    code, words = await asyncio.to_thread(report, "--run", "1", "--week", "last")
    assert (code != 0, "not both" in words) == (True, True)
