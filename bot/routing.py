"""Who tries first, and when the next one does. Pure.

A memory that is near-certain always comes first: it is verified and costs nothing. After it the policy decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bot.settings import Policy
from storage.values import Proposal

MEMORY, LOCAL = "memory", "local"
APIS = ("openai", "gemini")

SURE_LOGPROB = -0.35
"""A local answer whose tokens were on average likelier than exp(-0.35) = 0.70 is given without asking an API model.

Conservative and the same for everybody until a router is fitted on the team's own ratings."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Kinds of models in the order they are asked. `together`: those of `order` are all asked, the better one is posted."""

    order: tuple[str, ...]
    together: bool = False


def plan(policy: Policy, available: Sequence[str]) -> Plan:
    """The order in which the available kinds are asked under a policy."""
    apis = tuple(kind for kind in APIS if kind in available)
    local = (LOCAL,) if LOCAL in available else ()
    match policy:
        case Policy.LOCAL_ONLY:
            return Plan(local)
        case Policy.API_FIRST:
            return Plan(apis + local)
        case Policy.BOTH if apis and local:
            return Plan((LOCAL, apis[0]), together=True)
        case _:
            return Plan(local + apis)


def sure_enough(proposal: Proposal) -> bool:
    """Whether a proposal may be posted without a second opinion."""
    if not proposal.text.strip():
        return False
    if proposal.kind != LOCAL:
        return True
    if proposal.finish == "length" or not proposal.logprobs:
        return False
    return sum(proposal.logprobs) / len(proposal.logprobs) >= SURE_LOGPROB


def better_first(proposals: Sequence[Proposal]) -> list[Proposal]:
    """The proposals with the one to post in front: a sure local answer, else an API model's, else what there is."""

    def rank(proposal: Proposal) -> int:
        if not proposal.text.strip():
            return 3
        if proposal.kind == LOCAL:
            return 0 if sure_enough(proposal) else 2
        return 1

    return sorted(proposals, key=rank)
