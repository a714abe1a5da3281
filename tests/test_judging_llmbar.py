"""Recorded verdicts of published judges (LLMBar, Zeng et al. 2023), through our rule: the paper's figures come out."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from training.judging import Pair, Side, position_bias, win_rate

Verdicts = Mapping[tuple[str, str, str], list[Pair]]


@pytest.fixture(scope="module")
def recorded(shared_data: Path) -> Verdicts:
    """(judge, strategy, subset) -> pairs in which "ours" is the output that people called better."""
    folder = shared_data / "judge_llmbar"
    if not folder.exists():
        pytest.skip("the recorded verdicts of LLMBar are not beside this checkout")
    pairs = {row["id"]: row for row in map(json.loads, (folder / "pairs.jsonl").open(encoding="utf-8"))}
    found: dict[tuple[str, str, str], list[Pair]] = {}
    for row in map(json.loads, (folder / "verdicts.jsonl").open(encoding="utf-8")):
        pair = pairs[row["id"]]

        def side(winner: object, label: str = str(pair["label"])) -> Side:
            if winner not in ("1", "2"):
                return Side.UNREAD
            return Side.OURS if winner == label else Side.THEIRS

        # A pair is "as given" where ours stood first: for a better second output that is their swapped order.
        orders = [side(row["winner_as_given"]), side(row["winner_swapped"])]
        longer = len(pair["output_1"]) - len(pair["output_2"])
        if str(pair["label"]) == "2":
            orders, longer = orders[::-1], -longer
        key = (row["judge"], row["strategy"], pair["subset"])
        found.setdefault(key, []).append(Pair(row["id"], orders[0], orders[1], longer))
    return found


@pytest.mark.parametrize(
    ("judge", "strategy", "accuracy", "agree"),
    [
        ("GPT-4", "Vanilla", 0.955, 0.95),
        ("GPT-4", "Metrics_Reference", 0.96, 0.96),
        ("GPT-4", "Swap_CoT", 0.94, 1.0),
        ("ChatGPT", "Vanilla", 0.815, 0.71),
        ("LLaMA2", "Vanilla", 0.805, 0.79),
        ("Falcon", "CoT", 0.57, 0.14),
    ],
)
def test_the_papers_figures_come_out(
    recorded: Verdicts, judge: str, strategy: str, accuracy: float, agree: float
) -> None:
    """Agreement with people (a tie counting half) and agreement with itself in the other order, on Natural."""
    pairs = recorded[judge, strategy, "LLMBar/Natural"]
    assert len(pairs) == 100
    rate, bias = win_rate(pairs), position_bias(pairs)
    assert (rate.wins + rate.ties / 2) / 100 == pytest.approx(accuracy)
    assert bias.agree.share == pytest.approx(agree)
    assert bias.agree.low < agree <= bias.agree.high
    assert bias.first + bias.second == pytest.approx(1 - agree)


def test_the_rule_makes_a_judge_more_right_and_never_hides_its_ties(recorded: Verdicts) -> None:
    """In every one of the record's sets, what is left after the rule is at least as often right as one order alone."""
    for key, pairs in recorded.items():
        readable = [pair for pair in pairs if pair.verdict is not Side.UNREAD]
        decided = [pair for pair in readable if pair.verdict is not Side.TIE]
        alone = sum(pair.as_given is Side.OURS for pair in readable) / len(readable)
        swapped = sum(pair.swapped is Side.OURS for pair in readable) / len(readable)
        kept = sum(pair.verdict is Side.OURS for pair in decided) / len(decided)
        assert kept >= (alone + swapped) / 2 - 1e-9, key
        assert position_bias(pairs).unread == len(pairs) - len(readable), key


def test_a_weak_judges_love_of_a_place_is_seen(recorded: Verdicts) -> None:
    """Falcon with chain of thought prefers whatever stands first in 86 of 100 pairs: no judge at all."""
    bias = position_bias(recorded["Falcon", "CoT", "LLMBar/Natural"])
    assert bias.first == pytest.approx(0.86)
    assert bias.second == 0.0
