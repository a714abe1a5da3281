"""Which example counts for each question, and which of those the caps leave in: for all rows of a freeze at once.

`training.examples.choose` and `training.caps` say what is right; what comes a million times (a question asked once, one vote
on its answer) is decided here in arrays, everything else is handed to them.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from storage.feedback import Vote
from training.caps import CapRules, Caps, Settled
from training.dataset_items import DECLARED, EXAMPLE, KEY_BYTES, Items
from training.dataset_spool import Picked
from training.examples import DISTILLED, RATED, REVIEWED, Contender, Weigh, choose
from training.raters import DISLIKED, Label, Weights

if TYPE_CHECKING:
    Array = NDArray[Any]

TOO_MANY_OF_ONE = "one person would have written more rows than one person may"


class Heard(NamedTuple):
    """The weight of everything that was picked, 0 where it is left out; how many people rate regularly."""

    weights: "Array"
    regulars: int


def in_order(items: Items) -> "Array":
    """The rows by their questions; of one question the examples first, the best and newest first."""
    digits = items.keys.view(">u8").reshape(len(items), KEY_BYTES // 8).astype(np.uint64)
    columns = [digits[:, place] for place in range(digits.shape[1])]
    order = np.lexsort((-items.said_at, items.ranks, items.kinds, *reversed(columns)))
    alike = np.ones(max(0, len(order) - 1), bool)
    for column in (*columns, items.kinds, items.ranks, items.said_at):
        ordered = column[order]
        alike &= ordered[1:] == ordered[:-1]
    return _by_subject(items, order, np.flatnonzero(alike))


def _by_subject(items: Items, order: "Array", again: "Array") -> "Array":
    """`again` are the places of rows which nothing but their names tells from the next one."""
    begins = np.flatnonzero(np.diff(again, prepend=-2) != 1)
    lengths = np.diff(begins, append=len(again)) + 1
    for start, length in zip(again[begins].tolist(), lengths.tolist(), strict=True):
        rows = order[start : start + length]
        subjects = [each.subject for each in items.read(rows)]
        order[start : start + length] = rows[sorted(range(length), key=subjects.__getitem__)]
    return order


def picked(items: Items, order: "Array", weigh: Weigh, left_out: Counter[str]) -> Picked:
    """The example that counts for each question that has one, in the order of the questions."""
    rows = order[items.kinds[order] == EXAMPLE]
    keys = items.keys[rows]
    first = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]][: len(rows)])
    sizes = np.diff(first, append=len(rows))
    declared = items.declared[rows[first]]
    chosen = rows[first]
    weights = np.full(len(first), -1.0)
    alone = sizes == 1
    weights[alone] = _weights_alone(items, chosen[alone], weigh, left_out)
    for place in np.flatnonzero(~alone).tolist():
        group = rows[first[place] : first[place] + sizes[place]].tolist()
        found = choose([_contender(items, row) for row in group], weigh, left_out)
        if found is not None:
            chosen[place], weights[place] = found.place, found.weight
            declared[place] = DECLARED.index(found.declared)
    there = weights >= 0
    return Picked(chosen[there], weights[there], declared[there])


def _contender(items: Items, row: int) -> Contender:
    asker = items.people[int(items.askers[row])]
    split = DECLARED[int(items.declared[row])]
    return Contender(row, int(items.ranks[row]), split, asker, items.votes_of(row))


def _weights_alone(items: Items, rows: "Array", weigh: Weigh, left_out: Counter[str]) -> "Array":
    """The weights of examples that are the only ones of their questions; -1 for one that does not count."""
    weights = np.ones(len(rows))
    rated = np.flatnonzero(items.ranks[rows] == RATED)
    one = items.votes[rows[rated]] == 1
    once = rated[one]
    weights[once] = _weights_of_one(items, rows[once], weigh, left_out)
    for place in rated[~one].tolist():
        row = int(rows[place])
        votes = items.votes_of(row)
        weights[place] = _hoped(votes, weigh(votes, items.people[int(items.askers[row])]), left_out)
    return weights


def _weights_of_one(items: Items, rows: "Array", weigh: Weigh, left_out: Counter[str]) -> "Array":
    """Of rows with one vote: there are only as many cases as people, and thumbs."""
    votes = items.first_vote[rows]
    cases, of_case, counts = np.unique(
        items.voters[votes].astype(np.int64) * 2 + (items.values[votes] > 0),
        return_inverse=True,
        return_counts=True,
    )
    weights = np.empty(len(cases))
    for place, (case, count) in enumerate(zip(cases.tolist(), counts.tolist(), strict=True)):
        alone = [Vote(items.people[case >> 1], 1 if case & 1 else -1)]
        missed: Counter[str] = Counter()
        weights[place] = _hoped(alone, weigh(alone, ""), missed)
        for reason in missed:
            left_out[reason] += count
    return weights[of_case]


def _hoped(votes: Sequence[Vote], label: Label, left_out: Counter[str]) -> float:
    """As `choose` decides about the only example of a question: its weight, 0 where it may hope, -1 where it is out."""
    if label.value > 0:
        return label.weight
    if any(vote.value > 0 for vote in votes):
        return 0.0
    left_out[label.reason or DISLIKED] += 1
    return -1.0


def capped(
    items: Items,
    found: Picked,
    weights: Weights,
    *,
    salt: str,
    rules: CapRules | None,
    left_out: Counter[str],
) -> Heard:
    """What everything that was picked weighs with everybody heard as far as the caps allow."""
    rows, final = found.rows, found.weights.copy()
    ranks = items.ranks[rows]
    rated = ranks == RATED
    written = ~rated & (items.writers[rows] != 0) & (ranks != REVIEWED)
    settled = _settled(items, rows, rated, written, Caps(weights, salt=salt, rules=rules))
    final[~rated] = 1.0
    for place in np.flatnonzero(written).tolist():
        if not settled.keeps(items.key(int(rows[place]))):
            final[place] = 0.0
            left_out[TOO_MANY_OF_ONE] += 1
    busy = {each.person for each in settled.capped["rated"]}
    again = rated & (_voted_on(items, rows, busy) | (found.weights == 0))
    for place in np.flatnonzero(again).tolist():
        row = int(rows[place])
        asker = items.people[int(items.askers[row])]
        label = settled.label(items.key(row), items.votes_of(row), asker)
        final[place] = label.weight if label.value > 0 else 0.0
        if label.value <= 0:
            left_out[label.reason or DISLIKED] += 1
    return Heard(final, settled.allowed["rated"].regulars)


def _settled(items: Items, rows: "Array", rated: "Array", written: "Array", caps: Caps) -> Settled:
    # What teachers said is nobody's word, and makes no person's share larger.
    caps.free(int((~rated & ~written & (items.ranks[rows] != DISTILLED)).sum()))
    for row in rows[written].tolist():
        caps.written(items.key(row), items.people[int(items.writers[row])])
    votes = items.votes[rows]
    once = rows[rated & (votes == 1)]
    caps.rated_once(
        [each.decode() for each in items.keys[once].tolist()],
        [items.people[voter] for voter in items.voters[items.first_vote[once]].tolist()],
        items.values[items.first_vote[once]].tolist(),
    )
    for row in rows[rated & (votes != 1)].tolist():
        caps.rated(items.key(row), items.votes_of(row))
    return caps.settle()


def _voted_on(items: Items, rows: "Array", people: set[str]) -> "Array":
    """On which of these rows somebody of these people voted."""
    theirs = np.array([person in people for person in items.people], bool)
    before = np.concatenate([[0], np.cumsum(theirs[items.voters])])
    first = items.first_vote[rows]
    found: Array = before[first + items.votes[rows]] > before[first]
    return found
