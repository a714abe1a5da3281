"""The terminal's commands about learning: a run is followed to its end whoever advances it, and is never lost."""

import asyncio
import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from terminal import Terminal, clean_environment, command, logging_as_it_was

from bot.cli_show import Progress
from bot.settings import Settings
from bot.workshop import DataLock
from storage.records import EvaluationState, RunState, TrainingRun, now
from storage.store import Store
from storage.values import Message, Proposal
from training.evaluating import judge_sheet
from training.evaluation import Arm, HeldOut, evaluate

TEAM = "T0LOCAL"
EXAMPLES: list[str | dict[str, object]] = [
    {"question": f"Question number {n}?", "answer": f"Answer {n}.", "split": "test" if n % 3 else "train"}
    for n in range(9)
]


@pytest.fixture
def terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Terminal]:
    """Nine imported questions, and one example is enough to train."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    here = Terminal(tmp_path, capsys)
    here.configure(sample_domain="false", train_min_examples=1)
    with logging_as_it_was():
        here.run("import", str(here.write("faq.jsonl", *EXAMPLES)))
        yield here


@pytest.fixture
def served(terminal: Terminal) -> Iterator[DataLock]:
    """Another bot owns the data directory; the test plays it."""
    lock = DataLock(terminal.data)
    assert lock.take()
    yield lock
    lock.release()


async def _sheet_and_verdict() -> tuple[dict[str, Any], dict[str, Any]]:
    """A real evaluation of a base that knows nothing and a challenger that knows everything."""

    async def base(_messages: object) -> Proposal:
        return Proposal("I do not know.", "local", "starter")

    async def challenger(messages: Any) -> Proposal:
        return Proposal(f"Answer {messages[-1].content}.", "local", "starter + local-1")

    held_out = [HeldOut(f"h{n}", (Message("user", str(n)),), f"Answer {n}.", f"c{n}") for n in range(30)]
    sheet = await evaluate([Arm("base", base), Arm("challenger", challenger)], held_out)
    verdict = judge_sheet(sheet)
    assert verdict is not None
    return sheet.to_json(), verdict.to_json()


class Bot:
    """Stands in for the bot that serves: it advances the one run there is, as `training.runs` would."""

    def __init__(self, database: str, shown: threading.Event) -> None:
        self._database = database
        self._shown = shown

    def play(self, *, outcome: str) -> None:
        """Carry the run that the terminal asks for to this outcome."""
        asyncio.run(self._play(outcome))

    async def _play(self, outcome: str) -> None:
        store = await Store.open(self._database)
        try:
            run = await self._requested(store)
            await store.claim_run(run.id, worker="bot", lease_s=60)
            run = await store.advance_run(run, RunState.TRAINING)
            progress = {"step": 20, "max_steps": 60, "loss": 1.5, "eta_s": 40.0}
            await store.note_on_run(run.id, progress=progress)
            assert await asyncio.to_thread(self._shown.wait, 30), "the terminal never showed the step"
            if outcome == "failed":
                await store.advance_run(run, RunState.FAILED, outcome=outcome, reason="The disk was full.")
            else:
                await self._evaluated(store, run, outcome)
        finally:
            await store.close()

    async def _requested(self, store: Store) -> TrainingRun:
        async with asyncio.timeout(30):
            while not (live := await store.live_runs()):  # noqa: ASYNC110 - another process's rows tell no event
                await asyncio.sleep(0.05)
        return live[0]

    async def _evaluated(self, store: Store, run: TrainingRun, outcome: str) -> None:
        version = await store.register_model(
            team=TEAM,
            name="local-1",
            base_model="starter",
            path="models/1",
            sha256="0" * 64,
            run_id=run.id,
            dataset_id=None,
            card={},
        )
        evaluation = await store.request_evaluation(
            team=TEAM, by="x", challenger_id=version.id, current_id=None, dataset_id=None, run_id=run.id
        )
        sheet, verdict = await _sheet_and_verdict()
        await store.note_on_evaluation(
            evaluation.id, state=EvaluationState.DONE, sheet=sheet, verdict=verdict, finished_at=now()
        )
        await store.advance_run(
            run, RunState.DONE, outcome=outcome, version_id=version.id, evaluation_id=evaluation.id
        )


@pytest.fixture
def bot(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Bot:
    """A bot that goes on once the terminal has shown a step."""
    shown = threading.Event()
    show = Progress.show

    def watched(progress: Progress, stage: str, detail: str = "") -> None:
        show(progress, stage, detail)
        if "step 20" in detail:
            shown.set()

    monkeypatch.setattr(Progress, "show", watched)
    return Bot(terminal.database, shown)


def in_background(bot: Bot, outcome: str) -> threading.Thread:
    """The bot at work beside the terminal."""
    thread = threading.Thread(target=bot.play, kwargs={"outcome": outcome})
    thread.start()
    return thread


def test_a_run_that_a_bot_advances_is_followed_to_its_verdict(
    terminal: Terminal, served: DataLock, bot: Bot
) -> None:
    """Stage, step, loss and time left on the way; at the end scores, the difference with its interval, the verdict."""
    at_work = in_background(bot, "promote")
    ended = terminal.run("train", "epochs=2")
    at_work.join()
    assert ended.code == 0, ended.err
    assert "the bot that runs here advances it" in ended.err
    assert "step 20 of 60, loss 1.500, about 40 s left" in ended.err
    lines = ended.out.splitlines()
    assert lines[0].split() == ["Base", "Challenger"]
    assert any(line.split()[:2] == ["Token", "F1"] and line.endswith("1.000") for line in lines)
    assert any("challenger minus current: +1.000, 95 % interval" in line for line in lines)
    assert any(line.startswith("Verdict: promote. The challenger is better") for line in lines)
    assert "`apprentice promote local-1` lets local-1 answer" in lines[-1]

    listed = terminal.run("runs", "--json").json
    assert (listed[0]["number"], listed[0]["model"], listed[0]["outcome"]) == (1, "local-1", "promote")
    assert listed[0]["options"] == {"epochs": 2.0}
    assert listed[0]["requested_by"].startswith("terminal:")
    assert "#1" in terminal.run("runs").out
    assert [row["name"] for row in terminal.run("models", "--json").json] == ["base", "local-1"]


def test_a_run_that_fails_is_4_with_its_reason(terminal: Terminal, served: DataLock, bot: Bot) -> None:
    """A nightly job must notice; a program finds the reason in the one JSON document on stdout."""
    at_work = in_background(bot, "failed")
    ended = terminal.run("train", "--json")
    at_work.join()
    assert (ended.code, ended.json["state"], ended.json["reason"]) == (4, "failed", "The disk was full.")
    again = terminal.run("runs", "--follow", "1")
    assert (again.code, again.out) == (4, "Run #1 failed: The disk was full.\n")


def test_ctrl_c_leaves_the_run_and_says_how_to_go_on(terminal: Terminal, served: DataLock) -> None:
    """130, as shells expect; the run is still there for the bot."""
    child = subprocess.Popen(
        command("train"),
        cwd=terminal.folder,
        env=clean_environment(terminal.data),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    seen = ""
    while "Run #1 requested" not in seen:  # pytest's timeout is the deadline
        line = child.stderr.readline()
        assert line, seen
        seen += line
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert (child.returncode, out) == (130, "")
    assert "`apprentice runs --follow 1` goes on with it, `apprentice runs --cancel 1` stops it" in err
    assert "Traceback" not in err
    assert terminal.run("runs", "--json").json[0]["state"] == "requested"


def test_a_run_that_nobody_advances_any_more_is_not_waited_for(terminal: Terminal, served: DataLock) -> None:
    """The bot died without a word: the terminal says so instead of waiting for ever."""

    async def abandoned() -> None:
        store = await terminal.store()
        asked = await store.request_run(team=TEAM, occasion="x", by="U0ANN", options={})
        await store.note_on_run(asked.run.id, lease_until=now() - timedelta(minutes=10))
        await store.close()

    asyncio.run(abandoned())
    ended = terminal.run("runs", "--follow", "1")
    assert (ended.code, ended.out) == (1, "")
    assert "Nobody advances run #1 any more" in ended.err
    assert "apprentice runs --follow 1" in ended.err


def test_a_requested_run_waits_and_is_cancelled_even_without_a_bot(terminal: Terminal) -> None:
    """--no-wait only writes the wish down; a second wish is declined; a cancelled run is over, once."""
    asked = terminal.run("train", "--no-wait")
    assert (asked.code, asked.err) == (0, "")
    assert "It begins when `apprentice serve` runs, or with `apprentice runs --follow 1`" in asked.out
    second = terminal.run("train", "--json")
    assert (second.code, second.json["state"]) == (3, "declined")
    assert "Run #1 is still requested. One run at a time." in second.err
    assert "requested" in terminal.run("runs").out

    cancelled = terminal.run("runs", "--cancel", "1")
    assert cancelled.code == 0, cancelled.err
    assert "Run #1 was cancelled" in cancelled.out
    assert terminal.run("runs", "--json").json[0]["state"] == "cancelled"
    again = terminal.run("runs", "--cancel", "1")
    assert (again.code, again.err) == (3, "Run #1 is over already: cancelled.\n")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["runs", "--cancel", "7"], 1, "There is no run #7."),
        (["runs", "--follow", "1", "--cancel", "1"], 2, "choose one of --follow and --cancel"),
        (["train", "speed=fast"], 1, "I do not understand 'speed=fast'"),
        (["train", "epochs=0"], 1, "write a number between 0 and 200"),
        (["train", "quantization=int3"], 1, "write nf4 (4-bit) or none"),
        (["eval"], 1, "There are no held-out questions yet"),
        (["eval", "nobody"], 1, "There is no model called 'nobody'. There are: base."),
        (["promote", "nobody"], 1, "There is no model called 'nobody'. There are: base."),
        (["promote", "base"], 3, "base answers already."),
        (["rollback"], 3, "there is nothing to roll back"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    terminal: Terminal, arguments: list[str], code: int, said: str
) -> None:
    """With the thing's name, nothing on stdout, and nothing changed."""
    ended = terminal.run(*arguments)
    assert (ended.code, ended.out) == (code, "")
    assert said in ended.err
    assert terminal.run("runs", "--json").json == []
    assert [row["current"] for row in terminal.run("models", "--json").json] == [True]


def test_too_few_examples_decline_a_run(terminal: Terminal) -> None:
    """With how many there are, how many are needed and how to get more."""
    terminal.configure(sample_domain="false", train_min_examples=30)
    ended = terminal.run("train")
    assert (ended.code, ended.out) == (3, "")
    assert "There are 3 examples to learn from so far; 30 are needed." in ended.err
    assert "apprentice import" in ended.err
    assert terminal.run("runs").err.startswith("There is no training run yet.")


def test_the_base_can_be_taken_back_into_service(terminal: Terminal) -> None:
    """Promote base and rollback need no adapter, and both are remembered with who did it."""

    async def promoted() -> None:
        store = await terminal.store()
        version = await store.register_model(
            team=TEAM,
            name="local-1",
            base_model="starter",
            path="gone",
            sha256="0" * 64,
            run_id=None,
            dataset_id=None,
            card={},
        )
        await store.promote(team=TEAM, decision="d1", version_id=version.id, by="U0ANN", reason="")
        await store.taint_models([version.id], "learned from words that were deleted since")
        await store.close()

    asyncio.run(promoted())
    shown = terminal.run("models").out
    assert [line.split()[:2] for line in shown.splitlines()[1:3]] == [["base", "starter"], ["now", "local-1"]]
    assert "learned from words that were deleted since" in shown
    back = terminal.run("rollback")
    assert (back.code, back.out.split(".")[0]) == (0, "base answers from the next question on")
    assert terminal.run("promote", "base", "--reason", "to be sure").code == 3
    assert json.loads(terminal.run("models", "--json").out)[0]["current"] is True
