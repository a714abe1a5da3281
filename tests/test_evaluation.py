"""Every arm answers the same held-out questions, once, and no crash, slow model or restart changes the figures."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from storage.errors import PublicError
from storage.values import Message, Proposal
from training.evaluation import GIVE_UP_AFTER, Answered, Arm, HeldOut, Sheet, evaluate, read_answered

HELD_OUT = [
    HeldOut(f"q{i}", (Message("user", f"question {i}"),), f"answer {i}", f"t{i // 2}") for i in range(20)
]


class Model:
    """A model that answers from a rule, and remembers what it was asked."""

    def __init__(self, rule: Callable[[int], str], *, seconds: float = 0.5) -> None:
        self.asked: list[str] = []
        self.most_at_once = 0
        self._at_once = 0
        self._rule = rule
        self._seconds = seconds

    async def answer(self, messages: Sequence[Message]) -> Proposal:
        question = messages[-1].content
        self.asked.append(question)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await asyncio.sleep(0)
        self._at_once -= 1
        text = self._rule(int(question.split()[1]))
        return Proposal(
            text, "local", "starter", seconds=self._seconds, tokens_in=7, tokens_out=3, cost_usd=0.001
        )


def failing_on(broken: Callable[[int], bool]) -> Model:
    def rule(i: int) -> str:
        if broken(i):
            raise RuntimeError("out of memory")
        return f"answer {i}"

    return Model(rule)


async def test_every_arm_answers_the_same_questions_in_the_same_order() -> None:
    """Means, totals and percentiles come from exactly one answer per arm and example."""
    good, poor = Model(lambda i: f"answer {i}", seconds=2.0), Model(lambda i: "answer" if i else " ")
    told: list[tuple[str, int, int]] = []
    sheet = await evaluate(
        [Arm("challenger", good.answer), Arm("current", poor.answer)],
        HELD_OUT,
        concurrency=4,
        on_progress=lambda arm, done, total: told.append((arm, done, total)),
    )
    assert sorted(good.asked) == sorted(poor.asked) == sorted(f"question {i}" for i in range(20))
    assert [row.answered.example for row in sheet.rows] == [h.id for h in HELD_OUT] * 2
    challenger, current = sheet.arms
    assert (challenger.name, challenger.n, challenger.scores.exact_match) == ("challenger", 20, 1.0)
    assert (challenger.latency_p50_s, challenger.latency_p95_s) == (2.0, 2.0)
    assert (challenger.tokens_in, challenger.tokens_out) == (140, 60)
    assert challenger.cost_usd == pytest.approx(0.02)
    assert challenger.model == "starter"
    assert (current.empty, current.errors, current.empty_rate) == (1, 0, 0.05)
    assert current.scores.token_f1 == pytest.approx(19 / 20 * 2 / 3)
    assert told == [("challenger", n, 20) for n in range(1, 21)] + [("current", n, 20) for n in range(1, 21)]
    assert good.most_at_once == 4


async def test_the_difference_is_paired_and_clustered() -> None:
    """Forty answers to paraphrases of ten questions are ten pieces of evidence."""
    sheet = await evaluate(
        [Arm("a", Model(lambda i: f"answer {i}").answer), Arm("b", Model(lambda i: "wrong").answer)], HELD_OUT
    )
    gain = sheet.difference("a", "b", "exact_match")
    assert (gain.mean, gain.n, gain.clusters) == (1.0, 20, 10)
    assert sheet.difference("b", "a", "exact_match").mean == -1.0
    with pytest.raises(KeyError, match="no arm 'memory'"):
        sheet.difference("a", "memory", "exact_match")
    with pytest.raises(KeyError, match="no metric 'bleu'"):
        sheet.difference("a", "b", "bleu")


async def test_one_failed_answer_costs_one_answer() -> None:
    """An arm that raises for one example gets an empty answer there, scored zero, with the error in words."""
    sheet = await evaluate([Arm("a", failing_on(lambda i: i == 3).answer)], HELD_OUT, concurrency=3)
    row = sheet.rows[3]
    assert (row.answered.text, row.answered.error) == ("", "RuntimeError: out of memory")
    assert row.scores.exact_match == 0.0
    assert (sheet.arm("a").errors, sheet.arm("a").failed, sheet.arm("a").empty) == (1, "", 0)
    assert sheet.arm("a").scores.exact_match == pytest.approx(0.95)


async def test_an_arm_that_never_answers_is_failed_and_not_asked_for_ever() -> None:
    """A wrong key is found out after a few questions, and the other arms go on."""
    broken, fine = failing_on(lambda i: True), Model(lambda i: f"answer {i}")
    sheet = await evaluate(
        [Arm("current", broken.answer), Arm("memory", fine.answer)], HELD_OUT, concurrency=1
    )
    assert sheet.arm("current").failed == "failed on every question (RuntimeError: out of memory)"
    assert sheet.arm("current").error_rate == 1.0
    assert len(broken.asked) == GIVE_UP_AFTER
    assert sheet.arm("memory").failed == ""


async def test_late_failures_do_not_give_up_a_working_arm() -> None:
    """An arm that answered once is asked everything, however often it fails afterwards."""
    shaky = failing_on(lambda i: i > 0)
    sheet = await evaluate([Arm("a", shaky.answer)], HELD_OUT, concurrency=1)
    assert len(shaky.asked) == 20
    assert (sheet.arm("a").errors, sheet.arm("a").failed) == (19, "")


async def test_a_model_that_hangs_is_waited_for_only_so_long() -> None:
    """Every wait has a limit, and the reason says which."""

    async def hang(messages: Sequence[Message]) -> Proposal:
        await asyncio.Event().wait()
        raise AssertionError

    sheet = await evaluate([Arm("a", hang)], HELD_OUT[:2], limit_s=0.02)
    assert sheet.arm("a").failed == "failed on every question (no answer within 0.02 s)"


async def test_cancelling_an_evaluation_cancels_it() -> None:
    """Stopping the bot is no failed answer: nothing is recorded for the question under way."""
    started = asyncio.Event()

    async def hang(messages: Sequence[Message]) -> Proposal:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.create_task(evaluate([Arm("a", hang)], HELD_OUT))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    """An evaluation that was cut off goes on where it stood, and its figures are those of an uninterrupted one."""
    path = tmp_path / "answers.jsonl"
    whole = await evaluate([Arm("a", Model(lambda i: f"answer {i}").answer)], HELD_OUT, record_to=path)
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 20
    path.write_text("".join(lines[:7]) + lines[7][:25])

    model = Model(lambda i: f"answer {i}")
    told: list[int] = []
    resumed = await evaluate(
        [Arm("a", model.answer)],
        HELD_OUT,
        already=read_answered(path),
        record_to=path,
        on_progress=lambda _arm, done, _total: told.append(done),
    )
    assert len(model.asked) == 13
    assert resumed == whole
    assert told == list(range(7, 21))
    assert len(read_answered(path)) == 20


async def test_a_failed_answer_is_asked_again(tmp_path: Path) -> None:
    """A provider that was down when the bot was stopped gets its second chance, and the newest answer counts."""
    path = tmp_path / "answers.jsonl"
    await evaluate([Arm("a", failing_on(lambda i: i % 2 == 0).answer)], HELD_OUT, record_to=path)
    model = Model(lambda i: f"answer {i}")
    sheet = await evaluate([Arm("a", model.answer)], HELD_OUT, already=read_answered(path), record_to=path)
    assert len(model.asked) == 10
    assert sheet.arm("a").errors == 0
    assert not any(answered.error for answered in read_answered(path).values())


def test_a_journal_that_is_not_there_or_not_ours_is_no_answer(tmp_path: Path) -> None:
    """Nothing to resume from is the empty start; foreign and torn lines are left out."""
    assert read_answered(tmp_path / "none.jsonl") == {}
    path = tmp_path / "odd.jsonl"
    path.write_bytes(
        b'\xff\xfe\n{"arm": "a"}\n[1]\n{"arm": "a", "example": "q", "text": "x\\u2028y"}\n{"arm": "a", "exa'
    )
    assert read_answered(path) == {("a", "q"): Answered("a", "q", "x\u2028y")}


async def test_odd_texts_survive_the_journal_and_the_sheet(tmp_path: Path) -> None:
    """Line separators, emoji, quotes and half a surrogate come back as they were said."""
    odd = 'a\u2028b\x85c\r\n"quoted" 😀 \ud83d end'
    path = tmp_path / "answers.jsonl"
    sheet = await evaluate([Arm("a", Model(lambda i: odd).answer)], HELD_OUT[:3], record_to=path)
    assert [answered.text for answered in read_answered(path).values()] == [odd] * 3
    assert Sheet.from_json(json.loads(json.dumps(sheet.to_json()))) == sheet


async def test_a_sheet_survives_json_and_names_its_schema() -> None:
    """Every float comes back to the last bit; a sheet of another form is refused with the remedy."""
    arms = [Arm("a", failing_on(lambda i: i == 2).answer), Arm("b", Model(lambda i: "answer x").answer)]
    sheet = await evaluate(arms, HELD_OUT)
    stored = json.loads(json.dumps(sheet.to_json(), allow_nan=False))
    again = Sheet.from_json(stored)
    assert again == sheet
    assert again.arms == sheet.arms
    with pytest.raises(PublicError, match="Run `/eval` again"):
        Sheet.from_json({**stored, "schema": 99})


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
async def test_a_full_disk_says_what_to_do(tmp_path: Path) -> None:
    """The evaluation stops with a sentence that names the file, and asks no further question for nothing."""
    full = Path("/dev/full")
    model = Model(lambda i: "x")
    with pytest.raises(PublicError, match=r"/dev/full.*No space left.*answers so far are kept"):
        await evaluate([Arm("a", model.answer)], HELD_OUT, concurrency=2, record_to=full)
    assert len(model.asked) <= 2
    (tmp_path / "file").write_text("")
    with pytest.raises(PublicError, match="cannot be written"):
        await evaluate([Arm("a", model.answer)], HELD_OUT, record_to=tmp_path / "file" / "answers.jsonl")


async def test_what_cannot_be_compared_is_refused() -> None:
    """No questions, no arms, two arms or two examples of one name."""
    arm = Arm("a", Model(lambda i: "x").answer)
    with pytest.raises(PublicError, match="no held-out examples"):
        await evaluate([arm], [])
    with pytest.raises(ValueError, match="at least one arm"):
        await evaluate([], HELD_OUT)
    with pytest.raises(ValueError, match="2 times the arm 'a'"):
        await evaluate([arm, arm], HELD_OUT)
    with pytest.raises(ValueError, match="2 times the held-out example 'q1'"):
        await evaluate([arm], [*HELD_OUT, replace(HELD_OUT[1], reference="other")])


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from storage.values import Message, Proposal
from training.evaluation import Arm, HeldOut, evaluate

asked = 0
async def answer(messages):
    global asked
    asked += 1
    if asked == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return Proposal("text", "local", "starter", seconds=1.0)

held_out = [HeldOut(f"q{i}", (Message("user", f"question {i}"),), "text", "c") for i in range(20)]
asyncio.run(evaluate([Arm("a", answer)], held_out, concurrency=1, record_to=Path(sys.argv[1])))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system cannot kill -9")
def test_kill_minus_nine_loses_at_most_the_answer_under_way(tmp_path: Path) -> None:
    """Five answers were given before the sixth question killed the process: all five are there."""
    path = tmp_path / "answers.jsonl"
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path)], env=dict(os.environ), check=False)
    assert ended.returncode == -signal.SIGKILL
    assert [example for _, example in read_answered(path)] == ["q0", "q1", "q2", "q3", "q4"]


async def test_scoring_leaves_the_loop_free() -> None:
    """Long answers are scored on another thread: the bot still acknowledges buttons meanwhile."""
    long = "some words that take a while to score " * 300
    examples = [replace(example, reference=long[::-1]) for example in HELD_OUT[:6]]
    answered: Awaitable[Sheet] = evaluate([Arm("a", Model(lambda i: long).answer)], examples)
    task = asyncio.ensure_future(answered)
    longest = 0.0
    while not task.done():
        started = time.perf_counter()
        await asyncio.sleep(0.005)
        longest = max(longest, time.perf_counter() - started)
    assert (await task).arm("a").n == 6
    assert longest < 0.3
