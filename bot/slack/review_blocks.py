"""What admins and experts see when they review candidates and curate the golden set. Pure.

Nothing of a candidate's words stands in a window's metadata: ids and counts only, so that a window outlives a restart and a
deleted question does not.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Self

from bot.slack import text
from bot.slack.blocks import Block, button, context, plain, section
from bot.slack.feedback_blocks import quoted, shortened
from storage.golden import GoldenTally
from storage.records import GoldenItem
from storage.reviewable import CORRECTED, DISPUTED, LIKED, PROPOSED, RARE_TOPIC, Reviewable
from storage.reviewing import COUNTED
from storage.values import who

REVIEW_VIEW, LOADING_VIEW = "review", "review_loading"
QUESTION, ANSWER = "question", "answer"
REJECT, SKIP, UNDO = "review_reject", "review_skip", "review_undo"
MAKE_GOLDEN, HOME_REVIEW = "review_golden", "home_review"
GOLDEN_APPROVE, GOLDEN_RETIRE = "golden_approve", "golden_retire"

INPUT_LIMIT = 3_000  # Slack's, for a text input
SHOWN_OF_LONG = 2_800
MOST_BLOCKS = 45  # of the 50 of a message

TITLE = "Review"
KEYS = "Enter sends while you are in the question, Ctrl+Enter or ⌘+Enter anywhere. Tab leads to the buttons."
TOO_LONG = (
    "This text is longer than 3,000 characters, the most that Slack lets anybody edit. You can decide about it here; "
    "`apprentice review` in the terminal changes it."
)
EMPTY_QUESTION = "Please write the question, or reject this example."
EMPTY_ANSWER = "Please write the answer, or reject this example."
GONE = "The last one is not there any more; perhaps its question was deleted. Nothing was kept."
DECIDED_BY_OTHER = "Somebody else had decided about the last one already; their decision stands."
KEPT: Mapping[str, str] = {
    "approved": "Approved.",
    "edited": "Approved as you changed it.",
    "rejected": "Rejected: it is not learned from.",
}
SKIPPED = "Skipped; it comes up again the next time."
TAKEN_BACK = "Taken back: here it is again."
NOT_TAKEN_BACK = "That cannot be taken back: somebody else decided after you, or it is gone."
PROPOSED_GOLDEN = (
    "Proposed as golden. It counts when a second person approves it under `/apprentice golden`; "
    "until then, and from then on, it is kept out of training."
)
APPROVED_GOLDEN = "Approved: every model is measured by it from the next evaluation on."
ONE_MORE = "Approved. Who proposed it is gone, so it needs one more person."
DECLINED_GOLDEN = "It is not golden, and may be learned from as before."
ALL_DONE = "*There is nothing left to review.* Corrected and liked answers come up here as people give them."
OTHERS_LEFT = "*What is left is before a colleague just now.* Come back in a few minutes."
NO_GOLDEN = "*No golden question waits for a second person.* One is proposed with “Make it golden” in `/apprentice review`."
WHY: Mapping[str, str] = {
    CORRECTED: "a correction",
    DISPUTED: "disputed",
    RARE_TOPIC: "on a rare topic",
    LIKED: "liked",
    PROPOSED: "proposed by a colleague",
}


@dataclass(frozen=True, slots=True)
class Reviewing:
    """Where somebody is in their review: which candidate stands there, the how-many-th, and what undo would take back.

    `place` is where the candidate stands in the order, for going on behind it.
    """

    subject: str = ""
    place: str = ""
    number: int = 0
    total: int = 0
    last: str = ""
    decided: int = 0

    @classmethod
    def from_view(cls, view: Mapping[str, Any]) -> Self:
        """What `written` wrote into a view's metadata."""
        return cls(**json.loads(view["private_metadata"]))

    def written(self) -> str:
        """For a view's metadata."""
        return json.dumps(asdict(self))

    def at(self, candidate: Reviewable, *, step: int) -> "Reviewing":
        """The same review, `step` further on, with this candidate in the window."""
        number = max(1, self.number + step)
        total = max(self.total, number)
        return replace(self, subject=candidate.subject, place=candidate.place, number=number, total=total)


def loading_view() -> dict[str, Any]:
    """The window before anything is known."""
    return {
        "type": "modal",
        "callback_id": LOADING_VIEW,
        "title": plain(TITLE),
        "close": plain("Cancel"),
        "blocks": [section("_One moment…_")],
    }


def review_view(
    candidate: Reviewable, reviewing: Reviewing, *, now: datetime, note: str = "", warning: str = ""
) -> dict[str, Any]:
    """One candidate, ready to be approved as it is or as it was changed.

    `note` says what became of the one before, `warning` why this one is kept out of learning until somebody looked at it.
    """
    more = "+" if reviewing.total >= COUNTED else ""
    blocks = [context(f"*{reviewing.number} of {reviewing.total}{more}* · {_about(candidate, now)}")]
    if note:
        blocks.append(context(note))
    if warning:
        blocks.append(section(f":warning: Kept out so far: {warning}. Approving it lets it in."))
    blocks += _text(QUESTION, "Question", candidate.question, candidate.subject)
    blocks += _text(ANSWER, "Answer", candidate.answer, candidate.subject)
    if candidate.before:
        blocks.append(section(f"*Before the correction*\n{shortened(candidate.before, 1_800)}"))
    blocks += [_buttons(candidate, reviewing), context(KEYS)]
    return {
        "type": "modal",
        "callback_id": REVIEW_VIEW,
        "private_metadata": reviewing.written(),
        "notify_on_close": True,
        "title": plain(TITLE),
        "submit": plain("Approve"),
        "close": plain("Stop"),
        "blocks": blocks,
    }


def _about(candidate: Reviewable, now: datetime) -> str:
    """Everything that helps to decide, on one line. Votes are counted, nobody is named."""
    parts = [WHY[candidate.why]]
    if candidate.reason:
        parts.append(f"because: {text.escape(text.REASONS.get(candidate.reason, candidate.reason))}")
    if candidate.up or candidate.down:
        parts.append(f":+1: {candidate.up} :-1: {candidate.down}")
    if candidate.given_by:
        parts.append(f"given by {text.ANSWERERS.get(candidate.given_by, candidate.given_by)}")
    if candidate.topic:
        parts.append(f"topic: {text.escape(candidate.topic)}")
    if candidate.source:
        parts.append(f"from {text.escape(candidate.source)}")
    return " · ".join([*parts, age(candidate.at, now)])


def age(then: datetime, now: datetime) -> str:
    """How long ago, in words."""
    hours = max(0, int((now - then).total_seconds() // 3600))
    if hours < 1:
        return "just now"
    if hours < 48:
        return "1 hour ago" if hours == 1 else f"{hours} hours ago"
    return f"{hours // 24:,} days ago"


def _text(action_id: str, label: str, words: str, subject: str) -> list[Block]:
    """A text as an input, or as it stands where Slack takes no input that long.

    The block's id names the candidate: Slack shows a new beginning only in a block that is new to it.
    """
    if len(words) > INPUT_LIMIT:
        return [section(f"*{label}*\n{shortened(words, SHOWN_OF_LONG)}"), context(TOO_LONG)]
    element: Block = {
        "type": "plain_text_input",
        "action_id": action_id,
        "max_length": INPUT_LIMIT,
        "multiline": action_id == ANSWER or "\n" in words,
        "focus_on_load": action_id == QUESTION,
    }
    if words:
        element["initial_value"] = words
    return [
        {"type": "input", "block_id": f"{action_id}-{subject}", "label": plain(label), "element": element}
    ]


def _buttons(candidate: Reviewable, reviewing: Reviewing) -> Block:
    elements = [
        button("Reject", REJECT, candidate.subject, style="danger"),
        button("Skip", SKIP, candidate.subject),
        button("Make it golden", MAKE_GOLDEN, candidate.subject),
    ]
    if reviewing.last:
        elements.append(button("Undo the last", UNDO, reviewing.last))
    return {"type": "actions", "elements": elements}


def end_view(reviewing: Reviewing, words: str, *, note: str = "") -> dict[str, Any]:
    """Nothing is left; the last decision can still be taken back."""
    decided = f"You have decided about {reviewing.decided:,}. Thank you." if reviewing.decided else ""
    blocks = [*([context(note)] if note else []), section(words), *([section(decided)] if decided else [])]
    if reviewing.last:
        blocks.append({"type": "actions", "elements": [button("Undo the last", UNDO, reviewing.last)]})
    return {
        "type": "modal",
        "callback_id": REVIEW_VIEW,
        "private_metadata": reviewing.written(),
        "notify_on_close": True,
        "title": plain(TITLE),
        "close": plain("Close"),
        "blocks": blocks,
    }


def errors(view: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with what was sent, by block."""
    complaints = {QUESTION: EMPTY_QUESTION, ANSWER: EMPTY_ANSWER}
    return {
        block["block_id"]: complaints[block["element"]["action_id"]]
        for block in view["blocks"]
        if block["type"] == "input" and not str(given.get(block["element"]["action_id"]) or "").strip()
    }


# --- The golden set -----------------------------------------------------------------------------------------


def golden_message(
    proposed: Sequence[GoldenItem], tally: GoldenTally, person: str, *, note: str = ""
) -> dict[str, Any]:
    """What waits for a second person, with buttons for whoever may be it."""
    blocks = [section(note)] if note else []
    blocks.append(section(golden_line(tally)))
    shown = 0
    for item in proposed:
        added = [{"type": "divider"}, *_proposed(item, person)][:MOST_BLOCKS]
        if shown and len(blocks) + len(added) > MOST_BLOCKS:
            break
        blocks += added
        shown += 1
    if not proposed:
        blocks.append(section(NO_GOLDEN))
    elif tally.proposed > shown:
        blocks.append(context(f"And {tally.proposed - shown:,} more, once these are decided."))
    return {"text": note or golden_line(tally), "blocks": blocks}


def golden_line(tally: GoldenTally) -> str:
    """How large the golden set is."""
    questions = "1 question" if tally.golden == 1 else f"{tally.golden:,} questions"
    verb = "waits" if tally.proposed == 1 else "wait"
    waiting = f"; {tally.proposed:,} more {verb} for a second person" if tally.proposed else ""
    return f"*The golden set* holds {questions} by which every model is measured{waiting}."


def _proposed(item: GoldenItem, person: str) -> list[Block]:
    proposer = item.approvals[0] if item.approvals else ""
    retire = button("Withdraw" if proposer == person else "Decline", GOLDEN_RETIRE, item.id)
    approve = button("Approve", GOLDEN_APPROVE, item.id, style="primary")
    told = [
        f"proposed by {who(proposer)}"
        if proposer
        else "nobody stands behind it any more; it needs two people",
        text.escape(item.topic),
        text.escape(item.source),
    ]
    mine = "; somebody else has to approve it" if proposer == person else ""
    return [
        section("*Question*"),
        *quoted(item.question),
        section("*Answer*"),
        *quoted(item.answer)[:30],
        context(" · ".join(part for part in told if part) + mine),
        {"type": "actions", "elements": [retire] if proposer == person else [approve, retire]},
    ]
