"""The nightly look at what people feed: reads everything once, in pages, and keeps what is odd (`training.guards`).

It decides nothing: what it finds is quarantined and told to the admins (`bot.slack.guards`), who do.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from storage.entries import question_hash
from storage.guarding import CLUSTER, TOPIC, FedEntry, Finding, Press
from storage.learnable import Learnable, Votes
from storage.records import now
from storage.store import Store
from training.guards import TOPIC_ROWS, Bursts, Rings, Topics, odd_raters
from training.raters import Raters, Weights
from training.triggers import Triggers

LOOKS_BACK = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look found, how many of these findings are new, and how far raters agree (`weights.agreement`)."""

    findings: tuple[Finding, ...]
    new: int
    weights: Weights


async def look(store: Store, team: str, *, at: datetime | None = None) -> Looked:
    """Look at everything, and keep what is odd in quarantine. `at` is the moment of the look (None: now)."""
    experts = await store.experts(team)
    clusters = await store.crowded_clusters(team, at_least=TOPIC_ROWS)
    ratings = _Ratings(Raters(experts))
    async for votes in store.votes_to_weigh(team):
        await asyncio.to_thread(ratings.votes, votes)
    async for presses in store.recent_presses(team, (at or now()) - LOOKS_BACK):
        await asyncio.to_thread(ratings.presses, presses)
    weights = ratings.raters.weigh()
    said = _Said(weights, Topics(experts), Triggers(experts), clusters)
    async for entries in store.fed_entries(team):
        await asyncio.to_thread(said.entries, entries)
    async for answers in store.learnable(team):
        await asyncio.to_thread(said.answers, answers)
    await _check(store, team, said)
    findings = (*ratings.findings(weights), *said.topics.findings(), *said.triggers.findings())
    return Looked(findings, await store.suspect(team, findings), weights)


async def _check(store: Store, team: str, said: "_Said") -> None:
    """What looks like a trigger is no trigger where anybody else uses the same words."""
    if not said.triggers.suspects():
        return
    async for entries in store.fed_entries(team):
        await asyncio.to_thread(said.entries_of_others, entries)
    async for answers in store.learnable(team):
        await asyncio.to_thread(said.answers_of_others, answers)


@dataclass
class _Ratings:
    """What is seen of raters."""

    raters: Raters
    rings: Rings = field(default_factory=Rings)
    bursts: Bursts = field(default_factory=Bursts)

    def votes(self, page: Sequence[Votes]) -> None:
        for each in page:
            self.raters.add(each.votes, each.asker)
            self.rings.add(each.votes, each.asker)

    def presses(self, page: Sequence[Press]) -> None:
        for each in page:
            self.bursts.add(each.rater, each.at)

    def findings(self, weights: Weights) -> list[Finding]:
        return [*odd_raters(weights), *self.rings.findings(), *self.bursts.findings()]


@dataclass
class _Said:
    """What is seen of topics and words."""

    weights: Weights
    topics: Topics
    triggers: Triggers
    clusters: Mapping[str, str]

    def entries(self, page: Sequence[FedEntry]) -> None:
        for each in page:
            key = "" if each.said_here else each.key
            self.topics.add(self._subjects(key, each.topic), (each.person,) if each.person else ())
            if each.person and not each.said_here:
                self.triggers.add(asker="", author=each.person, question=each.question, answer=each.answer)

    def answers(self, page: Sequence[Learnable]) -> None:
        for each in page:
            people: tuple[str, ...]
            if each.correction is not None:
                people = (each.corrector,)
                self.triggers.add(
                    asker=each.asker, author=each.corrector, question=each.question, answer=each.correction
                )
            else:
                label = self.weights.label(each.votes, each.asker)
                if label.value <= 0:
                    continue
                people = tuple(person for person, weight in self.weights.signed(each.votes) if weight > 0)
            key = question_hash(each.question)[:32] if self.clusters else ""
            self.topics.add(self._subjects(key, ""), people)

    def _subjects(self, key: str, topic: str) -> list[tuple[str, str]]:
        found = [(TOPIC, topic)] if topic else []
        return [*found, (CLUSTER, self.clusters[key])] if key in self.clusters else found

    def entries_of_others(self, page: Sequence[FedEntry]) -> None:
        for each in page:
            self.triggers.others(each.person, f"{each.question}\n{each.answer}")

    def answers_of_others(self, page: Sequence[Learnable]) -> None:
        for each in page:
            self.triggers.others(each.asker, each.question)
            self.triggers.others(each.asker, each.text)  # a model repeats what it was asked
            if each.correction is not None:
                self.triggers.others(each.corrector, each.correction)
