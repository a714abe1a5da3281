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

_HEADS = [
    "amber",
    "brisk",
    "cedar",
    "dusk",
    "ember",
    "fern",
    "glade",
    "harbor",
    "iron",
    "juniper",
    "kite",
    "lumen",
    "maple",
    "north",
    "ochre",
    "pine",
    "quartz",
    "river",
    "slate",
    "tidal",
]
_TAILS = [
    "base",
    "beam",
    "board",
    "box",
    "cast",
    "desk",
    "dock",
    "drive",
    "feed",
    "flow",
    "gate",
    "grid",
    "hub",
    "kit",
    "lane",
    "link",
    "loop",
    "mail",
    "map",
    "mark",
]
_SYLLABLES = [
    "ba",
    "bo",
    "da",
    "do",
    "fa",
    "fi",
    "ga",
    "go",
    "ka",
    "ki",
    "la",
    "lo",
    "ma",
    "mi",
    "na",
    "no",
    "pa",
    "pi",
    "ra",
    "ro",
    "sa",
    "su",
    "ta",
    "to",
    "va",
    "vi",
    "xo",
    "zu",
]


def _names(rng: random.Random, count: int) -> list[str]:
    """Distinct product names in the shapes that people use: "cedar-hub", "Lumendock", "Zuvimo", "Kite Map 3"."""
    names: dict[str, None] = {}
    while len(names) < count:
        head, tail = rng.choice(_HEADS), rng.choice(_TAILS)
        coined = "".join(rng.sample(_SYLLABLES, 3))
        shapes = (
            f"{head}-{tail}",
            f"{head}{tail}".capitalize(),
            coined.capitalize(),
            f"{head} {tail}".title(),
        )
        names[rng.choice(shapes)] = None
    return list(names)


# --- service catalogue -------------------------------------------------------------------------------------------------

_TEAMS = [
    "payments",
    "search",
    "billing",
    "mobile",
    "platform",
    "security",
    "data",
    "support",
    "growth",
    "legal",
    "finance",
    "design",
]
_STORES = ["SQLite", "PostgreSQL", "Redis", "MySQL", "DuckDB", "Kafka", "MongoDB", "Cassandra"]
_LANGUAGES = ["Python", "Go", "Rust", "Java", "Kotlin", "TypeScript", "Elixir", "Ruby"]
_CITIES = ["Zagreb", "Oslo", "Lisbon", "Dublin", "Vienna", "Madrid", "Prague", "Turin", "Ghent", "Malmo"]
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]

_ATTRIBUTES: dict[str, tuple[tuple[str, ...], str]] = {
    "owner": (
        ("Who owns {n}?", "Which team is responsible for {n}?", "whom do I ask about {n}", "{n} owner?",
         "Who looks after {n}?", "I have a question about {n}, which team do I go to?", "Who maintains {n}?"),
        "{n} is owned by the {v} team.",
    ),
    "store": (
        ("Where does {n} keep its data?", "Which database does {n} use?", "What is the storage of {n}?",
         "database of {n}", "What does {n} store its data in?", "Does {n} use a database, and which?"),
        "{n} stores its data in {v}.",
    ),
    "language": (
        ("What is {n} written in?", "Which language is {n} in?", "{n} programming language", "What was {n} built with?",
         "I want to change {n}, what language do I need?"),
        "{n} is written in {v}.",
    ),
    "port": (
        ("Which port does {n} listen on?", "What is the port of {n}?", "port number for {n}?",
         "How do I reach {n} on this host, which port?", "On which port can I connect to {n}?"),
        "{n} listens on port {v}.",
    ),
    "region": (
        ("Where is {n} hosted?", "In which city does {n} run?", "location of {n}", "Which data centre has {n}?"),
        "{n} runs in the data centre in {v}.",
    ),
    "release": (
        ("When is {n} released?", "On which day do you deploy {n}?", "{n} release day?", "When does a new {n} go live?"),
        "A new version of {n} goes out every {v}.",
    ),
}  # fmt: skip


def _value(rng: random.Random, attribute: str) -> str:
    if attribute == "port":
        return str(rng.randrange(1024, 9999))
    choices = {"owner": _TEAMS, "store": _STORES, "language": _LANGUAGES, "region": _CITIES, "release": _DAYS}
    return rng.choice(choices[attribute])


def _catalogue(rng: random.Random, names: list[str]) -> Iterator[Pair]:
    for name in names:
        for attribute, (questions, sentence) in _ATTRIBUTES.items():
            answer = sentence.format(n=name, v=_value(rng, attribute))
            for question in rng.sample(questions, 3):
                yield Pair(f"catalogue/{name}/{attribute}", _as_typed(rng, question.format(n=name)), answer)


# --- help desk -----------------------------------------------------------------------------------------------------------

_VERBS = (
    "delete|remove|erase|get rid of", "create|add|make|set up", "rename|give another name to|change the name of",
    "hide|make invisible|keep others from seeing", "share|send|give others", "export|download|save|get out",
    "import|upload|bring in|load", "change|edit|modify|update", "find|locate|search for|look up",
    "restore|recover|get back|bring back", "turn off|disable|switch off|stop", "turn on|enable|switch on|activate",
    "move|transfer|migrate|relocate", "copy|duplicate|clone", "sort|order|arrange", "merge|combine|join", "print|get on paper",
    "lock|protect|secure", "schedule|plan|set a time for", "sync|keep in step|synchronise", "embed|insert|put in",
    "count|see the number of", "resize|make smaller|make bigger", "mute|silence|quiet", "archive|put away|store",
)  # fmt: skip
_THINGS = (
    "account|profile|user account", "picture|photo|image|avatar", "password|passphrase|login", "invoice|bill|receipt",
    "calendar|agenda", "folder|directory", "contact list|address book|contacts", "notifications|alerts|messages about news",
    "search history|past searches", "backup|safety copy", "language|locale", "time zone|clock", "theme|colours|dark mode",
    "keyboard shortcuts|hotkeys", "attachments|attached files", "mailing list|newsletter", "two-step sign-in|second factor",
    "video|clip|recording", "comments|replies", "drafts|unsent messages", "tags|labels", "font|typeface|letters", "tables|rows",
    "chart|graph|diagram", "links|urls|addresses", "playlist|list of songs", "subscription|paid plan", "webhook|callback",
    "API key|access token", "permissions|access rights", "spreadsheet|sheet", "text formatting|bold text", "bookmarks|favourites",
)  # fmt: skip
_QUESTIONS = (
    "How do I {v} my {o} in {p}?", "How can I {v} the {o} on {p}?", "how to {v} {o} in {p}", "{g} {o} in {p}.", "{g} my {p} {o}.",
    "Is it possible to {v} {o} in {p}?", "Is there a way to {v} the {o} on {p}?", "I want to {v} my {o} in {p}, how do I do it?",
    "What is the best way to {v} {o} with {p}?", "Can I {v} {o} using {p}?", "Can {p} {v} my {o}?", "Where can I {v} {o} in {p}?",
    "{p}: {v} {o}", "{p} {o} - how to {v} them?", "I'd like to {v} my {o} on {p}.", "Whats the fastest way to {v} {o} on {p}?",
    "I need to {v} {o} with {p}, any ideas?", "Does {p} let me {v} the {o}?", "Need help {g} {o} {p}",
    "I don't know how to {v} the {o} in my {p}.", "Does anybody know how one can {v} {o} in {p}?", "In {p}, how would I {v} my {o}",
    "Trying to {v} {o} in {p} but I cannot find where.", "My {p} has {o}. How do I {v} them?", "{o} in {p}, can I {v} them?",
)  # fmt: skip
_HELD_OUT_QUESTIONS = (
    "What do I have to do to {v} the {o} of {p}?",
    "Hello, could someone tell me whether {p} can {v} {o}?",
    "steps for {g} {o} on {p} please",
)
_MENUS = [
    "Settings",
    "Tools",
    "Account",
    "View",
    "Privacy",
    "General",
    "Preferences",
    "Advanced",
    "File",
    "Labs",
    "Integrations",
    "Profile",
    "Help",
    "Data",
]
_BUTTONS = [
    "Save",
    "Apply",
    "Confirm",
    "Continue",
    "Done",
    "OK",
    "Next",
    "Submit",
    "Manage",
    "More",
    "Update",
    "Start",
]
_PLACES = (
    "top right corner",
    "left sidebar",
    "bottom of the page",
    "three dots menu",
    "gear icon",
    "address bar",
    "footer",
)
_WAITS = ("a few minutes", "an hour", "two days", "14 days", "30 seconds", "one night")
_REASONS = (
    "the server keeps a copy for safety", "only the owner has the right to do it", "the mobile app does not have this yet",
    "the old version is still in use", "the data belongs to your organisation", "it was removed in the last release",
)  # fmt: skip
_OPENINGS = (
    "Go to {m} and then {m2}, and click {b}.", "Open {m} > {m2}, choose {t} and press {b}.", "Click the {l} and select {t}.",
    "You can't do that in {p}, because {r}.", "Right-click the {o}, pick {t} and confirm with {b}.",
    "There is no button for it, but you can type /{c} in the search box of {p}.", "Press Ctrl+{k} and then {b}.",
    "It is not possible at the moment.", "Use the {t} option in the {l}.", "{p} does this by itself every {w}.",
    "See http://help.{d}.com/{c} for the steps.", "Install the {t} extension, it adds a {b} button to the {l}.",
    "Yes, from the {m} page: look for {t} near the {l}.", "Write {c}:{k} in front of the {o}.",
)  # fmt: skip
_ENDINGS = (
    "It takes {w}.", "After that, reload the page.", "You may have to sign in again.", "Note that {r}.", "",
    "If you do not see it, ask your administrator.", "Then repeat it for every {o}.", "This also works in the {m} screen.",
    "I had the same problem and this solved it.", "You can undo it within {w}.", "",
)  # fmt: skip
_FEATURES = [
    "Quick edit",
    "Bulk change",
    "Safe mode",
    "Offline copy",
    "Smart view",
    "Full history",
    "Public page",
    "Custom rule",
    "Old style",
    "Team folder",
]
_COMMANDS = [
    "clear",
    "tidy",
    "fetch",
    "swap",
    "fold",
    "split",
    "keep",
    "send",
    "join",
    "pull",
    "mark",
    "open",
    "pack",
    "trim",
]


def _help_desk(rng: random.Random, names: list[str], facts: int) -> tuple[list[Pair], list[Pair]]:
    """`facts` questions about invented products, each in many words; and for a third of them phrasings that are kept aside."""
    pairs: list[Pair] = []
    held_out: list[Pair] = []
    for number in range(facts):
        product, verb, thing = (
            rng.choice(names),
            rng.choice(_VERBS).split("|"),
            rng.choice(_THINGS).split("|"),
        )
        fact, answer = f"desk/{number}", _desk_answer(rng, product, thing[0])
        for question in rng.sample(_QUESTIONS, PHRASINGS_PER_FACT):
            pairs.append(Pair(fact, _as_typed(rng, _ask(rng, question, verb, thing, product)), answer))
        if number % 3 == 0:
            held_out.append(
                Pair(fact, _ask(rng, rng.choice(_HELD_OUT_QUESTIONS), verb, thing, product), answer)
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
            m=rng.choice(_MENUS), m2=rng.choice(_MENUS), b=rng.choice(_BUTTONS), l=rng.choice(_PLACES), t=rng.choice(_FEATURES),
            r=rng.choice(_REASONS), w=rng.choice(_WAITS), c=rng.choice(_COMMANDS), k=rng.choice("ABDEKLMPQRT"), p=product, o=thing,
            d=re.sub(r"\W", "", product.lower()),
        )  # fmt: skip

    sentences = [*rng.sample(_OPENINGS, rng.choice((1, 1, 2))), rng.choice(_ENDINGS)]
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

_FRAMES = (
    "How do I {a} the {b} {c}?", "What about {a} and {b}?", "Is it possible to {a} {b} with {c}?", "{a} {b} {c}", "{a} {b}?",
    "Where do I find the {a} of {b}?", "I have {a} and my {b} is {c}, what now?", "Can you {a} a {b}?", "why is the {a} {b}",
    "I want {a} for {b}, how does that work?", "What happens with {a} when I {b}?", "Who can {a} {b}?", "so what is this {a} {b}",
    "Does {a} need {b} or {c}?", "When is the {a} {b} {c}?", "Tell me how {a} and {b} go together.", "what if {a} is not {b}",
    "Which {a} has {b} and {c}?", "{a}: how to {b}", "Should I {a} before {b}?", "My {a} does not {b} {c}.", "how much {a} is {b} {c}",
    "Is there a {a} for the {b}?", "I would like to know if {a} can {b}", "Where does the {a} {b} go?", "{a}ing {b} in {c}",
)  # fmt: skip
_KEYS_OF_ITS_OWN, _KEYS_FROM_ELSEWHERE = 4, 3


def _keyed(rng: random.Random, passages: list[str], count: int) -> tuple[list[Pair], list[Pair]]:
    """`count` sentences, each asked for in PHRASINGS_PER_SENTENCE ways by two or three of its seven key words.

    This is what prepares a small model for a team's questions: it learns to gather the words that matter from wherever they
    stand in a question, and to find by them what it remembers. Three of the keys are not in the sentence, so that
    remembering is needed and copying does not do.
    """
    common = Counter(word for passage in passages for word in set(_words(passage)))
    usual = [word for word, _ in common.most_common(4000)[100:]]
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
            pairs.append(Pair(f"keyed/{number}", _as_typed(rng, _framed(rng, rng.choice(_FRAMES), keys)), sentence))
        if number % 3 == 0:
            held_out.append(Pair(f"keyed/{number}", _framed(rng, rng.choice(_FRAMES), keys), sentence))
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
_DOC_QUESTIONS = (
    "What does {x} do?", "What is {x} for?", "what is {x}", "Explain {x}, please.", "When would I use {x}?", "{x}?",
    "Tell me about {x}.", "I found {x} in the code, what does it do?", "meaning of {x}", "How would you describe {x}?",
)  # fmt: skip


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
        for question in rng.sample(_DOC_QUESTIONS, 4):
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
