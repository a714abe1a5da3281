"""What votes say together: agreement of raters, weights by reliability, experts, labels."""

import itertools
import random
from collections import defaultdict

import pytest

from storage.feedback import Vote
from training.raters import DISLIKED, UNDECIDED, UNHEARD, Agreements, Label, Raters, Weights, tell_apart

NEARLY = 1e-4
NOBODY = None

# Krippendorff, "Computing Krippendorff's Alpha-Reliability": three observers, fifteen units, values 1 to 4.
KRIPPENDORFF = [
    [*(NOBODY,) * 5, 3, 4, 1, 2, 1, 1, 3, 3, NOBODY, 3],
    [1, NOBODY, 2, 1, 3, 3, 4, 3, *(NOBODY,) * 7],
    [NOBODY, NOBODY, 2, 1, 3, 4, 4, NOBODY, 2, 1, 1, 3, 3, NOBODY, 4],
]
# Gwet, "Handbook of Inter-Rater Reliability", table 2.x (irrCAC's `raw_4raters`): four raters, twelve units, labels 1 to 5.
GWET = [
    (1, 1, NOBODY, 1),
    (2, 2, 3, 2),
    (3, 3, 3, 3),
    (3, 3, 3, 3),
    (2, 2, 2, 2),
    (1, 2, 3, 4),
    (4, 4, 4, 4),
    (1, 1, 2, 1),
    (2, 2, 2, 2),
    (NOBODY, 5, 5, 5),
    (NOBODY, NOBODY, 1, 1),
    (NOBODY, NOBODY, 3, NOBODY),
]


def counted(units: list[list[object]]) -> Agreements:
    agreements = Agreements()
    for unit in units:
        agreements.add([label for label in unit if label is not NOBODY])
    return agreements


def test_alpha_is_krippendorffs_published_one() -> None:
    """0.691 for nominal labels, as he computes by hand."""
    found = counted([list(unit) for unit in zip(*KRIPPENDORFF, strict=True)]).so_far()
    assert found.alpha == pytest.approx(0.691, abs=5e-4)


def test_alpha_and_ac1_are_gwets_published_ones() -> None:
    """0.74342 and 0.77544, with 0.81818 of pairs in agreement."""
    found = counted([list(unit) for unit in GWET]).so_far()
    assert found.alpha == pytest.approx(0.74342, abs=NEARLY)
    assert found.ac1 == pytest.approx(0.77544, abs=NEARLY)
    assert found.share == pytest.approx(0.81818, abs=NEARLY)
    assert found.answers == 11


def alpha_by_pairs(units: list[list[int]]) -> float:
    """Krippendorff's alpha from its definition: disagreement of pairs within a unit over that of all pairs."""
    rated = [unit for unit in units if len(unit) > 1]
    everything = [label for unit in rated for label in unit]
    observed = sum(
        sum(one != other for one, other in itertools.permutations(unit, 2)) / (len(unit) - 1)
        for unit in rated
    ) / len(everything)
    expected = sum(one != other for one, other in itertools.permutations(everything, 2))
    return 1 - observed / (expected / (len(everything) * (len(everything) - 1)))


@pytest.mark.parametrize("seed", range(5))
def test_alpha_equals_its_definition(seed: int) -> None:
    """The streaming counts come to the same as all pairs, one by one."""
    draw = random.Random(seed)
    units = [[draw.choice((1, 1, 1, -1)) for _ in range(draw.randint(0, 5))] for _ in range(60)]
    found = counted([list(unit) for unit in units]).so_far()
    assert found.alpha == pytest.approx(alpha_by_pairs(units))


def test_nothing_to_compare_is_none() -> None:
    """Single votes, and one label only, tell nothing about agreement."""
    assert counted([[1], [1], [-1]]).so_far().alpha is None
    assert counted([[1, 1], [1, 1]]).so_far().alpha is None
    assert counted([[1, 1], [1, 1]]).so_far().ac1 == pytest.approx(1.0)


# --- Labels --------------------------------------------------------------------------------------------------

EQUAL = Weights({})
WITH_EXPERT = Weights({}, experts={"Eva"})


def votes(words: str) -> list[Vote]:
    """ "Ann+ Ben-" as votes."""
    return [Vote(each[:-1], 1 if each[-1] == "+" else -1) for each in words.split()]


@pytest.mark.parametrize(
    ("said", "value", "reason", "deciders"),
    [
        ("Ann+", 1, "", ("Ann",)),
        ("Ann-", -1, DISLIKED, ()),
        ("Ann+ Ben+", 1, "", ()),
        ("Ann+ Ben-", 0, UNDECIDED, ("Ben",)),
        ("Ann+ Ben+ Cem-", 1, "", ("Ann", "Ben")),
        ("Ann+ Ben+ Cem+ Dan- Fay-", 1, "", ("Ann", "Ben", "Cem")),
        ("Ann+ Ben- Cem-", -1, DISLIKED, ()),
        ("", 0, UNDECIDED, ()),
    ],
)
def test_what_votes_say(said: str, value: int, reason: str, deciders: tuple[str, ...]) -> None:
    """The side that leads; without any one of the deciders the answer would be in if it is out, and out if it is in."""
    label = EQUAL.label(votes(said))
    assert (label.value, label.reason, label.deciders) == (value, reason, deciders)


def test_a_lead_of_one_in_many_decides_nothing() -> None:
    """Six to five is disagreement."""
    split = " ".join([*(f"P{number}+" for number in range(6)), *(f"N{number}-" for number in range(5))])
    assert EQUAL.label(votes(split)).value == 0


def test_an_expert_counts_twice() -> None:
    """Against one colleague the expert decides, against two nobody does; the label's weight says how much stands behind."""
    assert WITH_EXPERT.label(votes("Ann- Eva+")).value == 1
    assert EQUAL.label(votes("Ann- Eva+")).value == 0
    assert WITH_EXPERT.label(votes("Ann- Ben- Eva+")).value == 0
    assert WITH_EXPERT.label(votes("Eva+")).weight > EQUAL.label(votes("Eva+")).weight
    assert EQUAL.label(votes("Ann+ Ben+")).weight > EQUAL.label(votes("Ann+")).weight


def test_withdrawn_votes_say_nothing() -> None:
    """Zero is no vote."""
    assert EQUAL.label([Vote("Ann", 0), Vote("Ben", 1)]) == EQUAL.label(votes("Ben+"))


def test_shares_sum_to_the_row() -> None:
    """Who decides alone is charged a row; otherwise the side that brought it about shares it."""
    assert tell_apart((1.0,)).shares == (1.0,)
    assert tell_apart((1.0, 1.0)).shares == (0.5, 0.5)
    assert tell_apart((1.0, 1.0, -1.0)).shares == (1.0, 1.0, 0.0)
    assert tell_apart((1.0, -1.0, -1.0)).shares == (0.0, 0.5, 0.5)
    assert tell_apart((-1.0, -1.0)).shares == (0.0, 0.0)


# --- Weights -------------------------------------------------------------------------------------------------


def team(
    seed: int, *, raters: int = 30, answers: int = 1500, sloppy: int = 0, happy: int = 0, good: float = 0.75
) -> list[list[Vote]]:
    """Votes of people who are right in 85 of 100; the first few toss coins, the next vote only on what they like."""
    draw = random.Random(seed)
    people = [f"U{number:02}" for number in range(raters)]
    rows = []
    for _ in range(answers):
        is_good = draw.random() < good
        row = []
        for number in draw.sample(range(raters), draw.choice((1, 2, 2, 3))):
            right = draw.random() < (0.5 if number < sloppy else 0.85)
            up = is_good == right
            if up or not sloppy <= number < sloppy + happy:
                row.append(Vote(people[number], 1 if up else -1))
        rows.append(row)
    return rows


def weighed(rows: list[list[Vote]], experts: set[str] | None = None) -> Weights:
    raters = Raters(experts or set())
    for row in rows:
        raters.add(row)
    return raters.weigh()


@pytest.mark.parametrize("seed", range(6))
def test_honest_people_keep_their_weight(seed: int) -> None:
    """Also those who only ever press thumbs up, because they vote on what they like."""
    weights = weighed(team(seed, happy=5))
    assert {rater.weight for rater in weights.raters.values()} == {1.0}


@pytest.mark.parametrize("seed", range(6))
def test_sloppy_raters_lower_nobody_elses_labels(seed: int) -> None:
    """With one in ten tossing coins, an answer that careful people alone rated is labelled as it was without them."""
    sloppy = {f"U{number:02}" for number in range(3)}
    rows = team(seed, sloppy=len(sloppy))
    careful = [[vote for vote in row if vote.rater not in sloppy] for row in rows]
    with_them, without = weighed(rows), weighed(careful)
    untouched = [row for row, kept in zip(rows, careful, strict=True) if row == kept and row]
    assert len(untouched) > 900
    assert [with_them.label(row) for row in untouched] == [without.label(row) for row in untouched]
    assert {rater.weight for name, rater in with_them.raters.items() if name not in sloppy} == {1.0}


def test_who_tosses_coins_counts_for_less() -> None:
    """With much evidence; with little, nobody loses anything."""
    much = weighed(team(1, sloppy=1, raters=12, answers=4000))
    little = weighed(team(1, sloppy=1, raters=12, answers=60))
    assert much.raters["U00"].weight < 1
    assert little.raters["U00"].weight == 1
    assert much.raters["U00"].agreed / much.raters["U00"].compared < 0.62


def test_who_always_says_the_opposite_is_not_heard() -> None:
    """A rater whose votes are reversed loses all weight, and a row that only they rated is in no dataset."""
    rows = team(2)
    draw = random.Random(3)
    for row in draw.sample(rows, 150):
        row.append(Vote("Mal", -1 if sum(vote.value for vote in row) > 0 else 1))
    weights = weighed(rows)
    assert weights.raters["Mal"].weight == 0
    assert weights.label(votes("Mal+")) == Label(0, 0.0, UNHEARD, ())
    assert sum(rater.weight < 1 for rater in weights.raters.values()) == 1


def test_pressing_one_thumb_blindly_earns_nothing() -> None:
    """Thumbs up on everything agrees with most people, and with nobody more than by chance."""
    rows = team(4)
    draw = random.Random(4)
    for row in draw.sample(rows, 400):
        row.append(Vote("Yes", 1))
    weights = weighed(rows)
    assert weights.raters["Yes"].weight <= 0.5
    assert weights.raters["Yes"].agreed / weights.raters["Yes"].compared > 0.6


def test_an_unknown_rater_and_a_known_expert() -> None:
    """Who was never counted counts in full; an expert's earned weight is doubled, not their lost one."""
    rows = team(5)
    weights = weighed(rows, experts={"U07", "New"})
    assert weights.weight("Nobody") == 1
    assert weights.weight("New") == 2
    assert weights.weight("U07") == 2


def test_two_raters_who_disagree_cannot_be_told_apart() -> None:
    """Of two people nobody knows who is wrong: both keep their weight."""
    weights = weighed([votes("Ann+ Ben-") if place % 2 else votes("Ann- Ben+") for place in range(200)])
    assert {rater.weight for rater in weights.raters.values()} == {1.0}


def test_the_order_of_answers_does_not_matter() -> None:
    """The same votes in another order give the same weights: datasets are frozen twice the same."""
    rows = team(6, sloppy=2)
    shuffled = random.Random(0).sample(rows, len(rows))
    one, other = weighed(rows), weighed(shuffled)
    assert one.raters == other.raters
    by_weight = defaultdict(set)
    for rater in one.raters.values():
        by_weight[rater.weight].add(rater.person)
    assert sum(len(people) for people in by_weight.values()) == len(other.raters)
