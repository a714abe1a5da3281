"""What people see when a message is proposed as an example. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from bot.slack import text
from bot.slack.blocks import Block, button, context, plain, section
from bot.slack.feedback_blocks import quoted
from storage.records import Nomination
from storage.values import who

TRAIN_ADD = "train_add"
NOMINATION_VIEW = "nomination"
QUESTION, ANSWER, TOPIC = "question", "answer", "topic"
ALLOW, DENY = "allow_nomination", "deny_nomination"

TITLE = "Add to training set"
OWN_WORDS = (
    "What you send here is learned from and given as an answer from then on. By sending it you allow that for your own "
    "words. Whoever else wrote a part of it is asked first."
)
NOT_FROM_A_PERSON = (
    "This message was not written by a person, and it is not an answer of mine, so there is nobody whom I could ask "
    "whether it may be used. Choose a colleague's message or an answer of mine."
)
EMPTY_QUESTION = "Please write the question that this answers."
EMPTY_ANSWER = "Please write the answer."
TAKEN = "Thank you. It is in the training set, and it is my answer to that question from now on."
NOT_ALLOWED = (
    "Thank you for the thought. This message may not be used for training; its author's wish counts. "
    "You are welcome to write an answer of your own: ask me the question, then choose *Improve this answer*."
)
OWN_REFUSAL = (
    "You said before that your words may not be used for training, so I have not kept this. "
    "`/apprentice privacy yes` changes that."
)
NOT_YOURS = "Only the person whose words these are can decide that."
NO_LONGER = "This proposal is no longer there; there is nothing left to decide."
ALLOWED_NOW = "Thank you. You have allowed this; what I hold of you is in `/apprentice privacy`."
DENIED_NOW = "Understood. I have deleted it, and nobody can propose that message again."


@dataclass(frozen=True, slots=True)
class Chosen:
    """The message that somebody proposes; `author` is "" where the bot wrote it, `answer_id` where it shows none."""

    channel: str
    ts: str
    thread_ts: str
    author: str
    answer_id: str = ""

    @classmethod
    def from_view(cls, view: Mapping[str, Any]) -> Self:
        """What `nomination_view` wrote into its view."""
        return cls(**json.loads(view["private_metadata"]))


def nomination_view(chosen: Chosen, *, question: str, answer: str, filled: bool) -> dict[str, Any]:
    """The window with question, answer and topic.

    Inputs get other block ids when they are `filled` in: Slack shows a new beginning only in a block that is new to it.
    """
    mark = "-found" if filled else ""
    topic = {
        "type": "plain_text_input",
        "action_id": TOPIC,
        "max_length": 80,
        "placeholder": plain("for example: printers"),
    }
    return {
        "type": "modal",
        "callback_id": NOMINATION_VIEW,
        "private_metadata": json.dumps(asdict(chosen)),
        "title": plain(TITLE),
        "submit": plain("Add"),
        "close": plain("Cancel"),
        "blocks": [
            _input(f"{QUESTION}{mark}", "Question", _text_input(QUESTION, question)),
            _input(f"{ANSWER}{mark}", "Answer", _text_input(ANSWER, answer)),
            {**_input(TOPIC, "Topic", topic), "optional": True},
            context(OWN_WORDS),
        ],
    }


def _text_input(action_id: str, begun: str) -> Block:
    made: Block = {
        "type": "plain_text_input",
        "action_id": action_id,
        "multiline": True,
        "max_length": 3000,
    }
    return {**made, "initial_value": begun[:3000]} if begun.strip() else made


def _input(block_id: str, label: str, element: Block) -> Block:
    return {"type": "input", "block_id": block_id, "label": plain(label), "element": element}


def request(nomination: Nomination) -> tuple[str, list[Block]]:
    """What the author of words is asked: text and blocks. It quotes all of what would be kept."""
    asked = (
        f"{who(nomination.nominator)} would like to add a message that holds words of yours to what I learn from. "
        "May I learn from exactly this, and give it as an answer? Without your yes I do neither."
    )
    allow = button("Allow", ALLOW, nomination.id, style="primary")
    deny = button("Deny", DENY, nomination.id)
    return asked, [
        section(asked),
        section("*Question*"),
        *quoted(nomination.question),
        section("*Answer*"),
        *quoted(nomination.answer),
        *([context(f"Topic: {text.escape(nomination.topic)}")] if nomination.topic else []),
        {"type": "actions", "elements": [allow, deny]},
    ]


def waiting_for(people: Sequence[str]) -> str:
    """The nominator hears who is asked."""
    named = ", ".join(who(person) for person in people)
    return f"Thank you. I have asked {named} in a direct message; it is used only if they allow it."


def taken_later(nomination: Nomination) -> str:
    """The nominator hears that everybody allowed it."""
    return f"Everybody allowed it: “{_short(nomination.question)}” is in the training set now. Thank you."


def denied_later(nomination: Nomination) -> str:
    """The nominator hears a kind no, which does not say whose it was."""
    return f"“{_short(nomination.question)}” may not be used for training. Thank you for the thought all the same."


def _short(words: str) -> str:
    kept = " ".join(words.split())
    return text.escape(kept if len(kept) <= 100 else kept[:99] + "…")
