"""The whole way of a teacher's answers: asked, kept, frozen, learned, and said by the local model in other words' wake."""

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra [local] is not installed")

from collections.abc import AsyncIterator

from databases import TEAM, ask
from provider_standins import StandIn
from test_distilling import OLD, PEOPLE, TEACHER, agreed, api, carried_out, teaching  # noqa: F401

from bot.settings import STARTER
from storage.store import Store
from storage.values import Message, Proposal
from tests.benchmarks import bench_learning, stackfaq
from training import qlora, rundir
from training.datasets import freeze
from training.promotion import paired_bootstrap
from training.rundir import Job

pytestmark = pytest.mark.training
THREADS = 8


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(f"sqlite:///{tmp_path / 'apprentice.sqlite'}")
    while not (await opened.strike_again()).done:
        pass
    await opened.keepsake("split-salt", lambda: "salt")
    await opened.set_consent(TEAM, PEOPLE[0], True)
    yield opened
    await opened.close()


async def test_what_it_said_is_said_by_the_local_model(
    store: Store,
    api: StandIn,  # noqa: F811
    tmp_path: Path,
    shared_data: Path,
) -> None:
    """Nobody rated anything; token F1 on wordings that nobody asked rises, with an interval that leaves 0 out."""
    lines = [line for line in stackfaq.asked("train") if line["thread"] < THREADS]
    held_back = [line for line in stackfaq.asked("test") if line["thread"] < THREADS]
    for number, line in enumerate(lines):
        row = await ask(store, asker=PEOPLE[0], ts=f"{number + 1}.0", text=line["question"], place="channel")
        await store.answer(
            row, [Proposal("I do not know.", "local", "starter")], messages=[Message("user", row.text)]
        )
    knows = {line["question"]: line["short_answer"] for line in lines}
    api.says = lambda asked: knows.get(asked, "I cannot help with that.")
    async with teaching(store, api, tmp_path) as distilling:
        begun = await agreed(distilling)
        await carried_out(distilling)
    done = await store.distillation(begun.id)
    assert done is not None
    assert done.answered > len(lines) / 2
    frozen = await freeze(store, tmp_path / "datasets", team=TEAM, salt="salt")
    assert frozen.counts["test"] == 0
    assert frozen.counts["train"] > len(lines) / 2
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    rundir.write_job(run_dir, Job("run", str(STARTER), str(frozen.path), "", epochs=8.0, method="sft"))
    assert qlora.main([str(run_dir)]) == rundir.EXIT_DONE
    before, after = (
        bench_learning.f1s(bench_learning.answers(adapter, held_back), held_back)
        for adapter in (None, run_dir / rundir.ADAPTER)
    )
    gains = [more - less for more, less in zip(after, before, strict=True)]
    found = paired_bootstrap(gains, [str(line["thread"]) for line in held_back], seed=0)
    print(f"F1 gain {found.mean:.3f} [{found.interval.low:.3f}, {found.interval.high:.3f}]")
    assert found.interval.low > 0
