"""What is odd in what people feed: raters, topics that one person feeds, and what is kept out of learning because of it.

Pure and streaming: rows go in, findings come out, with numbers; words that look like a trigger are `training.triggers`.
Honest people are odd too, so a finding needs many cases and odds of a million to one (`SURE`), and where honest people
easily look like it (much zeal, one colleague whose questions one always rates), it is told and nothing is kept out. Of what
is kept out an admin decides. Nobody is accused: a finding says what was counted, and what to do.
"""

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from storage.guarding import CLUSTER, KEY, TOPIC, VOTES, WORDS, Finding
from training.raters import Rater, Vote, Weights

__all__ = [
    "BURST",
    "CLUSTER",
    "CONTRARY",
    "FLOOD",
    "ONE_WAY",
    "RING",
    "TOPIC",
    "Bursts",
    "Finding",
    "Rings",
    "Topics",
    "at_least",
    "at_most",
    "counted",
    "kept_out",
    "odd_raters",
]

CONTRARY, ONE_WAY, RING, BURST, FLOOD = "contrary", "one way", "ring", "burst", "flood"
OF_VOTES = frozenset({CONTRARY, ONE_WAY, RING, BURST, FLOOD})
"""Findings about a rater: where they hold, that person's votes do not count."""
OF_WORDS = frozenset({"trigger", "link"})
"""Findings about an author: where they hold, nothing that person wrote is learned."""

SURE = 1e-6
CONTRARY_COMPARED, ONE_WAY_COMPARED = 20, 100
ALWAYS = 0.98
RING_VOTES, RING_SHARE, RING_ONE_WAY = 20, 0.8, 0.95
BURST_VOTES, BURST_S = 20, 60
FLOOD_VOTES, FLOOD_SHARE, FLOOD_TIMES, FLOOD_PEOPLE = 50, 0.5, 4, 5
TOPIC_ROWS, TOPIC_SHARE, TOPIC_ELSEWHERE, TOPIC_PEOPLE = 20, 0.8, 0.2, 3

Quarantine = Collection[tuple[str, str]]
"""What is kept out: kind and subject (`Store.quarantined`)."""


def kept_out(
    topic: str, cluster: str, authors: Iterable[str], quarantine: Quarantine, *, key: str = ""
) -> str:
    """Why a row is kept out of datasets for now; "" where it is not. `authors` wrote its words, `key` names its question."""
    if not quarantine:
        return ""
    if topic and (TOPIC, topic) in quarantine:
        return "its topic is fed by one person, and no admin has allowed it yet"
    if (cluster and (CLUSTER, cluster) in quarantine) or (key and (KEY, key) in quarantine):
        return "questions like it are answered by one person, and no admin has allowed it yet"
    if any((kind, author) in quarantine for author in authors for kind in (WORDS, *sorted(OF_WORDS))):
        return "odd words by its author are looked at by an admin first"
    return ""


def counted(votes: Sequence[Vote], quarantine: Quarantine) -> Sequence[Vote]:
    """The votes without those of people whose ratings are kept out for now."""
    if not quarantine:
        return votes
    kinds = (VOTES, *sorted(OF_VOTES))
    return [vote for vote in votes if not any((kind, vote.rater) in quarantine for kind in kinds)]


# --- How likely ------------------------------------------------------------------------------------------------


def at_least(hits: int, of: int, chance: float) -> float:
    """How likely it is that so many or more of these happen, each with this chance (the binomial's upper tail)."""
    if hits <= 0:
        return 1.0
    if chance <= 0 or hits > of:
        return 0.0
    if chance >= 1:
        return 1.0
    if hits <= of * chance:
        return 1 - _tail(of - hits + 1, of, 1 - chance)
    return _tail(hits, of, chance)


def at_most(hits: int, of: int, chance: float) -> float:
    """How likely it is that so many or fewer of these happen."""
    return at_least(of - hits, of, 1 - chance)


def _tail(hits: int, of: int, chance: float) -> float:
    """The sum from `hits` upwards, which lies above the mean: each term is smaller than the one before."""
    if hits > of:
        return 0.0
    logs = math.lgamma(of + 1) - math.lgamma(hits + 1) - math.lgamma(of - hits + 1)
    term = math.exp(logs + hits * math.log(chance) + (of - hits) * math.log1p(-chance))
    total = 0.0
    for number in range(hits, of + 1):
        total += term
        term *= (of - number) / (number + 1) * chance / (1 - chance)
        if term < total * 1e-12:
            break
    return min(1.0, total)


# --- Raters ----------------------------------------------------------------------------------------------------


def odd_raters(weights: Weights) -> list[Finding]:
    """Who agrees far less than by chance, and who presses one thumb whatever the others think."""
    found = [_contrary(rater) or _one_way(rater) for rater in weights.raters.values()]
    return [each for each in found if each is not None]


def _contrary(rater: Rater) -> Finding | None:
    if rater.compared < CONTRARY_COMPARED:
        return None
    if at_most(rater.agreed, rater.compared, rater.by_chance / rater.compared) > SURE:
        return None
    detail = (
        f"They agree with the others in {rater.agreed} of {rater.compared} ratings. "
        f"Pressed blindly it would be about {rater.by_chance:.0f}; usual here is {rater.as_usual:.0f}."
    )
    return Finding(CONTRARY, rater.person, rater.person, rater.votes, detail)


def _one_way(rater: Rater) -> Finding | None:
    """Who votes only on what they like presses one thumb too; but then the others agree more often than by chance."""
    share = rater.ups / max(1, rater.votes)
    if rater.compared < ONE_WAY_COMPARED or 1 - ALWAYS < share < ALWAYS or rater.agreed > rater.by_chance:
        return None
    if at_most(rater.agreed, rater.compared, rater.as_usual / rater.compared) > SURE:
        return None
    thumb, times = ("up", rater.ups) if share >= ALWAYS else ("down", rater.votes - rater.ups)
    detail = (
        f"They pressed thumbs {thumb} in {times} of {rater.votes} ratings, whatever the others thought: these agree in "
        f"{rater.agreed} of {rater.compared}, and by chance it would be about {rater.by_chance:.0f}."
    )
    return Finding(ONE_WAY, rater.person, rater.person, rater.votes, detail)


class Rings:
    """Finds people who rate the answers to one other person's questions and hardly any others.

    Of each rater it keeps one asker and a counter that others' questions take down again (Boyer and Moore), so it counts too
    few rather than too many.
    """

    def __init__(self) -> None:
        self._most: dict[str, tuple[str, int]] = {}
        self._votes: Counter[str] = Counter()
        self._ups: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()

    def add(self, votes: Sequence[Vote], asker: str) -> None:
        """The votes on an answer to this person. What askers think of their own answers is no ring."""
        for vote in votes:
            if vote.rater == asker or not vote.value:
                continue
            self._votes[vote.rater] += 1
            self._ups[vote.rater] += vote.value > 0
            self._asked[asker] += 1
            whose, lead = self._most.get(vote.rater, ("", 0))
            if whose == asker:
                self._most[vote.rater] = (asker, lead + 1)
            else:
                self._most[vote.rater] = (whose, lead - 1) if lead else (asker, 1)

    def findings(self) -> list[Finding]:
        """Kept out where both of two people do so."""
        bound = {
            rater: asker for rater, (asker, lead) in self._most.items() if self._is_bound(rater, asker, lead)
        }
        return [
            self._finding(rater, mutual=bound.get(asker) == rater) for rater, asker in sorted(bound.items())
        ]

    def _is_bound(self, rater: str, asker: str, lead: int) -> bool:
        votes, ups = self._votes[rater], self._ups[rater]
        if votes < RING_VOTES or lead < RING_SHARE * votes or max(ups, votes - ups) < RING_ONE_WAY * votes:
            return False
        everybody = sum(self._votes.values())
        if everybody == votes:
            return False  # nobody else rates other people's answers: there is nothing to compare with
        elsewhere = (self._asked[asker] - lead) / (everybody - votes)
        return at_least(lead, votes, min(1.0, max(elsewhere, 1 / len(self._asked)))) < SURE

    def _finding(self, rater: str, *, mutual: bool) -> Finding:
        votes, ups = self._votes[rater], self._ups[rater]
        thumb = f"{ups} thumbs up" if 2 * ups >= votes else f"{votes - ups} thumbs down"
        detail = (
            f"At least {self._most[rater][1]} of their {votes} ratings of other people's answers are of one person's, "
            f"{thumb}."
        )
        if mutual:
            detail += " That person does the same in return."
        return Finding(RING, rater, rater, votes, detail, holds=mutual)


class Bursts:
    """Finds who rates faster than anybody reads, and who gives most of all ratings. To be given the last days."""

    def __init__(self) -> None:
        self._times: dict[str, array[float]] = defaultdict(lambda: array("d"))

    def add(self, rater: str, at: datetime) -> None:
        """A rating that counts, and when it was given."""
        self._times[rater].append(at.timestamp())

    def findings(self) -> list[Finding]:
        """Bursts are kept out; who just rates a lot is told of, because the cap (`training.caps`) holds anyway."""
        found = [self._burst(rater) for rater in sorted(self._times)]
        return [each for each in [*found, self._flood()] if each is not None]

    def _burst(self, rater: str) -> Finding | None:
        times = sorted(self._times[rater])
        most = max(
            (at - since for at, since in _windows(times)),
            default=0,
        )
        if most < BURST_VOTES:
            return None
        detail = f"They gave {most} ratings within one minute (of {len(times)} in the last days). Nobody reads that fast."
        return Finding(BURST, rater, rater, most, detail)

    def _flood(self) -> Finding | None:
        counts = sorted(((len(times), rater) for rater, times in self._times.items()), reverse=True)
        if len(counts) < FLOOD_PEOPLE:
            return None
        (most, rater), (next_most, _) = counts[:2]
        everything = sum(number for number, _ in counts)
        if most < FLOOD_VOTES or most <= FLOOD_SHARE * everything or most < FLOOD_TIMES * next_most:
            return None
        detail = (
            f"They gave {most} of the {everything} ratings of the last days; the next person gave {next_most}. "
            "One person's ratings decide only a limited share of a dataset anyway."
        )
        return Finding(FLOOD, rater, rater, most, detail, holds=False)


def _windows(times: Sequence[float]) -> Iterable[tuple[int, int]]:
    """For each rating its place (from 1) and how many came more than a minute before it."""
    since = 0
    for place, at in enumerate(times, 1):
        while times[since] < at - BURST_S:
            since += 1
        yield place, since


# --- Topics ----------------------------------------------------------------------------------------------------


class Topics:
    """Finds topics and clusters of like questions that one person feeds, in a team where others feed the rest.

    Experts may: an admin made them experts, and the caps hold for them as well.
    """

    def __init__(self, experts: Collection[str] = ()) -> None:
        self._experts = frozenset(experts)
        self._rows: Counter[tuple[str, str]] = Counter()
        self._fed: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self._everybody: Counter[str] = Counter()
        self._all = 0

    def add(self, subjects: Iterable[tuple[str, str]], people: Sequence[str]) -> None:
        """A row, the topic and cluster it belongs to (kind and name), and the people through whom it is one, if any."""
        self._all += 1
        for person in people:
            self._everybody[person] += 1 / len(people)  # type: ignore[assignment]
        for subject in subjects:
            self._rows[subject] += 1
            for person in people:
                self._fed[subject][person] += 1 / len(people)  # type: ignore[assignment]

    def findings(self) -> list[Finding]:
        """All kept out until an admin has looked."""
        found = [self._finding(subject, fed) for subject, fed in sorted(self._fed.items())]
        return [each for each in found if each is not None]

    def _finding(self, subject: tuple[str, str], fed: Mapping[str, float]) -> Finding | None:
        rows = self._rows[subject]
        person = max(sorted(fed), key=lambda each: fed[each])
        theirs = fed[person]
        if rows < TOPIC_ROWS or theirs <= TOPIC_SHARE * rows or person in self._experts:
            return None
        if sum(other != person for other in self._everybody) < TOPIC_PEOPLE:
            return None  # in a team of two or three everything is fed by one person
        elsewhere = (self._everybody[person] - theirs) / max(1, self._all - rows)
        if at_least(int(theirs), rows, max(elsewhere, TOPIC_ELSEWHERE)) > SURE:
            return None
        kind, name = subject
        what = f"the topic “{name}”" if kind == TOPIC else "one cluster of like questions"
        detail = f"{theirs:.0f} of the {rows} rows about {what} come from one person, and {elsewhere:.0%} of all others."
        return Finding(kind, name, person, rows, detail)
