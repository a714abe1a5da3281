"""Runs on a Ray cluster: each ends in exactly one of succeeded, failed with a reason, and cancelled, as one job."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from ray_standin import RayHead, ray_head
from tuning_place import ANN, TEAM, Case, Place, Step, fill

from bot.doctor_apis import tuning_findings
from bot.findings import Mark
from bot.settings import Settings
from bot.train_options import read_options
from storage.store import Store
from training import rundir
from training.finetuners.ray import Cluster, RayFineTuner
from training.rundir import Status


@asynccontextmanager
async def place(store: Store, folder: Path, **terms: Any) -> AsyncIterator[Place[RayHead]]:
    await fill(store, folder)
    (folder / "shared").mkdir()
    async with ray_head() as head:
        told = {"timeout_s": 1.0, "look_every_s": 0.0, "storage": folder / "shared", **terms}
        cluster = Cluster(address=head.url, **told)
        tuner: Any = lambda: RayFineTuner(cluster, home=folder / "runs")  # noqa: E731
        yield Place(store, folder, head, tuner)


def to(state: str, status: Status | None = None, reason: str = "", **told: str) -> Step:
    """The job is in that state, and the trainer has left so much by then."""

    def step(head: RayHead) -> None:
        if state == "RUNNING" or status is not None:
            head.train(status, reason)
        head.move(state, **told)

    return step


def lost(head: RayHead) -> None:
    """The head was restarted and knows of nothing."""
    head.jobs.clear()


def done_and_lost(head: RayHead) -> None:
    head.train(Status.DONE)
    head.jobs.clear()


RUN, DONE = to("RUNNING"), to("SUCCEEDED", Status.DONE)
GOOD = (RUN, DONE)
DIED = to(
    "FAILED",
    message="Job entrypoint command failed with exit code 137",
    log="loading\nMemoryError: all of it\n",
)
CASES = [
    Case("success", GOOD),
    Case("the trainer says why it failed", (RUN, to("FAILED", Status.FAILED, "The loss is not a number.")), ends="failed",
         why="The loss is not a number."),
    Case("dies each time, with a log", (DIED,) * 9, ends="failed", why="MemoryError: all of it", jobs=0, posts=4),
    Case("dies once, goes on", (RUN, DIED, RUN, DONE), posts=2),
    Case("stopped there", (RUN, to("STOPPED")), ends="cancelled", why="stopped on the Ray cluster"),
    Case("unknown state", (to("MULLING"), RUN, DONE)),
    Case("500 after creation", GOOD, fails=(("submit", (-500,)),)),
    Case("500 before creation", GOOD, fails=(("submit", (500,)),)),
    Case("hangs at creation", GOOD, fails=(("submit", (0,)),)),
    Case("500 at each creation", GOOD, fails=(("submit", (500,) * 9),), ends="failed", why="did not begin", posts=0),
    Case("hangs while it is looked at", GOOD, fails=(("retrieve", (200, 0, 500, 503)),)),
    Case("the head is restarted", (RUN, lost, RUN, DONE), posts=2),
    Case("the head is restarted after the end", (RUN, done_and_lost)),
    Case("succeeded, and nothing in the folder", (to("SUCCEEDED"),) * 9, ends="failed", why="Is it the same folder",
         posts=4),
    Case("refused", GOOD, fails=(("submit", (400,)),), ends="failed", why="refuses the job", posts=0),
    Case("deleting and logs fail", GOOD, fails=(("delete", (500,)), ("log", (500,)))),
]  # fmt: skip


async def test_every_ending_is_one_and_no_run_is_two_jobs(tmp_path: Path, capsys: Any) -> None:
    """The bot is killed after every single look, and still each run ends once, in one way, with nothing left behind."""
    lines = []
    for number, case in enumerate(CASES):
        folder = tmp_path / str(number)
        folder.mkdir()
        store = await Store.open(f"sqlite:///{folder / 'apprentice.sqlite'}")
        async with place(store, folder) as here:
            here.server.fails = {what: list(statuses) for what, statuses in case.fails}
            run = await here.follow(await here.ask(), *case.steps)
            assert run.state.final, case.name
            assert (run.outcome, case.why in run.reason) == (case.ends, True), (case.name, run.reason)
            assert len(here.server.orders) == case.posts, case.name
            assert len(here.endings()) == 1, case.name
            versions = await store.models(TEAM)
            assert [(each.name, each.kind) for each in versions] == (
                [(f"ray-{run.number}", "local")] if case.ends == "promote" else []
            )
            assert not list((folder / "shared").glob("*/dataset")), case.name
            if case.ends == "promote":
                assert (Path(versions[0].path) / "adapter_config.json").exists()
                assert rundir.read_progress(Path(run.directory))[-1]["step"] == 3
                assert list((folder / "shared").iterdir()) == [], case.name
                assert case.name == "deleting and logs fail" or not here.server.jobs, case.name
            lines.append(f"{case.name:38} {run.outcome:10} {len(here.server.orders)} jobs, 1 ending")
        await store.close()
    with capsys.disabled():
        print(f"\nRuns on Ray, the bot killed after each look: {len(lines)} of {len(CASES)} end once")
        print("\n".join(lines))


async def test_a_run_is_ordered_as_the_cluster_was_described(store: Store, tmp_path: Path) -> None:
    """The run's id names the job, the folder has the examples of this run, and the choices reach the trainer."""
    async with place(store, tmp_path, workers=2, gpus_per_worker=0.5, python="/opt/my app/python") as here:
        run = await here.ask(epochs=2.0, effort="quick", rank=4)
        while not (run := await store.run(run.id) or run).handle:
            await here.tick()
        (order,) = here.server.orders
        directory = here.server.directory()
        assert order["submission_id"] == run.id == run.handle
        assert (
            order["entrypoint"]
            == f"'/opt/my app/python' -m training.ray_job {directory} --workers 2 --gpus 0.5"
        )
        assert "entrypoint_num_gpus" not in order
        job = rundir.read_job(directory)
        assert (job.run_id, job.epochs, job.effort, job.rank) == (run.id, 2.0, "quick", 4)
        assert Path(job.dataset_dir) == directory / "dataset"
        RUN(here.server)
        await here.tick()
        seen = await store.run(run.id)
        assert seen is not None
        assert (seen.progress["step"], seen.progress["loss"]) == (3, 1.5)
        assert seen.progress["provider"] == "Ray says: RUNNING"
        assert (await here.follow(run, DONE)).outcome == "promote"
        if find_spec("ray") is None:
            pytest.skip("ray is not installed: shapes not held to its models (the extra [ray])")
        from ray.dashboard.modules.job.common import JobStatus, JobSubmitRequest
        from ray.dashboard.modules.job.pydantic_models import JobDetails

        JobSubmitRequest(**order)
        assert {JobDetails(**told).status for told in here.server.told} == {
            *map(JobStatus, ("RUNNING", "SUCCEEDED"))
        }


@pytest.mark.parametrize("late", [False, True])
async def test_cancelling_reaches_a_job_that_nobody_heard_of(
    store: Store, tmp_path: Path, late: bool
) -> None:
    """Also where ordering it was answered 500: the job is found and stopped, and the run ends once."""
    async with place(store, tmp_path) as here:
        here.server.fails = {"submit": [-500 if late else 200], "stop": [500]}
        run = await here.ask()
        while not here.server.jobs:
            await here.tick()
        runs, tuner = here.bot()
        await runs.cancel(await store.run(run.id) or run, by=ANN)
        await tuner.close()
        run = await here.follow(run)
        assert (run.outcome, run.reason) == ("cancelled", f"Cancelled by <@{ANN}>.")
        assert (len(here.server.orders), here.server.jobs) == (1, {})
        assert list((tmp_path / "shared").iterdir()) == []


async def test_a_wrong_token_is_said_and_a_right_one_trains(store: Store, tmp_path: Path) -> None:
    """Nothing is ordered or left in the folder; the token itself is never told."""
    async with place(store, tmp_path, token="wrong-token") as here:
        here.server.token = "right-token"
        run = await here.follow(await here.ask())
        assert run.outcome == "failed"
        assert "does not accept RAY_TOKEN" in run.reason
        assert "wrong-token" not in run.reason + repr(here.make().__dict__)
        assert (here.server.orders, list((tmp_path / "shared").iterdir())) == ([], [])
        here.server.token = "wrong-token"
        assert (await here.follow(await here.ask(), *GOOD)).outcome == "promote"


async def test_a_cluster_out_of_reach_is_asked_again(store: Store, tmp_path: Path) -> None:
    """While nobody listens there the run waits and says so; then it goes on, as one job."""
    async with place(store, tmp_path) as here:
        away: Any = lambda: RayFineTuner(  # noqa: E731
            Cluster(address="http://127.0.0.1:9", storage=tmp_path / "shared", look_every_s=0.0),
            home=tmp_path / "runs",
        )
        there, here.make = here.make, away
        run = await here.ask()
        while "again_at" not in (await store.run(run.id) or run).progress:
            await here.tick()
        waiting = await store.run(run.id)
        assert waiting is not None
        assert "did not answer" in waiting.progress["provider"]
        here.make = there
        while not (run := await store.run(run.id) or run).handle:
            await here.tick()
        here.make = away
        await here.tick()
        assert "did not answer" in (await store.run(run.id) or run).progress["provider"]
        here.make = there
        assert (await here.follow(run, *GOOD)).outcome == "promote"
        assert len(here.server.orders) == 1


async def test_the_doctor_tells_of_the_cluster(store: Store, tmp_path: Path) -> None:
    """Not set up, without a folder, out of reach, with a wrong token, and well."""
    async with ray_head() as head:
        head.token = "right"
        well: dict[str, Any] = {"ray_address": head.url, "ray_token": "right", "ray_storage": tmp_path}
        told = {}
        changed: dict[str, dict[str, Any]] = {
            "none": {"ray_address": ""},
            "no folder": {"ray_storage": None},
            "away": {"ray_address": "http://127.0.0.1:9"},
            "token": {"ray_token": "wrong"},
            "well": {},
        }
        for name, changes in changed.items():
            settings = Settings.read(None, data_dir=tmp_path, train_with="ray", **{**well, **changes})
            found = await tuning_findings(settings, store, TEAM)
            told[name] = [(each.mark, each.words) for each in found if "Ray" in each.topic]
    assert told["none"][0][0] is Mark.PROBLEM
    assert "RAY_ADDRESS is not set" in told["none"][0][1]
    assert "RAY_STORAGE is not set" in told["no folder"][0][1]
    assert "did not answer" in told["away"][1][1]
    assert "does not accept RAY_TOKEN" in told["token"][1][1]
    assert told["well"] == [
        (Mark.OK, "available."),
        (Mark.OK, f"{head.url} answers with Ray 2.60.0; 1 worker for a run."),
    ]


def test_what_the_trainer_takes_is_taken_there_too() -> None:
    """It is the same trainer."""
    assert read_options("with=ray quantization=none rank=8")["with"] == "ray"
    assert replace(Cluster(address="http://ray:8265", token="secret")).workers == 1
    assert "secret" not in repr(Cluster(address="http://ray:8265", token="secret"))
