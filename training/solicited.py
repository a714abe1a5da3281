"""How content people are, estimated from those who were asked at random whether an answer was good. Pure.

Who presses a thumb unasked is angry or delighted: their share of likes says little about everybody's (selection bias). A
random share of askers is asked instead, each with a known chance, and counts as often as there are people like them
(inverse probability weights; Hájek 1971). Of those who were asked some say nothing: the estimate takes them to feel as the
others do, and the bounds (Manski 1989) do not take them to feel anything.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from training.differences import Interval, paired_bootstrap

ENOUGH_REPLIES = 10
ENOUGH_PEOPLE = 5
PLUS_MINUS = 0.10
"""An estimate whose interval reaches further than this to either side wants more replies."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """An answer whose asker was asked for a rating with `chance`, if the draw said so; nobody is asked twice on a `day`.

    `liked` is what the asker said of it, None where they said nothing.
    """

    person: str
    day: str
    at: datetime
    chance: float
    asked: bool
    liked: bool | None


@dataclass(frozen=True, slots=True)
class Satisfaction:
    """The share of content askers, 0..1: `share` with its interval, None where `replies` are too few.

    `lowest` and `highest` hold whatever those felt who were `asked` and said nothing, and allow for chance as well.
    `more` replies would bring the interval to 10 points on either side; 0 where it is there.
    """

    asked: int
    replies: int
    people: int
    share: float | None
    interval: Interval | None
    lowest: float | None
    highest: float | None
    more: int


def satisfaction(drawn: Sequence[Drawn], *, level: float = 0.95, seed: int = 0) -> Satisfaction:
    """The estimate for all answers for which somebody might have been asked.

    One person's answers are one piece of evidence.
    """
    asked = [(each, weight) for each, weight in _weighted(drawn) if each.asked]
    replied = [(each, weight) for each, weight in asked if each.liked is not None]
    people = len({each.person for each, _ in replied})
    if len(replied) < ENOUGH_REPLIES or people < ENOUGH_PEOPLE:
        more = max(ENOUGH_REPLIES - len(replied), ENOUGH_PEOPLE - people)
        return Satisfaction(len(asked), len(replied), people, None, None, None, None, more)
    share, interval = _share(replied, [float(bool(each.liked)) for each, _ in replied], level, seed)
    _, worst = _share(asked, [float(each.liked is True) for each, _ in asked], level, seed)
    _, best = _share(asked, [float(each.liked is not False) for each, _ in asked], level, seed)
    half = max(interval.high - share, share - interval.low)
    more = round(len(replied) * ((half / PLUS_MINUS) ** 2 - 1)) if half > PLUS_MINUS else 0
    return Satisfaction(len(asked), len(replied), people, share, interval, worst.low, best.high, more)


def _weighted(drawn: Iterable[Drawn]) -> list[tuple[Drawn, float]]:
    """Each with one over the chance that it was asked about: its own draw, and none of the day's before it."""
    days: defaultdict[tuple[str, str], list[Drawn]] = defaultdict(list)
    for each in drawn:
        days[each.person, each.day].append(each)
    found: list[tuple[Drawn, float]] = []
    for ones in days.values():
        ones.sort(key=lambda each: each.at)
        left = 1.0  # the chance that nobody asked them yet on this day
        for each in ones:
            reached = each.chance * left
            if reached > 0:
                found.append((each, 1 / reached))
            left *= 1 - each.chance
    return found


def _share(
    rows: Sequence[tuple[Drawn, float]], values: Sequence[float], level: float, seed: int
) -> tuple[float, Interval]:
    """The weighted mean and its interval, by resampling people: a ratio of sums, made linear about its own value."""
    weights = [weight for _, weight in rows]
    total = sum(weights)
    share = sum(weight * value for weight, value in zip(weights, values, strict=True)) / total
    pulls = [
        weight * (value - share) * len(rows) / total for weight, value in zip(weights, values, strict=True)
    ]
    found = paired_bootstrap(pulls, [each.person for each, _ in rows], level=level, seed=seed).interval
    wide = _wilson(share, _effective(weights), level)
    low, high = min(share + found.low, wide.low), max(share + found.high, wide.high)
    return share, Interval(max(0.0, low), min(1.0, high), level)


def _effective(weights: Sequence[float]) -> float:
    """As many equally weighted answers as these are worth (Kish 1965)."""
    return float(sum(weights) ** 2 / sum(weight**2 for weight in weights))


def _wilson(share: float, n: float, level: float) -> Interval:
    """Wilson's interval (1927): where everybody said the same, resampling finds no doubt at all, and there is some."""
    from statistics import NormalDist

    z = NormalDist().inv_cdf(0.5 + level / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return Interval(middle - half, middle + half, level)
