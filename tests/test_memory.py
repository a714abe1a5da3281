"""Memory gives a verified answer when it fits, and passes the question on when in doubt."""

import json
import random
import threading
import time
from pathlib import Path

import pytest

from bot.errors import ModelUnavailable
from bot.models import AnswerModel, Message
from bot.models.memory import NEAR_CERTAIN, Entry, Memory, MemoryModel, NearestMemory

FAQ = (
    Entry("pw", "How do I reset my password?", "Press Forgot password.", "Ana, 3 May", "accounts"),
    Entry("on", "How do I enable two-factor sign-in?", "Settings, Security, turn it on."),
    Entry("off", "How do I disable two-factor sign-in?", "Settings, Security, turn it off."),
    Entry("pdf", "How do I convert Word to PDF?", "File, Save as, PDF."),
    Entry("pay", "When is salary paid?", "On the 25th."),
    Entry("v2", "How do I upgrade to version 2?", "Run upgrade two."),
    Entry("cpp", "Which style guide do we follow for C++?", "Google's."),
    Entry("zh", "如何重置密码", "点击忘记密码。"),
)
HOSTILE = (
    "",
    " \n\t",
    "😀🤷‍♀️",
    "???!!!",
    'question:"reset AND (OR NOT',
    "id:pw OR *:*",
    "[a TO b} ^5 ~2 +password -reset /regex(/ \\",
    "reset " * 20_000,
    "".join(chr(i) for i in range(0x21, 0x3000)),
    "x" * 100_000,
    "\x00\ud800 reset my password",
    "((((" * 5_000,
    "'; DROP TABLE entry; --",
)


def remembering(*entries: Entry, near_certain: float = NEAR_CERTAIN) -> Memory:
    memory = Memory(near_certain=near_certain)
    memory.replace(entries or FAQ)
    return memory


def asked(question: str) -> list[Message]:
    return [Message("system", "Be kind."), Message("user", question)]


@pytest.mark.parametrize("entry", FAQ, ids=lambda entry: entry.id)
async def test_the_question_itself_is_answered_as_it_stands(entry: Entry) -> None:
    """A verified question asked again gets its verified answer, word for word, with its source."""
    proposal = await MemoryModel(remembering()).answer(asked(entry.question))
    assert (proposal.text, proposal.source, proposal.kind) == (entry.answer, entry.source, "memory")
    assert proposal.certainty > 0.9
    assert (proposal.model, proposal.cost_usd, proposal.finish) == ("memory", 0.0, "stop")


@pytest.mark.parametrize(
    "question",
    [
        "how do i reset my PASSWORD",
        "How do I reset my passwords??",
        "How do I reset my password, please?",
        "Ｈow do I reset my password?",
    ],
)
async def test_small_differences_do_not_count(question: str) -> None:
    """Case, punctuation, plural, width and a kind word make no other question."""
    assert (await MemoryModel(remembering()).answer(asked(question))).text == "Press Forgot password."


@pytest.mark.parametrize(
    ("question", "why"),
    [
        ("How do I not reset my password?", "a negation"),
        ("How do I convert PDF to Word?", "the direction"),
        ("Where is salary paid?", "asks for the place, not the time"),
        ("How do I upgrade to version 3?", "the number"),
        ("Which style guide do we follow for C#?", "C# is not C++"),
        ("How do I reset my phone?", "another thing"),
        ("What is the weather like?", "nothing of ours"),
        ("and on Windows?", "no question of its own"),
        ("", "no question"),
    ],
)
async def test_near_is_not_near_enough(question: str, why: str) -> None:
    """A question that shares most words and asks for something else is passed to the next model."""
    with pytest.raises(ModelUnavailable):
        await MemoryModel(remembering()).answer(asked(question))


async def test_opposites_get_their_own_answers() -> None:
    """Enable and disable are told apart when both are known, and not mixed up when only one is."""
    model = MemoryModel(remembering())
    assert (await model.answer(asked("how do i disable two-factor sign in"))).text.endswith("turn it off.")
    assert (await model.answer(asked("how do i enable two-factor sign in"))).text.endswith("turn it on.")
    with pytest.raises(ModelUnavailable):
        await MemoryModel(remembering(FAQ[1])).answer(asked("how do i disable two-factor sign in"))


async def test_the_last_question_counts_and_is_not_answered_twice() -> None:
    """In a thread the newest question is looked up; who asks again does not hear the same again."""
    model = MemoryModel(remembering())
    thread = [*asked("Hello!"), Message("assistant", "Hello."), Message("user", "When is salary paid?")]
    assert (await model.answer(thread)).text == "On the 25th."
    with pytest.raises(ModelUnavailable, match="already"):
        await model.answer(
            [*thread, Message("assistant", "On the 25th."), Message("user", "When is salary paid?")]
        )


async def test_the_answer_is_streamed_in_one_piece() -> None:
    """`on_text` hears exactly the answer."""
    heard: list[str] = []

    async def on_text(piece: str) -> None:
        heard.append(piece)

    await MemoryModel(remembering()).answer(asked("When is salary paid?"), on_text=on_text)
    assert heard == ["On the 25th."]


@pytest.mark.parametrize("question", HOSTILE, ids=lambda text: repr(text[:16]))
async def test_any_text_is_only_words(question: str) -> None:
    """No query language, no length, no script and no broken character makes memory raise or hang."""
    memory = remembering()
    started = time.perf_counter()
    matches = memory.nearest(question, 3)
    assert time.perf_counter() - started < 0.5
    assert all(0.0 <= match.certainty <= 1.0 and 0.0 < match.score <= 1.0 for match in matches)
    odd = Entry("odd", question, "odd answer")
    memory.add(odd)
    memory.replace([*FAQ, odd])
    assert memory.nearest("When is salary paid?", 1)[0].entry.id == "pay"
    for model in (MemoryModel(Memory()), NearestMemory(Memory())):
        with pytest.raises(ModelUnavailable, match="nothing near"):
            await model.answer(asked(question))


def test_what_is_added_is_found_at_once_and_what_is_removed_is_gone() -> None:
    """An approval counts from the next question on; a forgotten answer is never given again."""
    memory = remembering()
    memory.add(Entry("bus", "Which bus goes to the office?", "The 42."))
    assert memory.nearest("which bus goes to the office", 1)[0].certainty > 0.9
    memory.remove(["bus", "pw", "never there"])
    assert len(memory) == len(FAQ) - 1
    for question in ("which bus goes to the office", "reset my password"):
        assert not {match.entry.id for match in memory.nearest(question, 50)} & {"bus", "pw"}
    memory.replace([])
    assert memory.nearest("When is salary paid?", 1) == []


def test_an_entry_that_is_added_again_takes_the_place_of_the_old() -> None:
    """An edited question is found by its new words only."""
    memory = remembering()
    memory.add(Entry("pay", "Which day do wages arrive?", "On the 27th."))
    assert len(memory) == len(FAQ)
    assert memory.nearest("which day do wages arrive", 1)[0].entry.answer == "On the 27th."
    assert all(match.entry.answer != "On the 25th." for match in memory.nearest("When is salary paid?", 50))


async def test_the_newer_answer_to_the_same_question_counts() -> None:
    """A correction wins over the import that it corrects, whether it came by `add` or with the next start."""
    corrected = Entry("new", "when is salary paid", "On the 27th.")
    memory = remembering()
    memory.add(corrected)
    for known in (memory, remembering(*FAQ, corrected)):
        assert (await MemoryModel(known).answer(asked("When is salary paid?"))).text == "On the 27th."


def test_many_additions_stay_findable() -> None:
    """Beyond the additions that are searched one by one, the index is built anew and nothing is lost."""
    memory = Memory()
    rng = random.Random(1)
    names = ["".join(rng.choices("abcdefghijkl", k=9)) for _ in range(600)]
    for name in names:
        memory.add(Entry(name, f"Where is the {name} stored?", name))
    assert all(memory.nearest(f"where is the {name} stored", 1)[0].entry.id == name for name in names)


def test_the_nearest_come_first_and_may_be_left_out() -> None:
    """`k` matches, nearest first; excluded entries do not even count as rivals."""
    memory = remembering()
    matches = memory.nearest("How do I reset my password?", 3)
    assert [match.score for match in matches] == sorted((match.score for match in matches), reverse=True)
    assert (len(matches), matches[0].entry.id, matches[0].score) == (3, "pw", 1.0)
    assert memory.nearest("How do I reset my password?", 1, exclude={"pw"})[0].entry.id != "pw"
    twin = remembering(*FAQ, Entry("twin", "My password: how do I reset?", "Ask Ben."))
    unsure = twin.nearest("reset my password how", 1)[0]
    sure = twin.nearest("reset my password how", 1, exclude={"twin", "pw"} - {unsure.entry.id})[0]
    assert sure.certainty > unsure.certainty


async def test_the_memory_arm_always_answers_with_what_is_nearest() -> None:
    """In an evaluation memory says its best guess, and never one made from the held-out example itself."""
    memory = remembering()
    arm: AnswerModel = NearestMemory(memory)
    assert (await arm.answer(asked("forgot the password thing"))).text == "Press Forgot password."
    without = NearestMemory(memory, exclude={"pw"})
    assert (await without.answer(asked("How do I reset my password?"))).text != "Press Forgot password."


async def test_many_paraphrases_outvote_one_chance_resemblance() -> None:
    """Three paraphrases of one answer weigh more than one entry that happens to share a rare word."""
    memory = remembering(
        Entry("a1", "delete my account", "Settings."),
        Entry("a2", "remove my account for good", "Settings."),
        Entry("a3", "close my account", "Settings."),
        Entry("b", "shut down my laptop", "Hold the button."),
        Entry("c", "print in colour", "Tray two."),
    )
    question = "shut down my account for good"
    assert (await NearestMemory(memory).answer(asked(question))).text == "Settings."


def test_reading_is_safe_while_memory_is_replaced() -> None:
    """Another thread may replace everything: each question sees the old or the new, never half of both."""
    memory = remembering()
    old = Entry("x", "Which tea is served?", "old")
    new = Entry("x", "Which tea is served?", "new")
    memory.replace([*FAQ, old])
    done = threading.Event()

    def replace() -> None:
        for n in range(30):
            memory.replace([*FAQ, new if n % 2 else old])
        done.set()

    writer = threading.Thread(target=replace)
    writer.start()
    while not done.is_set():
        matches = memory.nearest("which tea is served", 1)
        assert matches[0].entry in (old, new)
        assert matches[0].score == 1.0
    writer.join()


def near_certain_figures(rows: list[tuple[str, str, str, str]]) -> tuple[float, float]:
    """Share right of what is near-certain, and share of the answerable that is; rows are (thread, split, question, answer).

    Half of the threads are taken out of memory, so that half of the questions have no right answer there.
    """
    given = right = known = 0
    threads = sorted({thread for thread, *_ in rows})
    for shuffle in range(8):
        kept = set(random.Random(shuffle).sample(threads, len(threads) // 2))
        memory = Memory()
        memory.replace(
            Entry(f"{n}", question, answer)
            for n, (thread, split, question, answer) in enumerate(rows)
            if split == "train" and thread in kept
        )
        for thread, _, question, answer in (row for row in rows if row[1] == "test"):
            known += thread in kept
            matches = memory.nearest(question, 1)
            if matches and matches[0].certainty >= NEAR_CERTAIN:
                given += 1
                right += matches[0].entry.answer == answer
    return right / given, right / known


def test_near_certain_is_right_on_our_own_handbook() -> None:
    """At least 97 % of the near-certain answers to paraphrases nobody stored are right, and there are some."""
    path = Path(__file__).parents[1] / "bot" / "handbook" / "handbook.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    right, answered = near_certain_figures(
        [(row["thread"], row["split"], row["question"], row["answer"]) for row in rows]
    )
    assert right >= 0.97
    assert answered >= 0.08


def test_near_certain_is_right_on_a_help_desk_nobody_here_wrote(shared_data: Path) -> None:
    """The same on StackFAQ, with people's own paraphrases."""
    path = shared_data / "stackfaq" / "qa.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    right, answered = near_certain_figures(
        [(str(row["thread"]), row["split"], row["question"], row["top_answer"]) for row in rows]
    )
    assert right >= 0.97
    assert answered >= 0.04


def test_a_threshold_out_of_range_is_refused() -> None:
    """0 would give any answer to any question."""
    for near_certain in (0.0, 1.01, -1.0):
        with pytest.raises(ValueError, match="near_certain"):
            Memory(near_certain=near_certain)
