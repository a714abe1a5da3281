"""The desk: one complete answer or one kind sentence, whoever fails, hangs, refuses or costs too much."""

from pathlib import Path

import pytest
from desk_rig import UNSURE, Purse, Reader, Speaker, office

from bot.breaker import FAULTS
from bot.desk import NOBODY, TOO_SLOW, Stopped
from bot.errors import BudgetSpent, ModelUnavailable, PublicError, TooLongFor, Withheld
from bot.settings import Policy
from storage.store import Store
from storage.values import STOPPED

DOWN = ModelUnavailable("out of order")


async def test_a_sure_local_answer_is_posted_and_nobody_is_paid(store: Store, tmp_path: Path) -> None:
    """The route says by what it was decided."""
    desk = office(store, tmp_path, apis={"openai": Speaker()})
    answered = await desk.desk.answer(await desk.asked())
    assert (answered.candidate.kind, answered.candidate.text) == ("local", "Local yes.")
    assert answered.answer.route["judgement"]["by"] == "threshold"
    assert not answered.answer.route["judgement"]["escalate"]
    assert desk.purse.asked_for == []


async def test_an_unsure_local_answer_is_replaced_and_kept_beside(store: Store, tmp_path: Path) -> None:
    """Nothing of it was shown: what may be replaced is not streamed."""
    desk = office(store, tmp_path, logprob=UNSURE, apis={"openai": Speaker(["From ", "above."])})
    reader = Reader()
    question = await desk.asked()
    answered = await desk.desk.answer(question, watch=reader.watch)
    assert answered.candidate.text == "From above."
    assert reader.seen == ["From ", "above."]
    assert reader.restarts == 0
    assert await desk.proposed(question) == ["local", "openai"]


async def test_a_provider_that_dies_half_way_is_followed_by_the_next(store: Store, tmp_path: Path) -> None:
    """The half is taken back, the answer of the next one is whole, and both calls were billed."""
    apis = {"openai": Speaker(["Half of "], fails=DOWN), "gemini": Speaker(["A whole ", "answer."])}
    desk = office(store, tmp_path, apis=apis, policy=Policy.API_FIRST)
    reader = Reader()
    answered = await desk.desk.answer(await desk.asked(), watch=reader.watch)
    assert answered.candidate.text == "A whole answer."
    assert "".join(reader.seen) == "A whole answer."
    assert reader.restarts == 1
    assert len(desk.purse.bills) == 2
    stored = await store.answered(answered.answer.id)
    assert stored is not None
    assert stored.answer.route["passed"] == [["openai", "ModelUnavailable"]]


async def test_the_unsure_answer_is_better_than_none(store: Store, tmp_path: Path) -> None:
    """The second opinion failed."""
    desk = office(store, tmp_path, logprob=UNSURE, apis={"openai": Speaker([], fails=DOWN)})
    answered = await desk.desk.answer(await desk.asked())
    assert answered.candidate.text == "Local yes."


async def test_one_who_hangs_leaves_time_for_the_next(store: Store, tmp_path: Path) -> None:
    """The first of two may take a share of what is left, and no more."""
    apis = {"openai": Speaker(["Half "], hangs=True)}
    desk = office(store, tmp_path, apis=apis, policy=Policy.API_FIRST, deadline_s=5.0)
    answered = await desk.desk.answer(await desk.asked())
    assert answered.candidate.text == "Local yes."


async def test_at_the_deadline_the_unsure_answer_is_posted(store: Store, tmp_path: Path) -> None:
    """Where there is one; else the asker is told that nobody was in time."""
    slow = {"openai": Speaker([], hangs=True)}
    desk = office(store, tmp_path, logprob=UNSURE, apis=slow, deadline_s=3.0)
    assert (await desk.desk.answer(await desk.asked())).candidate.text == "Local yes."
    alone = office(store, tmp_path, apis=slow, with_local=False, deadline_s=1.0)
    with pytest.raises(PublicError, match=TOO_SLOW):
        await alone.desk.answer(await desk.asked())


@pytest.mark.parametrize(
    "failing", [Speaker([], hangs=True), Speaker([], fails=DOWN)], ids=["hangs", "fails"]
)
async def test_asked_together_one_is_enough(store: Store, tmp_path: Path, failing: Speaker) -> None:
    """Whatever the other one does."""
    desk = office(store, tmp_path, apis={"openai": failing}, policy=Policy.BOTH, deadline_s=1.5)
    assert (await desk.desk.answer(await desk.asked())).candidate.text == "Local yes."


@pytest.mark.parametrize(("logprob", "first"), [(-0.1, "local"), (UNSURE, "openai")])
async def test_asked_together_the_better_one_is_posted(
    store: Store, tmp_path: Path, logprob: float, first: str
) -> None:
    """And the other is kept."""
    desk = office(store, tmp_path, logprob=logprob, apis={"openai": Speaker()}, policy=Policy.BOTH)
    question = await desk.asked()
    assert (await desk.desk.answer(question)).candidate.kind == first
    assert await desk.proposed(question) == ["local", "openai"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DOWN, NOBODY),
        (
            Withheld("The provider's filter refused the question. Please ask it in other words."),
            "other words",
        ),
        (TooLongFor("The question has 900 tokens; this model can read 400. Please shorten it."), "shorten"),
        (BudgetSpent("The budget for API models is spent until 1 December."), "1 December"),
    ],
)
async def test_where_nobody_answers_the_asker_reads_one_sentence(
    store: Store, tmp_path: Path, error: ModelUnavailable, told: str
) -> None:
    """About the question where it is the question's fault, and about us where it is ours."""
    desk = office(store, tmp_path, apis={"openai": Speaker([], fails=error)}, with_local=False)
    with pytest.raises(PublicError, match=told):
        await desk.desk.answer(await desk.asked())


async def test_a_spent_budget_falls_back_to_the_local_model_and_says_so(store: Store, tmp_path: Path) -> None:
    """No call was made."""
    spent = Purse(BudgetSpent("The budget for API models is spent until 1 December."))
    api = Speaker()
    desk = office(store, tmp_path, apis={"openai": api}, policy=Policy.API_FIRST, purse=spent)
    answered = await desk.desk.answer(await desk.asked(), channel=desk.settings(budget_month_usd=2.0))
    assert answered.candidate.kind == "local"
    assert "1 December" in answered.answer.route["notice"]
    assert api.asked == []
    assert spent.asked_for == [("C0HELP", "answer", 2.0)]


@pytest.mark.parametrize(
    ("place", "policy", "asked"),
    [("group", "", 0), ("", "", 0), ("channel", "", 1), ("group", "api-first", 1)],
)
async def test_words_of_a_private_channel_stay_here(
    store: Store, tmp_path: Path, place: str, policy: str, asked: int
) -> None:
    """Unless an admin gave the channel a policy of its own."""
    api = Speaker()
    desk = office(store, tmp_path, apis={"openai": api}, policy=Policy.API_FIRST)
    await desk.desk.answer(await desk.asked(place=place), channel=desk.settings(policy=policy))
    assert len(api.asked) == asked


async def test_a_provider_that_fails_in_a_row_is_left_alone(store: Store, tmp_path: Path) -> None:
    """Until its rest is over; then one question tries, and an answer brings it back."""
    api = Speaker([], fails=DOWN)
    desk = office(store, tmp_path, apis={"openai": api}, policy=Policy.API_FIRST)
    for _ in range(FAULTS + 2):
        assert (await desk.desk.answer(await desk.asked())).candidate.kind == "local"
    assert len(api.asked) == FAULTS
    breaker = desk.desk.panel.breakers["openai"]
    breaker._until = breaker.clock()
    api.fails, api.pieces = None, ["Back."]
    assert (await desk.desk.answer(await desk.asked())).candidate.text == "Back."
    assert not breaker.open


async def test_refused_questions_open_no_breaker(store: Store, tmp_path: Path) -> None:
    """A question that is too long speaks against nobody."""
    api = Speaker([], fails=TooLongFor("Too long."))
    desk = office(store, tmp_path, apis={"openai": api}, policy=Policy.API_FIRST)
    for _ in range(FAULTS + 2):
        await desk.desk.answer(await desk.asked())
    assert len(api.asked) == FAULTS + 2


async def test_a_local_model_that_was_killed_is_asked_once_more(store: Store, tmp_path: Path) -> None:
    """Where nobody else could answer: its process is started anew by the second question."""
    local = Speaker(
        ["Half"], fails=ModelUnavailable("its process ended", again=True), next_=Speaker(["Whole."])
    )
    desk = office(store, tmp_path, local=local)
    reader = Reader()
    answered = await desk.desk.answer(await desk.asked(), watch=reader.watch)
    assert answered.candidate.text == "Whole."
    assert "".join(reader.seen) == "Whole."
    hopeless = Speaker([], fails=ModelUnavailable("its process ended", again=True))
    with pytest.raises(PublicError, match=NOBODY):
        await office(store, tmp_path, local=hopeless).desk.answer(await desk.asked())
    assert len(hopeless.asked) == 2


async def test_now_and_then_the_other_thing_is_done_and_written_down(store: Store, tmp_path: Path) -> None:
    """The same question is drawn the same; both outcomes carry their probability."""
    api = Speaker(["From above."])
    desk = office(store, tmp_path, apis={"openai": api}, explore_rate=0.2)
    routes = []
    for _ in range(40):
        answered = await desk.desk.answer(await desk.asked())
        routes.append((answered.candidate.kind, answered.answer.route["judgement"]))
    kinds = {(kind, judgement.get("explored"), judgement["propensity"]) for kind, judgement in routes}
    assert kinds == {("local", False, 0.8), ("openai", True, 0.2)}
    assert 1 <= len(api.asked) <= 20


async def test_stop_keeps_what_was_written(store: Store, tmp_path: Path) -> None:
    """And before anything was written, nothing is stored."""
    api = {"openai": Speaker(["One ", "two "], hangs=True)}
    desk = office(store, tmp_path, apis=api, policy=Policy.API_FIRST)
    answered = await desk.desk.answer(await desk.asked(), watch=Reader(stop_after=2).watch)
    assert (answered.candidate.text, answered.candidate.finish) == ("One two ", STOPPED)
    silent = Reader()
    silent.watch.stopped.set()
    desk.apis["openai"].speaker.pieces = []
    with pytest.raises(Stopped):
        await desk.desk.answer(await desk.asked(), watch=silent.watch)


async def test_the_nearest_verified_answers_stand_before_the_question(store: Store, tmp_path: Path) -> None:
    """The API model reads them in its system prompt, the local one as earlier turns where it wants any."""
    api = Speaker()
    desk = office(store, tmp_path, logprob=UNSURE, apis={"openai": api}, examples=1)
    await desk.know("How do I reset the password of my badge?", "At the blue desk.")
    await desk.desk.answer(await desk.asked("Where is the password list for guests?"))
    assert "At the blue desk." in api.asked[0][0].content
    read = desk.local.speaker.asked[0]
    assert [message.role for message in read] == ["user", "assistant", "user"]
    assert read[1].content == "At the blue desk."


async def test_what_memory_is_sure_of_costs_nothing(store: Store, tmp_path: Path) -> None:
    """No model is asked, and the source is kept."""
    desk = office(store, tmp_path, apis={"openai": Speaker()}, policy=Policy.API_FIRST)
    await desk.know("How do I reset my password?", "At the blue desk.")
    answered = await desk.desk.answer(await desk.asked("How do I reset my password?"))
    assert (answered.candidate.kind, answered.candidate.source) == ("memory", "the wiki")
    assert answered.answer.route == {"rule": "memory"}
    assert desk.local.speaker.asked == []
