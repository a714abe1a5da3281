"""The answers that people disliked, as far as one person may decide so: what a model learns not to say (KTO).

The rules are those of liked answers, seen from the other side: the votes are turned round, weighed by the reliability of
their raters, and nobody decides more of these rows than the cap allows (`training.caps`).
"""

from typing import TYPE_CHECKING, Any

from storage.feedback import Vote
from training.caps import Caps
from training.dataset_items import EXAMPLE, Items
from training.examples import RATED
from training.raters import Weights

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

AT_ONCE = 5000


def disliked(items: Items, kept: "Array", weights: Weights, caps: Caps) -> "Array":
    """The rows (ascending) of rated answers that are disliked; `kept` are those that are in the dataset as examples."""
    import numpy as np

    there = np.zeros(len(items), bool)
    there[kept] = True
    rated = np.flatnonzero((items.kinds == EXAMPLE) & (items.ranks == RATED) & ~there & (items.votes > 0))
    rows = rated[_are_disliked(items, rated, weights)]
    # Known by the answer's id, which is the same wherever the row lies.
    subjects = [
        record[0]
        for start in range(0, len(rows), AT_ONCE)
        for record in items.raw(rows[start : start + AT_ONCE])
    ]
    for row, subject in zip(rows.tolist(), subjects, strict=True):
        caps.rated(subject, _turned(items.votes_of(row)))
    settled = caps.settle()
    heard = [
        settled.label(subject, _turned(items.votes_of(row))).value > 0
        for row, subject in zip(rows.tolist(), subjects, strict=True)
    ]
    return np.asarray(rows[np.array(heard, bool)], np.intp)


def _are_disliked(items: Items, rows: "Array", weights: Weights) -> "Array":
    """Whether the votes on each row say so, as they are weighed."""
    import numpy as np

    found = np.zeros(len(rows), bool)
    once = items.votes[rows] == 1
    votes = items.first_vote[rows[once]]
    doubted = np.array([not weights.weight(person) for person in items.people], bool)
    found[once] = (items.values[votes] < 0) & ~doubted[items.voters[votes]]
    for place in np.flatnonzero(~once).tolist():
        row = int(rows[place])
        asker = items.people[int(items.askers[row])]
        found[place] = weights.label(items.votes_of(row), asker).value < 0
    return found


def _turned(votes: list[Vote]) -> list[Vote]:
    return [Vote(vote.rater, -vote.value) for vote in votes]
