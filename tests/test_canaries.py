"""A canary answers its share of the threads through the desk, and goes back by itself when people dislike it."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from desk_rig import HELP, TEAM, LocalMachine, Office, Speaker, office

from bot.canaries import BY_ITSELF, BY_SETTING, Canaries, CanaryRules, read_promotion
from bot.errors import ModelUnavailable, PublicError
from bot.models import OnText
from bot.serving import Fallen, Serving, in_canary
from storage.records import Canary, CanaryState, ModelVersion, RunState, now
from storage.store import Store
from storage.values import Message, Proposal
from training.canary import CanaryTerms, Tally
from training.kept_adapters import WEIGHTS

TERMS = CanaryTerms(enough=25, fewest=5)


class TwoVoices(LocalMachine):
    """An engine whose versions say their own names; one may be unable to answer or to load."""

    dumb: str = ""

    async def answer(
        self,
        messages: Sequence[Message],
        *,
        version_id: str | None,
        on_text: OnText | None = None,
        max_new_tokens: int | None = None,
    ) -> Proposal:
        if version_id is not None and version_id == self.dumb:
            raise ModelUnavailable("it broke")
        return Proposal(
            f"{version_id or 'base'} says yes.", "local", self.label, version_id=version_id, logprobs=(-0.1,)
        )


@dataclass
class Told:
    """The admin channel, as far as canaries go."""

    standing: list[Tally] = field(default_factory=list)
    ends: list[tuple[str, str]] = field(default_factory=list)
    fallen: list[Fallen] = field(default_factory=list)

    async def goes_on(self, canary: Canary, tally: Tally) -> None:
        self.standing.append(tally)

    async def ended(self, canary: Canary, tally: Tally) -> str:
        self.ends.append((canary.state.value, canary.reason))
        return "1.0"

    async def fell(self, fallen: Fallen) -> None:
        self.fallen.append(fallen)


@dataclass
class Place:
    """A desk, two versions of the local model, and canaries as two replicas see them."""

    office: Office
    serving: Serving
    folder: Path
    told: Told = field(default_factory=Told)
    later: timedelta = timedelta()
    lines: int = 0

    @property
    def store(self) -> Store:
        return self.office.store

    def replica(self, name: str = "w1", **rules: object) -> Canaries:
        chosen = replace(CanaryRules(share=0.5, terms=TERMS), **rules)  # type: ignore[arg-type]
        canaries = Canaries(self.store, self.serving, team=TEAM, worker=name, rules=chosen, clock=self._now)
        canaries.teller = self.told
        return canaries

    def _now(self) -> datetime:
        return now() + self.later

    async def version(self, name: str) -> ModelVersion:
        weights = f"weights of {name}".encode()
        home = self.folder / "models" / sha256(weights).hexdigest()
        home.mkdir(parents=True)
        (home / WEIGHTS).write_bytes(weights)
        return await self.store.register_model(
            team=TEAM,
            name=name,
            base_model="starter",
            path=str(home),
            sha256=home.name,
            run_id=None,
            dataset_id=None,
            card={},
        )

    async def asks(
        self, times: int, liked: dict[str | None, float], *, via: str = "button"
    ) -> list[str | None]:
        """So many people ask, each in a thread of their own, and rate; who answered. `liked` is the share by version."""
        answered = []
        for _ in range(times):
            question = await self.office.asked()
            said = await self.office.desk.answer(question)
            await self.store.posted(said.answer.id, f"9{question.ts}")
            version = said.candidate.version_id
            self.lines += 1
            # Evenly, not by chance: of ten answers of a version eight are liked where the share is 0.8.
            happy = (self.lines * 7) % 10 < 10 * liked[version]
            await self.store.rate(
                said.answer.id, team=TEAM, rater=f"U{self.lines}", value=1 if happy else -1, via=via
            )
            answered.append(version)
        return answered


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    store = await Store.open(f"sqlite:///{tmp_path / 'apprentice.sqlite'}")
    here = office(store, tmp_path)
    engine = TwoVoices(Speaker())
    serving = here.desk.panel._serving
    serving._engine = engine
    yield Place(here, serving, tmp_path)
    await store.close()


async def two(place: Place) -> tuple[ModelVersion, ModelVersion]:
    """A version that serves, and a new one."""
    current, challenger = await place.version("local-1"), await place.version("local-2")
    await place.serving.promote(current, by="U1", decision="first", reason="better")
    return current, challenger


async def test_a_canary_that_people_dislike_goes_back_by_itself(place: Place) -> None:
    """Who answered is kept, the tally convicts it, one of two replicas ends it, and it is told once."""
    current, challenger = await two(place)
    one, other = place.replica("w1"), place.replica("w2")
    canary, new = await one.begin(challenger, by="U1")
    assert new
    liked: dict[str | None, float] = {challenger.id: 0.2, current.id: 0.9}
    answered: list[str | None] = []
    for _ in range(12):
        answered += await place.asks(8, liked)
        await one.tick()
        await other.tick()
        if place.told.ends:
            break
    assert set(answered) == {current.id, challenger.id}
    assert 0.3 < answered.count(challenger.id) / len(answered) < 0.7
    ((state, reason),) = place.told.ends
    assert state == "rolled back"
    assert "it is rated worse" in reason
    row = await place.store.canary_by_id(canary.id)
    assert row is not None
    assert (row.state, row.ended_by) == (CanaryState.ROLLED_BACK, BY_ITSELF)
    assert Tally.from_json(row.tally).odds >= 20
    newest = await place.store.newest_promotion(TEAM)
    assert newest is not None
    assert newest.version_id == current.id
    assert set(await place.asks(10, liked)) == {current.id}
    await place.replica("w3").tick()
    assert len(place.told.ends) == 1


async def test_a_canary_that_is_as_good_passes_and_waits_for_an_admin(place: Place) -> None:
    """Seen enough without harm: it asks, goes on in its share, and one press lets it answer everywhere."""
    current, challenger = await two(place)
    canaries = place.replica()
    await canaries.begin(challenger, by="U1")
    liked: dict[str | None, float] = {challenger.id: 0.8, current.id: 0.8}
    for _ in range(20):
        await place.asks(5, liked, via="solicited")
        await canaries.tick()
        watched = await place.store.canary(TEAM)
        assert watched is not None
        if watched.passed_at:
            break
    assert watched is not None
    assert watched.passed_at is not None
    assert "without a sign of harm" in watched.reason
    assert place.told.standing[-1].canary.asked >= 25
    assert await canaries.promote(watched, by="U2")
    assert not await canaries.promote(watched, by="U3")
    assert [each.decision for each in await place.store.promotions(TEAM)] == ["first", f"canary:{watched.id}"]
    assert set(await place.asks(6, {challenger.id: 0.8})) == {challenger.id}
    await canaries.tick()
    assert [state for state, _ in place.told.ends] == ["promoted"]


async def test_with_auto_it_is_begun_and_promoted_by_itself(place: Place) -> None:
    """A run whose verdict is to promote begins a canary once; passed, it is promoted; by the setting, and it says so."""
    current, challenger = await two(place)
    await finished_run(place, challenger, current)
    canaries = place.replica(promote="auto")
    await canaries.tick()
    await place.replica("w2", promote="auto").tick()
    (canary,) = await place.store.canaries(TEAM)
    assert (canary.started_by, canary.version_id) == (BY_SETTING, challenger.id)
    for _ in range(20):
        await place.asks(6, {challenger.id: 0.8, current.id: 0.8})
        await canaries.tick()
        if place.told.ends:
            break
    assert [state for state, _ in place.told.ends] == ["promoted"]
    newest = await place.store.newest_promotion(TEAM)
    assert newest is not None
    assert (newest.version_id, newest.by) == (challenger.id, BY_SETTING)
    await canaries.tick()
    assert len(await place.store.canaries(TEAM)) == 1


async def finished_run(place: Place, version: ModelVersion, current: ModelVersion) -> None:
    run = (await place.store.request_run(team=TEAM, occasion="x", by="U1", options={})).run
    evaluation = await place.store.request_evaluation(
        team=TEAM, by="U1", challenger_id=version.id, current_id=current.id, dataset_id=None, run_id=run.id
    )
    await place.store.advance_run(
        run,
        RunState.DONE,
        version_id=version.id,
        evaluation_id=evaluation.id,
        outcome="promote",
        reason="better",
    )


async def test_with_ask_nothing_happens_by_itself(place: Place) -> None:
    """The default: a verdict is a report, and people decide."""
    current, challenger = await two(place)
    await finished_run(place, challenger, current)
    await place.replica().tick()
    assert await place.store.canaries(TEAM) == []


async def test_too_few_ratings_end_it_and_ask(place: Place) -> None:
    """After the days that were agreed it is over without a result, which is said, and nothing was promoted."""
    current, challenger = await two(place)
    canaries = place.replica()
    await canaries.begin(challenger, by="U1")
    await place.asks(4, {challenger.id: 0.8, current.id: 0.8})
    place.later = timedelta(days=15)
    await canaries.tick()
    ((state, reason),) = place.told.ends
    assert state == "stopped"
    assert "after 14 days only" in reason
    assert set(await place.asks(6, {current.id: 0.8})) == {current.id}


async def test_a_canary_that_cannot_answer_goes_back_by_its_failures(place: Place) -> None:
    """Failures count against it; where it cannot even be loaded, what serves answers in its threads."""
    current, challenger = await two(place)
    canaries = place.replica()
    await canaries.begin(challenger, by="U1")
    place.serving._engine.dumb = challenger.id  # type: ignore[attr-defined]
    failed = 0
    for _ in range(12):
        question = await place.office.asked()
        try:
            said = await place.office.desk.answer(question)
            assert said.candidate.version_id == current.id
        except PublicError:
            failed += 1
    assert failed >= 3
    await canaries.tick()
    ((state, reason),) = place.told.ends
    assert state == "rolled back"
    assert "it failed to answer" in reason


async def test_files_that_changed_do_not_answer(place: Place) -> None:
    """A canary with other weights than were trained is not used, and a promoted version gives way to the one before."""
    current, challenger = await two(place)
    (Path(challenger.path) / WEIGHTS).write_bytes(b"something else")
    canaries = place.replica()
    with pytest.raises(PublicError, match="not those that were trained"):
        await canaries.begin(challenger, by="U1")
    await place.store.promote(team=TEAM, decision="d2", version_id=challenger.id, by="U1", reason="by hand")
    assert set(await place.asks(3, {current.id: 0.8})) == {current.id}
    for name in ("w1", "w2"):
        await place.replica(name).tick()
    (fallen,) = place.told.fallen
    assert (fallen.version.name, fallen.answers) == ("local-2", "local-1")
    (Path(challenger.path) / WEIGHTS).write_bytes(b"weights of local-2")
    assert set(await place.asks(3, {challenger.id: 0.8})) == {challenger.id}


async def test_what_learned_from_the_forgotten_is_no_canary(place: Place) -> None:
    """Not to begin with, and not any more once it is marked; until it is ended nobody is answered by it."""
    current, challenger = await two(place)
    canaries = place.replica()
    await canaries.begin(challenger, by="U1")
    await place.store.taint_models([challenger.id], "learned from what was forgotten")
    assert set(await place.asks(8, {current.id: 0.8})) == {current.id}
    await canaries.tick()
    ((state, reason),) = place.told.ends
    assert (state, reason) == ("stopped", "it learned from what was forgotten")
    marked = await place.store.model(challenger.id)
    assert marked is not None
    with pytest.raises(PublicError, match="cannot become a canary"):
        await canaries.begin(marked, by="U1")


async def test_another_promotion_ends_it(place: Place) -> None:
    """There is nothing to compare with any more; promoted by name it is promoted."""
    _, challenger = await two(place)
    canaries = place.replica()
    await canaries.begin(challenger, by="U1")
    await place.serving.promote(await place.version("local-3"), by="U2", decision="d3", reason="by name")
    await canaries.tick()
    assert "something else was promoted" in place.told.ends[0][1]
    await canaries.begin(challenger, by="U1")
    await place.serving.promote(challenger, by="U2", decision="d4", reason="by name")
    await canaries.tick()
    assert place.told.ends[1] == ("promoted", "by name")


async def test_a_thread_stays_with_its_model(place: Place) -> None:
    """The same thread, the same side, whoever looks; another canary draws anew; the share is kept."""
    canary = Canary(team=TEAM, share=0.2, started_by="U1", decision="d")
    other = Canary(team=TEAM, share=0.2, started_by="U1", decision="e")
    threads = [f"{HELP}/{number}.0" for number in range(3_000)]
    drawn = [in_canary("salt", canary, thread) for thread in threads]
    assert drawn == [in_canary("salt", canary, thread) for thread in threads]
    assert 0.17 < sum(drawn) / len(drawn) < 0.23
    both = sum(a and in_canary("salt", other, thread) for a, thread in zip(drawn, threads, strict=True))
    assert both / len(threads) < 0.07


@pytest.mark.parametrize("share", [0.0, 0.6, -1.0])
async def test_a_share_is_a_share(place: Place, share: float) -> None:
    """More than half of the threads is no canary."""
    _, challenger = await two(place)
    with pytest.raises(PublicError, match="To let a model answer"):
        await place.replica().begin(challenger, by="U1", share=share)


def test_how_a_canary_is_asked_for_by_name() -> None:
    """The name, and after it `canary` or `canary=0.1`; anything else is not understood."""
    assert read_promotion("local-3") == ("local-3", None)
    assert read_promotion("local-3 canary") == ("local-3", 0.0)
    assert read_promotion(" local-3  canary=0.1 ") == ("local-3", 0.1)
    for words in ("local-3 now", "local-3 canary=much", "local-3 canary=-1"):
        with pytest.raises(PublicError, match="I do not understand"):
            read_promotion(words)
