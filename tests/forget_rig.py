"""A person who left traces everywhere (tables, datasets, evaluations, files, memory, backups), and the search for them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from databases import TEAM, ask, reply
from sqlalchemy import Text, cast, select

from bot.backups import back_up
from bot.models.memory import Memory
from bot.privacy import Privacy, PrivacyRules
from storage.database import sqlite_file
from storage.entries import NewEntry, question_hash
from storage.identities import digest
from storage.records import (
    DistilledAnswer,
    Duel,
    DuelPick,
    Expert,
    GoldenItem,
    GoldenState,
    MemberName,
    ModelVersion,
    Nomination,
    Placeholder,
    Quarantine,
    Question,
    Record,
    Review,
    TrainingRun,
)
from storage.store import Store
from storage.values import Message, Proposal
from training.datasets import freeze

MIRA, BEN, ANN = "U0MIRA7QX", "U0BEN4KTW", "U0ANN2PLD"
ASKED, BETTER = "What does the quillmarsh lantern cost?", "The zephyrine tariff says two coins a day."
PROPOSED, TOLD = "Where is the brindlewick key kept?", "The brindlewick key hangs behind the vossgate door."
EDITED, GOLDEN = "Edited by hand: the ombralith shelf.", "Who looks after the tarnquist saw?"
TAUGHT = "As Mira says, the glimmerfen pump is blue."
PLANTED = (
    "glimmerfen",
    "quillmarsh",
    "zephyrine",
    "brindlewick",
    "vossgate",
    "ombralith",
    "tarnquist",
    "krumhorn",
)
"""Words that only this person used."""


@dataclass
class Place:
    """A data directory with somebody in all of it."""

    store: Store
    folder: Path
    memory: Memory
    question: Question
    dataset: str = ""
    run: str = ""

    def privacy(self, **rules: object) -> Privacy:
        """As the workshop builds it, without a model that could be loaded."""
        chosen = {"folder": self.folder, "remember": self.memory.refresh_wholly, **rules}
        return Privacy(self.store, team=TEAM, rules=PrivacyRules(**chosen))  # type: ignore[arg-type]


async def traces_everywhere(store: Store, folder: Path) -> Place:
    """Mira in everything, and Ben, who stays, beside her."""
    memory = Memory(store, team=TEAM, folder=folder / "memory")
    place = Place(store, folder, memory, await ask(store, asker=MIRA, ts="10.0", text=ASKED))
    await _said(place)
    await _kept(place)
    await _learned(place)
    await _filed(place)
    await memory.refresh_wholly()
    return place


async def _said(place: Place) -> None:
    store = place.store
    others = [NewEntry(f"Question number {n}?", f"Answer number {n}.", "the wiki") for n in range(40)]
    await store.add_entries(TEAM, others)
    for person in (MIRA, BEN):
        await store.set_consent(TEAM, person, True)
    mine = await reply(store, place.question)
    await store.rate(mine.id, team=TEAM, rater=BEN, value=1)
    # Ben goes on in her thread: his model was shown her words.
    later = await ask(store, asker=BEN, ts="11.0", thread_ts="10.0", text="And on a Sunday?")
    await reply(store, later, history=(Message("user", ASKED), Message("assistant", "Press Forgot.")))
    # She corrects an answer to Ben; what she wrote is served to him and shown to models.
    wrong = await reply(store, await ask(store, asker=BEN, ts="12.0", text="What is the tariff?"))
    await store.rate(wrong.id, team=TEAM, rater=MIRA, value=-1, reason="krumhorn")
    await store.correct(wrong.id, team=TEAM, author=MIRA, text=BETTER, reason="krumhorn", may_train=True)
    entry = NewEntry("What is the tariff?", BETTER, "a correction", author=MIRA, answer_id=wrong.id)
    await store.add_entries(TEAM, [entry])
    served = await ask(store, asker=BEN, ts="13.0", text="What is the tariff please?")
    given = await store.answer(
        served, [Proposal(BETTER, "memory", "memory")], messages=[Message("user", served.text)]
    )
    await store.posted(given.answer.id, "913.0")
    shown = await ask(store, asker=BEN, ts="14.0", text="Is there a discount?")
    prompt = Message("system", f"Be kind.\n\nQuestion: What is the tariff?\nVerified answer: {BETTER}")
    await reply(store, shown, history=(prompt,))
    await store.solicit(mine.id, team=TEAM, person=MIRA, probability=0.5, day="2026-11-23")
    nomination = Nomination(
        team=TEAM,
        channel="C1",
        ts="20.0",
        nominator=BEN,
        question=PROPOSED,
        answer=TOLD,
        authors=[MIRA],
        waiting_for=[],
    )
    kept = await store.nominate(nomination)
    await store.add_entries(TEAM, [NewEntry(PROPOSED, TOLD, "a message", nomination_id=kept.id)])
    await store.nomination_taken(kept.id)


async def _kept(place: Place) -> None:
    store = place.store
    key = await store.identity_key(TEAM)
    bens = await ask(store, asker=BEN, ts="15.0", text="Which of two?")
    both = [Proposal("This.", "local", "starter"), Proposal("That.", "openai", "gpt")]
    answered = await store.answer(bens, both, messages=[Message("user", bens.text)])
    await store.posted(answered.answer.id, "915.0")
    duel = Duel(question_id=bens.id, candidate_a=answered.candidate.id, candidate_b=answered.candidate.id)
    rows: Sequence[Record] = (
        Review(
            team=TEAM,
            subject=answered.answer.id,
            answer_id=answered.answer.id,
            state="edited",
            answer=EDITED,
            by=MIRA,
        ),
        DistilledAnswer(
            team=TEAM,
            teacher="openai:gpt",
            key="d1",
            answer_id=answered.answer.id,
            text=TAUGHT,
            people=[BEN, MIRA],
        ),
        DistilledAnswer(
            team=TEAM, teacher="openai:gpt", key="d2", answer_id=answered.answer.id, text="Yes.", people=[BEN]
        ),
        GoldenItem(team=TEAM, key="g1", question=GOLDEN, answer="Ann.", authors=[MIRA], approvals=[BEN, ANN]),
        GoldenItem(
            team=TEAM,
            key="g2",
            question="Whose is it?",
            answer="Ours.",
            state=GoldenState.GOLDEN,
            approvals=[BEN, MIRA],
        ),
        Expert(team=TEAM, person=MIRA, granted_by=ANN),
        Expert(team=TEAM, person=BEN, granted_by=MIRA),
        MemberName(team=TEAM, digest=digest(key, "name", "mira"), person=MIRA, words=1),
        Placeholder(team=TEAM, scope="C1/12.0", digest="d1", kind="PERSON", number=1, person=MIRA),
        Placeholder(team=TEAM, scope="C1/10.0", digest="d2", kind="EMAIL", number=1),
        Quarantine(team=TEAM, kind="rater", subject=MIRA, person=MIRA, detail=f"fed by <@{MIRA}>"),
        Quarantine(team=TEAM, kind="topic", subject="saws", lifted_by=MIRA),
    )
    async with store.database.writing() as session:
        session.add(duel)
        await session.flush()
        session.add(DuelPick(duel_id=duel.id, picker=MIRA, pick="a"))
        session.add_all(rows)
    await store.set_channel(TEAM, "C1", by=MIRA, instructions=f"Ask <@{MIRA}> about it.")
    await store.decide(team=TEAM, actor=BEN, action="note", detail=f"as {MIRA} wished")


async def _learned(place: Place) -> None:
    store, folder = place.store, place.folder
    clean = await freeze(store, folder / "datasets", team=TEAM, salt="s")
    run = (await store.request_run(team=TEAM, occasion=f"train:{MIRA}:1", by=MIRA, options={})).run
    models = [await _model(place, name) for name in ("local-0", "local-1")]
    async with store.database.writing() as session:
        row = await session.get(TrainingRun, run.id)
        version = await session.get(ModelVersion, models[1].id)
        assert row is not None
        assert version is not None
        row.state, row.dataset_id, row.report_ts = "done", clean.id, "77.0"  # type: ignore[assignment]
        row.reason = f"Cancelled by <@{MIRA}>."
        version.dataset_id, version.run_id = clean.id, run.id
        session.add_all([row, version])
    for number, model in enumerate(models):
        await store.promote(team=TEAM, decision=f"d{number}", version_id=model.id, by=MIRA, reason="better")
    place.dataset, place.run = clean.id, run.id
    evaluation = await store.request_evaluation(
        team=TEAM, by=MIRA, challenger_id=None, current_id=None, dataset_id=clean.id
    )
    await store.note_on_evaluation(evaluation.id, sheet=_sheet())
    await store.keep_provider_file(
        team=TEAM, provider="openai", purpose="fine-tune", dataset_id=clean.id, file_id="file-1"
    )


def _sheet() -> dict[str, object]:
    hers = question_hash(ASKED)[:16]
    said = [(hers, "About the quillmarsh I know nothing."), ("other", BETTER), ("other", "Two coins.")]
    return {
        "schema": 1,
        "rows": [
            {"answered": {"arm": "base", "example": example, "text": text}, "cluster": "c", "scores": {}}
            for example, text in said
        ],
    }


async def _model(place: Place, name: str) -> ModelVersion:
    path = place.folder / "models" / name
    path.mkdir(parents=True)
    return await place.store.register_model(
        team=TEAM,
        name=name,
        base_model="b",
        path=str(path),
        sha256=name,
        run_id=None,
        dataset_id=None,
        card={},
    )


async def _filed(place: Place) -> None:
    folder, hers = place.folder, question_hash(ASKED)[:16]
    files = {
        "evaluations/ev_1.jsonl": f'{{"arm": "base", "example": "{hers}", "text": "quillmarsh?"}}\n'
        f'{{"arm": "memory", "example": "x", "text": "{BETTER}"}}\n{{"arm": "base", "example": "y", "text": "Fine."}}\n',
        "exports/out.jsonl": f'{{"question": "tariff?", "answer": "{BETTER}"}}\n{{"question": "q", "answer": "a"}}\n',
        "exports/list.csv": f"person,votes\n{MIRA},3\n{BEN},4\n",
        f"runs/{place.run}/trainer.log": f"row of {MIRA}\n",
        f"runs/{place.run}/checkpoints/step-1/adapter.bin": "weights",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    file = sqlite_file(place.store.database.url)
    back_up(folder, file, folder / "backups" / "old.tar")
    if file is not None:
        (folder / "apprentice.sqlite.before-0006_spending").write_bytes(
            (folder / "backups" / "old.tar").read_bytes()
        )


# --- The search -------------------------------------------------------------------------------------------------


def traces_in_files(folder: Path, words: Sequence[str] = (MIRA, *PLANTED)) -> list[str]:
    """Every file under a folder in whose bytes any of these words stands, also half of a page that is not used any more."""
    found = []
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        content = file.read_bytes()
        found += [f"{file.relative_to(folder)}: {word}" for word in words if word.encode() in content]
    return found


async def traces_in_tables(store: Store, words: Sequence[str] = (MIRA, *PLANTED)) -> list[str]:
    """Every table and column in which any of these words stands."""
    found = []
    async with store.database.reading() as session:
        connection = await session.connection()
        for table in Record.metadata.sorted_tables:
            for column in table.columns:
                shown = cast(column, Text)
                values = (await connection.execute(select(shown.label("shown")))).scalars()
                said = "\n".join(str(value) for value in values)
                found += [f"{table.name}.{column.name}: {word}" for word in words if re.search(word, said)]
    return found
