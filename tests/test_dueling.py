"""What is decided and shown of duels, without Slack: which two fight, who won, and that nobody can tell them apart."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from people_rig import texts_in

from bot import draws
from bot.dueling import Arm, Available, alike, newest_challenger, outcome, pairs
from bot.slack import duel_blocks
from storage.duels import DuelShown, DuelTally
from storage.records import Answer, Candidate, Duel, DuelPick, ModelVersion, Question, now

LUNA = "gpt-6-luna"
LOCAL = Arm("local", "v1")


# --- What is decided ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "first"),
    [
        (Available(("openai",), current="v1", challenger="v2"), (LOCAL, Arm("openai"))),
        (Available(("openai",), current="v1", api_first=True), (Arm("openai"), LOCAL)),
        (Available(current="v1", challenger="v2", verified=True), (LOCAL, Arm("local", "v2"))),
        (Available(challenger="v1"), (Arm("local"), Arm("local", "v1"))),
        (Available(current="v1", verified=True), (LOCAL, Arm("local"))),
        (Available(verified=True), (Arm("local"), Arm("memory"))),
        (Available(("openai", "gemini"), local=False, verified=True), (Arm("openai"), Arm("gemini"))),
        (Available(("gemini",), local=False, verified=True), (Arm("gemini"), Arm("memory"))),
    ],
)
def test_the_comparison_that_teaches_most_is_made(there: Available, first: tuple[Arm, Arm]) -> None:
    """What serves against an API, else against the challenger, the base, the nearest verified answer."""
    assert pairs(there)[0] == first
    assert all(one != other for one, other in pairs(there))


@pytest.mark.parametrize("alone", [Available(), Available(("openai",), local=False), Available(local=False)])
def test_one_who_is_alone_fights_nobody(alone: Available) -> None:
    """There is no duel of a model with itself."""
    assert pairs(alone) == []


def version(name: str, day: int, *, tainted: str = "") -> ModelVersion:
    made = datetime(2026, 11, day, tzinfo=UTC)
    values: dict[str, Any] = {
        "id": name,
        "team": "T1",
        "name": name,
        "tainted": tainted,
        "registered_at": made,
    }
    return ModelVersion(**values)


def test_the_challenger_is_new_and_was_never_promoted() -> None:
    """Not what served before, not what is older than what serves, not what learned from rows that are gone."""
    old, serving, fresh, marked = (
        version("v1", 1),
        version("v2", 2),
        version("v3", 3),
        version("v4", 4, tainted="forgotten"),
    )
    assert newest_challenger([old, serving, fresh, marked], promoted={"v2"}, current=serving) is fresh
    assert newest_challenger([old, serving], promoted={"v2"}, current=serving) is None
    assert newest_challenger([old], promoted=set(), current=None) is old
    assert newest_challenger([old], promoted={"v1"}, current=None) is None


@pytest.mark.parametrize(
    ("picks", "won"),
    [
        ([], ""),
        (["a"], "a"),
        (["b", "a", "b"], "b"),
        (["a", "b"], "tie"),
        (["a", "b", "tie"], "tie"),
        (["both bad", "both bad", "a"], "both bad"),
        (["tie", "tie", "a"], "tie"),
    ],
)
def test_what_most_picked_is_the_outcome(picks: Sequence[str], won: str) -> None:
    """Equal counts are a tie."""
    assert outcome(picks) == won


def test_answers_that_differ_in_case_and_spacing_are_alike() -> None:
    """Nobody is asked to compare those."""
    assert alike("We open\n at Nine.", "we open at nine.  ")
    assert not alike("We open at nine.", "We open at ten.")


def test_draws_are_uniform_and_always_the_same() -> None:
    """A redelivery draws nothing anew; another installation draws otherwise."""
    drawn = [draws.share("salt", "duel", f"q{number}") for number in range(4_000)]
    assert drawn == [draws.share("salt", "duel", f"q{number}") for number in range(4_000)]
    assert drawn[:50] != [draws.share("other", "duel", f"q{number}") for number in range(50)]
    for chance in (0.05, 0.5, 0.9):
        assert abs(sum(each < chance for each in drawn) / 4_000 - chance) < 0.03


# --- What is shown ------------------------------------------------------------------------------------------


def shown_as(a: str, b: str, *, picks: Sequence[str] = (), won: str = "", open_: bool = True) -> DuelShown:
    """A duel between two models with telling names and times."""
    question = Question(id="q", team="T1", channel="C1", ts="1.0", thread_ts="1.0", asker="U1", text="When?")
    one = Candidate(id="c1", question_id="q", kind="openai", model=LUNA, text=a, seconds=1.25)
    other = Candidate(
        id="c2", question_id="q", kind="memory", model="memory", text=b, seconds=7.5, source="wiki"
    )
    duel = Duel(id="d", question_id="q", candidate_a="c1", candidate_b="c2", outcome=won)
    duel.closed_at = None if open_ else now()
    answer = Answer(id="a", question_id="q", candidate_id="c1", team="T1", channel="C1", messages=[])
    cast = tuple(DuelPick(duel_id="d", picker=f"U{number}", pick=pick) for number, pick in enumerate(picks))
    return DuelShown(duel, question, answer, one, other, cast)


def tells_who(message: Any) -> list[str]:
    """What of a message gives away who wrote an answer or how long it took."""
    named = (LUNA, "memory", "wiki", "openai", "gemini", "1.2", "7.5", " s ")
    return [word for word in named if word in str(message)]


@pytest.mark.parametrize("length", [100, 9_000, 30_000])
def test_an_open_duel_is_blind(length: int) -> None:
    """Neither in blocks, nor in the notification, nor in metadata; picks change nothing; both are cut alike."""
    a, b = "word " * (length // 5), "term " * (length // 5)
    rules = {"votes": 3, "hours": 24.0, "direct": False}
    messages = duel_blocks.open_messages(shown_as(a, b), **rules)  # type: ignore[arg-type]
    picked = duel_blocks.open_messages(shown_as(a, b, picks=["a", "a"]), **rules)  # type: ignore[arg-type]
    assert messages == picked
    assert tells_who(messages) == []
    assert len(messages) == (1 if length == 100 else 3)
    said = [block["text"] for each in messages for block in each["blocks"] if block["type"] == "markdown"]
    assert len(said[0]) == len(said[1])
    assert all(
        sum(len(block["text"]) for block in each["blocks"] if block["type"] == "markdown") <= 12_000
        for each in messages
    )
    assert [each["action_id"] for each in messages[-1]["blocks"][-2]["elements"]] == list(
        duel_blocks.PICK_ACTIONS
    )


def test_nobody_is_called_by_an_answer_in_a_duel() -> None:
    """Mentions in a model's words are words."""
    messages = duel_blocks.open_messages(
        shown_as("<!channel> ask <@U0ANN>", "@everyone"), votes=3, hours=1, direct=False
    )
    assert "<!channel>" not in str(messages)
    assert "<@U0ANN>" not in str(messages)
    assert "@everyone" not in str(messages)


def test_the_end_tells_who_was_who() -> None:
    """Outcome, counts, models, seconds, sources; no button is left."""
    shown = shown_as("One.", "Two.", picks=["a", "b", "a", "tie"], won="a", open_=False)
    message = duel_blocks.closed_message(shown)
    said = texts_in(message["blocks"])
    assert "*The duel is closed.* A won. (A is better: 2, B is better: 1, Tie: 1)" in said
    assert f"*A* was {LUNA} · 1.2 s" in said
    assert "*B* was memory (verified answer, from wiki) · 7.5 s" in said
    assert not any(block["type"] == "actions" for block in message["blocks"])


def test_the_tally_is_one_line() -> None:
    """Who won how often of how many; nothing while nothing was decided."""
    assert duel_blocks.tally_line(DuelTally()) == ""
    assert duel_blocks.tally_line(DuelTally(open=2)) == "2 open"
    tally = DuelTally(open=1, ties=1, both_bad=2, wins={LUNA: 3}, fought={LUNA: 6, "starter": 6})
    assert (
        duel_blocks.tally_line(tally) == f"{LUNA} won 3 of 6, starter won 0 of 6, 1 tied, 2 both bad, 1 open"
    )
