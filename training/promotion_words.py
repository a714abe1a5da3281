"""The sentences of verdicts. Pure, plain, short."""

from collections.abc import Sequence

from training.differences import Difference
from training.specification import Axis
from training.two_ways import FEWEST


def nothing_to_compare(arm: str, failed: str) -> str:
    return f"The current model stays: there was nothing to compare, because {arm} {failed}."


def kept(why: str) -> str:
    return f"The current model stays: {why}."


def better(gain: Difference, told: str, memory: str) -> str:
    return f"The challenger is better than the current model by {_points(gain.mean)} ({told}){memory}."


def few_people(people: int) -> str:
    """Why a gain may be one of taste, where too few people wrote or chose the references."""
    if not 0 < people < FEWEST:
        return ""
    who = "one person" if people == 1 else f"{people} people"
    return f" What is right was written or chosen by {who}: with fewer than {FEWEST}, taste cannot be told from a gain."


def better_on(axis: Axis, saved: float, margin: float, told: str, memory: str) -> str:
    what = {
        Axis.COST: f"costs {saved:.0%} less",
        Axis.LATENCY: f"takes {saved:.0%} less time",
        Axis.JUDGE: f"is preferred by the judge by {_points(saved)} (wins minus losses)",
    }[axis]
    return f"The challenger {what} and is not worse by {_points(margin)} or more ({told}){memory}."


def not_measured(axis: Axis) -> str:
    what = {Axis.COST: "the current model costs nothing", Axis.LATENCY: "nothing was timed"}
    return what.get(
        axis, "the judge was not asked, and its verdict is what this evaluation was to be decided by"
    )


def no_saving(axis: Axis, saved: float) -> str:
    if axis is Axis.JUDGE:
        return f"the judge does not prefer the challenger (wins minus losses: {_signed(saved)})"
    verb = "costs" if axis is Axis.COST else "takes"
    return f"the challenger {verb} {abs(saved):.0%} {'less' if saved > 0 else 'more'}, which is not worth a change"


def too_few(gain: Difference, minimum: int, fewest: int, more: int) -> str:
    return (
        f"Not enough evidence yet: {_count(gain.n, 'held-out answer')} to {_count(gain.clusters, 'different question')}, "
        f"at least {minimum} to {fewest} are needed; about {_count(more, 'more rated answer')}."
    )


def undecided(gain: Difference, metric: str, more: int, found: float, *, alpha: float, alone: bool) -> str:
    """`alone`: as the only look of the quarter it would have passed."""
    chance = (
        f"which is more than chance gives in one look, but not within the {alpha:.2%} that this one of many looks may take"
        if alone
        else "which may be chance"
    )
    return (
        f"Not enough evidence yet: the difference is {_signed(gain.mean)} ({evidence(gain, metric)}), {chance}; "
        f"{_points(found)} would have been found in 4 of 5 cases, about {_count(more, 'more rated answer')} would decide it."
    )


def fails(rate: float, limit: float) -> str:
    return f"the challenger failed on {rate:.0%} of the questions (allowed: {limit:.0%})"


def empty(rate: float, limit: float) -> str:
    return f"{rate:.0%} of the challenger's answers are empty (allowed: {limit:.0%})"


def slow(ratio: float, limit: float) -> str:
    return f"the challenger takes {ratio:.1f} times as long as the current model (allowed: {limit:.1f} times)"


def dear(ours: float, theirs: float, limit: float) -> str:
    return f"1,000 answers of the challenger cost ${ours:.2f} instead of ${theirs:.2f} (allowed: {limit:.1f} times)"


def refuses(ours: float, theirs: float) -> str:
    return f"the challenger refuses {ours:.0%} of the questions, the current model {theirs:.0%}"


def probes(blocked: Sequence[str]) -> str:
    return "; ".join(each.strip().rstrip(".") for each in blocked)


def memory_better(gain: Difference) -> str:
    return (
        f"where memory has an answer it is better than the challenger by {_points(-gain.mean)} "
        f"({_range(gain)}, {_count(gain.n, 'held-out answer')})"
    )


def memory_as_good(gain: Difference) -> str:
    return f"the challenger is not shown to be better than memory (difference {_signed(gain.mean)}, {_range(gain)})"


def no_gain(gain: Difference, worthwhile: float) -> str:
    if gain.interval.high < 0:
        return f"the challenger is worse by {_points(-gain.mean)}"
    if gain.interval.low > 0:
        return f"the challenger is better, but by less than the {_points(worthwhile)} that are worth a change"
    return f"the challenger is not better by the {_points(worthwhile)} that are worth a change"


def beside_memory(gain: Difference | None) -> str:
    if gain is None:
        return ""
    if gain.interval.low > 0:
        return f", and better than memory by {_points(gain.mean)}"
    if gain.interval.high < 0:
        return f", but memory is still better than the challenger by {_points(-gain.mean)}"
    return (
        f", but no better than memory as far as can be told (difference {_signed(gain.mean)}, {_range(gain)})"
    )


def evidence(gain: Difference, metric: str) -> str:
    return f"{metric.replace('_', ' ')}, {_range(gain)}, {_count(gain.n, 'held-out answer')}"


def _range(gain: Difference) -> str:
    low, high = gain.interval.low, gain.interval.high
    return f"{gain.interval.level:.0%} interval {100 * low:+.1f} to {100 * high:+.1f}"


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f} points"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
