"""Who tries first, when the next one does, and why. Pure.

A memory that is near-certain always comes first: it is verified and costs nothing. Then hard rules say who may be asked at
all, the policy gives the order, and after a local answer the router (fitted on the team's ratings; until there is one, a
conservative threshold) weighs whether an API model is worth its price.
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any

from bot.settings import Policy
from storage.values import Proposal

MEMORY, LOCAL = "memory", "local"
APIS = ("openai", "gemini")
PRIVATE_PLACES = frozenset({"group", "mpim"})
"""Kinds of conversations whose words stay on this machine unless an admin decided otherwise: Slack's private channels and
group messages. A direct message is said to the bot itself."""

SURE_LOGPROB = -0.35
"""A local answer whose tokens were on average likelier than exp(-0.35) = 0.70 is given without asking an API model.

Conservative and the same for everybody until a router is fitted on the team's own ratings."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Kinds of models in the order they are asked. `together`: those of `order` are all asked, the better one is posted.

    `rule` names the hard rule that took somebody out, "" where none did.
    """

    order: tuple[str, ...]
    together: bool = False
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was decided about a local answer that an API model could replace.

    `escalate` asks the API model. `p_local` and `p_api` are the chances of a good answer, None where nobody knows.
    `explored` says that a draw turned the decision round; `propensity` is the probability of what was done.
    """

    escalate: bool
    by: str = "threshold"
    p_local: float | None = None
    p_api: float | None = None
    explored: bool = False
    propensity: float = 1.0


@dataclass(slots=True)
class Route:
    """Why this model answered; stored with the Answer. It holds names and numbers, no words of people.

    `passed` are the kinds that were asked, or passed over, without giving the answer, each with why. `notice` is a sentence
    for the asker, such as that a budget is spent.
    """

    policy: str = ""
    rule: str = ""
    judgement: Judgement | None = None
    passed: list[tuple[str, str]] = field(default_factory=list)
    notice: str = ""

    def stored(self) -> dict[str, Any]:
        """As JSON, without what is empty."""
        told = asdict(self)
        return {name: value for name, value in told.items() if value}


def plan(policy: Policy, available: Collection[str], *, private: bool = False) -> Plan:
    """The order in which the available kinds are asked under a policy. In a `private` place nothing leaves the machine."""
    apis = tuple(kind for kind in APIS if kind in available)
    local = (LOCAL,) if LOCAL in available else ()
    if private and policy is not Policy.LOCAL_ONLY:
        return Plan(local, rule="private" if apis else "")
    match policy:
        case Policy.LOCAL_ONLY:
            return Plan(local)
        case Policy.API_FIRST:
            return Plan(apis + local)
        case Policy.BOTH if apis and local:
            return Plan((LOCAL, apis[0]), together=True)
        case _:
            return Plan(local + apis)


def is_private(place: str, *, chosen: bool, private_stays_local: bool) -> bool:
    """Whether a question's words must stay here. `chosen`: an admin gave its channel a policy, and has decided with it.

    A place that nobody could find out is taken for a private one.
    """
    return private_stays_local and not chosen and (place in PRIVATE_PLACES or not place)


def sure_enough(proposal: Proposal) -> bool:
    """Whether a proposal may be posted without a second opinion, by the threshold alone."""
    if not proposal.text.strip():
        return False
    if proposal.kind != LOCAL:
        return True
    if proposal.finish == "length" or not proposal.logprobs:
        return False
    return sum(proposal.logprobs) / len(proposal.logprobs) >= SURE_LOGPROB


def explored(wanted: Judgement, *, draw: float, rate: float) -> Judgement:
    """The decision after the draw: with probability `rate` the other thing is done, and either way its chance is known.

    Without such draws nobody would ever learn how an API model answers what the local one is sure of.
    """
    if rate <= 0:
        return wanted
    other = draw < rate
    return Judgement(
        escalate=wanted.escalate != other,
        by=wanted.by,
        p_local=wanted.p_local,
        p_api=wanted.p_api,
        explored=other,
        propensity=rate if other else 1 - rate,
    )
