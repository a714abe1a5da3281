"""Promote, Keep and Roll back on reports: who may press, what it does however often, and what is shown of it."""

import asyncio
import json
from pathlib import Path

from bot_process import eventually
from report_rig import (
    ANN,
    BEN,
    DAN,
    Json,
    Office,
    buttons_of,
    office,
)

from bot.slack.report_blocks import CANARY, KEEP, PROMOTE, ROLL_BACK
from bot.workspace.seed import TEAM_ID
from storage.records import ModelVersion, TrainingRun
from storage.store import Store

PATIENCE_S = 40.0


async def reported(
    here: Office, *, current: ModelVersion | None = None
) -> tuple[TrainingRun, ModelVersion, Json]:
    """A finished run with its report in the channel."""
    run, version = await here.judged(current=current)
    run = await here.finish(run)
    messages = await here.messages()
    return run, version, next(m for m in messages if m["text"].startswith(f"Training run #{run.number}:"))


def told(message: Json) -> str:
    return json.dumps(message["blocks"], ensure_ascii=False)


async def serving(here: Office) -> str:
    current = await here.store.current(TEAM_ID)
    return current.name if current else "base"


async def test_two_admins_who_press_at_once_promote_once(store: Store, tmp_path: Path) -> None:
    """One promotion, signed with who and when; the other one is told; Roll back takes the buttons' place."""
    async with office(store, tmp_path) as here:
        run, version, report = await reported(here)
        await asyncio.gather(*(here.press(who, PROMOTE, report, run) for who in (ANN, BEN, ANN)))
        decided = await here.says("Promoted by <@U0", report["ts"])
        (promotion,) = await eventually(
            lambda: store.promotions(TEAM_ID), timeout_s=PATIENCE_S, what="it is promoted"
        )
        assert (
            f"Promoted by <@{promotion.by}> {promotion.promoted_at:%H:%M} UTC: {version.name} serves"
            in told(decided)
        )
        assert set(buttons_of(decided)) == {ROLL_BACK}
        other = BEN if promotion.by == ANN else ANN
        await here.whispered(other, f"<@{promotion.by}> has promoted it already.")
        assert await serving(here) == version.name
        assert len(await store.promotions(TEAM_ID)) == 1


async def test_who_is_no_admin_is_refused_kindly(store: Store, tmp_path: Path) -> None:
    """A button that somebody sees in spite of everything does nothing, and says whom to ask."""
    async with office(store, tmp_path, admins=(ANN,)) as here:
        run, _, _ = await reported(here)
        said: list[str] = []

        async def respond(**answer: str) -> None:
            said.append(answer["text"])

        async def ack() -> None:
            pass

        body: Json = {"user": {"id": DAN}}
        for decide in (here.decisions.promote, here.decisions.keep, here.decisions.roll_back):
            await decide(ack, body, {"value": run.id}, respond)
        assert said == ["These buttons are for admins. Please ask <@U0ANN>."] * 3
        assert await store.promotions(TEAM_ID) == []
        assert await store.decisions(TEAM_ID) == []
        assert set(buttons_of(await here.report())) == {PROMOTE, CANARY, KEEP}


async def test_keep_is_signed_and_final_for_this_report(store: Store, tmp_path: Path) -> None:
    """The buttons go, who decided stays, and a late Promote is told how it still can be done."""
    async with office(store, tmp_path) as here:
        run, _, report = await reported(here)
        await here.press(ANN, KEEP, report, run)
        decided = await here.says("Kept what serves now: decided by <@U0ANN>", report["ts"])
        assert buttons_of(decided) == {}
        said = await pressed_late(here, BEN, run, PROMOTE)
        assert (
            said
            == "<@U0ANN> has decided to keep what serves. `/apprentice promote NAME` can still promote it."
        )
        assert await store.promotions(TEAM_ID) == []
        assert len([each for each in await store.decisions(TEAM_ID) if each.action == "keep"]) == 1


async def pressed_late(here: Office, person: str, run: TrainingRun, action: str) -> str:
    """What somebody is told whose Slack still showed a button that is gone."""
    said: list[str] = []

    async def respond(**answer: str) -> None:
        said.append(answer["text"])

    async def ack() -> None:
        pass

    decide = {
        PROMOTE: here.decisions.promote,
        KEEP: here.decisions.keep,
        ROLL_BACK: here.decisions.roll_back,
    }[action]
    await decide(ack, {"user": {"id": person}}, {"value": run.id}, respond)
    return " ".join(said)


async def test_roll_back_is_offered_while_the_model_serves(store: Store, tmp_path: Path) -> None:
    """It says what will answer again; after that the report says who went back, and pressing again does nothing."""
    async with office(store, tmp_path) as here:
        run, version, report = await reported(here)
        await here.press(ANN, PROMOTE, report, run)
        promoted = await here.says("Promoted by <@U0ANN>", report["ts"])
        confirm = buttons_of(promoted)[ROLL_BACK]["confirm"]
        assert confirm["text"]["text"] == "The base will answer again from the next question on."
        await here.press(BEN, ROLL_BACK, promoted, run)
        undone = await here.says("Rolled back by <@U0BEN>", report["ts"])
        assert "Promoted by <@U0ANN>" in told(undone)
        assert buttons_of(undone) == {}
        assert await serving(here) == "base"
        assert (
            await pressed_late(here, ANN, run, ROLL_BACK)
            == f"{version.name} does not serve any more; the base does."
        )
        assert await pressed_late(here, ANN, run, PROMOTE) == "<@U0ANN> has promoted it already."
        assert "Roll back" in await pressed_late(here, ANN, run, KEEP)
        assert await serving(here) == "base"
        assert len(await store.promotions(TEAM_ID)) == 2


async def test_a_report_that_was_overtaken_says_what_serves_now(store: Store, tmp_path: Path) -> None:
    """The older model's report loses its Roll back, an undecided one says that its comparison is out of date."""
    async with office(store, tmp_path) as here:
        first, older, first_report = await reported(here)
        undecided, _, undecided_report = await reported(here)
        last, newer, last_report = await reported(here)
        await here.press(ANN, PROMOTE, first_report, first)
        await here.says("Roll back", first_report["ts"])
        await here.press(ANN, PROMOTE, last_report, last)
        overtaken = await here.says(f"{newer.name} serves now", first_report["ts"])
        assert "Promoted by <@U0ANN>" in told(overtaken)
        assert buttons_of(overtaken) == {}
        stale = await here.says("It was promoted after this comparison was made", undecided_report["ts"])
        assert set(buttons_of(stale)) == {PROMOTE, CANARY, KEEP}
        assert f"{newer.name} goes on answering" in told(stale)
        assert (
            await here.decisions.roll_back_named(BEN)
            == f"{older.name} serves again from the next question on."
        )
        assert set(buttons_of(await here.says("Roll back", first_report["ts"]))) == {ROLL_BACK}
        assert undecided.number == 2


async def test_with_the_rule_of_two_the_second_admin_promotes(store: Store, tmp_path: Path) -> None:
    """The first press is written down and shown; the same person cannot press twice; the report names both."""
    async with office(store, tmp_path, approvals=2) as here:
        run, version, report = await reported(here)
        assert "once a second admin agrees" in told(report)
        await here.press(ANN, PROMOTE, report, run)
        waiting = await here.says("Approved by <@U0ANN>", report["ts"])
        assert "one more admin is needed" in told(waiting)
        await here.whispered(ANN, f"Your approval of {version.name} is noted")
        await here.press(ANN, PROMOTE, waiting, run)
        await here.whispered(ANN, "You have approved that already")
        assert await store.promotions(TEAM_ID) == []
        await here.press(BEN, PROMOTE, waiting, run)
        decided = await here.says("Promoted by <@U0ANN> and <@U0BEN>", report["ts"])
        assert set(buttons_of(decided)) == {ROLL_BACK}
        assert await serving(here) == version.name
        await here.press(ANN, ROLL_BACK, decided, run)
        await here.says("Rolled back by <@U0ANN>", report["ts"])
        assert await serving(here) == "base", "going back needs one admin only"


async def test_the_rule_of_two_holds_by_name_and_across_both_ways(store: Store, tmp_path: Path) -> None:
    """`/apprentice promote` asks for a second admin too; what was approved before a change does not count after it."""
    async with office(store, tmp_path, approvals=2) as here:
        run, version, report = await reported(here)
        said = await here.decisions.promote_named(ANN, version.name, version)
        assert "one more has to press Promote" in said
        await here.says("Approved by <@U0ANN>", report["ts"])
        await here.press(BEN, PROMOTE, report, run)
        await here.says("Promoted by <@U0ANN> and <@U0BEN>", report["ts"])
        assert (
            await here.decisions.promote_named(ANN, version.name, version)
            == f"{version.name} serves already."
        )
        await here.decisions.roll_back_named(ANN)
        again = await here.decisions.promote_named(BEN, version.name, version)
        assert "Your approval" in again, "an approval of before the rollback was counted"
        assert await serving(here) == "base"
        assert await here.decisions.promote_named(ANN, version.name, version) == (
            f"{version.name} serves from the next question on."
        )


async def test_one_admin_alone_is_told_what_the_rule_of_two_lacks(store: Store, tmp_path: Path) -> None:
    """Two approvals with one admin can never be had: the remedy is named where somebody waits for it."""
    async with office(store, tmp_path, admins=(ANN,), approvals=2) as here:
        run, _, report = await reported(here)
        await here.press(ANN, PROMOTE, report, run)
        assert "ADMIN_USERS names only one admin" in told(
            await here.says("Approved by <@U0ANN>", report["ts"])
        )
        await here.whispered(ANN, "ADMIN_USERS names only one admin")
