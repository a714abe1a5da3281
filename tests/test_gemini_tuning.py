"""Runs at Google: each ends in exactly one of succeeded, failed with a reason, and cancelled; none is paid twice."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.oauth2.credentials import Credentials
from tuning_place import ANN, TEAM, Case, Place, Step, fill, ordered_pairs
from vertex_standin import BUCKET, LEFT, LOCATION, PROJECT, RUBBISH, TOKEN, VertexServer, vertex

from bot.models.files import NotDeleted
from bot.models.gemini_files import GeminiFiles
from storage.errors import PublicError
from storage.records import RunState
from storage.store import Store
from training.finetuners.bucket import Buckets, Pass
from training.finetuners.gemini import GeminiFineTuner, GeminiTuning
from training.finetuners.shipment import pack
from training.fitness import provider_problems
from training.runs import Declined

HOME = f"projects/{PROJECT}/locations/{LOCATION}"


GOOGLES: Any = Credentials  # its constructor has no types


def terms(server: VertexServer, **rules: Any) -> GeminiTuning:
    told = {"usd_per_1m": 1.0, "confirm_usd": 5.0, "timeout_s": 1.0, "look_every_s": 0.0, **rules}
    usual = GeminiTuning(
        project=PROJECT, location=LOCATION, bucket=BUCKET, model="gemini-3.5-flash-lite",
        credentials=GOOGLES(token=TOKEN), base_url=server.url, storage_url=server.url,
    )  # fmt: skip
    return replace(usual, **told)


@asynccontextmanager
async def place(
    store: Store, folder: Path, *, name: str = "test", **rules: Any
) -> AsyncIterator[Place[VertexServer]]:
    async with vertex() as server:
        told = terms(server, **rules)
        yield Place(store, folder, server, lambda: GeminiFineTuner(store, team=TEAM, rules=told), name=name)


def to(state: str, **changes: Any) -> Step:
    return lambda server: server.move(state, **changes)


GOOD = (to("RUNNING"), to("SUCCEEDED"))
WRONG = {"code": 3, "message": "Row 7 has no user turn."}
QUOTA = "Quota exceeded for aiplatform.googleapis.com/global_concurrent_tuning_jobs."
BUSY = "Resource has been exhausted (e.g. check quota)."
PER_MINUTE = "Quota exceeded for quota metric 'Tuning requests' and limit 'Tuning requests per minute'."

CASES = [
    Case("success", GOOD),
    Case("success in part", (to("PARTIALLY_SUCCEEDED"),)),
    Case("failure", (to("FAILED", error=WRONG),), ends="failed", why="Row 7 has no user turn"),
    Case("cancelled there", (to("CANCELLING"), to("CANCELLED")), ends="cancelled", why="cancelled at Google"),
    Case("expired", (to("EXPIRED"),), ends="failed", why="expired"),
    Case("paused, then resumed", (to("PAUSED"), *GOOD)),
    Case("unknown state", (to("MULLING_IT_OVER"), *GOOD)),
    Case("succeeded, endpoint named later", (to("SUCCEEDED", tunedModel={"model": "m"}), *GOOD)),
    Case("500 after creation", GOOD, fails=(("create", (-500,)),)),
    Case("503 before creation", GOOD, fails=(("create", (503,)),), posts=2),
    Case("hangs at creation", GOOD, fails=(("create", (0,)),), posts=2),
    Case("rubbish after creation", GOOD, fails=(("create", (RUBBISH,)),)),
    Case("500 after upload", GOOD, fails=(("upload", (-500,)),)),
    Case("hangs while it is looked at", GOOD, fails=(("retrieve", (0, 500, 429)),)),
    Case("permission denied", GOOD, fails=(("create", (403,)),), ends="failed", why="Vertex AI User", jobs=0),
    Case("bucket denied", GOOD, fails=(("upload", (403,)),), ends="failed", why="use the bucket", jobs=0, posts=0),
    Case("quota", GOOD, fails=(("create", (429,)),), said=QUOTA, ends="failed", why="quota is used up", jobs=0),
    Case("quota of a minute", GOOD, fails=(("create", (429,)),), said=PER_MINUTE, posts=2),
    Case("too busy", GOOD, fails=(("create", (429, 429)),), said=BUSY, posts=3),
    Case("key taken away meanwhile", GOOD, fails=(("retrieve", (401, 200)),)),
    Case("job is gone", (lambda server: server.jobs.clear(),), ends="failed", why="was not found", jobs=0),
    Case("deleting fails", GOOD, fails=(("delete", (500, 500)),)),
]  # fmt: skip


async def test_every_ending_is_one_and_no_job_is_paid_twice(
    store: Store, tmp_path: Path, capsys: Any
) -> None:
    """The bot is killed after every single look, and still each run ends once, in one way, with one job at most."""
    await fill(store, tmp_path)
    lines = []
    for case in CASES:
        async with place(store, tmp_path, name=case.name) as here:
            server = here.server
            server.fails = {what: list(statuses) for what, statuses in case.fails}
            server.says = case.said
            run = await here.follow(await here.ask(**{"with": "gemini"}), *case.steps)
            assert run.state.final, (case.name, run.progress)
            assert (run.outcome, case.why in run.reason) == (case.ends, True), (case.name, run.reason)
            assert (len(server.jobs), len(server.orders)) == (case.jobs, case.posts), case.name
            assert len(here.endings()) == 1, case.name
            fresh = [each for each in await store.models(TEAM) if each.run_id == run.id]
            made = [f"{HOME}/endpoints/1"] if case.ends == "promote" else []
            assert [each.model for each in fresh] == made, case.name
            open_files = await store.provider_files(TEAM)
            assert sorted(server.lying()) == sorted(each.file_id for each in open_files), case.name
            assert all(each.deletion_due_at for each in open_files), case.name
            assert bool(open_files) == (case.name in {"deleting fails", "job is gone"}), case.name
            for each in open_files:
                await store.provider_file_gone(each.id)
            lines.append(f"{case.name:32} {run.outcome:10} {len(server.orders)} orders, 1 ending")
    with capsys.disabled():
        print(f"\nRuns at Google, the bot killed after each look: {len(lines)} of {len(CASES)} end once")
        print("\n".join(lines))


KILLS = [
    ("list", 0),
    ("upload", 0),
    ("upload", LEFT),
    ("create", 0),
    ("create", LEFT),
    ("retrieve", 0),
    ("delete", LEFT),
]


async def test_a_bot_that_is_killed_while_it_waits_is_followed_by_one_that_goes_on(
    store: Store, tmp_path: Path
) -> None:
    """In the middle of every request, before and after Google did what it was asked: one job, one ending, nothing left."""
    await fill(store, tmp_path)
    for what, when in KILLS:
        case = f"{what} {when}"
        async with place(store, tmp_path, name=case, timeout_s=30.0) as here:
            run, server = await here.ask(), here.server
            server.fails = {what: [when]}
            if what == "delete":
                while not server.jobs:
                    await here.tick()
                server.move("SUCCEEDED")
            await here.die_at(server.hangs)
            run = await here.follow(run, to("SUCCEEDED"))
            assert (run.outcome, len(server.jobs), len(here.endings())) == ("promote", 1, 1), case
            assert (server.lying(), await store.provider_files(TEAM)) == ([], []), case
            assert sum(each.run_id == run.id for each in await store.models(TEAM)) == 1, case


async def test_what_is_sent_is_what_was_agreed(store: Store, tmp_path: Path) -> None:
    """Supervised, with validation, labels and the run's id; the held-out side never leaves; then nothing lies there."""
    await fill(store, tmp_path)
    async with place(store, tmp_path) as here:
        run = await here.follow(await here.ask(epochs=2.0), *GOOD)
        (order,) = here.server.orders
        assert order["baseModel"] == "gemini-3.5-flash-lite"
        spec = order["supervisedTuningSpec"]
        train = f"gs://{BUCKET}/apprentice/{run.id}-train.jsonl"
        assert spec["trainingDatasetUri"] == train
        assert spec["validationDatasetUri"] == train.replace("-train", "-validation")
        assert int(spec["hyperParameters"]["epochCount"]) == 2
        assert order["labels"]["apprentice-run"] == run.id
        assert order["tunedModelDisplayName"] == f"apprentice-{run.number}"
        rows = [json.loads(line) for line in here.server.contents[train].splitlines()]
        assert len(rows) == run.progress["counts"]["train"]
        assert {part["role"] for row in rows for part in row["contents"]} == {"user", "model"}
        assert run.dataset_id is not None
        dataset = await store.dataset(run.dataset_id)
        assert dataset is not None
        held_out = [json.loads(line) for line in (Path(dataset.path) / "test.jsonl").read_text().splitlines()]
        sent = b"".join(here.server.contents.values()).decode()
        assert held_out
        assert not any(json.dumps(row["messages"][-2]["content"])[1:-1] in sent for row in held_out)
        (version,) = await store.models(TEAM)
        assert (version.kind, version.path, version.name) == ("gemini", "", f"gemini-{run.number}")
        assert (version.model, version.base_model) == (f"{HOME}/endpoints/1", "gemini-3.5-flash-lite")
        assert version.card["trained_tokens"] == 4321 * 2
        assert version.card["cost_usd"] == pytest.approx(4321 * 2 / 1e6)
        assert version.card["checkpoints"] == [{"model": f"{HOME}/endpoints/601", "step": 6}]
        assert here.server.lying() == []


async def test_preferences_are_tuned_as_preferences(store: Store, tmp_path: Path) -> None:
    """The better answer has the score 1, and Google is told that it is preference tuning."""
    order = ordered_pairs(tmp_path)
    async with vertex() as server:
        tuner = GeminiFineTuner(store, team=TEAM, rules=terms(server))
        handle = await tuner.launch(order)
        (sent,) = server.orders
        assert "supervisedTuningSpec" not in sent
        spec = sent["preferenceOptimizationSpec"]
        row = json.loads(server.contents[spec["trainingDatasetUri"]].splitlines()[0])
        scores = {each["completion"]["parts"][0]["text"]: each["score"] for each in row["completions"]}
        assert scores["No idea."] == 0
        assert sorted(scores.values()) == [0, 1]
        assert await tuner.launch(order) == handle
        server.move("SUCCEEDED")
        done: Any = await tuner.poll(handle)
        assert (done.model, done.card["method"]) == (f"{HOME}/endpoints/1", "dpo")
        assert len(server.jobs) == 1
        assert server.lying() == []
        await tuner.close()


def test_no_more_is_held_out_than_google_takes(tmp_path: Path) -> None:
    """At most 30 % of all rows; OpenAI gets all of them."""
    order = ordered_pairs(tmp_path, held_out=40)
    counts = {}
    for vendor in ("vertex", "openai"):
        shipment = pack(order.dataset_path, vendor=vendor, asked="dpo")
        counts[vendor] = (shipment.validation.count(b"\n"), shipment.held_out)
        if vendor == "vertex":
            assert provider_problems({"train": 12, "validation": shipment.held_out}, vendor) == []
    assert counts == {"vertex": (5, 5), "openai": (40, 40)}


async def test_the_job_is_found_among_hundreds(store: Store, tmp_path: Path) -> None:
    """Also on the third page of what others ordered, by the name of its file where somebody took its labels away."""
    await fill(store, tmp_path)
    async with place(store, tmp_path) as here:
        others = {
            f"{HOME}/tuningJobs/9{number}": {
                "name": f"{HOME}/tuningJobs/9{number}", "state": "JOB_STATE_FAILED", "baseModel": "other",
            }
            for number in range(230)
        }  # fmt: skip
        here.server.jobs.update(others)
        here.server.fails = {"create": [-500]}
        run = await here.ask()
        while not here.server.orders:
            await here.tick()
        here.server.jobs[next(reversed(here.server.jobs))].pop("labels")
        run = await here.follow(run, *GOOD)
        assert (run.outcome, len(here.server.orders)) == ("promote", 1)


@pytest.mark.parametrize("late", [False, True])
async def test_cancelling_reaches_a_job_that_nobody_heard_of(
    store: Store, tmp_path: Path, late: bool
) -> None:
    """Also where creating it was answered 500: the job is found and cancelled, and the run ends once."""
    await fill(store, tmp_path)
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
        assert [each["state"] for each in here.server.jobs.values()] == ["JOB_STATE_CANCELLED"]
        assert here.server.lying() == []


async def test_nothing_is_uploaded_before_somebody_agrees(store: Store, tmp_path: Path) -> None:
    """Over the limit the run waits with the estimate at Google's own price."""
    await fill(store, tmp_path)
    async with place(store, tmp_path, confirm_usd=0.0) as here:
        run = await here.ask()
        for _ in range(4):
            await here.tick()
        waiting = await store.run(run.id)
        assert waiting is not None
        assert waiting.state is RunState.TRAINING
        assert "Nothing is uploaded yet" in waiting.awaiting
        assert here.server.contents == {}
        runs, tuner = here.bot()
        assert await runs.confirm(waiting, by=ANN)
        await tuner.close()
        assert (await here.follow(waiting, *GOOD)).outcome == "promote"


async def test_a_bucket_that_is_not_there(store: Store, tmp_path: Path) -> None:
    """The run fails with the remedy, and no job is ordered."""
    await fill(store, tmp_path)
    async with place(store, tmp_path, bucket="gs://typo") as here:
        run = await here.follow(await here.ask())
        assert run.outcome == "failed"
        assert run.reason.startswith("There is no bucket typo (The specified bucket does not exist.).")
        assert "TRAIN_GEMINI_BUCKET" in run.reason
        assert here.server.orders == []


async def test_the_machines_own_credentials_are_used(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service account's key file is exchanged for a token once, for the bucket and for the jobs."""
    async with vertex() as server:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        plain = serialization.NoEncryption()
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        account = {
            "type": "service_account", "project_id": PROJECT, "private_key_id": "1", "private_key": pem.decode(),
            "client_email": "apprentice@acme.example", "client_id": "1", "token_uri": f"{server.url}/token",
        }  # fmt: skip
        (tmp_path / "key.json").write_text(json.dumps(account))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
        tuner = GeminiFineTuner(store, team=TEAM, rules=terms(server, credentials=None))
        handle = await tuner.launch(ordered_pairs(tmp_path))
        await tuner.close()
        assert list(server.jobs) == [handle]
        assert server.exchanged == 1


async def test_without_credentials_the_remedy_is_said(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent, and the next night does not ask again."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "gone.json"))
    async with vertex() as server:
        tuner = GeminiFineTuner(store, team=TEAM, rules=terms(server, credentials=None))
        with pytest.raises(PublicError, match="gcloud auth application-default login"):
            await tuner.launch(ordered_pairs(tmp_path))
        assert "GOOGLE_APPLICATION_CREDENTIALS" in await tuner.available()
        await tuner.close()
        assert server.contents == {}


async def test_the_forgetting_deletes_objects() -> None:
    """What is gone is gone, what is refused is said, and an upload under the same name is no new object."""
    async with vertex() as server:
        mine, uri = Pass(GOOGLES(token=TOKEN)), f"gs://{BUCKET}/apprentice/a run-train.jsonl"
        buckets = Buckets(mine, url=server.url)
        for content in (b"first", b"second"):
            await buckets.write(uri, content)
        await buckets.close()
        assert server.buckets[BUCKET] == {"apprentice/a run-train.jsonl": b"second"}
        shelf = GeminiFiles(credentials=mine, url=server.url)
        server.fails = {"delete": [403]}
        with pytest.raises(NotDeleted, match="Google answered 403: planned to fail"):
            await shelf.delete(uri)
        for _ in range(2):
            await shelf.delete(uri)
        assert server.lying() == []
        await shelf.close()
    shelf = GeminiFiles(credentials=mine, url=server.url)
    with pytest.raises(NotDeleted, match="could not be reached"):
        await shelf.delete(uri)
    await shelf.close()


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ({"project": ""}, "GEMINI_VERTEX_PROJECT"),
        ({"location": "global"}, "TRAIN_GEMINI_LOCATION"),
        ({"bucket": ""}, "TRAIN_GEMINI_BUCKET"),
        ({"model": ""}, "TRAIN_GEMINI_MODEL"),
        ({"usd_per_1m": None, "budget": True}, "TRAIN_GEMINI_USD_PER_1M"),
    ],
)
async def test_what_is_not_set_is_said_before_anything_is_asked(
    store: Store, tmp_path: Path, rules: dict[str, Any], why: str
) -> None:
    """Also to somebody who insists."""
    server = VertexServer(url="http://127.0.0.1:9")
    tuner = GeminiFineTuner(store, team=TEAM, rules=terms(server, **rules))
    assert why in await tuner.available()
    assert why in await tuner.available(insist=True)
    await tuner.close()


async def test_a_refused_account_is_not_asked_every_night(store: Store, tmp_path: Path) -> None:
    """The next scheduled run is declined without a request; somebody who insists is let through, and that settles it."""
    await fill(store, tmp_path)
    async with place(store, tmp_path) as here:
        here.server.fails = {"create": [403]}
        await here.follow(await here.ask())
        runs, tuner = here.bot()
        nightly = await runs.request(by="schedule", occasion="night", options={"scheduled": True})
        assert isinstance(nightly, Declined)
        assert "does not let this account train" in nightly.reason
        await tuner.close()
        assert (await here.follow(await here.ask(**{"with": "gemini"}), *GOOD)).outcome == "promote"
        assert await here.make().available() == ""
