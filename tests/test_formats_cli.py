"""Files in and out of the terminal: `apprentice import` and `apprentice export --format`, with what they refuse."""

import asyncio
import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal import Terminal, logging_as_it_was

from bot.settings import Settings
from storage.store import Store
from storage.values import Message, Proposal
from training.datasets import freeze
from training.formats.reading import Reader, Seen
from training.formats.records import UTF8
from training.formats.writing import FORMATS, PAIRED

TEAM = "T0LOCAL"
_TOPICS = "printer scanner badge laptop parking holiday payroll visitor window server coffee kitchen"
TOPICS = _TOPICS.split()
MANY: list[dict[str, object]] = [
    {"question": f"How does the {topic} of floor {n} work?", "answer": f"Press button {n}.", "topic": topic}
    for n, topic in enumerate(TOPICS)
]


@pytest.fixture
def terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Terminal]:
    """An empty folder with nothing set but that the sample domain is left out."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    here = Terminal(tmp_path, capsys)
    here.configure(sample_domain="false")
    with logging_as_it_was():
        yield here


async def _corrected(store: Store, number: int, topic: str) -> None:
    """Somebody asked, and Ben wrote a better answer: an example, and a preference."""
    place = {"team": TEAM, "channel": "C1", "ts": f"{number}.0", "thread_ts": f"{number}.0"}
    asked = (
        await store.ask(asker="U0BEN", text=f"Who may use the {topic} on day {number}?", **place)
    ).question
    said = [Proposal(f"Nobody may use the {topic}.", "local", "starter")]
    answered = await store.answer(asked, said, messages=[Message("user", asked.text)])
    await store.posted(answered.answer.id, f"{number}.1")
    await store.correct(
        answered.answer.id,
        team=TEAM,
        author="U0BEN",
        text=f"Everybody may, {topic} included.",
        may_train=True,
    )


async def _freeze(terminal: Terminal, preferences: int) -> None:
    store = await terminal.store()
    await store.set_consent(TEAM, "U0BEN", True)
    for number, topic in enumerate(TOPICS[:preferences]):
        await _corrected(store, number + 1, topic)
    await freeze(store, terminal.data / "datasets", team=TEAM, salt="salt", system="Be brief.")
    await store.close()


@pytest.fixture
def frozen(terminal: Terminal) -> Terminal:
    """With a dataset of twelve entries and twelve corrections."""
    terminal.run("import", str(terminal.write("faq.jsonl", *MANY)))
    asyncio.run(_freeze(terminal, len(TOPICS)))
    return terminal


def test_a_dry_run_says_everything_and_changes_nothing(terminal: Terminal) -> None:
    """What would come in, in which format, what would not, and why; as words and for programs."""
    file = terminal.write("faq.jsonl", *MANY, '{"question": "Only that?"}', "{oops")
    ended = terminal.run("import", str(file), "--dry-run")
    assert ended.code == 0
    assert "12 could be imported (qa); nothing was changed; 2 lines were left out" in ended.out
    assert "line 13: no answer" in ended.err
    assert "line 14: not JSON" in ended.err
    told = terminal.run("import", str(file), "--dry-run", "--json").json
    assert (told["entries"], told["formats"], [each["line"] for each in told["left_out"]]) == (
        12,
        {"qa": 12},
        [13, 14],
    )
    assert not (terminal.data / "apprentice.sqlite").exists()


def test_a_file_is_proposed_for_the_golden_set(terminal: Terminal) -> None:
    """Nothing of it is served or learned; a second time everything is refused with a reason."""
    file = str(terminal.write("golden.jsonl", *MANY[:3]))
    ended = terminal.run("import", file, "--as", "golden", "--json")
    assert ended.code == 0, ended.err
    assert (ended.json["proposed"], ended.json["refused"]) == (3, 0)

    async def served() -> int:
        store = await terminal.store()
        count = sum([len(page) async for page in store.entries(TEAM)])
        await store.close()
        return count

    assert asyncio.run(served()) == 0
    again = terminal.run("import", file, "--as", "golden", "--json")
    assert again.json["proposed"] + again.json["refused"] == 3


def test_a_whole_file_is_held_out(terminal: Terminal) -> None:
    """--split stands above what the rows say."""
    file = str(terminal.write("held.jsonl", *({**each, "split": "train"} for each in MANY[:3])))
    assert terminal.run("import", file, "--split", "test").code == 0

    async def splits() -> set[str]:
        store = await terminal.store()
        found = {entry.split async for page in store.entries(TEAM) for entry in page}
        await store.close()
        return found

    assert asyncio.run(splits()) == {"test"}


WRONG = {
    "an unknown target": (["import", "faq.jsonl", "--as", "silver"], 2, "write entries or golden"),
    "an unknown split": (["import", "faq.jsonl", "--split", "validation"], 2, "write train or test"),
    "an unknown format": (["import", "faq.jsonl", "--format", "word"], 1, "is no format that I can read; write csv"),
    "a missing file": (["import", "nowhere.csv"], 1, "There is no file nowhere.csv"),
    "another format than it has": (["import", "faq.jsonl", "--format", "sharegpt"], 1, "conversations is not a list"),
    "a dataset without a format": (["export", "x.jsonl", "--dataset", "ab"], 2, "add --format"),
    "a person in a format": (["export", "x", "--person", "U1", "--format", "trl"], 2, "no other format"),
    "an unknown side": (["export", "x", "--format", "trl", "--split", "dev"], 2, "write train, validation, test"),
    "a format that nobody reads": (["export", "x", "--format", "xml"], 1, "is no format that I can write; write one of"),
    "nothing frozen": (["export", "x", "--format", "trl"], 1, "Nothing was frozen yet: `apprentice train`"),
    "an unknown dataset": (["export", "x", "--format", "trl", "--dataset", "zz"], 1, "There is no dataset 'zz'"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_done_is_said_with_the_remedy(terminal: Terminal, case: str) -> None:
    """In a sentence, by its exit code, and nothing is written."""
    arguments, code, said = WRONG[case]
    terminal.write("faq.jsonl", *MANY[:1])
    ended = terminal.run(*arguments)
    assert (ended.code, ended.out) == (code, "")
    assert said in " ".join(ended.err.replace("│", " ").split())
    assert not (terminal.folder / "x").exists()


def test_every_format_goes_out_and_comes_in_again(frozen: Terminal) -> None:
    """Each by its name into one folder; what is read back is what the dataset holds."""
    (frozen.folder / "out").mkdir()
    for name in FORMATS:
        out = "out/hf" if name == "hf" else "out"
        ended = frozen.run("export", out, "--format", name, "--json")
        assert ended.code == 0, (name, ended.err)
        assert ended.json["format"] == name
        if name == "hf":
            assert ended.json["train"] + ended.json.get("validation", 0) + ended.json.get("test", 0) == 24
            continue
        file = Path(ended.json["file"])
        assert file.name == ("train.csv" if name == "csv" else f"train.{name}.jsonl")
        seen = Seen(UTF8)
        found = [piece for _, piece in Reader(file).pieces(seen)]
        assert (len(found), seen.left_out) == (ended.json["rows"], 0)
        assert all(piece.rejected.startswith("Nobody may") for piece in found) == (name in PAIRED)
        assert {piece.system for piece in found} == {"" if name == "csv" else "Be brief."}
    liked = {
        piece.liked
        for _, piece in Reader(frozen.folder / "out" / "train.trl-unpaired.jsonl").pieces(Seen(UTF8))
    }
    assert liked == {True, False}
    assert terminal_again(frozen) == 1


def terminal_again(frozen: Terminal) -> int:
    """The second time: what is there is left alone."""
    return frozen.run("export", "out", "--format", "csv").code


def test_what_a_format_loses_is_said(frozen: Terminal) -> None:
    """In words on stderr, counted; in the receipt for programs."""
    ended = frozen.run("export", "-", "--format", "csv")
    rows = list(csv.DictReader(ended.out.splitlines()))
    assert len(rows) > 10
    assert f"{len(rows)} had a system prompt, which this format cannot hold; it was dropped." in ended.err
    told = frozen.run("export", "x.csv", "--format", "csv", "--json").json
    assert list(told["not_held"].values()) == [len(rows)]


def test_earlier_answers_that_will_be_learned_are_told(terminal: Terminal) -> None:
    """ShareGPT and Vertex cannot mark them; the others can, and say nothing."""
    turns = [{"role": role, "content": f"{role} {n}"} for n in (1, 2) for role in ("user", "assistant")]
    folder = terminal.data / "datasets" / "made"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text(json.dumps({"id": "1", "cluster": "c", "messages": turns}) + "\n")

    async def known() -> None:
        store, counts = await terminal.store(), {"train": 1, "validation": 0, "test": 0}
        await store.save_dataset(
            dataset_id="d1", path=str(folder), counts=counts, manifest={}, team=TEAM, kind="training"
        )
        await store.close()

    asyncio.run(known())
    said = {name: frozen_words(terminal, name) for name in ("sharegpt", "vertex", "openai", "trl")}
    assert all(
        "1 had earlier answers" in said[name] and "learns them, too" in said[name]
        for name in ("sharegpt", "vertex")
    )
    assert not [name for name in ("openai", "trl") if "earlier answers" in said[name]]


def frozen_words(terminal: Terminal, name: str) -> str:
    """What an export says on stderr."""
    ended = terminal.run("export", "-", "--format", name)
    assert ended.code == 0, ended.err
    return ended.err


@pytest.mark.parametrize(
    ("preferences", "name", "said"),
    [
        (3, "openai-preference", "OpenAI needs at least 10 training examples and there are"),
        (0, "openai-preference", "has nothing for openai-preference in train"),
        (0, "openai", "OpenAI needs at least 10 training examples and there are"),
    ],
)
def test_what_openai_would_refuse_is_said(terminal: Terminal, preferences: int, name: str, said: str) -> None:
    """The file is written, and the limit is named with its remedy; nothing at all is exit code 3."""
    terminal.run("import", str(terminal.write("faq.jsonl", *MANY[:4])))
    asyncio.run(_freeze(terminal, preferences))
    ended = terminal.run("export", "out.jsonl", "--format", name)
    assert said in ended.err
    assert ended.code == (3 if "nothing for" in said else 0)
    assert (terminal.folder / "out.jsonl").exists() == (ended.code == 0)
