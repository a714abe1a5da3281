"""Who is asked, in which order, and when a second opinion is worth it: the rules as tables."""

from collections.abc import Collection

import pytest

from bot.routing import Judgement, Plan, Route, explored, is_private, plan, sure_enough
from bot.settings import Policy
from storage.values import Proposal

EVERYBODY = ("local", "openai", "gemini")


def local(text: str = "Yes.", logprob: float = -0.1, finish: str = "stop") -> Proposal:
    return Proposal(text, "local", "starter", logprobs=(logprob,) * 4, finish=finish)


@pytest.mark.parametrize(
    ("policy", "available", "order", "together"),
    [
        (Policy.LOCAL_FIRST, EVERYBODY, ("local", "openai", "gemini"), False),
        (Policy.API_FIRST, EVERYBODY, ("openai", "gemini", "local"), False),
        (Policy.LOCAL_ONLY, EVERYBODY, ("local",), False),
        (Policy.BOTH, EVERYBODY, ("local", "openai"), True),
        (Policy.BOTH, ("gemini", "openai"), ("openai", "gemini"), False),
        (Policy.BOTH, ("local",), ("local",), False),
        (Policy.DUEL, EVERYBODY, ("local", "openai", "gemini"), False),
        (Policy.API_FIRST, ("local",), ("local",), False),
        (Policy.LOCAL_ONLY, ("openai",), (), False),
    ],
)
def test_the_policy_gives_the_order(
    policy: Policy, available: Collection[str], order: tuple[str, ...], together: bool
) -> None:
    """Of those who are there."""
    assert plan(policy, available) == Plan(order, together)


@pytest.mark.parametrize("policy", list(Policy))
def test_in_a_private_place_no_api_is_asked_whatever_the_policy(policy: Policy) -> None:
    """The rule is named where it took somebody out."""
    assert plan(policy, EVERYBODY, private=True).order == ("local",)
    assert plan(policy, ("openai",), private=True).order == ()
    assert plan(Policy.API_FIRST, EVERYBODY, private=True).rule == "private"
    assert plan(Policy.API_FIRST, ("local",), private=True).rule == ""


@pytest.mark.parametrize(
    ("place", "chosen", "stays", "private"),
    [
        ("channel", False, True, False),
        ("im", False, True, False),
        ("group", False, True, True),
        ("mpim", False, True, True),
        ("", False, True, True),
        ("group", True, True, False),
        ("group", False, False, False),
        ("", False, False, False),
    ],
)
def test_private_places_stay_here_unless_somebody_decided_otherwise(
    place: str, chosen: bool, stays: bool, private: bool
) -> None:
    """What Slack does not tell is taken for private."""
    assert is_private(place, chosen=chosen, private_stays_local=stays) is private


@pytest.mark.parametrize(
    ("proposal", "sure"),
    [
        (local(), True),
        (local(logprob=-0.36), False),
        (local(finish="length"), False),
        (local("  "), False),
        (Proposal("Yes.", "local", "starter"), False),
        (Proposal("Yes.", "openai", "gpt-6-luna"), True),
        (Proposal("", "openai", "gpt-6-luna"), False),
    ],
)
def test_until_a_router_is_fitted_only_likely_whole_answers_are_sure(proposal: Proposal, sure: bool) -> None:
    """A conservative limit, the same for everybody."""
    assert sure_enough(proposal) is sure


@pytest.mark.parametrize("wanted", [True, False])
def test_a_draw_turns_the_decision_round_and_says_how_likely_that_was(wanted: bool) -> None:
    """Both ways the probability of what was done is known, so that it can be weighed later."""
    judgement = Judgement(wanted, by="router", p_local=0.4, p_api=0.8)
    turned = explored(judgement, draw=0.01, rate=0.03)
    assert (turned.escalate, turned.explored, turned.propensity) == (not wanted, True, 0.03)
    kept = explored(judgement, draw=0.5, rate=0.03)
    assert (kept.escalate, kept.explored, kept.propensity) == (wanted, False, 0.97)
    assert (kept.by, kept.p_local, kept.p_api) == ("router", 0.4, 0.8)
    assert explored(judgement, draw=0.0, rate=0.0) is judgement


def test_a_route_is_stored_without_what_is_empty() -> None:
    """As JSON takes it."""
    route = Route(policy="local-first", judgement=Judgement(True, propensity=0.97))
    route.passed.append(("openai", "BudgetSpent"))
    stored = route.stored()
    assert stored["passed"] == [("openai", "BudgetSpent")]
    assert stored["judgement"]["propensity"] == 0.97
    assert set(stored) == {"policy", "judgement", "passed"}
