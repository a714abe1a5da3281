"""Nobody steers the model alone: one hostile rater, a pair of them, small teams, authors, and who stays in."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from storage.feedback import Vote
from training.caps import AUTHOR_CAP, FLOOR, RATER_CAP, CapRules, Caps, Settled
from training.raters import Raters, Weights

SALT = "the salt of a test"
MAL, MEL = "Mal", "Mel"
Rows = dict[str, list[Vote]]


@dataclass
class Team:
    """Answers with the votes of honest people, and what of them is good."""

    rows: Rows
    good: dict[str, bool]
    draw: random.Random
    planted: list[str] = field(default_factory=list)

    @property
    def votes(self) -> int:
        return sum(map(len, self.rows.values()))


def honest(seed: int, *, raters: int = 45, answers: int = 1600) -> Team:
    """People who are right in 85 of 100, one to three of them on each answer."""
    draw = random.Random(seed)
    people = [f"U{number:02}" for number in range(raters)]
    good = {f"a{number}": draw.random() < 0.75 for number in range(answers)}
    rows = {
        key: [
            Vote(person, 1 if (draw.random() < 0.85) == is_good else -1)
            for person in draw.sample(people, draw.choice((1, 2, 3)))
        ]
        for key, is_good in good.items()
    }
    return Team(rows, good, draw)


def with_hostile(team: Team, way: str, people: Sequence[str]) -> Rows:
    """The rows with 5 % of all ratings by hostile people (each of them): what they do is `way`."""
    mine = round(team.votes * 0.05 / 0.95)
    rows = {key: list(row) for key, row in team.rows.items()}
    planted = {"reversed": 0, "planted": mine, "both": mine // 2, "hidden": mine // 4}[way]
    seen = team.draw.sample(sorted(rows), mine - planted)
    for place, key in enumerate(seen):
        honest_here = way == "hidden" and place < 2 * planted
        for person in people:
            rows[key].append(Vote(person, 1 if team.good[key] == honest_here else -1))
    for number in range(planted):
        rows[f"bad{number}"] = [Vote(person, 1) for person in people]
    return rows


def weighed(rows: Rows) -> Weights:
    raters = Raters()
    for row in rows.values():
        raters.add(row)
    return raters.weigh()


def settled(rows: Rows, *, weights: Weights | None = None, cap: float = RATER_CAP) -> Settled:
    caps = Caps(weights or weighed(rows), salt=SALT, rules=CapRules(rater=cap))
    for key, row in rows.items():
        caps.rated(key, row)
    return caps.settle()


def dataset(rows: Rows, *, weights: Weights | None = None, cap: float = RATER_CAP) -> set[str]:
    """The rows that a dataset of these answers has."""
    done = settled(rows, weights=weights, cap=cap)
    return {key for key, row in rows.items() if done.label(key, row).value > 0}


@pytest.mark.parametrize("people", [(MAL,), (MAL, MEL)], ids=["one", "a pair"])
@pytest.mark.parametrize("way", ["reversed", "planted", "both", "hidden"])
@pytest.mark.parametrize("seed", [1, 2])
def test_hostile_raters_move_no_more_than_the_cap(way: str, people: tuple[str, ...], seed: int) -> None:
    """The dataset with and without somebody who gives 5 % of all ratings, and what they move without the cap."""
    team = honest(seed)
    attacked = with_hostile(team, way, people)
    without, with_them = dataset(team.rows), dataset(attacked)
    uncapped = dataset(attacked, cap=1.0)
    moved, free = len(without ^ with_them), len(without ^ uncapped)
    allowed = len(people) * max(FLOOR, RATER_CAP * len(with_them))
    print(
        f"\n{way}, {len(people)} hostile: {len(without)} rows without, {len(with_them)} with them; "
        f"{moved} differ, {allowed:.0f} may; {free} differ without the cap"
    )
    assert moved <= allowed
    if way == "planted":
        assert free > allowed, "the attack is strong enough for the cap to matter"
        assert moved > 0
    if way == "reversed":
        assert moved == 0, "who always says the opposite is not heard at all"


def influence(rows: Rows, done: Settled, weights: Weights, person: str) -> int:
    """In how many rows of the settled dataset this person's vote decides, counted by leaving it out of each."""
    decided = 0
    for key, row in rows.items():
        if not any(vote.rater == person for vote in row):
            continue
        now_in = done.label(key, row).value > 0
        others = [vote for vote in row if vote.rater != person]
        decided += now_in != (weights.label(others).value > 0) and now_in
    return decided


@pytest.mark.parametrize("seed", range(4))
def test_nobody_decides_more_rows_than_the_allowance(seed: int) -> None:
    """Counted anew for everybody: rows that are in, and would not be without this one person."""
    team = honest(seed, raters=60, answers=900)
    rows = {key: list(row) for key, row in team.rows.items()}
    for number in range(300):
        rows[f"more{number}"] = [Vote("Zoe", 1)]
        if number % 3 == 0:
            rows[f"more{number}"].append(Vote("Yan", 1))
    weights = weighed(rows)
    done = settled(rows, weights=weights)
    allowance = done.allowed["rated"]
    everybody = {vote.rater for row in rows.values() for vote in row}
    assert {each.person for each in done.capped["rated"]} == {"Yan", "Zoe"}
    assert allowance.rows <= max(FLOOR, RATER_CAP * len(dataset(rows)))
    assert max(influence(rows, done, weights, person) for person in everybody) <= allowance.rows


def test_a_veto_is_capped_as_well() -> None:
    """Who alone keeps out more rows than one person may is not heard in the others: these come in."""
    rows = {f"a{number}": [Vote(f"U{number % 50:02}", 1)] for number in range(1000)}
    free = dataset(rows, weights=Weights({}))
    for number in range(400):
        rows[f"a{number}"].append(Vote(MAL, -1))
    done = settled(rows, weights=Weights({}))
    left = {key for key, row in rows.items() if done.label(key, row).value > 0}
    assert len(free) == 1000
    assert 0.03 * len(left) < len(free - left) <= 0.05 * len(left)
    assert done.capped["rated"][0].person == MAL


def test_two_who_always_agree_decide_twice_as_much_and_no_more() -> None:
    """Neither of them is needed for any of their rows, and still they do not come in without end."""
    rows = {f"a{number}": [Vote(f"U{number % 50:02}", 1)] for number in range(1000)}
    rows |= {f"bad{number}": [Vote(MAL, 1), Vote(MEL, 1)] for number in range(500)}
    found = dataset(rows, weights=Weights({}))
    planted = sum(key.startswith("bad") for key in found)
    assert 0.09 * len(found) < planted <= 0.10 * len(found)


@pytest.mark.parametrize(
    ("raters", "share"), [(1, 1.0), (2, 1.0), (3, 2 / 3), (10, 0.2), (20, 0.1), (40, 0.05), (80, 0.05)]
)
def test_a_small_team_is_not_left_without_a_dataset(raters: int, share: float) -> None:
    """People who rate about as much as each other lose nothing, however few they are."""
    rows = {f"a{number}": [Vote(f"U{number % raters:02}", 1)] for number in range(raters * 20)}
    done = settled(rows, weights=Weights({}))
    assert done.allowed["rated"].share == pytest.approx(share)
    assert sum(done.label(key, row).value > 0 for key, row in rows.items()) == len(rows)


def test_of_three_raters_one_cannot_drown_the_others() -> None:
    """900 rows by one and 50 by each of the others: two thirds of what is left are the most."""
    names = ["Big"] * 900 + ["Ann"] * 50 + ["Ben"] * 50
    rows = {f"a{number}": [Vote(name, 1)] for number, name in enumerate(names)}
    found = Counter(rows[key][0].rater for key in dataset(rows, weights=Weights({})))
    assert found["Ann"] == found["Ben"] == 50
    assert 190 <= found["Big"] <= 200


def test_the_floor() -> None:
    """However small the dataset, five rows are always one person's to decide."""
    rows = {f"a{number}": [Vote(f"U{number % 12}", 1)] for number in range(12 * FLOOR)}
    rows |= {f"m{number}": [Vote("Max", 1)] for number in range(50)}
    done = settled(rows, weights=Weights({}), cap=0.0)
    few = settled({key: rows[key] for key in list(rows)[:20]}, weights=Weights({}), cap=0.0)
    assert done.allowed["rated"].rows == int(2 / 13 * done.allowed["rated"].of)
    assert few.allowed["rated"].rows >= FLOOR


def test_which_rows_stay_is_nobodys_choice() -> None:
    """A salted hash decides: the order of giving does not matter, another salt keeps other rows."""
    rows = {f"a{number}": [Vote(f"U{number % 50:02}", 1)] for number in range(1000)}
    rows |= {f"bad{number}": [Vote(MAL, 1)] for number in range(400)}
    backwards = dict(reversed(rows.items()))
    first, second = dataset(rows), dataset(backwards)
    assert first == second
    caps = Caps(weighed(rows), salt="another")
    for key, row in rows.items():
        caps.rated(key, row)
    other = caps.settle()
    kept = {key for key, row in rows.items() if other.label(key, row).value > 0}
    assert len(kept) == len(first)
    assert kept != first
    early = [int(key[3:]) for key in first if key.startswith("bad")]
    assert min(early) < 50 < 350 < max(early)


def test_imports_and_reviewed_rows_are_nobodys() -> None:
    """They make the dataset larger, so a person may decide more rows, and are never left out."""
    rows = {f"a{number}": [Vote(f"U{number % 50:02}", 1)] for number in range(1000)}
    rows |= {f"bad{number}": [Vote(MAL, 1)] for number in range(400)}
    caps = Caps(Weights({}), salt=SALT)
    for key, row in rows.items():
        caps.rated(key, row)
    caps.free(4000)
    done = caps.settle()
    planted = sum(done.label(key, row).value > 0 for key, row in rows.items() if key.startswith("bad"))
    assert planted == done.allowed["rated"].rows == pytest.approx(0.05 * 5260, abs=5)


def test_one_author_writes_no_more_than_their_share() -> None:
    """Words have a cap of their own, a fifth of the dataset; ratings and words together make the dataset."""
    caps = Caps(Weights({}), salt=SALT)
    for number in range(600):
        caps.rated(f"a{number}", [Vote(f"U{number % 50:02}", 1)])
    for number in range(100):
        caps.written(f"c{number}", f"W{number % 10}")
    for number in range(700):
        caps.written(f"big{number}", "Wes")
    done = caps.settle()
    theirs = sum(done.keeps(f"big{number}") for number in range(700))
    others = sum(done.keeps(f"c{number}") for number in range(100))
    assert others == 100
    assert theirs <= AUTHOR_CAP * (600 + others + theirs)
    assert theirs > 0.9 * AUTHOR_CAP * (600 + others + theirs)
    assert [(each.person, each.wanted) for each in done.capped["written"]] == [("Wes", 700.0)]


def test_an_expert_is_capped_like_anybody() -> None:
    """Their word counts double in a row; it does not decide more rows."""
    rows = {f"a{number}": [Vote(f"U{number % 50:02}", 1)] for number in range(1000)}
    rows |= {f"e{number}": [Vote("Eva", 1), Vote("U01", -1)] for number in range(200)}
    weights = Weights({}, experts={"Eva"})
    done = settled(rows, weights=weights)
    by_expert = sum(done.label(key, row).value > 0 for key, row in rows.items() if key.startswith("e"))
    assert 0 < by_expert <= done.allowed["rated"].rows
    assert Weights({}).label(rows["e0"]).value == 0


def test_nothing_at_all_settles() -> None:
    """No rows, or none that anybody likes."""
    caps = Caps(Weights({}), salt=SALT)
    caps.rated("a", [Vote("Ann", -1)])
    done = caps.settle()
    assert done.label("a", [Vote("Ann", -1)]).value == -1
    assert done.label("never given", [Vote("Ann", 1)]).value == 0
    assert not done.keeps("never given")
