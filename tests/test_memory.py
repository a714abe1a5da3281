"""Memory gives a verified answer when it fits, and passes the question on when in doubt."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from databases import DATABASES, empty_database

from bot.errors import ModelUnavailable
from bot.models import AnswerModel, Message
from bot.models.memory import NEAR_CERTAIN, Memory, MemoryModel, NearestMemory
from bot.models.memory_words import Rarity
from storage.entries import NewEntry
from storage.store import Store

TEAM = "T1"
FAQ = (
    NewEntry("How do I reset my password?", "Press Forgot password.", "Ana, 3 May", "accounts"),
    NewEntry("How do I enable two-factor sign-in?", "Settings, Security, turn it on.", ""),
    NewEntry("How do I disable two-factor sign-in?", "Settings, Security, turn it off.", ""),
    NewEntry("How do I convert Word to PDF?", "File, Save as, PDF.", ""),
    NewEntry("When is salary paid?", "On the 25th.", ""),
    NewEntry("How do I upgrade to version 2?", "Run upgrade two.", ""),
    NewEntry("Which style guide do we follow for C++?", "Google's.", ""),
    NewEntry("如何重置密码", "点击忘记密码。", ""),
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


@pytest.fixture(params=DATABASES)
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A fresh store on each kind of database."""
    opened = await Store.open(empty_database(request, tmp_path))
    yield opened
    await opened.close()


@pytest.fixture
async def memory(store: Store, tmp_path: Path) -> Memory:
    """A memory that knows the FAQ."""
    return await remembering(store, tmp_path)


async def remembering(
    store: Store, folder: Path, *entries: NewEntry, team: str = TEAM, near_certain: float = NEAR_CERTAIN
) -> Memory:
    """A memory of these entries, or of the FAQ; one by one, so that the later is the newer."""
    for entry in entries:
        await store.add_entries(team, [entry])
    if not entries:
        await store.add_entries(team, FAQ)
    memory = Memory(store, team=team, folder=folder / "memory", near_certain=near_certain)
    await memory.refresh()
    return memory


def pair(question: str, answer: str) -> NewEntry:
    return NewEntry(question, answer, "")


async def answers(memory: Memory, question: str, k: int = 1) -> list[str]:
    return [match.entry.answer for match in await memory.nearest(question, k)]


def asked(question: str) -> list[Message]:
    return [Message("system", "Be kind."), Message("user", question)]


@pytest.mark.parametrize("entry", FAQ, ids=lambda entry: entry.answer)
async def test_the_question_itself_is_answered_as_it_stands(memory: Memory, entry: NewEntry) -> None:
    """A verified question asked again gets its verified answer, word for word, with its source."""
    proposal = await MemoryModel(memory).answer(asked(entry.question))
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
async def test_small_differences_do_not_count(memory: Memory, question: str) -> None:
    """Case, punctuation, plural, width and a kind word make no other question."""
    assert (await MemoryModel(memory).answer(asked(question))).text == "Press Forgot password."


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
async def test_near_is_not_near_enough(memory: Memory, question: str, why: str) -> None:
    """A question that shares most words and asks for something else is passed to the next model."""
    with pytest.raises(ModelUnavailable):
        await MemoryModel(memory).answer(asked(question))


async def test_opposites_get_their_own_answers(memory: Memory, store: Store, tmp_path: Path) -> None:
    """Enable and disable are told apart when both are known, and not mixed up when only one is."""
    model = MemoryModel(memory)
    assert (await model.answer(asked("how do i disable two-factor sign in"))).text.endswith("turn it off.")
    assert (await model.answer(asked("how do i enable two-factor sign in"))).text.endswith("turn it on.")
    alone = await remembering(store, tmp_path, FAQ[1], team="T2")
    with pytest.raises(ModelUnavailable):
        await MemoryModel(alone).answer(asked("how do i disable two-factor sign in"))


async def test_the_last_question_counts_and_is_not_answered_twice(memory: Memory) -> None:
    """In a thread the newest question is looked up; who asks again does not hear the same again."""
    model = MemoryModel(memory)
    thread = [*asked("Hello!"), Message("assistant", "Hello."), Message("user", "When is salary paid?")]
    assert (await model.answer(thread)).text == "On the 25th."
    with pytest.raises(ModelUnavailable, match="already"):
        await model.answer(
            [*thread, Message("assistant", "On the 25th."), Message("user", "When is salary paid?")]
        )


async def test_the_answer_is_streamed_in_one_piece(memory: Memory) -> None:
    """`on_text` hears exactly the answer."""
    heard: list[str] = []

    async def on_text(piece: str) -> None:
        heard.append(piece)

    await MemoryModel(memory).answer(asked("When is salary paid?"), on_text=on_text)
    assert heard == ["On the 25th."]


async def test_any_text_is_only_words(either: Store, tmp_path: Path) -> None:
    """No query language, no length, no script and no broken character makes memory raise or hang, asked or known."""
    memory = await remembering(either, tmp_path)
    for question in HOSTILE:
        started = time.perf_counter()
        matches = await memory.nearest(question, 3)
        assert time.perf_counter() - started < 5
        assert all(0.0 <= match.certainty <= 1.0 and 0.0 < match.score <= 1.0 for match in matches)
    storable = [text for text in HOSTILE if "\x00" not in text]
    await either.add_entries(TEAM, [pair(text, f"odd {n}") for n, text in enumerate(storable)])
    await memory.refresh()
    assert memory.trouble == ""
    assert await answers(memory, "When is salary paid?") == ["On the 25th."]


async def test_an_empty_memory_passes_every_question_on(store: Store, tmp_path: Path) -> None:
    """Also before it ever looked into the store."""
    memory = Memory(store, team=TEAM, folder=tmp_path)
    for model in (MemoryModel(memory), NearestMemory(memory)):
        with pytest.raises(ModelUnavailable, match="nothing near"):
            await model.answer(asked("When is salary paid?"))
    await memory.refresh()
    assert (len(memory), await memory.nearest("When is salary paid?")) == (0, [])


async def test_what_is_approved_counts_from_the_next_question_on(either: Store, tmp_path: Path) -> None:
    """And only questions that share words with it are near it."""
    memory = await remembering(either, tmp_path)
    await either.add_entries(TEAM, [pair("Which bus goes to the office?", "The 42.")])
    await memory.refresh()
    assert (await memory.nearest("which bus goes to the office"))[0].certainty > 0.9
    assert len(memory) == len(FAQ) + 1
    assert await memory.nearest("zebra") == []


async def test_the_newer_answer_to_the_same_question_counts(either: Store, tmp_path: Path) -> None:
    """A correction wins over the import that it corrects, at once and after the next start."""
    memory = await remembering(either, tmp_path)
    await either.add_entries(TEAM, [pair("when is salary paid", "On the 27th.")])
    assert await answers(memory, "When is salary paid?") == ["On the 27th."]
    await either.add_entries(TEAM, [pair("When are salaries paid?", "On the 28th.")])
    for known in (memory, Memory(either, team=TEAM, folder=tmp_path / "memory")):
        await known.refresh()
        assert (await MemoryModel(known).answer(asked("When is salary paid?"))).text == "On the 27th."
        assert (await MemoryModel(known).answer(asked("When are salaries paid?"))).text == "On the 28th."


async def test_of_two_equally_near_the_newer_leads(store: Store, tmp_path: Path) -> None:
    """The same words in another order: an older answer is no rival to a newer one."""
    older, newer = pair("Is tea free?", "No."), pair("Is tea free", "Yes.")
    memory = await remembering(store, tmp_path, older, pair("teas is free", "Neither."), newer)
    assert await answers(memory, "is tea free") == ["Yes."]


async def test_held_out_questions_are_never_served(either: Store, tmp_path: Path) -> None:
    """Not from the index, not as the very same question, and no longer once they are held out."""
    memory = await remembering(either, tmp_path)
    held_out = [
        NewEntry("When is salary paid?", "On the 25th.", "", split="test"),
        NewEntry("Where is the canteen?", "In the cellar.", "", split="test"),
    ]
    await either.add_entries(TEAM, held_out)
    for _ in range(2):
        assert "On the 25th." not in await answers(memory, "When is salary paid?", 9)
        assert await answers(memory, "Where is the canteen?") != ["In the cellar."]
        await memory.refresh()
    assert len(memory) == len(FAQ) - 1


async def test_another_workspace_has_its_own_memory(store: Store, tmp_path: Path) -> None:
    """Entries of one team are never given to another."""
    memory = await remembering(store, tmp_path)
    other = await remembering(store, tmp_path, pair("When is salary paid?", "On the 1st."), team="T2")
    assert await answers(other, "When is salary paid?", 9) == ["On the 1st."]
    assert await answers(memory, "When is salary paid?") == ["On the 25th."]


async def test_the_nearest_come_first_and_may_be_left_out(store: Store, tmp_path: Path) -> None:
    """`k` matches, nearest first; excluded entries do not even count as rivals."""
    memory = await remembering(store, tmp_path, *FAQ, pair("My password: how do I reset?", "Ask Ben."))
    matches = await memory.nearest("How do I reset my password?", 3)
    assert [match.score for match in matches] == sorted((match.score for match in matches), reverse=True)
    assert (len(matches), matches[0].entry.answer, matches[0].score) == (3, "Press Forgot password.", 1.0)
    first, twin = matches[0].entry.id, matches[1].entry.id
    assert (await memory.nearest("How do I reset my password?", exclude={first}))[0].entry.id == twin
    unsure = (await memory.nearest("reset my password how"))[0]
    sure = (await memory.nearest("reset my password how", exclude={first, twin} - {unsure.entry.id}))[0]
    assert sure.certainty > unsure.certainty


async def test_however_many_are_left_out_the_next_is_found(store: Store, tmp_path: Path) -> None:
    """An evaluation leaves out more entries than are compared at once."""
    await store.add_entries(TEAM, [pair(f"reset password {n}", f"{n}") for n in range(300)])
    memory = await remembering(store, tmp_path, pair("My password, please?", "Here."))
    hidden = await store.entry_ids(TEAM, [""]) - {
        match.entry.id for match in await memory.nearest("My password, please?")
    }
    assert [match.entry.answer for match in await memory.nearest("reset my password", 2, exclude=hidden)] == [
        "Here."
    ]


async def test_the_memory_arm_always_answers_with_what_is_nearest(memory: Memory) -> None:
    """In an evaluation memory says its best guess, and never one made from the held-out example itself."""
    arm: AnswerModel = NearestMemory(memory)
    assert (await arm.answer(asked("forgot the password thing"))).text == "Press Forgot password."
    itself = (await memory.nearest("How do I reset my password?"))[0].entry.id
    without = NearestMemory(memory, exclude={itself})
    assert (await without.answer(asked("How do I reset my password?"))).text != "Press Forgot password."


async def test_many_paraphrases_outvote_one_chance_resemblance(store: Store, tmp_path: Path) -> None:
    """Three paraphrases of one answer weigh more than one entry that happens to share a rare word."""
    memory = await remembering(
        store,
        tmp_path,
        pair("delete my account", "Settings."),
        pair("remove my account for good", "Settings."),
        pair("close my account", "Settings."),
        pair("shut down my laptop", "Hold the button."),
        pair("print in colour", "Tray two."),
    )
    question = "shut down my account for good"
    assert (await NearestMemory(memory).answer(asked(question))).text == "Settings."


async def test_reading_is_safe_while_memory_changes(store: Store, tmp_path: Path) -> None:
    """While answers change and are taken over, each question sees the old or the new, never half of both."""
    memory = await remembering(store, tmp_path)
    question = "Which tea is served?"
    await store.add_entries(TEAM, [pair(question, "old")])
    await memory.refresh()

    async def change() -> None:
        for n in range(12):
            await store.add_entries(TEAM, [pair(question, "new" if n % 2 else "old"), pair(f"{n}", f"{n}")])
            await memory.refresh()

    changing = asyncio.create_task(change())
    while not changing.done():
        match = (await memory.nearest("which tea is served"))[0]
        assert (match.entry.answer in {"old", "new"}, match.score) == (True, 1.0)
    await changing


async def near_certain_figures(
    store: Store, folder: Path, rows: Sequence[tuple[str, str, str, str]]
) -> tuple[float, float]:
    """Share right of what is near-certain, and share of the answerable that is; rows are (thread, split, question, answer).

    Half of the threads are taken out of memory, so that half of the questions have no right answer there.
    """
    given = right = known = 0
    threads = sorted({thread for thread, *_ in rows})
    for shuffle in range(2):
        kept = set(random.Random(shuffle).sample(threads, len(threads) // 2))
        entries = [
            pair(question, answer)
            for thread, split, question, answer in rows
            if split == "train" and thread in kept
        ]
        await store.add_entries(f"T{shuffle}", entries)
        memory = Memory(store, team=f"T{shuffle}", folder=folder)
        await memory.refresh()
        for thread, _, question, answer in [row for row in rows if row[1] == "test"][shuffle::2]:
            known += thread in kept
            matches = await memory.nearest(question)
            if matches and matches[0].certainty >= NEAR_CERTAIN:
                given += 1
                right += matches[0].entry.answer == answer
    return right / given, right / known


async def test_near_certain_is_right_on_our_own_handbook(store: Store, tmp_path: Path) -> None:
    """At least 97 % of the near-certain answers to paraphrases nobody stored are right, and there are some."""
    path = Path(__file__).parents[1] / "bot" / "handbook" / "handbook.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    right, answered = await near_certain_figures(
        store, tmp_path, [(row["thread"], row["split"], row["question"], row["answer"]) for row in rows]
    )
    assert right >= 0.97
    assert answered >= 0.08


async def test_near_certain_is_right_on_a_help_desk_nobody_here_wrote(
    store: Store, tmp_path: Path, shared_data: Path
) -> None:
    """The same on StackFAQ, with people's own paraphrases."""
    path = shared_data / "stackfaq" / "qa.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    right, answered = await near_certain_figures(
        store,
        tmp_path,
        [(str(row["thread"]), row["split"], row["question"], row["top_answer"]) for row in rows],
    )
    assert right >= 0.97
    assert answered >= 0.04


async def test_a_threshold_out_of_range_is_refused(store: Store, tmp_path: Path) -> None:
    """0 would give any answer to any question."""
    for near_certain in (0.0, 1.01, -1.0):
        with pytest.raises(ValueError, match="near_certain"):
            Memory(store, team=TEAM, folder=tmp_path, near_certain=near_certain)


def test_the_same_words_weigh_the_same_in_every_order() -> None:
    """Or two questions of the same words would not be equally near, and chance would say which comes first."""
    words = [f"word{number}" for number in range(12)]
    rarity = Rarity({word: number**2 for number, word in enumerate(words)}, 500)
    drawn = random.Random(0)
    assert len({rarity.weight(drawn.sample(words, len(words))) for _ in range(200)}) == 1
