"""Every sentence of reports and of what admins decide about them. Pure, plain, short, kind."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from bot.slack.text import escape
from bot.train_options import READERS
from storage.records import Canary, CanaryState, Decision, Promotion, TrainingRun
from storage.values import who

METRICS: Mapping[str, str] = {
    "exact_match": "Exact match",
    "token_f1": "Token F1",
    "rouge_l": "ROUGE-L",
    "chrf": "chrF",
}
ARM_NAMES: Mapping[str, str] = {
    "base": "Base",
    "current": "Current",
    "challenger": "Challenger",
    "memory": "Memory",
}
MENTION = re.compile(r"&lt;@([UW][A-Z0-9]+)&gt;")

RUN_GONE = "That training run is no longer there."
MODEL_GONE = "That model is no longer there. `/apprentice models` lists what there is."
WHICH_MODEL = "Which one? `/apprentice models` lists them; then `/apprentice promote NAME`."
METHOD = (
    "Every model answered the same held-out questions, through the code that answers people. Differences are paired by "
    "question; their intervals come from resampling whole topics (4,000 times, expanded percentiles after Hesterberg 2015), "
    "because phrasings of one question stand or fall together. Scores compare words, not meaning."
)
CHARTS_IN_THREAD = "This workspace does not take charts in messages yet, so they are pictures in the thread."
NO_CHARTS = (
    "This workspace does not take charts in messages yet, and pictures of them need matplotlib where I run: "
    "`pip install 'apprentice-bot[charts]'`."
)


def literal(words: str) -> str:
    """Words as mrkdwn shows them literally; mentions of people stay mentions."""
    return MENTION.sub(r"<@\1>", escape(words))


def points(share: float) -> str:
    """A score of 0 to 1 as points of 100."""
    return f"{100 * share:.1f}"


def difference(share: float) -> str:
    """A difference of scores, with its sign."""
    return f"{100 * share:+.1f}"


def difference_line(verdict: Mapping[str, Any]) -> str:
    """The difference to what serves now, with its interval and what it rests on; and to memory."""
    gain = verdict.get("gain")
    if not gain:
        return ""
    metric = METRICS.get(str(verdict.get("metric")), str(verdict.get("metric")))
    line = f"{metric}, challenger minus current: {_signed(gain)} ({gain['n']} held-out questions, {gain['clusters']} topics)"
    if verdict.get("over_memory"):
        line += f" · minus memory: {_signed(verdict['over_memory'])}"
    return line


def agreed(verdict: Mapping[str, Any]) -> str:
    """What was agreed before the first answer, and how the challenger did by it; "" for a verdict without an agreement."""
    if not verdict.get("specification"):
        return ""
    tests = [
        f"{METRICS.get(str(each['metric']), each['metric'])} p {_chance(each['p_holm'])} "
        f"(not worse: {_chance(each['p_not_worse'])})"
        for each in verdict.get("tests", ())
    ]
    found = f" · {points(verdict['detectable'])} points would have been found in 4 of 5 cases" * bool(
        verdict.get("gain")
    )
    return (
        f"Agreed beforehand (specification `{str(verdict['specification'])[:8]}`): better in {verdict['axis']}, "
        f"not worse in any metric, at {verdict['alpha']:.2%} of the quarter's 5 %. {' · '.join(tests)}{found}"
    ).strip()


def _chance(p: float) -> str:
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"


def _signed(gain: Mapping[str, Any]) -> str:
    interval = gain["interval"]
    return f"{gain['mean']:+.3f}, {100 * interval['level']:.0f} % interval {interval['low']:+.3f} to {interval['high']:+.3f}"


def verdict(outcome: str) -> str:
    """How a run or an evaluation ended, in a word or two; "" while it has not."""
    return {
        "promote": "Verdict: promote.",
        "keep": "Verdict: keep what serves now.",
        "not enough evidence": "Verdict: not enough evidence.",
        "failed": "The run failed.",
        "cancelled": "The run was cancelled.",
        "declined": "The run was declined.",
    }.get(outcome, "")


def reason(outcome: str, why: str) -> str:
    """The reason that follows the verdict, without saying the verdict again."""
    bare = why.removeprefix(f"{outcome.capitalize()} yet: ")
    return literal(bare)


def closest(names: Sequence[str], share: float) -> str:
    """Who scored best in an evaluation without a challenger; several where they are level."""
    verb = "is" if len(names) == 1 else "are"
    return f"{' and '.join(names)} {verb} closest to the verified answers: token F1 {points(share)} of 100."


def span(seconds: float) -> str:
    """A length of time: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def clock(moment: datetime, beside: datetime) -> str:
    """The time of day in UTC; with the date where that is not the day of `beside`."""
    if moment.date() == beside.date():
        return f"{moment:%H:%M} UTC"
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def people(actors: Sequence[str]) -> str:
    """Several people, each once."""
    return " and ".join(dict.fromkeys(who(actor) for actor in actors))


def promoted(promotion: Promotion, approved: Sequence[Decision], name: str, beside: datetime) -> str:
    """Who promoted, and when."""
    by = people([*(each.actor for each in approved), promotion.by])
    return f"Promoted by {by} {clock(promotion.promoted_at, beside)}: {name} serves from then on."


def rolled_back(promotion: Promotion, name: str, beside: datetime) -> str:
    """Who rolled a promotion back, and when."""
    return f"Rolled back by {who(promotion.by)} {clock(promotion.promoted_at, beside)}: {name} serves again."


def kept(decision: Decision, beside: datetime) -> str:
    """Who decided to change nothing, and when."""
    return f"Kept what serves now: decided by {who(decision.actor)} {clock(decision.decided_at, beside)}."


def approved(approval: Decision, beside: datetime, *, admins: int) -> str:
    """The first of two approvals."""
    lonely = "" if admins > 1 else " ADMIN_USERS names only one admin; add a second."
    return f"Approved by {who(approval.actor)} {clock(approval.decided_at, beside)}; one more admin is needed.{lonely}"


def canary(canary: Canary, name: str, beside: datetime) -> str:
    """A canary of a report's challenger: going on, or how it ended."""
    since = clock(canary.started_at, beside)
    if canary.state is CanaryState.WATCHING:
        return f"{name} answers {canary.share:.0%} of the threads since {since} ({who(canary.started_by)})."
    ended = clock(canary.ended_at, beside) if canary.ended_at else since
    return f"Its canary ended {ended} ({canary.state.value}): {literal(canary.reason)}."


def begun(name: str, share: float) -> str:
    """The receipt of a canary."""
    return (
        f"{name} answers {share:.0%} of the threads from the next question on. How it does is in the admin channel; "
        "`/apprentice rollback` ends it."
    )


def canary_over(name: str) -> str:
    """The receipt of a canary that an admin ended."""
    return f"The canary of {name} is over; what serves beside it answers every thread again."


def serves_now(name: str) -> str:
    """What answers today, under a report that was overtaken."""
    return f"{name} serves now."


def overtaken(name: str) -> str:
    """Under a comparison with something that serves no more."""
    return f"{name} serves now. It was promoted after this comparison was made."


def one_more_needed(name: str, *, again: bool, admins: int) -> str:
    """To who approved first: nothing has happened yet."""
    began = "You have approved that already" if again else f"Your approval of {name} is noted"
    lonely = "" if admins > 1 else " ADMIN_USERS names only one admin; whoever runs me can add a second."
    then = f"a promotion needs two admins, so one more has to press Promote or type `/apprentice promote {name}`."
    return f"{began}; {then}{lonely}"


def promoted_already(promotion: Promotion) -> str:
    """To who presses after somebody else."""
    return f"{who(promotion.by)} has promoted it already."


def kept_already(decision: Decision) -> str:
    """To who presses after somebody else."""
    return f"{who(decision.actor)} has decided to keep what serves. `/apprentice promote NAME` can still promote it."


def too_late_to_keep(promotion: Promotion) -> str:
    """Keep, pressed after Promote."""
    return f"{who(promotion.by)} has promoted it already. Roll back brings back what served before."


def not_serving(name: str, serving: str) -> str:
    """Roll back, pressed where there is nothing to roll back any more."""
    return f"{name} does not serve any more; {serving} does."


def serves_already(name: str) -> str:
    """Promote by name what serves already."""
    return f"{name} serves already."


def from_next_question(name: str) -> str:
    """The receipt of a promotion by name."""
    return f"{name} serves from the next question on."


def again_from_next_question(name: str) -> str:
    """The receipt of a rollback."""
    return f"{name} serves again from the next question on."


def buttons_for_admins(admins: Sequence[str]) -> str:
    """A kind refusal that says whom to ask."""
    if not admins:
        return "These buttons are for admins, and none is set yet. Whoever runs me puts Slack user ids into ADMIN_USERS."
    names = ", ".join(f"<@{admin}>" for admin in admins[:5])
    return f"These buttons are for admins. Please ask {names}."


def asked_by(run: TrainingRun) -> str:
    """The last line of a run's report: who asked, with which options, and why it was trained as it was."""
    given = " ".join(f"{name}={value}" for name, value in run.options.items() if name in READERS)
    how = f" with {literal(given)}" if given else ""
    why = str(run.progress.get("method_reason") or "")
    said = f"Asked for by {who(run.requested_by)}{how} · run `{run.id[-8:]}`"
    return f"{said} · {literal(why)}" if why else said
