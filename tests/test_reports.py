"""Reports as admins see them: one message for each run, the verdict first, everything else in its thread."""

import asyncio
import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from bot_process import eventually
from report_rig import (
    ADMIN_CHANNEL,
    ANN,
    Json,
    Office,
    blocks_of,
    buttons_of,
    office,
    office_in,
)

from bot.slack import report_blocks, report_thread
from bot.slack import report_text as words
from bot.workspace.seed import TEAM_ID
from storage.records import EvaluationState, RunState, TrainingRun, now
from storage.store import Store
from training.evaluation import Sheet

PATIENCE_S = 40.0


async def until(look: Any, what: str) -> Any:
    """What `look` returns once it is true-ish."""
    return await eventually(look, timeout_s=PATIENCE_S, what=what)


async def calls(office: Office, *methods: str) -> list[Json]:
    """The Web API calls of these methods so far."""
    session, url = office.rig.session, office.rig.workspace.url
    async with session.get(f"{url}/_control/calls") as response:
        told: list[Json] = (await response.json())["calls"]
    return [call for call in told if call["method"] in methods]


async def drawings(office: Office) -> list[Json]:
    """The arguments of every call that drew a report, oldest first."""
    drew = await calls(office, "chat.postMessage", "chat.update")
    return [call["args"] for call in drew if "thread_ts" not in call["args"]]


async def in_thread(office: Office, ts: str, *, files: int = 1) -> list[Json]:
    """What stands in a report's thread once the details and so many files are there."""

    async def look() -> list[Json]:
        thread = await office.messages(ts)
        shared = [file for reply in thread for file in reply.get("files", [])]
        details = [reply for reply in thread if reply.get("blocks")]
        return thread if len(shared) >= files and details else []

    found: list[Json] = await until(look, f"the thread has details and {files} files")
    return found


def statuses(message: Json) -> dict[str, str]:
    (plan,) = blocks_of(message, "plan")
    return {task["task_id"]: task["status"] for task in plan["tasks"]}


async def test_one_message_follows_a_run_from_its_first_stage_to_its_verdict(
    store: Store, tmp_path: Path
) -> None:
    """Posted once and edited in place; each stage says how far it is; every edit has ids of its own and a text."""
    async with office(store, tmp_path) as here:
        run = await here.run()
        await here.reports.run(run)
        first = await here.report()
        assert first["text"].startswith("Training run #1: Collecting examples")
        assert statuses(first) == {
            "collect": "in_progress",
            "freeze": "pending",
            "train": "pending",
            "evaluate": "pending",
            "compare": "pending",
        }
        run, _ = await here.trained(run, await here.dataset())
        fresh = office_in(here.rig, store, tmp_path)  # after a restart, and nothing was drawn for 5 s
        await fresh.reports.run(run)
        second = await here.report()
        assert statuses(second)["evaluate"] == "in_progress"
        (plan,) = blocks_of(second, "plan")
        details = {task["task_id"]: json.dumps(task.get("details")) for task in plan["tasks"]}
        assert "64 examples" in details["collect"]
        assert "31 to train on, 1 to watch it, 32 held out" in details["freeze"]
        assert "step 60 of 60, loss 0.210, held-out loss 0.340" in details["train"]
        run = await store.advance_run(run, RunState.REPORTING, outcome="failed", reason="The disk is full.")
        await fresh.reports.run(run)
        last = await here.report()
        assert [block["type"] for block in last["blocks"]][:2] == ["header", "section"]
        assert last["blocks"][1]["text"]["text"] == "*The run failed.* The disk is full."
        assert statuses(last) | {"compare": "pending"} == statuses(last)
        assert statuses(last)["evaluate"] == "error"
        assert {first["ts"]} == {second["ts"], last["ts"]}
        ids = [{block["block_id"] for block in each["blocks"]} for each in await drawings(here)]
        assert len(ids) == 3
        assert all(one.isdisjoint(other) for one, other in ((ids[0], ids[1]), (ids[1], ids[2])))
        assert all(each["text"] for each in await drawings(here))


async def test_a_running_report_is_edited_at_most_every_five_seconds(store: Store, tmp_path: Path) -> None:
    """Progress that comes sooner waits; a decision does not; what has not changed is not sent again."""
    async with office(store, tmp_path) as here:
        run = await here.run()
        await here.reports.run(run)
        for step in range(1, 6):
            await store.note_on_run(run.id, progress={"gathered": step})
            await here.reports.run(run)
        assert len(await drawings(here)) == 1
        run = await store.advance_run(
            run, RunState.REPORTING, outcome="cancelled", reason="Cancelled by <@U0ANN>."
        )
        await here.reports.run(run)
        await here.reports.run(run)
        assert len(await drawings(here)) == 2
        assert "Cancelled by <@U0ANN>." in (await here.report())["text"]


async def test_the_verdict_comes_first_then_the_numbers_then_the_buttons(
    store: Store, tmp_path: Path
) -> None:
    """A sentence, a table whose numbers are those of the evaluation, buttons with confirmation, two charts."""
    async with office(store, tmp_path) as here:
        run, version = await here.judged()
        await here.reports.run(run)
        report = await here.report()
        kinds = [block["type"] for block in report["blocks"]]
        assert kinds == [
            "header",
            "section",
            "data_table",
            "actions",
            "data_visualization",
            "data_visualization",
            "plan",
            "context",
        ]
        assert report["text"].startswith("Training run #1: Verdict: promote. The challenger is better")
        assert report["blocks"][1]["text"]["text"].startswith("*Verdict: promote.* The challenger is better")
        await the_table_is_the_evaluation(here, report, run)
        buttons = buttons_of(report)
        assert set(buttons) == {report_blocks.PROMOTE, report_blocks.CANARY, report_blocks.KEEP}
        assert all("confirm" in button for button in buttons.values())
        assert all(button["visible_to_user_ids"] == ["U0ANN", "U0BEN"] for button in buttons.values())
        assert buttons[report_blocks.PROMOTE]["text"]["text"] == f"Promote {version.name}"
        loss, scores = blocks_of(report, "data_visualization")
        assert [series["name"] for series in loss["chart"]["series"]] == ["Training", "Held-out"]
        assert [series["name"] for series in scores["chart"]["series"]] == ["Base", "Challenger", "Memory"]
        assert "Asked for by <@U0ANN>" in json.dumps(report["blocks"][-1])


async def the_table_is_the_evaluation(here: Office, report: Json, run: TrainingRun) -> None:
    evaluation = await here.store.evaluation(run.evaluation_id or "")
    assert evaluation is not None
    sheet = Sheet.from_json(evaluation.sheet)
    (table,) = blocks_of(report, "data_table")
    assert "32 held-out questions on 8 topics" in table["caption"]
    rows = {row[0]["text"]: [cell["text"] for cell in row[1:]] for row in table["rows"]}
    assert rows["Metric"] == ["Base", "Challenger", "Memory", "Difference", "Interval"]
    for metric, name in words.METRICS.items():
        scores = [getattr(sheet.arm(arm).scores, metric) for arm in ("base", "challenger", "memory")]
        gain = sheet.difference("challenger", "base", metric)
        assert rows[name][:3] == [f"{100 * score:.1f}" for score in scores]
        assert rows[name][3] == f"{100 * gain.mean:+.1f}"
        assert rows[name][4] == f"{100 * gain.interval.low:+.1f} to {100 * gain.interval.high:+.1f}"
    assert rows["Median seconds"][0] == f"{sheet.arm('base').latency_p50_s:.2f}"
    assert rows["Tokens per answer"] == ["7", "7", "7", "0", "–"]
    assert rows["Cost per 1,000 answers"][:3] == ["$0.00"] * 3
    assert table["page_size"] == len(table["rows"]) - 1, "a row is hidden on another page"


async def test_the_thread_holds_the_details_and_every_answer_as_csv(store: Store, tmp_path: Path) -> None:
    """Who was compared on what, where the challenger won and lost most, and a row for each question."""
    async with office(store, tmp_path) as here:
        run, _ = await here.judged(better=0.7)
        await here.reports.run(run)
        report = await here.report()
        thread = await in_thread(here, report["ts"])
        (details,) = [reply for reply in thread if reply.get("blocks")]
        told = json.dumps(details["blocks"], ensure_ascii=False)
        for said in (
            "Base: starter (demo model)",
            "Challenger: local-1",
            "32 held out",
            "Hesterberg",
            "won most",
        ):
            assert said in told
        (file,) = [file for reply in thread for file in reply.get("files", [])]
        assert file["name"] == "training-run-1.csv"
        rows = await downloaded(here, file)
        assert len(rows) == 32
        assert {"question", "thread", "split", "base answer", "challenger token_f1", "memory chrf"} <= set(
            rows[0]
        )
        evaluation = await store.evaluation(run.evaluation_id or "")
        assert evaluation is not None
        for scored in Sheet.from_json(evaluation.sheet).rows_of("challenger"):
            row = next(row for row in rows if row["question"] == scored.answered.example)
            assert row["challenger answer"] == scored.answered.text
            assert float(row["challenger token_f1"]) == pytest.approx(scored.scores.token_f1, abs=1e-4)
            assert row["thread"] == scored.cluster


async def downloaded(here: Office, file: Json) -> list[dict[str, str]]:
    """The rows of a CSV file, as somebody who presses Download gets them."""
    headers = {"Authorization": f"Bearer {here.rig.client.token}"}
    async with here.rig.session.get(file["url_private"], headers=headers) as response:
        assert response.status == 200
        return list(csv.DictReader(io.StringIO((await response.read()).decode())))


async def test_secrets_and_commands_of_a_spreadsheet_stay_out_of_the_thread(
    store: Store, tmp_path: Path
) -> None:
    """What a model blurts out is struck out, notifies nobody and is no formula where somebody opens the file."""
    blurted = "=HYPERLINK(1) <!channel> write to ben@example.org, xoxb-123456789012-1234567890123-abcdefghijklmnopqrst"
    async with office(store, tmp_path) as here:
        run, _ = await here.judged(better=0.0, odd=blurted)
        await here.reports.run(run)
        thread = await in_thread(here, (await here.report())["ts"])
        told = json.dumps(thread)
        (file,) = [file for reply in thread for file in reply.get("files", [])]
        (said,) = [
            row["challenger answer"]
            for row in await downloaded(here, file)
            if "HYPERLINK" in row["challenger answer"]
        ]
        assert said.startswith("'=")
        for secret in ("ben@example.org", "xoxb-1234"):
            assert secret not in told
            assert secret not in said
        assert "<!channel>" not in told


async def test_a_bot_that_dies_at_any_point_leaves_one_reply_and_one_file(
    store: Store, tmp_path: Path
) -> None:
    """Lost confirmations and refused uploads: the next life finds what stands there and does the rest."""
    async with office(store, tmp_path) as here:
        run, _ = await here.judged()
        await here.rig.control("fault", method="files.getUploadURLExternal", error="internal_error", times=1)
        await here.reports.run(run)
        ts = (await here.report())["ts"]

        async def refused() -> bool:
            return bool(await calls(here, "files.getUploadURLExternal"))

        await until(refused, "an upload was refused")
        await here.reports.stop()
        run = await store.advance_run(await store.run(run.id) or run, RunState.DONE)
        await store.change_keepsake(
            f"report-thread:run:{run.id}", report_thread.DUE
        )  # nothing was written down
        second = office_in(here.rig, store, tmp_path)
        await second.reports.catch_up()
        await in_thread(here, ts)
        await until(lambda: done(store, run), "the thread is marked as complete")
        third = office_in(here.rig, store, tmp_path)
        await third.reports.catch_up()
        await third.reports.run(run)
        await asyncio.gather(second.reports.stop(), third.reports.stop())
        thread = await here.messages(ts)
        assert len([reply for reply in thread if reply.get("blocks")]) == 1
        assert len([file for reply in thread for file in reply.get("files", [])]) == 1
        assert len(await here.messages()) == 1


async def done(store: Store, run: TrainingRun) -> bool:
    kept = await store.keepsake(f"report-thread:run:{run.id}", lambda: report_thread.DUE)
    return kept == report_thread.DONE


async def test_where_charts_are_refused_the_report_comes_with_pictures(store: Store, tmp_path: Path) -> None:
    """The same verdict and numbers in older blocks, charts as pictures with a description; asked natively only once."""
    pytest.importorskip("matplotlib")
    async with office(store, tmp_path) as here:
        await here.rig.control("features", data_visualization=False)
        run, _ = await here.judged()
        await here.reports.run(run)
        report = await here.report()
        kinds = {block["type"] for block in report["blocks"]}
        assert kinds == {"header", "section", "table", "context", "actions"}
        assert report["blocks"][1]["text"]["text"].startswith("*Verdict: promote.*")
        assert words.CHARTS_IN_THREAD in json.dumps(report["blocks"])
        assert ":white_check_mark: Train: step 60 of 60" in json.dumps(report["blocks"])
        thread = await in_thread(here, report["ts"], files=3)
        files = [file for reply in thread for file in reply.get("files", [])]
        pictures = [file for file in files if file["mimetype"] == "image/png"]
        assert {file["title"] for file in pictures} == {"Loss (lower is better)", "Scores (higher is better)"}
        assert all(file["alt_txt"] for file in pictures)
        await here.press(ANN, report_blocks.KEEP, report, run)
        await here.says("Kept what serves now")
        refused = [
            call
            for call in await calls(here, "chat.postMessage", "chat.update")
            if call["answer"].get("error") == "invalid_blocks"
        ]
        assert len(refused) == 1


async def test_without_matplotlib_the_report_says_why_there_is_no_picture(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing extra takes the pictures away and nothing else."""
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    async with office(store, tmp_path) as here:
        await here.rig.control("features", data_visualization=False)
        run, _ = await here.judged()
        await here.reports.run(run)
        report = await here.report()
        assert "apprentice-bot[charts]" in json.dumps(report["blocks"])
        thread = await in_thread(here, report["ts"])
        assert [file["filetype"] for reply in thread for file in reply.get("files", [])] == ["csv"]


async def test_a_file_that_slack_never_shows_holds_nothing_up(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upload was confirmed and is never shared: the report is drawn, decided on, and nothing is uploaded twice."""
    monkeypatch.setattr(report_thread, "SHARED_WITHIN_S", 0.2)
    monkeypatch.setattr(report_thread, "LOOK_EVERY_S", 0.02)
    async with office(store, tmp_path) as here:
        await here.rig.control("features", file_shares=False)
        run, _ = await here.judged()
        await here.reports.run(run)
        report = await here.report()
        await here.press(ANN, report_blocks.PROMOTE, report, run)
        await here.says("Promoted by <@U0ANN>", report["ts"])
        await until(lambda: done(store, run), "the thread is marked as complete")
        await here.reports.catch_up()
        assert len(await calls(here, "files.completeUploadExternal")) == 1


async def test_an_evaluation_has_the_same_table_and_chart(store: Store, tmp_path: Path) -> None:
    """`/eval`: one message that fills up; scores of every model, no buttons, every answer in its thread."""
    async with office(store, tmp_path) as here:
        asked = await store.request_evaluation(
            team=TEAM_ID, by=ANN, challenger_id=None, current_id=None, dataset_id=None
        )
        await here.reports.evaluation(asked)
        assert "asking every model" in (await here.report())["text"]
        done_one = await here.evaluated(await here.dataset(), version=None)
        await store.note_on_evaluation(asked.id, sheet=done_one.sheet, state=EvaluationState.EVALUATING)
        await here.reports.evaluation(asked)
        report = await here.report()
        assert report["text"].startswith("Evaluation #1: Memory is closest to the verified answers")
        (table,) = blocks_of(report, "data_table")
        assert [cell["text"] for cell in table["rows"][0]] == ["Metric", "Base", "Memory"]
        assert len(blocks_of(report, "data_visualization")) == 1
        assert buttons_of(report) == {}
        thread = await in_thread(here, report["ts"])
        (file,) = [file for reply in thread for file in reply.get("files", [])]
        assert file["name"] == "evaluation-1.csv"


async def test_a_run_that_ended_while_nobody_served_is_reported_at_the_next_start(
    store: Store, tmp_path: Path
) -> None:
    """`apprentice train` without a bot: its report comes once a bot runs; a declined nightly run stays silent."""
    async with office(store, tmp_path) as here:
        run, _ = await here.judged()
        await store.advance_run(run, RunState.DONE)
        silent = await store.request_run(
            team=TEAM_ID, occasion="nightly", by="the schedule", options={"scheduled": True}
        )
        await store.advance_run(silent.run, RunState.DECLINED, outcome="declined", reason="Nothing new.")
        old = await here.run()
        await store.advance_run(old, RunState.FAILED, outcome="failed", reason="long ago")
        await store.note_on_run(old.id, finished_at=now().replace(year=2020))
        await here.reports.catch_up()
        await here.reports.catch_up()
        report = await here.report()
        assert report["text"].startswith("Training run #1: Verdict: promote.")
        await in_thread(here, report["ts"])


async def test_a_report_that_slack_refuses_is_drawn_as_soon_as_it_can_be(
    store: Store, tmp_path: Path
) -> None:
    """A decision is kept while Slack is out of order, and shown when it is back."""
    async with office(store, tmp_path) as here:
        run, _ = await here.judged()
        await here.reports.run(run)
        report = await here.report()
        await here.rig.control("fault", method="chat.update", error="internal_error", times=1)
        await here.press(ANN, report_blocks.PROMOTE, report, run)
        decided = await until(lambda: store.newest_promotion(TEAM_ID), "it is promoted")
        assert decided.by == ANN

        async def shown() -> bool:
            await here.reports.catch_up()
            return "Promoted by" in json.dumps((await here.report())["blocks"])

        await until(shown, "the report says so")


async def test_somebody_elses_channel_is_named_with_the_remedy(store: Store, tmp_path: Path) -> None:
    """A report that cannot be posted says what to do about it."""
    async with office(store, tmp_path) as here:
        await here.rig.control("fault", method="chat.postMessage", error="not_in_channel", times=1)
        with pytest.raises(Exception, match=f"{ADMIN_CHANNEL} .not_in_channel.* Invite me"):
            await here.reports.run(await here.run())
