"""What a report says beside the scores: refusals, the judge's word, probes, topics. Pure.

The parts are read from an evaluation's sheet; a sheet of before has none of them, and then nothing is said.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bot.slack import report_text as words
from bot.slack.blocks import Block, section
from bot.slack.report_text import ARM_NAMES
from storage.redaction import redact

PARTS = ("refusals", "topics", "probes", "judge")
PROBES: Mapping[str, str] = {
    "leaks": "leaks of personal data and secrets",
    "sycophancy": "being talked out of right answers",
    "forgetting": "forgetting general questions",
}
TOPICS_SHOWN = 8
TOO_FEW_PICKED = "The team has picked too few pairs itself (10 are needed) to say how far it agrees."
Beside = Mapping[str, Any]


def of(sheet: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a sheet as JSON that stand beside its rows."""
    return {name: sheet[name] for name in PARTS if sheet.get(name) is not None}


def refusal_share(beside: Beside, arm: str) -> float | None:
    """The share of an arm's answers that refuse; None where that was not counted."""
    counted = (beside.get("refusals") or {}).get(arm)
    return float(counted["share"]) if counted else None


def lines(beside: Beside) -> list[str]:
    """The essence, one plain line each: what blocks first, then the judge."""
    said = [probes_line(beside), judge_line(beside)]
    return [line for line in said if line]


def probes_line(beside: Beside) -> str:
    """Which probes blocked; otherwise how each ended."""
    probes = beside.get("probes")
    if not probes:
        return ""
    if probes["blocked"]:
        return f":no_entry: Blocked by a probe. {'; '.join(probes['blocked'])}."
    ended = [f"{PROBES[name]}: {probes[name]['status']}" for name in PROBES if name in probes]
    return f"Probes: {', '.join(ended)}."


def judge_line(beside: Beside) -> str:
    """Who won before the judge, with the interval; or why nothing was judged."""
    judge = beside.get("judge")
    if not judge:
        return ""
    n = judge.get("wins", 0) + judge.get("ties", 0) + judge.get("losses", 0)
    if not n:
        return f"Not judged: {words.literal(judge.get('not_judged') or 'there was nothing to judge')}"
    ours, theirs = (_arm(judge[side]) for side in ("arm", "against"))
    return (
        f"Judge {words.literal(judge['model'])}: {ours} better than {theirs} in {judge['wins']} of {n} pairs, worse in "
        f"{judge['losses']}, a tie in {judge['ties']}; win rate {_rate(judge['win_rate'])}, "
        f"at equal length {_rate(judge['win_rate_of_equal_length'])}."
    )


def details(beside: Beside) -> list[Block]:
    """Sections for the thread."""
    parts = [("The probes", _probes(beside)), ("The judge", _judge(beside)), ("By topic", topics(beside))]
    return [section(f"*{title}*\n{text}"[:2_900]) for title, text in parts if text]


def _probes(beside: Beside) -> str:
    probes = beside.get("probes") or {}
    told = []
    for name, title in PROBES.items():
        if probe := probes.get(name):
            counted = ", ".join(f"{what} {count}" for what, count in probe["figures"].items())
            reason = f": {probe['reason']}" if probe["reason"] else ""
            told.append(f"• {title.capitalize()}: {probe['status']}{reason} ({counted})")
    return "\n".join(told)


def _judge(beside: Beside) -> str:
    judge = beside.get("judge") or {}
    if not judge.get("pairs"):
        return judge_line(beside)
    order, team = judge["order"], judge.get("team")
    told = [
        judge_line(beside),
        "Every pair was shown in both orders, and only what won in both counts. "
        f"It said the same in {_share(order['agree'])}; "
        f"what stood first won both times in {100 * order['first']:.0f} %, what stood second in "
        f"{100 * order['second']:.0f} %; {order['unread']} could not be read.",
        _team(team) if team else TOO_FEW_PICKED,
        f"Refusals by its word: {_arm(judge['arm'])} {100 * judge['refused']['ours']:.0f} %, "
        f"{_arm(judge['against'])} {100 * judge['refused']['theirs']:.0f} %.",
        _paid(judge),
    ]
    return "\n".join(f"• {line}" for line in told)


def _team(team: Mapping[str, Any]) -> str:
    origins = ", ".join(
        f"{ORIGINS.get(origin, origin)} {found['agree']} of {found['n']}"
        for origin, found in team["by_origin"].items()
    )
    return (
        f"It agrees with the team's own picks in {_share(team['raw'])} ({origins}); kappa {team['kappa']:.2f}, "
        f"{team['kappa_low']:.2f} to {team['kappa_high']:.2f} (0 is chance, 1 always)."
    )


ORIGINS: Mapping[str, str] = {"duel": "duels", "correction": "corrections"}


def _paid(judge: Mapping[str, Any]) -> str:
    left = [
        f"{judge['over_the_limit']} pairs over JUDGE_LIMIT were left out"
        if judge.get("over_the_limit")
        else "",
        f"{judge['private']} from private channels were not shown to it" if judge.get("private") else "",
    ]
    more = "".join(f"; {each}" for each in left if each)
    asked = f"{judge['calls']} questions to it cost ${judge['cost_usd']:.4f}{more}"
    return f"{asked}. Its instructions: sha256 `{judge['prompt_sha256'][:12]}`."


def topics(beside: Beside) -> str:
    """Token F1 of every arm, topic by topic."""
    told = []
    for topic in (beside.get("topics") or [])[:TOPICS_SHOWN]:
        scored = ", ".join(
            f"{_arm(arm)} {words.points(scores['token_f1'])}" for arm, scores in topic["scores"].items()
        )
        name = words.literal(redact(str(topic["name"])).text)
        told.append(f"• {name} ({_questions(len(topic['examples']))}): {scored}")
    more = len(beside.get("topics") or []) - TOPICS_SHOWN
    if more > 0:
        told.append(f"• and {more} more topics")
    return "\n".join(told)


def topic_rows(beside: Beside, arms: Sequence[str]) -> list[list[str]]:
    """The same as a table: a header, then a row for each topic."""
    rows = [["Topic", "questions", *(_arm(arm) for arm in arms)]]
    for topic in beside.get("topics") or []:
        scored = [f"{topic['scores'][arm]['token_f1']:.3f}" if arm in topic["scores"] else "" for arm in arms]
        rows.append([str(topic["name"]), str(len(topic["examples"])), *scored])
    return rows


def _arm(name: str) -> str:
    return ARM_NAMES.get(name, words.literal(name))


def _rate(share: Mapping[str, Any]) -> str:
    if share["share"] is None:
        return "unknown"
    return f"{100 * share['share']:.0f} % ({100 * share['low']:.0f} to {100 * share['high']:.0f})"


def _share(share: Mapping[str, Any]) -> str:
    return f"{_rate(share)} of {share['n']}"


def _questions(count: int) -> str:
    return f"{count} question" if count == 1 else f"{count} questions"
