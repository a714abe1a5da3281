"""Runs at OpenAI: each ends in exactly one of succeeded, failed with a reason, and cancelled; none is paid twice."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tuning_place import ANN, TEAM, Case, Place, Step, fill, ordered_pairs
from tuning_standin import TuningServer, tuning

from storage.records import RunState
from storage.store import Store
from training.finetuners.openai import OpenAIFineTuner, OpenAITuning
from training.finetuners.shipment import tokens
from training.runs import Declined


@asynccontextmanager
async def place(store: Store, folder: Path, **rules: Any) -> AsyncIterator[Place[TuningServer]]:
    await fill(store, folder)
    async with tuning() as server:
        told = {"usd_per_1m": 1.0, "confirm_usd": 5.0, "timeout_s": 1.0, "look_every_s": 0.0, **rules}
        terms = OpenAITuning(api_key="sk-right", model="gpt-4.1-mini", base_url=server.url, **told)
        yield Place(store, folder, server, lambda: OpenAIFineTuner(store, team=TEAM, rules=terms))


def to(status: str, **changes: Any) -> Step:
    return lambda server: server.move(status, **changes)


GOOD = (to("queued"), to("running"), to("succeeded"))
WRONG = {"code": "invalid_n_examples", "message": "too few", "param": "training_file"}


CASES = [
    Case("success", GOOD),
    Case("failure", (to("failed", error=WRONG),), ends="failed", why="too few"),
    Case("cancelled there", (to("cancelled"),), ends="cancelled", why="cancelled at OpenAI"),
    Case("paused, then resumed", (to("paused"), to("running"), to("succeeded"))),
    Case("unknown state", (to("mulling_it_over"), to("running"), to("succeeded"))),
    Case("succeeded, model named later", (to("running"), *GOOD)),
    Case("500 after creation", GOOD, fails=(("create", (-500,)),)),
    Case("500 before creation", GOOD, fails=(("create", (500,)),), posts=2),
    Case("500 at each creation", GOOD, fails=(("create", (500,) * 9),), ends="failed", why="did not begin", jobs=0, posts=6),
    Case("hangs at creation", GOOD, fails=(("create", (0,)),), posts=2),
    Case("500 after upload", GOOD, fails=(("upload", (-500,)),)),
    Case("hangs while it is looked at", GOOD, fails=(("retrieve", (0, 500, 429)),)),
    Case("permission denied", GOOD, fails=(("create", (403,)),), ends="failed", why="does not let this key", jobs=0),
    Case("quota", GOOD, fails=(("create", (429,)),), said="insufficient_quota", ends="failed", why="quota", jobs=0),
    Case("too many requests", GOOD, fails=(("create", (429,)),), said="rate_limit_exceeded", posts=2),
    Case("key taken away meanwhile", GOOD, fails=(("retrieve", (401, 200)),)),
    Case("job is gone", (lambda server: server.jobs.clear(),), ends="failed", why="No such job", jobs=0),
    Case("deleting fails", GOOD, fails=(("delete", (500, 500)),)),
]  # fmt: skip


async def test_every_ending_is_one_and_no_job_is_paid_twice(tmp_path: Path, capsys: Any) -> None:
    """The bot is killed after every single look, and still each run ends once, in one way, with one job at most."""
    lines = []
    for number, case in enumerate(CASES):
        folder = tmp_path / str(number)
        folder.mkdir()
        store = await Store.open(f"sqlite:///{folder / 'apprentice.sqlite'}")
        async with place(store, folder) as here:
            here.server.fails = {what: list(statuses) for what, statuses in case.fails}
            here.server.code = case.said
            run = await here.follow(await here.ask(), *case.steps)
            assert run.state.final, case.name
            assert (run.outcome, case.why in run.reason) == (case.ends, True), (case.name, run.reason)
            assert (len(here.server.jobs), len(here.server.orders)) == (case.jobs, case.posts), case.name
            assert len(here.endings()) == 1, case.name
            models = await store.models(TEAM)
            assert [each.model for each in models] == (
                ["ft:gpt-4.1-mini:us::1"] if case.ends == "promote" else []
            )
            left = [each for each in here.server.files if each not in here.server.deleted]
            due = await store.provider_files(TEAM)
            sure = case.name not in {"deleting fails", "job is gone", "500 at each creation"}
            assert (left, [each.file_id for each in due]) == ([], []) or not sure, case.name
            if case.name == "deleting fails":
                assert all(each.deletion_due_at for each in due if each.file_id in left)
            lines.append(f"{case.name:30} {run.outcome:10} {len(here.server.orders)} orders, 1 ending")
        await store.close()
    with capsys.disabled():
        print(f"\nProvider runs, the bot killed after each look: {len(lines)} of {len(CASES)} end once")
        print("\n".join(lines))


async def test_what_is_sent_is_what_was_agreed(store: Store, tmp_path: Path) -> None:
    """Supervised, with validation, seed, suffix and the run's id; the held-out side never leaves."""
    async with place(store, tmp_path) as here:
        run = await here.follow(await here.ask(epochs=2.0, seed=7), *GOOD)
        (order,) = here.server.orders
        assert order["method"] == {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}}
        assert (order["suffix"], order["seed"]) == (f"apprentice-{run.number}", 7)
        assert order["metadata"]["run_id"] == run.id
        assert "hyperparameters" not in order
        rows = [json.loads(line) for line in here.server.contents[order["training_file"]].splitlines()]
        assert len(rows) == run.progress["counts"]["train"]
        assert run.dataset_id is not None
        dataset = await store.dataset(run.dataset_id)
        assert dataset is not None
        held_out = [json.loads(line) for line in (Path(dataset.path) / "test.jsonl").read_text().splitlines()]
        sent = b"".join(here.server.contents.values()).decode()
        assert held_out
        assert not any(json.dumps(row["messages"][-2]["content"])[1:-1] in sent for row in held_out)
        (version,) = await store.models(TEAM)
        assert (version.kind, version.path, version.name) == ("openai", "", f"openai-{run.number}")
        assert version.card["trained_tokens"] == 4321
        assert version.card["checkpoints"] == [{"model": "ft:step-6", "step": 6}]
        assert (run.progress["step"], run.progress["loss"], run.progress["eval_loss"]) == (3, 1.5, 1.7)


async def test_a_job_that_is_paused_is_shown_and_waited_for(store: Store, tmp_path: Path) -> None:
    """However often it is looked at; then it goes on, and nothing was ordered again."""
    async with place(store, tmp_path) as here:
        run = await here.ask()
        while not (run := await store.run(run.id) or run).handle:
            await here.tick()
        here.server.move("paused")
        for _ in range(4):
            await here.tick()
        paused = await store.run(run.id)
        assert paused is not None
        assert (paused.state, paused.progress["provider"]) == (RunState.TRAINING, "OpenAI says: paused")
        assert paused.progress["step"] == 3
        assert (await here.follow(paused, *GOOD)).outcome == "promote"
        assert len(here.server.orders) == 1


async def test_pairs_are_tuned_as_pairs(store: Store, tmp_path: Path) -> None:
    """`method=dpo` sends the preference format, and OpenAI is told so; the same run is not ordered twice."""
    async with place(store, tmp_path) as here:
        _, tuner = here.bot()
        order = ordered_pairs(tmp_path)
        handle = await tuner.launch(order)
        (sent,) = here.server.orders
        assert sent["method"] == {"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 3}}}
        rows = [json.loads(line) for line in here.server.contents[sent["training_file"]].splitlines()]
        assert len(rows) == 12
        assert {"input", "preferred_output", "non_preferred_output"} == set(rows[0])
        assert rows[0]["preferred_output"] == [{"role": "assistant", "content": "Open page 0."}]
        assert rows[0]["non_preferred_output"] == [{"role": "assistant", "content": "No idea."}]
        assert len(here.server.contents[sent["validation_file"]].splitlines()) == 2
        assert await tuner.launch(order) == handle
        here.server.move("succeeded")
        done: Any = await tuner.poll(handle)
        assert (done.model, done.card["method"]) == ("ft:gpt-4.1-mini:us::1", "dpo")
        assert sorted(here.server.deleted) == sorted(here.server.files)
        await tuner.close()


async def test_azure_is_asked_as_azure_wants_it(store: Store, tmp_path: Path) -> None:
    """Files with a byte order mark and no end of life, and the kind of deployment; OpenAI itself gets none of these."""
    async with place(store, tmp_path, azure=True) as here:
        here.server.azure = True
        run = await here.follow(await here.ask(), *GOOD)
        assert (run.outcome, run.reason) == ("promote", "better")
        (order,) = here.server.orders
        assert order["trainingType"] == "GlobalStandard"
        (version,) = await store.models(TEAM)
        assert version.kind == "openai"


async def test_nothing_is_uploaded_before_somebody_agrees(store: Store, tmp_path: Path) -> None:
    """Over the limit the run waits with the estimate; once confirmed it goes on, and a second yes is none."""
    async with place(store, tmp_path, confirm_usd=0.0) as here:
        run = await here.ask()
        for _ in range(4):
            await here.tick()
        waiting = await store.run(run.id)
        assert waiting is not None
        assert waiting.state is RunState.TRAINING
        assert "Nothing is uploaded yet" in waiting.awaiting
        assert "tokens, about $0.0" in waiting.awaiting
        assert here.server.files == {}
        runs, tuner = here.bot()
        assert (await runs.waiting()) is not None
        assert await runs.confirm(waiting, by=ANN)
        confirmed = await store.run(run.id)
        assert confirmed is not None
        assert not await runs.confirm(confirmed, by="U0BEN")
        await tuner.close()
        assert (await here.follow(confirmed, *GOOD)).outcome == "promote"


@pytest.mark.parametrize("late", [False, True])
async def test_cancelling_reaches_a_job_that_nobody_heard_of(
    store: Store, tmp_path: Path, late: bool
) -> None:
    """Also where creating it was answered 500: the job is found and cancelled, and the run ends once."""
    async with place(store, tmp_path) as here:
        here.server.fails = {"create": [-500 if late else 200]}
        run = await here.ask()
        while not here.server.jobs:
            await here.tick()
        runs, tuner = here.bot()
        run = await store.run(run.id) or run
        await runs.cancel(run, by=ANN)
        await tuner.close()
        run = await here.follow(run)
        assert (run.outcome, run.reason) == ("cancelled", f"Cancelled by <@{ANN}>.")
        assert [each["status"] for each in here.server.jobs.values()] == ["cancelled"]


async def test_a_refused_key_is_not_asked_every_night(store: Store, tmp_path: Path) -> None:
    """The next scheduled run is declined without a request; somebody who insists is let through."""
    async with place(store, tmp_path) as here:
        here.server.fails = {"create": [403]}
        await here.follow(await here.ask())
        runs, tuner = here.bot()
        nightly = await runs.request(by="schedule", occasion="night", options={"scheduled": True})
        assert isinstance(nightly, Declined)
        assert "does not let this key train" in nightly.reason
        insisted = await runs.request(by=ANN, occasion="again", options={"with": "openai"})
        assert not isinstance(insisted, Declined)
        await tuner.close()


async def test_a_provider_that_never_answers_again_is_given_up(store: Store, tmp_path: Path) -> None:
    """After the time limit and its grace the run fails, naming the job to look at."""
    async with place(store, tmp_path) as here:
        run = await here.ask()
        while not (run := await store.run(run.id) or run).handle:
            await here.tick()
        here.server.fails = {"retrieve": [500] * 20, "cancel": [500] * 20}
        here.timeout_s = -700.0
        run = await here.follow(run)
        assert run.outcome == "failed"
        assert run.handle in run.reason


def test_tokens_are_rather_counted_too_many() -> None:
    """Three letters each, and two bytes where a script is not ASCII."""
    assert (tokens("abcdef"), tokens("é"), tokens("日本"), tokens("")) == (2, 1, 3, 0)
