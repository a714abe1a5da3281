"""The Home tab and the window of a channel's settings. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bot.money_limits import usd
from bot.money_words import channel_line
from bot.slack import text
from bot.slack.blocks import Block, button, context, plain, section
from bot.slack.feedback_blocks import privacy_buttons, shortened
from bot.slack.review_blocks import HOME_REVIEW
from storage.feedback import Rated
from storage.forgetting import Holdings
from storage.golden import GoldenTally
from storage.records import ChannelSettings, Promotion, TrainingRun
from storage.values import who

HOME_RATING, HOME_CHANNEL, HOME_EDIT = "home_rating", "home_channel", "home_edit_channel"
GOOD, BAD, IMPROVE, WITHDRAW = "good", "bad", "improve", "withdraw"
CHANNEL_VIEW = "channel_settings"
INSTRUCTIONS, POLICY, DUEL_RATE, SWITCHES = "instructions", "policy", "duel_rate", "switches"
BUDGET = "budget"
FEEDBACK, FOLLOW_UPS, LEARNING = "feedback", "follow_ups", "learning"
AS_THE_WORKSPACE = "workspace"
INSTRUCTIONS_LIMIT = 3000
CHANNELS_SHOWN = 30  # of the 100 blocks of a view; the menu below them reaches every channel

DUEL_RATES = {
    "0": "No duels",
    "0.05": "5 % of the questions",
    "0.1": "10 % of the questions",
    "0.25": "25 % of the questions",
}
NO_RATINGS = "You have not rated an answer yet. The thumbs below an answer, or a :+1: or :-1: on it, do that."
NO_CHANNELS = "No channel has settings of its own yet."
TOO_LONG = "Please write at most 3,000 characters."
NO_SUCH_POLICY = "Please choose one of the listed ways to answer."
NO_SUCH_RATE = "Please choose one of the listed shares."
NO_SUCH_BUDGET = (
    "Please write an amount in US dollars such as 20 or 7.50, 0 for none at all, or leave it empty."
)
LOADING_CHANNEL = "_One moment…_"


@dataclass(frozen=True, slots=True)
class Shown:
    """What everybody sees of themselves and of what serves."""

    serving: str
    promotion: Promotion | None
    ratings: tuple[Rated, ...]
    held: Holdings


@dataclass(frozen=True, slots=True)
class AdminShown:
    """What admins see beyond that. `policy` is the workspace's.

    `budgets` are lines about how much of each is spent, `spent_in` is this month's US dollars by channel, `channel_usd` the
    limit of a channel that has none of its own.
    """

    schedule: str
    last_run: TrainingRun | None
    report_link: str
    spent_month: float
    waiting: int
    policy: str
    channels: tuple[ChannelSettings, ...]
    budgets: tuple[str, ...] = ()
    spent_in: Mapping[str, float] = field(default_factory=dict)
    channel_usd: float | None = None
    to_review: int = 0
    golden: GoldenTally = field(default_factory=GoldenTally)
    guards: str = ""


def home_view(shown: Shown, admin: AdminShown | None) -> dict[str, Any]:
    """The whole tab."""
    return {
        "type": "home",
        "blocks": [
            _header("What answers now"),
            section(f"*{text.escape(shown.serving)}*"),
            context(_since(shown.promotion)),
            _header("My ratings"),
            *([_rating(rated) for rated in shown.ratings] or [section(NO_RATINGS)]),
            *([context("Nobody else sees your votes.")] if shown.ratings else []),
            _header("My words and training"),
            section(text.privacy(shown.held)),
            privacy_buttons(shown.held.consent),
            *(_admin_blocks(admin) if admin is not None else []),
        ],
    }


def _since(promotion: Promotion | None) -> str:
    if promotion is None:
        return "The untuned model; nothing was promoted so far."
    day = f"{promotion.promoted_at:%Y-%m-%d %H:%M} UTC"
    if promotion.version_id is None:
        return f"The untuned model, again since {day}: decided by {who(promotion.by)}."
    return f"Since {day}, promoted by {who(promotion.by)}."


def _header(words: str) -> Block:
    return {"type": "header", "text": plain(words)}


def _rating(rated: Rated) -> Block:
    mark = ":+1:" if rated.rating.value > 0 else ":-1:"
    question = shortened(" ".join(rated.question.text.split()), 200)
    said = shortened(" ".join(rated.candidate.text.split()), 200)
    wishes = {
        GOOD: "It is a good answer",
        BAD: "It is a bad answer",
        IMPROVE: "Write the better answer…",
        WITHDRAW: "Take my vote back",
    }
    now = GOOD if rated.rating.value > 0 else BAD
    options = [
        {"text": plain(words), "value": f"{rated.rating.answer_id}:{wish}"}
        for wish, words in wishes.items()
        if wish != now
    ]
    menu = {"type": "overflow", "action_id": HOME_RATING, "options": options}
    return {**section(f"{mark} *{question}*\n{said}"), "accessory": menu}


def _admin_blocks(admin: AdminShown) -> list[Block]:
    lines = [
        f"*Next training:* {admin.schedule}",
        f"*Last report:* {_last_report(admin)}",
        f"*Spent on API models this month:* ${admin.spent_month:.2f}",
        *(f"*Budget:* {line}" for line in admin.budgets),
        f"*Questions waiting for an answer:* {admin.waiting}",
    ]
    listed = admin.channels[:CHANNELS_SHOWN]
    left = len(admin.channels) - len(listed)
    return [
        {"type": "divider"},
        _header("For admins"),
        section("\n".join(lines)),
        _curation(admin),
        _header("Channels"),
        *([_channel(row, admin) for row in listed] or [section(NO_CHANNELS)]),
        *([context(f"And {left} more; choose one below to see its settings.")] if left else []),
        _choose_channel(),
    ]


def _curation(admin: AdminShown) -> Block:
    """What waits for a look of theirs, with the way there."""
    told = section(
        "\n".join(line for line in (text.curation(admin.to_review, admin.golden), admin.guards) if line)
    )
    return {**told, "accessory": button("Review", HOME_REVIEW, "now")} if admin.to_review else told


def _last_report(admin: AdminShown) -> str:
    run = admin.last_run
    if run is None:
        return "none yet"
    line = text.escape(text.run_line(run))
    return f"<{admin.report_link}|{line[:200]}>" if admin.report_link else line[:400]


def _channel(row: ChannelSettings, admin: AdminShown) -> Block:
    policy = admin.policy
    most = admin.channel_usd if row.budget_month_usd is None else row.budget_month_usd
    money = channel_line(admin.spent_in.get(row.channel, 0.0), most)
    parts = [
        f"asks {text.POLICY_WORDS.get(row.policy or policy, row.policy or policy)}",
        f"{100 * row.duel_rate:.0f} % duels" if row.duel_rate else "no duels",
        "ratings" if row.feedback else "no ratings",
        *(["follow-ups without a mention"] if row.follow_ups else []),
        *([] if row.learning else ["nothing is learned"]),
        *([money] if money else []),
    ]
    line = f"*<#{row.channel}>*\n{' · '.join(parts)}"
    if row.instructions:
        line += f"\n_{shortened(' '.join(row.instructions.split()), 150)}_"
    return {**section(line), "accessory": button("Change", HOME_EDIT, row.channel)}


def _choose_channel() -> Block:
    menu = {
        "type": "conversations_select",
        "action_id": HOME_CHANNEL,
        "placeholder": plain("Choose a channel"),
        "filter": {"include": ["public", "private"], "exclude_bot_users": True},
    }
    return {**section("Settings for another channel"), "accessory": menu}


def loading_view() -> dict[str, Any]:
    """The window of a channel's settings before they are known."""
    return {
        "type": "modal",
        "callback_id": f"{CHANNEL_VIEW}_loading",
        "title": plain("Channel settings"),
        "close": plain("Cancel"),
        "blocks": [section(LOADING_CHANNEL)],
    }


def channel_view(
    row: ChannelSettings,
    *,
    policy: str,
    policies: Sequence[str],
    most_usd: float | None = None,
    spent_usd: float = 0.0,
) -> dict[str, Any]:
    """The window of a channel's settings; `policy` and `most_usd` are what holds where a channel has none of its own."""
    instructions: Block = {
        "type": "plain_text_input",
        "action_id": INSTRUCTIONS,
        "multiline": True,
        "max_length": INSTRUCTIONS_LIMIT,
        "placeholder": plain("For example: Answer in German. We use laptops by Example only."),
    }
    if row.instructions:
        instructions["initial_value"] = row.instructions
    named = {each: text.POLICY_WORDS.get(each, each) for each in policies}
    choices = {AS_THE_WORKSPACE: f"As the workspace: {text.POLICY_WORDS.get(policy, policy)}", **named}
    switches = {
        FEEDBACK: "Ask for ratings below my answers",
        FOLLOW_UPS: "Answer follow-ups in my threads without a mention",
        LEARNING: "Learn from what is said to me here, of people who agree",
    }
    on = [name for name in switches if getattr(row, name)]
    return {
        "type": "modal",
        "callback_id": CHANNEL_VIEW,
        "private_metadata": json.dumps({"channel": row.channel}),
        "title": plain("Channel settings"),
        "submit": plain("Save"),
        "close": plain("Cancel"),
        "blocks": [
            section(f"What holds in <#{row.channel}>"),
            {**_input(INSTRUCTIONS, "Instructions for the model", instructions), "optional": True},
            _input(POLICY, "Who answers", _select(POLICY, choices, row.policy or AS_THE_WORKSPACE)),
            _input(DUEL_RATE, "Duels: two answers to pick from", _select(DUEL_RATE, DUEL_RATES, _rate(row))),
            _budget_input(row, most_usd, spent_usd),
            {**_input(SWITCHES, "Also", _checkboxes(switches, on)), "optional": True},
        ],
    }


def _budget_input(row: ChannelSettings, most_usd: float | None, spent_usd: float) -> Block:
    default = "no limit" if most_usd is None else usd(most_usd)
    element: Block = {
        "type": "plain_text_input",
        "action_id": BUDGET,
        "max_length": 12,
        "placeholder": plain(f"Empty: as the workspace ({default})"),
    }
    if row.budget_month_usd is not None:
        element["initial_value"] = f"{row.budget_month_usd:.2f}".removesuffix(".00")
    made = _input(BUDGET, "The most that API models may cost here in a month, in US dollars", element)
    hint = f"This month so far: {usd(spent_usd)}. Once it is used up, only the local model and memory answer."
    return {**made, "hint": plain(hint), "optional": True}


def read_budget(written: str) -> float | None:
    """An amount as an admin wrote it, None for an empty one. Raises ValueError for anything else."""
    amount = written.strip().removeprefix("$").strip()
    if not amount:
        return None
    if not re.fullmatch(r"\d{1,7}([.,]\d{1,2})?", amount, re.ASCII):
        raise ValueError(written)
    return float(amount.replace(",", "."))


def _rate(row: ChannelSettings) -> str:
    """The offered share that is nearest to what holds."""
    return min(DUEL_RATES, key=lambda rate: abs(float(rate) - row.duel_rate))


def _input(block_id: str, label: str, element: Block) -> Block:
    return {"type": "input", "block_id": block_id, "label": plain(label), "element": element}


def _select(action_id: str, choices: dict[str, str], chosen: str) -> Block:
    options = {value: {"text": plain(words), "value": value} for value, words in choices.items()}
    first = options.get(chosen, next(iter(options.values())))
    return {
        "type": "static_select",
        "action_id": action_id,
        "options": list(options.values()),
        "initial_option": first,
    }


def _checkboxes(choices: dict[str, str], on: Sequence[str]) -> Block:
    options = {value: {"text": plain(words), "value": value} for value, words in choices.items()}
    made: Block = {"type": "checkboxes", "action_id": SWITCHES, "options": list(options.values())}
    return {**made, "initial_options": [options[name] for name in on]} if on else made
