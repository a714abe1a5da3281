"""Every sentence the bot says in Slack that is not an answer. Pure, plain, short, kind."""

import re
from collections.abc import Mapping, Sequence

from storage.forgetting import Holdings
from storage.golden import GoldenTally
from storage.operating import Tally
from storage.records import Canary, Decision, ModelVersion, Promotion, Schedule, TrainingRun
from storage.reviewing import COUNTED
from storage.values import who

SPECIAL_MENTION = re.compile(r"<!([A-Za-z]+)(\^[^>|]*)?(\|[^>]*)?>")
PERSON_MENTION = re.compile(r"<@([A-Za-z0-9]+)(\|[^>]*)?>")
BROADCAST = re.compile(r"(?<![\w`])@(channel|here|everyone)\b")

THANKS = "Thank you. You can change your vote at any time."
CORRECTED = "Thank you, I have kept your better answer."
CORRECTED_NOT_TRAINED = (
    "Thank you, I have kept your better answer. "
    "It will not be used for training: the box for that was left empty."
)
CORRECTED_REFUSED_BEFORE = (
    "Thank you, I have kept your better answer. It will not be used for training, because you said no to that before; "
    "`/apprentice privacy` changes it."
)
CORRECTION_EMPTY = "Please write the better answer, or close this window: your vote counts either way."
NO_QUESTION = "Write your question after the command, for example `/apprentice ask what can you do?`"
NOT_HERE = (
    "I cannot write in this channel. Invite me with `/invite @apprentice`, or write me a direct message."
)
STOPPED_EMPTY = "Stopped, before anything was written. Ask again whenever you like."
GONE = "This answer is no longer there; perhaps its question was deleted."
CONSENT_YES = (
    "Thank you. What you write to me may be used for training from now on. `/apprentice privacy` changes it."
)
CONSENT_NO = "Understood. Nothing you write will be used for training. `/apprentice privacy` changes it."
CONSENT_WITHDRAWN = (
    "Understood. The next dataset leaves out everything of yours, and so does every model that is trained from then "
    "on. To have it taken out of datasets and models that there are already, choose *Delete everything* in "
    "`/apprentice privacy`."
)
STRANGER = "You belong to another workspace, so nothing you write here is used for training. There is nothing to decide."
CONSENT_ASK = (
    "May what you write to me be used to train this team's own model? Only your questions to me, your corrections and "
    "your votes, never other messages. You can change this at any time with `/apprentice privacy`."
)
ANSWERERS: Mapping[str, str] = {
    "memory": "memory",
    "local": "the local model",
    "openai": "OpenAI",
    "gemini": "Gemini",
}
POLICY_WORDS: Mapping[str, str] = {
    "local-first": "the local model first, then an API model",
    "api-first": "an API model first, then the local one",
    "both": "both, and the better answer is posted",
    "local-only": "only the local model",
    "duel": "two models, and people pick the better answer",
}
REASONS: Mapping[str, str] = {
    "wrong": "It is wrong",
    "outdated": "It is out of date",
    "incomplete": "Something is missing",
    "style": "Hard to read, or the wrong tone",
    "refused": "It should have answered",
}

HELP = """*Ask me* by mentioning me in a channel or writing me a direct message. I answer in the thread.
*Rate* an answer with the thumbs below it, or with a thumb as a reaction. After a thumbs-down, write the better one.
*Or type* `/apprentice ask <question>` to ask, `/apprentice duel <question>` to compare two answers
`/apprentice status` shows what answers and how it is rated, `/apprentice privacy` what I hold of you
*For admins:* `/train` starts a training run · `/train status` · `/train cancel` · `/train schedule nightly at 03:00`
`/eval` compares the models on held-out questions
`/apprentice review` goes through the examples that would be learned from · `/apprentice golden` those that measure models
`/apprentice learning off` or `on`, for this channel or `everywhere`
`/apprentice models` · `/apprentice promote NAME [canary=0.2]` · `/apprentice rollback` · `/apprentice spending`
`/apprentice distil` lets an API model teach the local one; `distil help` tells how
`/apprentice report this` or `report last` tells what a week was like · `/apprentice report schedule every monday at 9`
`/apprentice experts` shows and changes whose ratings count twice"""

TRAIN_HELP = """`/train` starts a training run now; what you do not name is derived from the model and the data. You can add
`effort=quick`, normal or thorough: a third or twice the usual epochs, half or twice the rank, and how soon it stops
`method=sft`, dpo (by itself where there are enough pairs) or kto; the last two follow after sft
`epochs=5` `lr=2e-4` `batch=8` for the first stage, `rank=16` for all; these count more than the effort
`quantization=nf4` (4-bit) or none · `seed=0`
`adapter=lora` (the default), rslora, dora; ia3 and prompt are small and learn a manner rather than facts
`with=local`, ray, openai or gemini; providers take a method, epochs and a seed
`sweep` tries 12 ways, or `trials=8`, and keeps the best on validation examples; what you name stays as named
`/train confirm` agrees to what a run at a provider costs
`/train status` shows the last runs · `/train cancel` stops the one that is running
`/train schedule` shows when it happens by itself
`/train schedule nightly at 03:00` · `weekdays at 22:15` · `off` · `on` changes it"""


def unknown_command(command: str) -> str:
    """To who typed a command that Slack sends us and that we do not have."""
    return f"I do not know `{escape(command)[:80]}`. `/apprentice help` shows what I can do."


def admins_only(command: str, admins: Sequence[str]) -> str:
    """A kind refusal that says whom to ask."""
    if not admins:
        return (
            f"`{command}` is for admins, and none is set yet. Whoever runs me puts Slack user ids into ADMIN_USERS, "
            "for example ADMIN_USERS=U012ABCDEF."
        )
    people = ", ".join(f"<@{admin}>" for admin in admins[:5])
    return f"`{command}` is for admins. Please ask {people}."


def escape(text: str) -> str:
    """Text as Slack's mrkdwn shows it literally."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def unescape(text: str) -> str:
    """What a person typed, from what Slack sends."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def without_mentions(text: str) -> str:
    """A model's words with nothing in them that would notify people."""
    text = SPECIAL_MENTION.sub(lambda found: f"@{found.group(1)}", text)
    text = PERSON_MENTION.sub("@someone", text)
    return BROADCAST.sub("@\u200b\\1", text)


def preview(markdown: str) -> str:
    """What a notification shows of an answer."""
    return escape(markdown)[:3_000]


def waiting(ahead: int) -> str:
    """The status line while nothing is written yet; `ahead` questions are answered before this one."""
    return "is thinking…" if ahead == 0 else f"is busy: {ahead} ahead of you…"


def begins_with_mention(text: str) -> bool:
    """Whether a message is addressed to somebody by name."""
    return PERSON_MENTION.match(text.lstrip()) is not None


def question_text(text: str, bot_user: str) -> str:
    """A question as it was meant: without the bot's own mention and Slack's escapes."""
    return unescape(re.sub(rf"<@{re.escape(bot_user)}(\|[^>]*)?>", " ", text)).strip()


def status(
    *,
    tally: Tally,
    serving: str,
    promotion: Promotion | None,
    policy: str,
    runs: Sequence[TrainingRun],
    schedule: str,
    duels: str = "",
) -> str:
    """What `/apprentice status` says."""
    answers = sum(tally.answered_by.values())
    shares = ", ".join(
        f"{count:,} from {ANSWERERS.get(kind, kind)}" for kind, count in sorted(tally.answered_by.items())
    )
    lines = [
        f"*Answering now:* {serving}. After memory I ask {POLICY_WORDS.get(policy, policy)}.",
        f"*Answers so far:* {answers:,} {f' ({shares})' if shares else ''}; {tally.waiting:,} waiting",
        f"*Feedback:* {tally.thumbs_up} thumbs up, {tally.thumbs_down} down, {_count(tally.corrections, 'correction')}; "
        f"{_count(tally.entries, 'verified answer')} in memory",
        f"*Training:* {schedule}",
    ]
    if duels:
        lines.append(f"*Duels:* {duels}")
    if promotion is not None:
        lines.append(f"*Last change:* by {who(promotion.by)} on {promotion.promoted_at:%Y-%m-%d %H:%M} UTC")
    if runs:
        lines.append(f"*Last run:* {run_line(runs[0])}")
    return "\n".join(lines)


def curation(to_review: int, golden: GoldenTally) -> str:
    """What admins are told of what waits for their look."""
    if to_review >= COUNTED:
        waiting = f"more than {COUNTED:,} examples wait"
    else:
        waiting = "1 example waits" if to_review == 1 else f"{to_review:,} examples wait"
    verb = "waits" if golden.proposed == 1 else "wait"
    asked = f" ({golden.proposed:,} {verb} for a second person)" if golden.proposed else ""
    return f"*Review:* {waiting} for review; {_count(golden.golden, 'golden question')}{asked}"


def retention(last: Decision | None) -> str:
    """What went last night because its time was over; "" before the first one."""
    return f"*Kept no longer:* {last.detail} ({last.decided_at:%Y-%m-%d})" if last is not None else ""


def with_trouble(status: str, trouble: str) -> str:
    """The status with what is wrong between Slack and us, if anything is."""
    return f"{status}\n*Connection:* {escape(trouble)}" if trouble else status


def run_line(run: TrainingRun) -> str:
    """One training run on one line."""
    said = f": {run.reason or escape(run.awaiting)}" if run.reason or run.awaiting else ""
    return f"#{run.number} {run.outcome or run.state.value}{said}"


def privacy(held: Holdings) -> str:
    """What is held of a person and what they may do about it."""
    consent = {
        True: "You have *agreed* that what you write to me may be used for training.",
        False: "You have *not agreed* to training: nothing you write becomes training data.",
        None: "You have not decided yet, so nothing you write becomes training data.",
    }[held.consent]
    return (
        f"{consent}\n"
        f"I hold {held.questions} of your questions, {_count(held.ratings, 'vote')}, "
        f"{_count(held.corrections, 'correction')} and {_count(held.entries, 'verified answer')} of yours. "
        "Only what you write *to me* is kept; of other messages only those you were asked about one by one."
    )


def _count(number: int, noun: str) -> str:
    """A number with its noun: "1 vote", "2 votes"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def forgotten(held: Holdings, tainted: Sequence[str]) -> str:
    """The receipt after somebody was forgotten."""
    text = (
        f"Deleted: {_count(held.questions, 'question')} with all answers, {_count(held.ratings, 'vote')}, "
        f"{_count(held.corrections, 'correction')}, {_count(held.entries, 'verified answer')}."
    )
    if tainted:
        text += f" These models learned from some of it and are marked: {', '.join(tainted)}. A new `/train` leaves it out."
    return text


def models(
    versions: Sequence[ModelVersion], current: ModelVersion | None, base: str, *, canary: Canary | None = None
) -> str:
    """The list of model versions; an arrow where one serves, and the share of what is a canary."""
    lines = [f"{'→' if current is None else ' '} base: {base}"]
    for version in versions:
        mark = "→" if current is not None and version.id == current.id else " "
        note = f", marked: {version.tainted}" if version.tainted else ""
        if canary is not None and canary.version_id == version.id:
            note += f", canary of {canary.share:.0%}"
        lines.append(f"{mark} {version.name}, {version.registered_at:%Y-%m-%d %H:%M} UTC{note}")
    return "```\n" + "\n".join(lines) + "\n```"


def schedule_line(row: Schedule | None, described: str, following: str) -> str:
    """When training happens by itself."""
    if row is None or not row.enabled:
        return "only when somebody types `/train`"
    return f"{described}, next {following}" if following else described


def asked_by(person: str, question: str, *, twice: bool = False) -> str:
    """The message that shows a question asked by a command; it is answered in its thread."""
    return f"<@{person}> asks{' for two answers' if twice else ''}: {escape(question)}"
