"""An answer as messages of Slack: its text, who gave it, and what people can say about it. Pure."""

from collections.abc import Mapping
from typing import Any

from bot.slack import markdown, text
from bot.slack.blocks import RATE, Block, button, context, plain
from storage.asking import Answered
from storage.values import STOPPED

PART_LIMIT = 11_000  # a payload takes 12,000 characters of markdown, all its blocks together about 13,200
IMPROVE_ANSWER = "improve_answer"
NO_ANSWER = "I have no answer to that."


def answer_messages(answered: Answered, *, feedback: bool = True) -> list[dict[str, Any]]:
    """The posted answer, in as many messages as its length takes; who gave it and the rating stand in the last.

    An answer that somebody stopped cannot be rated: nobody has seen the whole of it.
    """
    said = text.without_mentions(answered.candidate.text.strip()) or NO_ANSWER
    parts = markdown.split(said, PART_LIMIT)
    messages = [_part(answered, words, number) for number, words in enumerate(parts)]
    below = [context(_who_answered(answered))]
    if notice := answered.answer.route.get("notice"):
        below.append(context(text.escape(str(notice))))
    if feedback and answered.candidate.finish != STOPPED:
        below += [rating_buttons(answered.answer.id), improve_button(answered.answer.id)]
    messages[-1]["blocks"] += below
    messages[-1]["metadata"]["event_payload"] = {"answer_id": answered.answer.id}
    return messages


def _part(answered: Answered, words: str, number: int) -> dict[str, Any]:
    payload: Mapping[str, Any] = {"answer_id": answered.answer.id, "part": number}
    return {
        "text": text.preview(words),
        "blocks": [{"type": "markdown", "text": words}],
        "unfurl_links": False,
        "unfurl_media": False,
        "metadata": {"event_type": "apprentice_answer", "event_payload": payload},
    }


def _who_answered(answered: Answered) -> str:
    candidate = answered.candidate
    parts = [text.escape(candidate.model), f"{candidate.seconds:.1f} s"]
    if candidate.source:
        parts.append(f"verified answer, from {text.escape(candidate.source)}")
    if candidate.finish == "length":
        parts.append("cut at the length limit")
    if candidate.finish == STOPPED:
        parts.append("stopped before it was complete")
    return " · ".join(parts)


def rating_buttons(answer_id: str) -> Block:
    """The two thumbs."""
    return {
        "type": "context_actions",
        "elements": [
            {
                "type": "feedback_buttons",
                "action_id": RATE,
                "positive_button": {"text": plain("Good answer"), "value": f"{answer_id}:1"},
                "negative_button": {"text": plain("Bad answer"), "value": f"{answer_id}:-1"},
            }
        ],
    }


def improve_button(answer_id: str) -> Block:
    """The way to write a better answer without voting."""
    return {"type": "actions", "elements": [button("Improve this answer", IMPROVE_ANSWER, answer_id)]}


def asked_message(asker: str, question: str, question_id: str, *, twice: bool = False) -> dict[str, Any]:
    """The message that shows a question asked by a command; it is answered in its thread."""
    said = text.asked_by(asker, question, twice=twice)
    return {
        "text": said,
        "metadata": {"event_type": "apprentice_asked", "event_payload": {"question_id": question_id}},
    }
