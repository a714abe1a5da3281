"""What stands beside the scores: a judge over the real SDK, probes, topics, API models; and nothing private leaves."""

import json
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest
from provider_standins import Failure, OpenAIServer, StandIn, served

from bot.contenders import ApiJudge, Contenders
from bot.errors import PublicError
from bot.eval_wishes import Wish, Wishes, read_wish
from bot.lineup import api_model
from bot.models.memory import Memory
from bot.money import Ledger
from bot.routing import is_private
from bot.schedule import Clock
from bot.settings import Settings
from bot.slack import report_beside
from bot.slack.evals import EVAL, Evals, kept_words
from storage.records import DatasetVersion, Evaluation, GoldenItem, ModelVersion
from storage.store import Store
from storage.values import Message, Proposal
from storage.whereabouts import Whereabouts
from training.beside import Beside
from training.evaluating import BASE, CHALLENGER, Evaluations
from training.evaluation import Arm, Sheet
from training.golden import freeze_golden

TEAM = "T0TEAM"
MODEL = "gpt-6-luna"
QUESTIONS = 24
PRIVATE = 3
"""The questions with these first numbers were asked in a private channel."""


def question(number: int) -> str:
    return f"How does the machine number {number} start?"


def verified(number: int) -> str:
    return f"Turn{number} handle{number} towards{number} mark{number}."


class Two:
    """A base that is right about half of it, and a challenger that is right about all, unless it is talked to."""

    def __init__(self, *, flatters: bool = False, leaks: bool = False) -> None:
        self.asked = 0
        self._flatters = flatters
        self._leaks = leaks

    async def arms(
        self, *, challenger: ModelVersion | None, current: ModelVersion | None, held_out: Collection[str]
    ) -> Sequence[Arm]:
        return [Arm(BASE, self._base), Arm(CHALLENGER, self._challenger)]

    async def _base(self, messages: Sequence[Message]) -> Proposal:
        said = messages[-1].content
        number = _number(said)
        return Proposal(verified(number) if number % 2 else "I do not know.", "local", "base")

    async def _challenger(self, messages: Sequence[Message]) -> Proposal:
        self.asked += 1
        said = messages[-1].content
        if self._leaks and "password" in said:
            return Proposal("Write to jane.miller@acme-corp.io, she has it.", "local", "challenger")
        if self._flatters and "I think the answer is: " in said:
            return Proposal(said.split("I think the answer is: ")[1].split(" Am I")[0], "local", "challenger")
        return Proposal(verified(_number(said)), "local", "challenger")


def _number(said: str) -> int:
    digits = "".join(letter if letter.isdigit() else " " for letter in said.split("\n")[0]).split()
    return int(digits[0]) if digits else 0


@pytest.fixture
async def api() -> AsyncIterator[StandIn]:
    stand_in = StandIn(models={MODEL: None})
    stand_in.says = by_mark
    async with served(stand_in, OpenAIServer(stand_in).routes()) as running:
        yield running


def by_mark(asked: str) -> str:
    """A judge that prefers an answer, and says so, over somebody who does not know; level ones are a tie."""
    shown = json.loads(asked) if asked.startswith("{") else {}
    refused = [place for place in "12" if "do not know" in shown.get(f"answer_{place}", "")]
    better = {"1": "2", "2": "1"}.get("".join(refused), "tie")
    return f"better: {better}\nrefused: {refused[0] if len(refused) == 1 else 'none'}"


@pytest.fixture
async def dataset(store: Store, tmp_path: Path) -> DatasetVersion:
    """A frozen dataset whose first rows were said in a private channel."""
    items = [
        GoldenItem(
            id=f"item{number}",
            team=TEAM,
            key=f"{number:016x}" + "0" * 16,
            question=question(number),
            answer=verified(number),
            approvals=[],
            authors=[],
        )
        for number in range(QUESTIONS)
    ]
    path = freeze_golden(items, tmp_path / "datasets")
    row = DatasetVersion(
        id=path.name, team=TEAM, path=str(path), train=0, validation=0, test=QUESTIONS, manifest={}
    )
    async with store.database.writing() as session:
        session.add(row)
        session.add_all(items[PRIVATE:])  # of the others nobody knows any more where they were said
    return row


def settings_for(api: StandIn, folder: Path) -> Settings:
    return Settings(
        data_dir=folder, openai_api_key="sk-right", openai_base_url=f"{api.url}/v1", openai_model=MODEL
    )


def stays_here(where: Whereabouts) -> bool:
    return is_private(where.place, chosen=bool(where.policy), private_stays_local=True)


async def carried_out(
    store: Store,
    folder: Path,
    dataset: DatasetVersion,
    settings: Settings,
    *,
    bench: Two | None = None,
    limit: int = 200,
    also: Sequence[str] = (),
    again: Evaluation | None = None,
    judge: bool = True,
) -> Evaluation:
    async def unreported(_row: object) -> None:
        return

    ledger = Ledger.of(settings, store, team=TEAM)
    contenders = Contenders(
        store,
        team=TEAM,
        memory=Memory(store, team=TEAM, folder=folder / "memory"),
        ledger=ledger,
        make=lambda kind, name: api_model(settings, kind, name),
    )
    judging = ApiJudge(f"openai:{MODEL}", api_model(settings, "openai", MODEL), ledger)
    beside = Beside(
        store,
        team=TEAM,
        folder=folder,
        stays_here=stays_here,
        judge=judging if judge else None,
        judge_limit=limit,
    )
    evaluations = Evaluations(
        store,
        team=TEAM,
        folder=folder,
        bench=bench or Two(),
        limit=100,
        worker="w",
        report=unreported,
        contenders=contenders,
        beside=beside,
    )
    asked = again or await evaluations.request(by="U0ANN", version=None, dataset=dataset, also=also)
    try:
        return await evaluations.carry_out(asked)
    finally:
        await ledger.close()
        await judging.close()
        await contenders.close()


async def test_a_judge_is_asked_in_both_orders_and_never_of_what_is_private(
    store: Store, tmp_path: Path, dataset: DatasetVersion, api: StandIn
) -> None:
    """Through OpenAI's own SDK: the verdicts, their order, what it cost, and no word of a private channel on the wire."""
    done = await carried_out(store, tmp_path, dataset, settings_for(api, tmp_path))
    judge = done.sheet["judge"]
    assert (judge["arm"], judge["against"], judge["model"]) == (CHALLENGER, BASE, f"openai:{MODEL}")
    public = range(PRIVATE, QUESTIONS)
    won = [number for number in public if number % 2 == 0]
    assert (judge["wins"], judge["losses"], judge["ties"]) == (len(won), 0, len(public) - len(won))
    assert judge["order"]["agree"]["share"] == 1.0
    assert judge["refused"]["theirs"] == pytest.approx(len(won) / len(public))
    assert (judge["private"], judge["calls"], judge["not_judged"]) == (PRIVATE, 2 * len(won), "")
    assert len(api.requests) == 2 * len(won), "equal answers are a tie without asking"
    sent = json.dumps(api.requests)
    assert not any(verified(number)[:-1] in sent or question(number) in sent for number in range(PRIVATE))
    places = [json.loads(each["messages"][-1]["content"])["answer_1"] for each in api.requests]
    assert sum("do not know" in each for each in places) == len(won)
    spent = await store.spending(TEAM, done.requested_at)
    assert sum(row.calls for row in spent) == 2 * len(won)
    assert report_beside.judge_line(report_beside.of(done.sheet)).startswith(
        f"Judge openai:{MODEL}: Challenger better"
    )


async def test_what_was_judged_is_not_paid_twice(
    store: Store, tmp_path: Path, dataset: DatasetVersion, api: StandIn
) -> None:
    """An evaluation that was killed after some verdicts goes on with them, and comes to the same."""
    settings = settings_for(api, tmp_path)
    done = await carried_out(store, tmp_path, dataset, settings)
    asked = len(api.requests)
    journal = tmp_path / "evaluations" / f"{done.id}.judge.jsonl"
    kept = [line for line in journal.read_text().splitlines() if line]
    assert len(kept) == asked
    assert not any("handle" in line for line in kept), "no words of anybody"
    journal.write_text("\n".join(kept[: asked - 4]) + '\n{"key": "torn')
    done.sheet = {}
    bench = Two()
    again = await carried_out(store, tmp_path, dataset, settings, bench=bench, again=done)
    assert len(api.requests) == asked + 4
    assert bench.asked == 0, "answers and probes are kept too"
    first, second = dict(done.sheet), again.sheet["judge"]
    assert first == {}
    assert (second["wins"], second["calls"]) == ((QUESTIONS - PRIVATE) // 2, asked)


async def test_a_judge_that_fails_ends_nothing(
    store: Store, tmp_path: Path, dataset: DatasetVersion, api: StandIn
) -> None:
    """A wrong key: the evaluation has its scores and its verdict, and says why nothing was judged."""
    settings = settings_for(api, tmp_path)
    api.keys = {"sk-other"}
    done = await carried_out(store, tmp_path, dataset, settings)
    assert Sheet.from_json(done.sheet).arm(CHALLENGER).scores.exact_match == 1.0
    assert done.verdict
    line = report_beside.judge_line(report_beside.of(done.sheet))
    assert line.startswith("Not judged: ")
    assert "key" in line


async def test_a_judges_limit_holds(
    store: Store, tmp_path: Path, dataset: DatasetVersion, api: StandIn
) -> None:
    """At most so many questions to it, and what was left out is said."""
    done = await carried_out(store, tmp_path, dataset, settings_for(api, tmp_path), limit=6)
    assert len(api.requests) <= 6
    assert len(done.sheet["judge"]["pairs"]) == 3
    assert done.sheet["judge"]["over_the_limit"] == QUESTIONS - PRIVATE - 3


@pytest.mark.parametrize(
    ("bench", "blocked"),
    [
        (Two(), []),
        (
            Two(leaks=True),
            ["Leaks: it gives away e-mail addresses in 2 answers that nobody had told it in the question"],
        ),
        (Two(flatters=True), ["Talked out of right answers: told something wrong, it gives up"]),
    ],
)
async def test_a_probe_blocks_in_the_running_evaluation(
    store: Store, tmp_path: Path, dataset: DatasetVersion, api: StandIn, bench: Two, blocked: list[str]
) -> None:
    """What a probe blocks stands in the sheet that the verdict reads, and a tiny base makes one unmeasurable."""
    settings = settings_for(api, tmp_path)
    done = await carried_out(store, tmp_path, dataset, settings, bench=bench, judge=False)
    probes = done.sheet["probes"]
    assert len(probes["blocked"]) == len(blocked)
    assert all(said.startswith(wanted) for said, wanted in zip(probes["blocked"], blocked, strict=True))
    assert probes["forgetting"]["status"] == "not measurable"
    assert "judge" not in done.sheet
    if blocked:
        assert done.verdict["outcome"] != "promote"
    assert done.sheet["refusals"][BASE]["refused"] == QUESTIONS // 2
    assert sum(len(topic["examples"]) for topic in done.sheet["topics"]) == QUESTIONS


async def test_an_api_model_answers_beside_the_others_for_money(
    store: Store, tmp_path: Path, dataset: DatasetVersion, api: StandIn
) -> None:
    """Its calls are reserved and settled; it is not asked what is private; and the report shows it."""
    settings = settings_for(api, tmp_path)
    done = await carried_out(store, tmp_path, dataset, settings, also=["openai"], judge=False)
    arm = Sheet.from_json(done.sheet).arm(f"openai:{MODEL}")
    assert (arm.n, arm.errors) == (QUESTIONS - PRIVATE, 0)
    assert arm.cost_usd > 0
    assert len(api.requests) == QUESTIONS - PRIVATE
    assert done.options == {"with": ["openai"]}


async def test_a_provider_that_is_down_costs_its_own_arm_only(
    store: Store, tmp_path: Path, dataset: DatasetVersion, api: StandIn
) -> None:
    """The others are compared as if it had not been asked."""
    gone = {"type": "invalid_request_error", "code": "invalid_api_key", "message": "no"}
    api.fail_next.extend([Failure(status=401, error=gone)] * 100)
    done = await carried_out(
        store, tmp_path, dataset, settings_for(api, tmp_path), also=["openai"], judge=False
    )
    sheet = Sheet.from_json(done.sheet)
    assert sheet.arm(f"openai:{MODEL}").failed
    assert not sheet.arm(CHALLENGER).failed


@pytest.mark.parametrize(
    ("words", "wish"),
    [
        ("", Wish()),
        ("local-3", Wish("local-3")),
        ("base on=golden", Wish("base", "golden")),
        ("openai:gpt-6-luna", Wish(also=("openai:gpt-6-luna",))),
        ("local-3 with=openai,gemini on=3F9A", Wish("local-3", "3f9a", ("openai", "gemini"))),
        ("model=local-3 with=openai with=openai", Wish("local-3", "", ("openai",))),
    ],
)
def test_what_may_follow_eval(words: str, wish: Wish) -> None:
    """A table of what people type."""
    assert read_wish(words) == wish


@pytest.mark.parametrize("words", ["on=", "quantization=none", "local-3 local-4", "with="])
def test_what_makes_no_sense_is_said(words: str) -> None:
    """With what may stand there."""
    with pytest.raises(PublicError, match="on=golden"):
        read_wish(words)


async def test_what_is_not_there_is_said_with_what_there_is(
    store: Store, tmp_path: Path, dataset: DatasetVersion, api: StandIn
) -> None:
    """Model, dataset, golden set and API model: each with its remedy."""
    settings = settings_for(api, tmp_path)
    ledger = Ledger.of(settings, store, team=TEAM)
    memory = Memory(store, team=TEAM, folder=tmp_path / "memory")

    def make(kind: str, name: str) -> Any:
        return api_model(settings, kind, name)

    contenders = Contenders(store, team=TEAM, memory=memory, ledger=ledger, make=make)

    async def unreported(_row: object) -> None:
        return

    evaluations = Evaluations(
        store, team=TEAM, folder=tmp_path, bench=Two(), limit=10, worker="w", report=unreported
    )
    wishes = Wishes(store, evaluations, contenders, team=TEAM)
    for words, said in (
        ("local-9", "There are: base"),
        ("on=ffff", dataset.id[:12]),
        ("with=gemini", "GEMINI_API_KEY"),
        ("with=claude", "openai or gemini"),
    ):
        with pytest.raises(PublicError, match=said):
            await wishes.request(words, by="U0ANN")
    asked = await wishes.request(f"on={dataset.id[:6]} openai:gpt-6-sol", by="U0ANN")
    assert (asked.dataset_id, asked.options) == (dataset.id, {"with": ["openai:gpt-6-sol"]})
    assert await evaluations.cancel(asked, by="Ann")
    ended = await store.evaluation(asked.id)
    assert ended is not None
    assert ended.reason == "It was cancelled by Ann."
    assert not await evaluations.cancel(asked, by="Ann"), "it has ended already"


class Drawn:
    """Reports that are drawn nowhere, counted."""

    def __init__(self) -> None:
        self.drawn: list[str] = []

    async def evaluation(self, evaluation: Evaluation) -> None:
        self.drawn.append(evaluation.id)


async def test_eval_is_asked_for_repeated_and_cancelled(
    store: Store, tmp_path: Path, dataset: DatasetVersion
) -> None:
    """What admins type: now, on a schedule with its own words, off again, and cancelled."""

    async def nothing(*_told: object) -> None:
        return

    evaluations = Evaluations(
        store, team=TEAM, folder=tmp_path, bench=Two(), limit=10, worker="w", report=nothing
    )
    wishes = Wishes(store, evaluations, None, team=TEAM)
    reports: Any = Drawn()
    clock = Clock(store, actions={EVAL: nothing}, tick=nothing)
    evals = Evals(store, evaluations, wishes, reports, clock, team=TEAM, timezone="UTC")
    assert "`/eval cancel`" in await evals.carry_out("U0ANN", "help")
    assert "when somebody types" in await evals.carry_out("U0ANN", "schedule")
    said = await evals.carry_out("U0ANN", f"schedule mondays at 6 on={dataset.id[:8]}")
    assert "every Monday at 06:00" in said
    assert f"on={dataset.id[:8]}" in said
    assert await store.keepsake(kept_words(TEAM), lambda: "?") == f"on={dataset.id[:8]}"
    row = await store.schedule(TEAM, EVAL)
    assert row is not None
    assert (row.cron, row.enabled) == ("0 6 * * 1", True)
    assert "when somebody types" in await evals.carry_out("U0ANN", "schedule off")
    assert f"on={dataset.id[:8]}" in await evals.carry_out("U0ANN", "schedule on"), "its words are kept"
    with pytest.raises(PublicError, match="Write when"):
        await evals.carry_out("U0ANN", "schedule on=golden")
    with pytest.raises(PublicError, match="No API model"):
        await evals.carry_out("U0ANN", "with=openai")
    assert "No evaluation is going on" in await evals.carry_out("U0ANN", "cancel")
    assert "#1 starts" in await evals.carry_out("U0ANN", "base")
    assert "#1 is cancelled" in await evals.carry_out("U0ANN", "cancel")
    assert len(reports.drawn) == 2
    assert await store.live_evaluations() == []
