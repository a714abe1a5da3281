"""The product on one page: a question, a better answer, a training run, an honest report, a promotion, and back again.

Everything goes over Slack's protocol, and what came out is what people saw; nothing is asserted of how good a model is.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from bot_process import (
    ADMIN_CHANNEL,
    CLEOS_DM,
    HELD_OUT,
    HELP,
    Json,
    Team,
    ask,
    bot_in_here,
    id_of,
    rate,
    reports,
    run_when,
    until,
    who_answered,
    words_of,
    write_faq,
)
from terminal import clean_environment

from bot.app import Bot
from bot.slack import blocks, report_blocks, text
from training.evaluating import BASE, CHALLENGER, MEMORY
from training.evaluation import Sheet

pytestmark = pytest.mark.training

BETTER = "No, we only lend tools."


async def test_the_whole_story(tmp_path: Path) -> None:
    """Ask, rate, correct, import, train, read the report, promote, ask again, roll back."""
    async with bot_in_here(tmp_path / "data") as (bot, team):
        answer = await cleo_asks_and_is_asked_for_her_consent_once(bot, team)
        await cleo_writes_the_better_answer(bot, team, answer)
        await questions_are_imported_while_the_bot_runs(bot, team, write_faq(tmp_path / "tools.jsonl"))
        await dan_may_not_train(bot, team)
        report = await ann_trains_and_reads_one_report(bot, team)
        await ann_promotes_once_however_often_she_presses(bot, team, report)
        await cleo_is_answered_by_what_was_learned(bot, team)
        await ann_rolls_back(bot, team)
        await the_thread_is_the_context(bot, team)
        await a_direct_message_works(bot, team)


async def cleo_asks_and_is_asked_for_her_consent_once(bot: Bot, team: Team) -> Json:
    """The first answer comes from the base, in her thread, with thumbs; may her words be used is asked once."""
    answer = await ask(team.cleo, "Do you sell nails?")
    assert who_answered(answer).startswith(bot.workshop.engine.label)
    consent = await team.cleo.wait_for_ephemeral(HELP, lambda message: message["text"] == text.CONSENT_ASK)
    await team.cleo.click(HELP, consent["ts"], f"{blocks.CONSENT}_yes")
    await team.cleo.wait_for_ephemeral(HELP, lambda message: message["text"] == text.CONSENT_YES)
    await ask(team.cleo, "Do you sell screws?")
    asked = [
        call for call in await team.calls("chat.postEphemeral") if call["args"]["text"] == text.CONSENT_ASK
    ]
    assert len(asked) == 1
    assert await bot.workshop.store.consent(bot.workshop.team, "U0CLEO") is True
    return answer


async def cleo_writes_the_better_answer(bot: Bot, team: Team, answer: Json) -> None:
    """Thumbs-down opens the window; her answer is kept, verified, and given from the next question on."""
    await rate(team.cleo, answer, -1)
    view = await team.cleo.wait_for_view(
        lambda each: "Do you sell nails?" in str(each["blocks"]), timeout_s=30
    )
    assert view["callback_id"] == blocks.CORRECTION_VIEW
    given = {blocks.BETTER: BETTER, blocks.REASON: "wrong", blocks.MAY_TRAIN: ["yes"]}
    assert await team.cleo.submit(view["id"], given) == {"ok": True}
    await team.cleo.wait_for_ephemeral(HELP, lambda message: message["text"] == text.CORRECTED)
    tally = await bot.workshop.store.tally(bot.workshop.team)
    assert (tally.thumbs_up, tally.thumbs_down, tally.corrections) == (0, 1, 1)
    again = await ask(team.dan, "Do you sell nails?")
    assert words_of(again) == BETTER
    assert "verified answer" in who_answered(again)


async def questions_are_imported_while_the_bot_runs(bot: Bot, team: Team, faq: Path) -> None:
    """`apprentice import` beside the running bot: memory knows the questions without a restart, not the held-out ones."""
    command = ("-m", "bot.cli", "import", str(faq), "--data-dir", str(bot.workshop.settings.data_dir))
    importing = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        cwd=faq.parent,
        env=clean_environment(bot.workshop.settings.data_dir),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(importing.communicate(), 60)
    assert importing.returncode == 0, said.decode()
    await until(
        lambda: len(bot.workshop.memory) == 33, timeout_s=20, what="memory holds 32 questions and hers"
    )
    known = await ask(team.dan, "What does a drill cost?")
    assert words_of(known) == "A drill costs two coins."


async def dan_may_not_train(bot: Bot, team: Team) -> None:
    """Who is no admin is refused kindly, told whom to ask, and nothing is started."""
    await team.dan.command(HELP, "/train")
    said = await team.dan.wait_for_ephemeral(HELP, lambda message: "/train" in message["text"])
    assert "is for admins. Please ask <@U0ANN>" in said["text"]
    assert await bot.workshop.store.runs(bot.workshop.team) == []


async def ann_trains_and_reads_one_report(bot: Bot, team: Team) -> Json:
    """One message tells the run from its first stage to its scores; its stages tick one after the other."""
    await team.ann.command(ADMIN_CHANNEL, "/train", "quantization=none epochs=12")
    said = await team.ann.wait_for_ephemeral(ADMIN_CHANNEL, lambda message: "run #1" in message["text"])
    assert "Training run #1 starts" in said["text"]
    run = await run_when(bot, lambda run: run.state.final)
    assert run.options == {"quantization": "none", "epochs": 12.0}
    assert run.outcome in {"promote", "keep", "not enough evidence"}
    report = await team.ann.wait_for_message(ADMIN_CHANNEL, has_buttons)
    assert [each["ts"] for each in await reports(team.ann, 1)] == [report["ts"]]
    drawings = await drawn(team, run.id)
    assert [call["method"] for call in drawings][:1] == ["chat.postMessage"]
    assert {call["method"] for call in drawings[1:]} == {"chat.update"}
    assert {call["args"]["ts"] for call in drawings[1:]} == {report["ts"]}
    stages = [statuses_in(call["args"]) for call in drawings]
    ticks = [list(statuses.values()).count("complete") for statuses in stages]
    assert ticks == sorted(ticks)
    assert (ticks[0], ticks[-1]) == (0, 5)
    assert "in_progress" in {statuses["train"] for statuses in stages}
    assert header_of(report) == ["Metric", "Base", "Challenger", "Memory", "Difference", "Interval"]
    await the_evaluation_is_of_held_out_questions(bot)
    return report


async def the_evaluation_is_of_held_out_questions(bot: Bot) -> None:
    """Base, challenger and memory answered the same held-out questions, and learning changed what is answered."""
    evaluation = await bot.workshop.store.newest_evaluation(bot.workshop.team)
    assert evaluation is not None
    sheet = Sheet.from_json(evaluation.sheet)
    assert {arm.name for arm in sheet.arms} == {BASE, CHALLENGER, MEMORY}
    assert all(arm.n >= len(HELD_OUT) and arm.errors == 0 for arm in sheet.arms)
    said = {name: [row.answered.text for row in sheet.rows_of(name)] for name in (BASE, CHALLENGER)}
    assert said[BASE] != said[CHALLENGER]


async def ann_promotes_once_however_often_she_presses(bot: Bot, team: Team, report: Json) -> None:
    """Two presses are one promotion, and the report says who pressed."""
    run = await run_when(bot, lambda run: run.state.final)
    pressed = [
        team.ann.click(ADMIN_CHANNEL, report["ts"], report_blocks.PROMOTE, value=run.id) for _ in range(2)
    ]
    await asyncio.gather(*pressed)
    await team.ann.wait_for_ephemeral(
        ADMIN_CHANNEL, lambda message: "<@U0ANN> has promoted it already" in message["text"]
    )
    decided = await team.ann.wait_for_message(
        ADMIN_CHANNEL, lambda message: "Promoted by <@U0ANN>" in str(message.get("blocks"))
    )
    assert decided["ts"] == report["ts"]
    assert [button["action_id"] for button in buttons_of(decided)] == [report_blocks.ROLL_BACK]
    assert len(await bot.workshop.store.promotions(bot.workshop.team)) == 1
    current = await bot.workshop.store.current(bot.workshop.team)
    assert current is not None
    assert current.name == "local-1"


async def cleo_is_answered_by_what_was_learned(bot: Bot, team: Team) -> None:
    """A held-out phrasing in a new thread: the promoted model answers it as it did in its evaluation."""
    evaluation = await bot.workshop.store.newest_evaluation(bot.workshop.team)
    assert evaluation is not None
    answers = [await ask(team.cleo, question) for question in HELD_OUT[:3]]
    for answer in answers:
        assert "local-1" in who_answered(answer)
    by_challenger = {
        row.answered.text.strip() for row in Sheet.from_json(evaluation.sheet).rows_of(CHALLENGER)
    }
    by_base = {row.answered.text.strip() for row in Sheet.from_json(evaluation.sheet).rows_of(BASE)}
    assert {words_of(answer) for answer in answers} <= by_challenger
    assert not {words_of(answer) for answer in answers} <= by_base


async def ann_rolls_back(bot: Bot, team: Team) -> None:
    """`/apprentice rollback` serves from the next question on what served before."""
    await team.ann.command(ADMIN_CHANNEL, "/apprentice", "rollback")
    await team.ann.wait_for_ephemeral(
        ADMIN_CHANNEL, lambda message: "The base serves again" in message["text"]
    )
    assert await bot.workshop.store.current(bot.workshop.team) is None
    answer = await ask(team.cleo, HELD_OUT[3])
    assert "local-1" not in who_answered(answer)
    assert who_answered(answer).startswith(bot.workshop.engine.label)


async def the_thread_is_the_context(bot: Bot, team: Team) -> None:
    """A follow-up is answered by a model that has read what was said before in its thread."""
    root = await team.cleo.post(HELP, "@apprentice What does a drill cost?")
    await team.cleo.wait_for_message(HELP, lambda message: "two coins" in message["text"], thread_ts=root)
    follow_up = await ask(team.cleo, "And on Sundays?", thread_ts=root)
    stored = await bot.workshop.store.answered(id_of(follow_up))
    assert stored is not None
    assert turns(stored.answer.messages) == [
        ("user", "What does a drill cost?"),
        ("assistant", "A drill costs two coins."),
        ("user", "And on Sundays?"),
    ]


async def a_direct_message_works(bot: Bot, team: Team) -> None:
    """No mention is needed there, and what was said in a channel is no context of it."""
    answer = await ask(team.cleo, "What does a drill cost?", channel=CLEOS_DM)
    assert words_of(answer) == "A drill costs two coins."
    stored = await bot.workshop.store.answered(id_of(answer))
    assert stored is not None
    assert stored.question.surface == "dm"
    assert turns(stored.answer.messages) == [("user", "What does a drill cost?")]


def turns(messages: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(turn["role"], turn["content"]) for turn in messages if turn["role"] != "system"]


def has_buttons(message: Json) -> bool:
    return bool(buttons_of(message))


def buttons_of(message: Json) -> list[Json]:
    rows = [block["elements"] for block in message.get("blocks", []) if block["type"] == "actions"]
    return [button for row in rows for button in row]


def header_of(report: Json) -> list[str]:
    """The header of the table of scores."""
    table: Any = next(block for block in report["blocks"] if block["type"] == "data_table")
    return [cell["text"] for cell in table["rows"][0]]


def statuses_in(report: Json) -> dict[str, str]:
    """How far each stage of a drawn report is."""
    plan: Any = next(block for block in report["blocks"] if block["type"] == "plan")
    return {task["task_id"]: task["status"] for task in plan["tasks"]}


async def drawn(team: Team, run_id: str) -> list[Json]:
    """Every call that drew a run's report, oldest first."""
    calls = await team.calls("chat.postMessage", "chat.update")
    return [call for call in calls if f"'run_id': '{run_id}'" in str(call["args"].get("metadata"))]
