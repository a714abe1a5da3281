"""The guards at scale: a million rated answers weighed and capped, and how often honest teams are bothered."""

import itertools
import random
import resource
import sys
import time
from collections.abc import Iterator

from storage.feedback import Vote
from tests.benchmarks.figure import Figure
from training.caps import Caps
from training.guards import odd_raters
from training.raters import Raters

ANSWERS, RATERS = 1_000_000, 2_000
ROWS_BAR, RSS_BAR_MB = 10_000, 600
TEAMS = 300


def weighing() -> Iterator[Figure]:
    """All of it: counting, weights, caps, and the label of every answer; half a dozen people rate most of them."""
    spent, liked = 0.0, 0
    raters = Raters()
    for part in _answers():
        since = time.process_time()
        for _, votes in part:
            raters.add(votes)
        spent += time.process_time() - since
    weights = raters.weigh()
    caps = Caps(weights, salt="bench")
    for part in _answers():
        since = time.process_time()
        for key, votes in part:
            caps.rated(key, votes)
        spent += time.process_time() - since
    since = time.process_time()
    settled = caps.settle()
    spent += time.process_time() - since
    for part in _answers():
        since = time.process_time()
        liked += sum(settled.label(key, votes).value > 0 for key, votes in part)
        spent += time.process_time() - since
    allowed = settled.allowed["rated"]
    print(
        f"{liked:,} of {ANSWERS:,} rows are in; one person may decide {allowed.rows:,}; "
        f"{len(settled.capped['rated'])} people wanted more; {spent:.1f} s of one core",
        file=sys.stderr,
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    yield Figure("weighed_rows_per_s", round(ANSWERS / spent), "rows/s", ROWS_BAR, "higher")
    yield Figure("weighing_rss_mb", round(peak), "MB", RSS_BAR_MB, "lower")


def _answers() -> Iterator[list[tuple[str, list[Vote]]]]:
    """The same answers each time, in pages: one to three votes, by people who are more and less busy."""
    draw = random.Random(1)
    people = [f"U{number:05}" for number in range(RATERS)]
    zeal = list(itertools.accumulate(1 / (place + 1) for place in range(RATERS)))
    for start in range(0, ANSWERS, 5000):
        yield [
            (
                f"a{number}",
                [
                    Vote(person, 1 if draw.random() < 0.8 else -1)
                    for person in set(
                        draw.choices(people, cum_weights=zeal, k=draw.choice((1, 1, 1, 2, 2, 3)))
                    )
                ],
            )
            for number in range(start, start + 5000)
        ]


def alarms() -> Iterator[Figure]:
    """Of a hundred honest teams, how many raters are told to be odd; people are right in 60 to 95 of 100."""
    found = 0
    for seed in range(TEAMS):
        draw = random.Random(seed)
        people = [f"U{number:02}" for number in range(draw.choice((5, 12, 40)))]
        skill = {person: draw.uniform(0.6, 0.95) for person in people}
        happy = {person for person in people if draw.random() < 0.25}
        raters = Raters()
        for _ in range(1500):
            good = draw.random() < 0.75
            votes = [
                Vote(person, 1 if good == (draw.random() < skill[person]) else -1)
                for person in draw.sample(people, draw.choice((1, 2, 3)))
            ]
            raters.add([vote for vote in votes if vote.value > 0 or vote.rater not in happy])
        found += len(odd_raters(raters.weigh()))
    yield Figure("guard_false_alarms_per_100_teams", round(100 * found / TEAMS, 2), "alarms", 1.0, "lower")
