"""Which two answers are worth a duel, and how a duel ends.

What is compared, when a duel is over and who won are pure functions; `Dueling` asks the two. It stores nothing and knows
nothing of Slack.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import structlog

from bot import routing
from bot.desk import TOO_SLOW, Desk
from bot.errors import ModelUnavailable, PublicError
from bot.models.memory import Memory, MemoryModel, NearestMemory
from bot.panel import Case, Said
from bot.serving import Serving
from bot.settings import Policy
from storage.records import ChannelSettings, ModelVersion, Question
from storage.store import Store
from storage.values import Message, Proposal

ASKED, SAMPLED = "asked", "sampled"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Draw:
    """Why there is a duel: somebody `asked` for it, or it was `sampled` with this probability."""

    origin: str
    probability: float = 1.0


@dataclass(frozen=True, slots=True)
class Arm:
    """One that may answer: a kind of model and, for the local model, which version of it ("" for the untuned base)."""

    kind: str
    version_id: str = ""


@dataclass(frozen=True, slots=True)
class Available:
    """Who could answer a question. `current` and `challenger` are ids of versions; "" is the base, None is no challenger."""

    apis: Sequence[str] = ()
    local: bool = True
    current: str = ""
    challenger: str | None = None
    verified: bool = False
    api_first: bool = False


class Comparison(StrEnum):
    """What came of asking two: `two` answers, two that are `alike`, or one who was `alone`."""

    TWO = "two"
    ALIKE = "alike"
    ALONE = "alone"


@dataclass(frozen=True, slots=True)
class Compared:
    """The proposals, the one in front that would have been posted without a duel, with the `messages` its model read.

    None at all where there was nothing to compare: then the desk answers as it does without duels.
    """

    comparison: Comparison
    proposals: tuple[Proposal, ...] = ()
    messages: tuple[Message, ...] = ()


def pairs(there: Available) -> list[tuple[Arm, Arm]]:
    """The comparisons that can be made, the one that teaches most first; in each, who answers without a duel first.

    What serves is compared with an API model, else with the newest challenger, else with the base it came from, and at
    last with the nearest verified answer.
    """
    serving = Arm(routing.LOCAL, there.current)
    apis = [Arm(kind) for kind in there.apis]
    found: list[tuple[Arm, Arm]] = []
    if there.local:
        found += [(api, serving) if there.api_first else (serving, api) for api in apis]
        if there.challenger is not None:
            found.append((serving, Arm(routing.LOCAL, there.challenger)))
        if there.current:
            found.append((serving, Arm(routing.LOCAL)))
    found += itertools.pairwise(apis)
    if there.verified:
        found += [(arm, Arm(routing.MEMORY)) for arm in ([serving] if there.local else []) + apis]
    return found


def newest_challenger(
    versions: Sequence[ModelVersion], *, promoted: Collection[str], current: ModelVersion | None
) -> ModelVersion | None:
    """The newest version that never served, made after what serves now, and not marked. `versions` are oldest first."""
    for version in reversed(versions):
        if current is not None and version.registered_at <= current.registered_at:
            return None
        if version.id not in promoted and not version.tainted:
            return version
    return None


def alike(a: str, b: str) -> bool:
    """Whether two answers differ in nothing but case and spacing."""
    return a.casefold().split() == b.casefold().split()


def outcome(picks: Iterable[str]) -> str:
    """What most picked; equal counts are a tie, and no pick is ""."""
    ranked = Counter(picks).most_common(2)
    if not ranked:
        return ""
    level = len(ranked) == 2 and ranked[0][1] == ranked[1][1]
    return "tie" if level else ranked[0][0]


class Dueling:
    """Asks the two."""

    def __init__(
        self,
        store: Store,
        desk: Desk,
        *,
        serving: Serving,
        memory: Memory,
        deadline_s: float,
    ) -> None:
        self._store = store
        self._desk = desk
        self._serving = serving
        self._memory = memory
        self._deadline_s = deadline_s

    def refusal(self, text: str) -> str | None:
        """Why a question cannot be asked, in words for its asker; None if it can."""
        return self._desk.refusal(text)

    async def verified(self, question: Question) -> bool:
        """Whether memory is near-certain: then there is nothing to try out on people."""
        turns = await self._desk.turns(question)
        if len(turns) > 1:
            return False
        try:
            await MemoryModel(self._memory).answer(turns)
        except ModelUnavailable:
            return False
        return True

    async def compare(self, question: Question, settings: ChannelSettings) -> Compared:
        """Two complete answers to one conversation, or what there is instead. Raises PublicError where nobody is in time."""
        case = await self._desk.case(question, await self._desk.turns(question), settings)
        table = _Table(self, case)
        wanted = pairs(await self._available(case))
        try:
            async with asyncio.timeout(self._deadline_s):
                return await table.compare(wanted)
        except TimeoutError:
            if not table.first_of(wanted):
                raise PublicError(TOO_SLOW) from None
            return table.alone(wanted)

    def rate(self, settings: ChannelSettings) -> float:
        """The share of a channel's questions that become duels: all of them where the policy is to."""
        if not settings.feedback:
            return 0.0
        return 1.0 if self._desk.policy(settings) is Policy.DUEL else settings.duel_rate

    async def _available(self, case: Case) -> Available:
        team = case.question.team
        plan = self._desk.plan(case)
        current = await self._store.current(team)
        promoted = {each.version_id for each in await self._store.promotions(team) if each.version_id}
        challenger = newest_challenger(await self._store.models(team), promoted=promoted, current=current)
        return Available(
            apis=tuple(kind for kind in plan.order if kind in routing.APIS),
            local=routing.LOCAL in plan.order,
            current=current.id if current else "",
            challenger=challenger.id if challenger else None,
            verified=len(case.turns) == 1 and bool(case.near),
            api_first=self._desk.policy(case.channel) is Policy.API_FIRST,
        )

    async def ask(self, arm: Arm, case: Case) -> Said:
        """One arm's answer and what it read. Raises ModelUnavailable where it has none."""
        if arm.kind == routing.MEMORY:
            said = Said(await NearestMemory(self._memory).answer(case.turns), case.turns)
        elif arm.kind == routing.LOCAL:
            version = await self._store.model(arm.version_id) if arm.version_id else None
            read = tuple(self._desk.panel.messages(arm.kind, case))
            proposal = await (await self._serving.version(version)).answer(read)
            said = Said(self._desk.judge.seen(case, proposal), read)
        else:
            said = await self._desk.panel.ask(arm.kind, case, purpose="duel")
        if not said.proposal.text.strip():
            raise ModelUnavailable(f"{said.proposal.model} gave an empty answer")
        return said


class _Table:
    """The answers to one question so far, each arm asked once."""

    def __init__(self, dueling: Dueling, case: Case) -> None:
        self._dueling = dueling
        self._case = case
        self._said: dict[Arm, Said | None] = {}

    async def compare(self, wanted: Sequence[tuple[Arm, Arm]]) -> Compared:
        for first, second in wanted:
            await asyncio.gather(self._ask(first), self._ask(second))
            one, other = self._said[first], self._said[second]
            if one is not None and other is not None:
                same = alike(one.proposal.text, other.proposal.text)
                both = (one.proposal, other.proposal)
                return Compared(Comparison.ALIKE if same else Comparison.TWO, both, one.messages)
        return self.alone(wanted)

    def alone(self, wanted: Sequence[tuple[Arm, Arm]]) -> Compared:
        """What there is where no two answers are."""
        known = self.first_of(wanted)
        if known is None:
            return Compared(Comparison.ALONE)
        return Compared(Comparison.ALONE, (known.proposal,), known.messages)

    def first_of(self, wanted: Sequence[tuple[Arm, Arm]]) -> Said | None:
        """What there is, of the arm that comes first."""
        arms = [arm for pair in wanted for arm in pair]
        return next((said for arm in arms if (said := self._said.get(arm)) is not None), None)

    async def _ask(self, arm: Arm) -> None:
        if arm in self._said:
            return
        try:
            self._said[arm] = await self._dueling.ask(arm, self._case)
        except ModelUnavailable as error:
            log.warning("model unavailable", kind=arm.kind, version=arm.version_id, why=str(error))
            self._said[arm] = None
