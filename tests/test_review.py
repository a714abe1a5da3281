"""Review in Slack: one candidate at a time, quickly, by whoever may; nothing is decided twice, nothing gets lost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bot_process import HELP, Json, eventually
from people_rig import library, texts_in
from review_rig import CORRECTOR, agreed, proposed, rated

from bot.app import Bot
from bot.slack import review_blocks as words
from bot.slack import text
from bot.slack.feedback_blocks import NO_WINDOW
from bot.slack.review_blocks import ANSWER, MAKE_GOLDEN, QUESTION, REJECT, SKIP, UNDO
from bot.workspace import Person
from storage.guarding import Finding
from storage.records import GoldenState
from training.guards import TOPIC

FIRST, SECOND, THIRD = "Where are the ladders?", "Where are the saws?", "Where are the drills?"


async def stocked(bot: Bot) -> dict[str, str]:
    """A correction, a disputed answer and a liked one, which come up in this order; their ids by question."""
    store, team = bot.workshop.store, bot.workshop.team
    await agreed(store, team)
    liked = await rated(store, team, THIRD, "In the shed.")
    disputed = await rated(store, team, SECOND, "On the wall.", votes=(1, 1, -1))
    corrected = await rated(
        store, team, FIRST, "I do not know.", votes=(-1,), better="Behind the green door."
    )
    return {FIRST: corrected.id, SECOND: disputed.id, THIRD: liked.id}


async def opened(person: Person) -> Json:
    """The window with the first candidate."""
    await person.command(HELP, "/apprentice", "review")
    return await shows(person, lambda view: view["callback_id"] == words.REVIEW_VIEW)


async def shows(person: Person, fits: Callable[[Json], bool]) -> Json:
    return await person.wait_for_view(fits, timeout_s=30)


async def shows_text(person: Person, said: str) -> Json:
    return await shows(person, lambda view: said in everything(view))


def everything(view: Json) -> str:
    """All that stands in a window, its inputs included."""
    begun = [
        block["element"].get("initial_value", "") for block in view["blocks"] if block["type"] == "input"
    ]
    return "\n".join([texts_in(view["blocks"]), *begun])


def begun(view: Json, action_id: str) -> str:
    """What an input of a window begins with."""
    inputs = {b["element"]["action_id"]: b["element"] for b in view["blocks"] if b["type"] == "input"}
    return str(inputs[action_id].get("initial_value", ""))


def said(words_: str) -> Callable[[Json], bool]:
    return lambda message: bool(message["text"] == words_)


async def state_of(bot: Bot, subject: str) -> str:
    found = await bot.workshop.store.review_of(bot.workshop.team, subject)
    return found.state if found is not None else ""


async def test_one_after_the_other_with_everything_one_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The most valuable first, each with its votes, its origin and what stood there before; sending is approving."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        ids = await stocked(bot)
        view = await opened(team.ann)
        assert (begun(view, QUESTION), begun(view, ANSWER)) == (FIRST, "Behind the green door.")
        said = texts_in(view["blocks"])
        assert "1 of 3" in said
        assert "a correction" in said
        assert "I do not know." in said
        assert "U0VOTER0" not in str(view), "who voted is nobody's business"
        assert FIRST not in view["private_metadata"], "a window holds ids, no words"
        assert await team.ann.submit(view["id"], {}) == {"ok": True}
        view = await shows_text(team.ann, "2 of 3")
        assert begun(view, QUESTION) == SECOND
        assert words.KEPT["approved"] in texts_in(view["blocks"])
        assert ":+1: 2 :-1: 1" in texts_in(view["blocks"])
        await team.ann.submit(view["id"], {ANSWER: "On the wall, left of the door."})
        view = await shows_text(team.ann, "3 of 3")
        await team.ann.click_view(view["id"], REJECT)
        view = await shows_text(team.ann, "There is nothing left to review")
        assert "You have decided about 3" in texts_in(view["blocks"])
        assert [await state_of(bot, ids[each]) for each in (FIRST, SECOND, THIRD)] == [
            "approved",
            "edited",
            "rejected",
        ]
        edited = await bot.workshop.store.review_of(bot.workshop.team, ids[SECOND])
        assert edited is not None
        assert (edited.question, edited.answer, edited.by) == (
            SECOND,
            "On the wall, left of the door.",
            "U0ANN",
        )
        decided = await bot.workshop.store.decisions(bot.workshop.team)
        assert [(each.action, each.detail) for each in decided][:3] == [
            ("review", "rejected"),
            ("review", "edited"),
            ("review", "approved"),
        ]


async def test_undo_and_skip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip is taken back with one press, also at the end; what was skipped comes up again the next time."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        ids = await stocked(bot)
        view = await opened(team.ann)
        await team.ann.click_view(view["id"], SKIP)
        view = await shows_text(team.ann, words.SKIPPED)
        assert begun(view, QUESTION) == SECOND
        await team.ann.click_view(view["id"], REJECT)
        view = await shows_text(team.ann, words.KEPT["rejected"])
        await team.ann.click_view(view["id"], UNDO)
        view = await shows_text(team.ann, words.TAKEN_BACK)
        assert begun(view, QUESTION) == SECOND
        assert "2 of 3" in texts_in(view["blocks"])
        assert await state_of(bot, ids[SECOND]) == ""
        await team.ann.submit(view["id"], {})
        view = await shows_text(team.ann, "3 of 3")
        await team.ann.submit(view["id"], {})
        view = await shows_text(team.ann, "There is nothing left to review")
        await team.ann.click_view(view["id"], UNDO)
        view = await shows_text(team.ann, words.TAKEN_BACK)
        assert begun(view, QUESTION) == THIRD
        await team.ann.close_view(view["id"])
        view = await opened(team.ann)
        assert "1 of 2" in texts_in(view["blocks"])
        assert begun(view, QUESTION) == FIRST


async def test_two_reviewers_never_have_the_same_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sees another one; who comes too late is told so, and the first decision stands."""
    async with library(tmp_path, monkeypatch, admin_users=("U0ANN", "U0BEN")) as (bot, team):
        ids = await stocked(bot)
        hers, his = await opened(team.ann), await opened(team.ben)
        assert (begun(hers, QUESTION), begun(his, QUESTION)) == (FIRST, SECOND)
        await team.ann.submit(hers["id"], {})
        hers = await shows_text(team.ann, "2 of 3")
        assert begun(hers, QUESTION) == THIRD
        await team.ann.click_view(hers["id"], SKIP)
        await shows_text(team.ann, words.ALL_DONE.split("*")[1])
        store = bot.workshop.store  # somebody decides at the terminal meanwhile
        await store.review(bot.workshop.team, ids[SECOND], "", "rejected", "terminal:zoe")
        await team.ben.submit(his["id"], {})
        his = await shows_text(team.ben, words.DECIDED_BY_OTHER)
        assert await state_of(bot, ids[SECOND]) == "rejected"
        assert begun(his, QUESTION) == THIRD, "what somebody skipped is free"
        await team.ann.command(HELP, "/apprentice", "review")
        await shows_text(team.ann, "before a colleague")
        await team.ben.close_view(his["id"])

        async def free() -> bool:
            await team.ann.command(HELP, "/apprentice", "review")
            return THIRD in everything(await shows(team.ann, lambda view: view["callback_id"] == "review"))

        await eventually(free, timeout_s=30, what="a closed window lets go of its candidate")


async def test_who_may_not_is_told_kindly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the command nor a press by somebody else decides anything, however they came by the window."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        ids = await stocked(bot)
        for verb in ("review", "golden"):
            await team.dan.command(HELP, "/apprentice", verb)
            refusal = text.admins_only(f"/apprentice {verb}", ("U0ANN",))
            await team.dan.wait_for_ephemeral(HELP, said(refusal))
        assert await team.dan.views() == []
        view = await opened(team.ann)
        reviews = bot.people.reviews
        for press in (reviews.reject, reviews.undo, reviews.make_golden, reviews.skip):
            await press(_acked, {"user": {"id": "U0DAN"}, "view": view})
        told: list[Any] = []
        await reviews.approve(_telling(told), {"user": {"id": "U0DAN"}}, {**view, "state": {"values": {}}})
        assert "is for admins" in texts_in(told[0]["view"]["blocks"])
        assert await state_of(bot, ids[FIRST]) == ""
        assert await bot.workshop.store.golden_items(bot.workshop.team) == []


async def test_experts_may_and_a_window_that_does_not_open_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whom an admin named an expert may review, from the next command on; and nobody waits for a window in vain."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        await stocked(bot)
        await bot.workshop.store.grant_expert(bot.workshop.team, "U0BEN", by="U0ANN")
        assert begun(await opened(team.ben), QUESTION) == FIRST
        await team.fault(method="views.open", error="expired_trigger_id", times=1)
        await team.ann.command(HELP, "/apprentice", "review")
        await team.ann.wait_for_ephemeral(HELP, lambda each: each["text"] == NO_WINDOW)


async def test_what_is_kept_out_for_now_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Approving lets in what the guards hold back, so a reviewer is told before they press."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        store, mine = bot.workshop.store, bot.workshop.team
        await agreed(store, mine)
        await proposed(store, mine, "Who has the key?", "Ben has it.", topic="keys")
        await store.suspect(mine, [Finding(TOPIC, "keys", CORRECTOR, 20, "", holds=True)])
        said = texts_in((await opened(team.ann))["blocks"])
        assert "its topic is fed by one person" in said
        assert "Approving it lets it in." in said


async def test_a_restart_in_between_and_what_was_deleted_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window that is still open after a restart goes on; about what is gone nothing is kept."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        ids = await stocked(bot)
        view = await opened(team.ann)
        bot.people.reviews._claims._held.clear()  # as a new process would begin
        await team.ann.submit(view["id"], {})
        view = await shows_text(team.ann, "2 of 3")
        assert await state_of(bot, ids[FIRST]) == "approved"
        asked = await bot.workshop.store.answered(ids[SECOND])
        assert asked is not None
        await bot.workshop.store.delete_question(bot.workshop.team, HELP, asked.question.ts)
        await team.ann.submit(view["id"], {})
        view = await shows_text(team.ann, words.GONE)
        assert begun(view, QUESTION) == THIRD
        assert await state_of(bot, ids[SECOND]) == ""
        await team.ann.submit(view["id"], {QUESTION: " ", ANSWER: "x"})
        assert (await team.ann.submit(view["id"], {QUESTION: "  "}))["errors"] == {
            f"{QUESTION}-{ids[THIRD]}": words.EMPTY_QUESTION
        }


async def test_a_second_press_on_the_same_window_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slack sends a press that came before the window was replaced: the next candidate is not touched by it."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        ids = await stocked(bot)
        view = await opened(team.ann)
        await team.ann.click_view(view["id"], REJECT)
        newer = await shows_text(team.ann, "2 of 3")
        await bot.people.reviews.reject(_acked, {"user": {"id": "U0ANN"}, "view": view})
        assert [one["hash"] for one in await team.ann.views()] == [newer["hash"]]
        assert [await state_of(bot, ids[each]) for each in (FIRST, SECOND, THIRD)] == ["rejected", "", ""]


async def test_a_long_answer_is_read_and_decided_about_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slack takes 3,000 characters in an input: what is longer is shown, cut, and kept whole."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        store, mine = bot.workshop.store, bot.workshop.team
        await agreed(store, mine)
        long = await rated(store, mine, FIRST, "All of it. " * 400)
        view = await opened(team.ann)
        assert [block["element"]["action_id"] for block in view["blocks"] if block["type"] == "input"] == [
            QUESTION
        ]
        assert words.TOO_LONG in texts_in(view["blocks"])
        await team.ann.submit(view["id"], {QUESTION: "Where is each of the ladders?"})
        await shows_text(team.ann, "There is nothing left")
        kept = await store.review_of(mine, long.id)
        assert kept is not None
        assert (kept.state, kept.question) == ("edited", "Where is each of the ladders?")
        assert kept.answer == ("All of it. " * 400).strip()


async def test_golden_needs_a_second_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proposed from the review with the texts as they were typed; who proposed it cannot approve it."""
    async with library(tmp_path, monkeypatch, admin_users=("U0ANN", "U0BEN")) as (bot, team):
        store, mine = bot.workshop.store, bot.workshop.team
        await stocked(bot)
        view = await opened(team.ann)
        await team.ann.click_view(view["id"], MAKE_GOLDEN)
        await shows_text(team.ann, words.PROPOSED_GOLDEN.split("`")[0])
        [item] = await store.golden_items(mine, GoldenState.PROPOSED)
        assert (item.question, item.answer, item.approvals) == (FIRST, "Behind the green door.", ["U0ANN"])
        assert item.authors == sorted(["U0CLEO", CORRECTOR])
        await team.ann.command(HELP, "/apprentice", "golden")
        hers = await team.ann.wait_for_ephemeral(HELP, lambda each: "golden set" in each["text"])
        assert words.GOLDEN_APPROVE not in str(hers["blocks"]), "hers is to be approved by somebody else"
        with pytest.raises(Exception, match="two people"):
            await store.approve_golden(mine, item.id, "U0ANN")
        await team.ben.command(HELP, "/apprentice", "golden")
        his = await team.ben.wait_for_ephemeral(HELP, lambda each: FIRST in texts_in(each.get("blocks")))
        await team.ben.click(HELP, his["ts"], words.GOLDEN_APPROVE)
        await team.ben.wait_for_ephemeral(
            HELP, lambda each: words.APPROVED_GOLDEN in texts_in(each.get("blocks"))
        )
        [item] = await store.golden_items(mine, GoldenState.GOLDEN)
        assert item.approvals == ["U0ANN", "U0BEN"]


async def test_admins_see_in_home_and_status_what_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Home counts it and opens the window; others see neither."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        await stocked(bot)
        await proposed(bot.workshop.store, bot.workshop.team, "Who has the key?", "Eva has it.", topic="keys")
        await team.ann.open_home()
        home = await team.ann.wait_for_home(
            lambda view: "4 examples wait for review" in str(view), timeout_s=30
        )
        await team.ann.click_view(home["id"], words.HOME_REVIEW)
        view = await shows_text(team.ann, "1 of 4")
        await team.ann.close_view(view["id"])
        await team.ann.command(HELP, "/apprentice", "status")
        await team.ann.wait_for_ephemeral(
            HELP, lambda each: "4 examples wait for review; 0 golden" in each["text"]
        )
        await team.dan.command(HELP, "/apprentice", "status")
        said = await team.dan.wait_for_ephemeral(HELP, lambda each: "Answering now" in each["text"])
        assert "wait for review" not in said["text"]
        await team.dan.open_home()
        home = await team.dan.wait_for_home(timeout_s=30)
        assert words.HOME_REVIEW not in str(home)


async def _acked(**_what: Any) -> None:
    pass


def _telling(told: list[Any]) -> Any:
    async def ack(**what: Any) -> None:
        told.append(what)

    return ack
