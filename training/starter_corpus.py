"""The text the starter model is trained on: made by a seeded generator, and read from Python's own documentation.

Three sources, all at hand on any machine with CPython, none downloaded: a service catalogue and a help desk of invented
products (written here, so under this project's licence), and the docstrings and language topics that CPython ships (PSF
licence). It never reads the sample domain, a team's data or anything else: the starter must know a way of speaking, and no
answers. Standard library only.
"""

import ast
import random
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from pydoc_data.topics import topics

from training import starter_phrases as phrases

ENTITIES = 150  # training.md 1: fewer names are not copied, more names make no memory
PHRASINGS_PER_FACT = 10
PHRASINGS_PER_SENTENCE = 30


@dataclass(frozen=True, slots=True)
class Pair:
    """A question and its answer; `fact` is shared by all phrasings of one question."""

    fact: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """What the starter reads: pairs to answer, plain passages to continue, and phrasings kept aside to measure with."""

    pairs: tuple[Pair, ...]
    passages: tuple[str, ...]
    held_out: tuple[Pair, ...]

    def sha256(self) -> str:
        """The corpus's name: the hash of every text in it, in order."""
        digest = sha256()
        for pair in (*self.pairs, *self.held_out):
            digest.update(f"{pair.fact}\0{pair.question}\0{pair.answer}\n".encode())
        for passage in self.passages:
            digest.update(f"{passage}\n".encode())
        return digest.hexdigest()


def build(seed: int, *, facts: int, sentences: int, docs: int, modules: int) -> Corpus:
    """The whole corpus for `seed`; the same on every machine with the same Python release (its documentation is part of it).

    `facts` help-desk questions, `sentences` remembered by key words, `docs` names explained; of the first `modules` modules.
    """
    rng = random.Random(seed)
    names = _names(rng, ENTITIES)
    library = list(islice(_library(Path(sysconfig.get_path("stdlib"))), modules))
    catalogue = list(_catalogue(rng, names))
    desk, held_out = _help_desk(rng, names, facts)
    passages = list(_passages(library))
    keyed, held_out_keyed = _keyed(rng, passages, sentences)
    pairs = catalogue + desk + keyed + list(_python_pairs(rng, library, docs))
    rng.shuffle(pairs)
    return Corpus(tuple(pairs), tuple(passages), tuple(held_out + held_out_keyed))


# --- invented products -------------------------------------------------------------------------------------------------


def _names(rng: random.Random, count: int) -> list[str]:
    """Distinct product names in the shapes that people use: "cedar-hub", "Lumendock", "Zuvimo", "Kite Map 3"."""
    names: dict[str, None] = {}
    while len(names) < count:
        head, tail = rng.choice(phrases.HEADS), rng.choice(phrases.TAILS)
        coined = "".join(rng.sample(phrases.SYLLABLES, 3))
        shapes = (
            f"{head}-{tail}",
            f"{head}{tail}".capitalize(),
            coined.capitalize(),
            f"{head} {tail}".title(),
        )
        names[rng.choice(shapes)] = None
    return list(names)


# --- service catalogue -------------------------------------------------------------------------------------------------


def _value(rng: random.Random, attribute: str) -> str:
    if attribute == "port":
        return str(rng.randrange(1024, 9999))
    choices = {
        "owner": phrases.TEAMS,
        "store": phrases.STORES,
        "language": phrases.LANGUAGES,
        "region": phrases.CITIES,
        "release": phrases.DAYS,
    }
    return rng.choice(choices[attribute])


def _catalogue(rng: random.Random, names: list[str]) -> Iterator[Pair]:
    for name in names:
        for attribute, (questions, sentence) in phrases.ATTRIBUTES.items():
            answer = sentence.format(n=name, v=_value(rng, attribute))
            for question in rng.sample(questions, 3):
                yield Pair(f"catalogue/{name}/{attribute}", _as_typed(rng, question.format(n=name)), answer)


# --- help desk -----------------------------------------------------------------------------------------------------------


def _help_desk(rng: random.Random, names: list[str], facts: int) -> tuple[list[Pair], list[Pair]]:
    """`facts` questions about invented products, each in many words; and for a third of them phrasings that are kept aside."""
    pairs: list[Pair] = []
    held_out: list[Pair] = []
    for number in range(facts):
        product, verb, thing = (
            rng.choice(names),
            rng.choice(phrases.VERBS).split("|"),
            rng.choice(phrases.THINGS).split("|"),
        )
        fact, answer = f"desk/{number}", _desk_answer(rng, product, thing[0])
        for question in rng.sample(phrases.QUESTIONS, PHRASINGS_PER_FACT):
            pairs.append(Pair(fact, _as_typed(rng, _ask(rng, question, verb, thing, product)), answer))
        if number % 3 == 0:
            held_out.append(
                Pair(fact, _ask(rng, rng.choice(phrases.HELD_OUT_QUESTIONS), verb, thing, product), answer)
            )
    return pairs, held_out


def _ask(rng: random.Random, question: str, verbs: list[str], things: list[str], product: str) -> str:
    verb = rng.choice(verbs)
    text = question.format(v=verb, g=_gerund(verb), o=rng.choice(things), p=product)
    return text[0].upper() + text[1:]


def _gerund(verb: str) -> str:
    first, _, rest = verb.partition(" ")
    stem = first[:-1] if first.endswith("e") and first not in ("see",) else first
    stem += {"get": "t", "put": "t", "stop": "p", "set": "t", "plan": "n"}.get(first, "")
    return f"{stem}ing {rest}".strip()


def _desk_answer(rng: random.Random, product: str, thing: str) -> str:
    def fill(sentence: str) -> str:
        return sentence.format(
            m=rng.choice(phrases.MENUS), m2=rng.choice(phrases.MENUS), b=rng.choice(phrases.BUTTONS), l=rng.choice(phrases.PLACES), t=rng.choice(phrases.FEATURES),
            r=rng.choice(phrases.REASONS), w=rng.choice(phrases.WAITS), c=rng.choice(phrases.COMMANDS), k=rng.choice("ABDEKLMPQRT"), p=product, o=thing,
            d=re.sub(r"\W", "", product.lower()),
        )  # fmt: skip

    sentences = [*rng.sample(phrases.OPENINGS, rng.choice((1, 1, 2))), rng.choice(phrases.ENDINGS)]
    return " ".join(fill(sentence) for sentence in sentences if sentence)


def _as_typed(rng: random.Random, question: str) -> str:
    """The question as somebody in a hurry types it: now and then no capitals, no full stop, a greeting, a slip of the finger."""
    luck = rng.random()
    if luck < 0.15:
        question = question.rstrip("?.")
    elif luck < 0.22:
        question = rng.choice(("Hi, ", "Hello! ", "Sorry, ", "Quick question: ", "Please help: ")) + question
    elif luck < 0.27:
        question += rng.choice((" Thanks!", " Thank you.", " Please help."))
    elif luck < 0.37:
        at = rng.randrange(1, len(question) - 1)
        question = question[:at] + question[at + 1 :]
    return question


# --- sentences remembered by their key words ---------------------------------------------------------------------------------

_KEYS_OF_ITS_OWN, _KEYS_FROM_ELSEWHERE = 4, 3


def _keyed(rng: random.Random, passages: list[str], count: int) -> tuple[list[Pair], list[Pair]]:
    """`count` sentences, each asked for in PHRASINGS_PER_SENTENCE ways by two or three of its seven key words.

    This is what prepares a small model for a team's questions: it learns to gather the words that matter from wherever they
    stand in a question, and to find by them what it remembers. Three of the keys are not in the sentence, so that
    remembering is needed and copying does not do.
    """
    common = Counter(word for passage in passages for word in set(_words(passage)))
    usual = sorted(common, key=lambda word: (-common[word], word))[
        100:4000
    ]  # most_common leaves ties to chance
    sentences = list(
        dict.fromkeys(
            s for passage in passages for s in _sentences(passage) if len(set(_words(s)) & set(usual)) >= 5
        )
    )
    pairs: list[Pair] = []
    held_out: list[Pair] = []
    for number, sentence in enumerate(rng.sample(sentences, min(count, len(sentences)))):
        own = sorted(set(_words(sentence)) & set(usual))
        keys = rng.sample(own, _KEYS_OF_ITS_OWN) + rng.sample(usual, _KEYS_FROM_ELSEWHERE)
        for _ in range(PHRASINGS_PER_SENTENCE):
            pairs.append(
                Pair(
                    f"keyed/{number}",
                    _as_typed(rng, _framed(rng, rng.choice(phrases.FRAMES), keys)),
                    sentence,
                )
            )
        if number % 3 == 0:
            held_out.append(Pair(f"keyed/{number}", _framed(rng, rng.choice(phrases.FRAMES), keys), sentence))
    return pairs, held_out


def _framed(rng: random.Random, frame: str, keys: list[str]) -> str:
    a, b, c = rng.sample(keys, 3)
    text = frame.format(a=a, b=b, c=c)
    return text[0].upper() + text[1:]


def _words(text: str) -> list[str]:
    return re.findall(r"\b[a-z]{4,12}\b", text.lower())


def _sentences(passage: str) -> list[str]:
    """Whole sentences of 8 to 24 plain words."""
    parts = re.split(r"(?<=[.!?]) +(?=[A-Z])", passage)
    return [
        part
        for part in parts
        if 8 <= len(part.split()) <= 24 and part[0].isupper() and part[-1] in ".!?" and "_" not in part
    ]


# --- Python's documentation ------------------------------------------------------------------------------------------------

_SKIPPED = {
    "site-packages",
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "turtledemo",
    "ensurepip",
    "tkinter",
    "distutils",
}


def _library(root: Path) -> Iterator[tuple[str, ast.Module]]:
    """(dotted name, syntax tree) of the standard library's public modules; sources are read, not run."""
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if _SKIPPED.intersection(parts) or any(part.startswith("_") and part != "__init__" for part in parts):
            continue
        yield (
            ".".join(part for part in parts if part != "__init__"),
            ast.parse(path.read_text(encoding="utf-8")),
        )


def _python_pairs(rng: random.Random, library: list[tuple[str, ast.Module]], count: int) -> Iterator[Pair]:
    """ "What does X do?" with the first paragraph of X's docstring, for `count` public names that are documented briefly."""
    found = [pair for module, tree in library for pair in _documented(tree, module)]
    for name, line in rng.sample(found, min(count, len(found))):
        for question in rng.sample(phrases.DOC_QUESTIONS, 4):
            yield Pair(f"python/{name}", question.format(x=name), line)


def _documented(node: ast.AST, prefix: str) -> Iterator[tuple[str, str]]:
    """(dotted name, first paragraph) of what is public and documented in 4 to 30 words."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(
            child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        ) or child.name.startswith("_"):
            continue
        name = f"{prefix}.{child.name}"
        line = " ".join((ast.get_docstring(child) or "").split("\n\n")[0].split())
        if 4 <= len(line.split()) <= 30 and line.isascii():
            yield name, line
        if isinstance(child, ast.ClassDef):
            yield from _documented(child, name)


def _passages(library: list[tuple[str, ast.Module]]) -> Iterator[str]:
    """Paragraphs of English prose, 15 to 90 words each, from Python's language topics and the library's docstrings."""
    texts = [topics[topic] for topic in sorted(topics)]
    for _, tree in library:
        texts += _all_docstrings(tree)
    for text in texts:
        for paragraph in text.split("\n\n"):
            line = " ".join(paragraph.split())
            if 15 <= len(line.split()) <= 90 and line.isascii() and "::=" not in line and ">>>" not in line:
                yield line


def _all_docstrings(tree: ast.Module) -> list[str]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented)]
