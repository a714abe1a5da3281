"""How good a local answer probably is, and whether an API model is worth its price: the router at work.

The router is a row that the daily fit leaves (`bot.refit`); until there is one, or where it cannot be read, the threshold of
`bot.routing` decides. What was seen of an answer is kept with it in numbers, so that the next fit can learn from it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from bot import routing
from bot.panel import Case
from bot.routing import Judgement
from storage.routing import Judged
from storage.store import Store
from storage.values import Proposal
from training.router import RatedAnswer, Router, UnknownRouter, label_of
from training.router_features import answer_features
from training.router_fit import Asked
from training.router_near import Neighbours
from training.router_value import Prices, worth_asking

ROUTER = "router"
CostOf = Callable[[str], float]
"""What one answer of a kind of API model costs on the average, in US dollars."""
_DUEL_LABELS = {"won": 1.0, "lost": 0.0, "tie": 1.0, "both bad": 0.0}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What is known at one moment; replaced as a whole. `router_id` is "" while the threshold decides."""

    router_id: str = ""
    router: Router | None = None
    near: Neighbours | None = None
    cost_usd: dict[str, float] = field(default_factory=dict)


class RouterJudge:
    """The desk's judge. `value_usd` is what a good answer in place of a bad one is worth to the operator."""

    def __init__(self, store: Store, *, team: str, value_usd: float, usual_cost: CostOf) -> None:
        self._store = store
        self._team = team
        self._value_usd = value_usd
        self._usual_cost = usual_cost
        self._known = Knowledge()

    def prices(self, api: str) -> Prices:
        """What is weighed when this kind of API model could be asked."""
        cost = self._known.cost_usd.get(api)
        return Prices(self._value_usd, self._usual_cost(api) if cost is None else cost)

    def know(self, known: Knowledge) -> None:
        """From now on decide by this."""
        self._known = known

    @property
    def knows(self) -> Knowledge:
        """What it decides by."""
        return self._known

    def seen(self, case: Case, proposal: Proposal) -> Proposal:
        """A local answer with what the router sees of it."""
        near = self._known.near.features(case.text) if self._known.near is not None else {}
        if case.near:
            near |= {"memory_score": case.near[0].score, "memory_certainty": case.near[0].certainty}
        return replace(proposal, features=answer_features(proposal, case.text, near=near))

    async def judge(self, case: Case, proposal: Proposal, api: str | None) -> tuple[Proposal, Judgement]:
        """The answer with what was seen of it, and whether the API model `api` should be asked as well."""
        seen = self.seen(case, proposal)
        if not proposal.text.strip():
            return seen, Judgement(escalate=api is not None, by="nothing was said")
        if self._known.router is None:
            return seen, Judgement(escalate=api is not None and not routing.sure_enough(proposal))
        expected = self._known.router.expect(Asked(case.text, case.question.channel, seen.features))
        escalate = api is not None and worth_asking(expected, self.prices(api))
        judgement = Judgement(escalate, by=ROUTER, p_local=expected.p_local, p_api=expected.p_api)
        return replace(seen, p_good=expected.p_local), judgement

    async def refresh(self) -> None:
        """Take over what was fitted since, here or in another process. A row that cannot be read changes nothing else."""
        row = await self._store.router(self._team)
        if row is None or row.id == self._known.router_id:
            return
        try:
            router = Router.from_json(row.parameters)
        except (UnknownRouter, KeyError, TypeError, ValueError) as error:
            log.warning(
                "a stored router cannot be read; the threshold decides", router=row.id, why=str(error)
            )
            self._known = replace(self._known, router_id=row.id, router=None)
            return
        self._known = replace(self._known, router_id=row.id, router=router)


def rated_answers(judged: Sequence[Judged]) -> list[RatedAnswer]:
    """What people said, as a router learns from it. Memory's answers are left out: they are given before anybody chooses."""
    rows = []
    for each in judged:
        label = (
            _DUEL_LABELS.get(each.duel)
            if each.duel
            else label_of(list(each.votes.values()), corrected=each.corrected)
        )
        if label is None or each.kind == routing.MEMORY:
            continue
        rows.append(
            RatedAnswer(
                question_id=each.question_id,
                question=each.question,
                cluster=each.thread,
                kind=each.kind,
                label=label,
                topic=each.channel,
                features=each.features,
                propensity=_propensity(each),
                raters=tuple(each.votes),
            )
        )
    return rows


def _propensity(judged: Judged) -> float:
    judgement = judged.route.get("judgement") or {}
    return float(judgement.get("propensity") or 1.0)
