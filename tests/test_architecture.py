"""The walls of the house, read from the source: who may import what, and what importing may do.

`ARCHITECTURE.md` says why each wall stands where it does. A wall that is wrong is moved in both places, together.
"""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("storage", "training", "bot")
"""From the bottom to the top: each may import itself and what is to its left."""

ONLY_IN: Mapping[str, Sequence[str]] = {
    "slack_bolt": ("bot/slack/", "bot/app.py"),
    "slack_sdk": ("bot/slack/", "bot/app.py"),
    "slackblocks": ("bot/workspace/",),
    "apscheduler": ("bot/schedule.py",),
    "sqlalchemy": ("storage/",),
    "sqlmodel": ("storage/",),
    "alembic": ("storage/",),
    "aiosqlite": ("storage/",),
    "psycopg": ("storage/",),
    "openai": (
        "bot/models/remote_server.py",
        "bot/models/openai.py",
        "bot/models/openai_files.py",
        "training/finetuners/openai.py",
    ),
    "google": (
        "bot/models/gemini.py",
        "training/finetuners/bucket.py",
        "training/finetuners/gemini.py",
    ),
    "tantivy": ("bot/models/memory_index.py", "bot/models/memory_words.py"),
    "usearch": ("bot/models/memory_meaning.py",),
    "optuna": ("training/sweep.py", "training/sweep_study.py"),
    "rapidfuzz": ("bot/models/memory_words.py", "training/metrics.py"),
    "sacrebleu": ("training/metrics.py",),
    "pydantic_settings": ("bot/settings.py",),
    "dotenv": ("bot/settings.py",),
    "typer": ("bot/cli",),
    "matplotlib": ("bot/slack/charts.py",),
}
"""A library -> the files (or the beginnings of their paths) in which it may be imported."""

TORCH = (
    "bot/models/local_worker.py",
    "bot/models/local_adapters.py",
    "bot/models/local_batch.py",
    "bot/models/local_cache.py",
    "bot/models/local_linear.py",
    "bot/models/local_llama.py",
    "bot/models/local_net.py",
    "bot/models/local_precision.py",
    "bot/models/local_prompts.py",
    "bot/models/local_weights.py",
    "training/qlora.py",
    "training/starter.py",
    "training/sweep.py",
    "training/sweep_study.py",
    "training/trainers/adapters.py",
    "training/trainers/arguments.py",
    "training/trainers/base.py",
    "training/trainers/diary.py",
    "training/trainers/lines.py",
    "training/trainers/preferences.py",
    "training/trainers/sft.py",
    "training/trainers/stage.py",
    "training/trainers/together.py",
)
"""The processes that hold weights: the local model's worker with its other half, the trainer, the starter's maker."""

TORCH_STACK = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "peft",
    "trl",
    "bitsandbytes",
    "datasets",
    "accelerate",
    "evaluate",
    "rouge_score",
)

PURE = (
    "bot/draws.py",
    "bot/model_history.py",
    "bot/prompts.py",
    "bot/routing.py",
    "bot/slack/blocks.py",
    "bot/slack/canary_blocks.py",
    "bot/slack/duel_blocks.py",
    "bot/slack/guard_blocks.py",
    "bot/slack/eval_text.py",
    "bot/slack/report_beside.py",
    "bot/slack/report_blocks.py",
    "bot/slack/report_details.py",
    "bot/slack/report_standing.py",
    "bot/slack/report_text.py",
    "bot/slack/review_blocks.py",
    "bot/slack/showable.py",
    "bot/slack/text.py",
    "bot/train_options.py",
    "bot/models/local_text.py",
    "bot/models/remote_text.py",
    "training/caps.py",
    "training/canary.py",
    "training/adapter_card.py",
    "training/chat.py",
    "training/course.py",
    "training/dataset_card.py",
    "training/differences.py",
    "training/examples.py",
    "training/guards.py",
    "training/judging.py",
    "training/probes.py",
    "training/refusals.py",
    "training/topics.py",
    "training/looks.py",
    "training/memory.py",
    "training/method.py",
    "training/metrics.py",
    "training/plan.py",
    "training/promotion.py",
    "training/promotion_words.py",
    "training/raters.py",
    "training/specification.py",
    "training/sequential.py",
    "training/sweep_space.py",
    "training/sweep_words.py",
    "training/triggers.py",
    "storage/redaction.py",
    "storage/redaction_contacts.py",
    "storage/redaction_findings.py",
    "storage/redaction_ids.py",
    "storage/redaction_joints.py",
    "storage/redaction_names.py",
    "storage/redaction_numbers.py",
    "storage/redaction_secrets.py",
    "storage/values.py",
)
"""Where something is decided or worded: values in, a value out."""

EDGES = {
    "asyncio",
    "aiohttp",
    "subprocess",
    "socket",
    "sqlite3",
    "structlog",
    "logging",
    "slack_sdk",
    "slack_bolt",
}

SETS_ITS_OWN_ENVIRONMENT = {"bot/models/local_worker.py", "training/qlora.py"}
"""Child processes that tell libraries, before they are imported, to stay offline and quiet. They read nothing."""

LONG_FILES = {
    "storage/migrations/versions/0001_baseline_the_first_tables.py": "generated: one statement for each table",
}
LONG_FUNCTIONS = {
    "storage/migrations/versions/0001_baseline_the_first_tables.py": "generated: one statement for each table",
    "storage/migrations/versions/0007_curation_what_is_kept_and_forgotten.py": "generated: one statement for each table",
    "storage/migrations/versions/0002_surfaces_what_people_do_in_slack.py": "generated: one statement for each table",
}
FILE_LINES, FUNCTION_LINES = 500, 60


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A Python file of the product."""

    path: str
    text: str
    tree: ast.Module

    def at(self, node: ast.AST) -> str:
        """Where somebody has to look."""
        return f"{self.path}:{getattr(node, 'lineno', 1)}"


@cache
def sources() -> tuple[Source, ...]:
    """Every Python file of the three packages."""
    files = sorted(file for layer in LAYERS for file in (ROOT / layer).rglob("*.py"))
    assert len(files) > 50, "the packages are not where this test looks"
    texts = [(str(file.relative_to(ROOT)), file.read_text(encoding="utf-8")) for file in files]
    return tuple(Source(path, text, ast.parse(text)) for path, text in texts)


@cache
def nodes(source: Source) -> tuple[ast.AST, ...]:
    """Everything in a file, walked once."""
    return tuple(ast.walk(source.tree))


@cache
def imports(source: Source) -> tuple[tuple[ast.stmt, str], ...]:
    """Every module that a file imports, also inside functions and for types only."""
    found: list[tuple[ast.stmt, str]] = []
    for node in nodes(source):
        if isinstance(node, ast.Import):
            found += [(node, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source.at(node)}: write the whole name, so that the map can be read"
            found += [(node, f"{node.module}.{alias.name}") for alias in node.names]
    return tuple(found)


def calls(source: Source) -> Iterator[tuple[ast.Call, str]]:
    """Every call with the name it is written with, such as "torch.load"."""
    for node in nodes(source):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def under(name: str, package: str) -> bool:
    """Whether a dotted name is a package or lies in it."""
    return name == package or name.startswith(f"{package}.")


def none_of(found: list[str]) -> None:
    """The list of what breaks a wall is empty; the message says which lines do."""
    assert not found, "\n" + "\n".join(found)


def test_imports_point_down() -> None:
    """bot -> training -> storage: what is below can be read, tested and used without what is above."""
    none_of(
        [
            f"{source.at(node)} imports {name}"
            for source in sources()
            for node, name in imports(source)
            for upper in LAYERS[LAYERS.index(source.path.split("/")[0]) + 1 :]
            if under(name, upper)
        ]
    )


def test_the_local_workspace_stands_alone() -> None:
    """It is the other side of the wire: it knows the bot's errors and settings, and nothing of Slack's SDK."""
    allowed = ("bot.workspace", "bot.errors", "bot.settings")
    found = []
    for source in sources():
        if not source.path.startswith("bot/workspace/"):
            continue
        for node, name in imports(source):
            ours = any(under(name, layer) for layer in LAYERS)
            if ours and not any(under(name, package) for package in allowed):
                found.append(f"{source.at(node)} imports {name}")
    none_of(found)


@pytest.mark.parametrize(("library", "homes"), [*ONLY_IN.items(), *((name, TORCH) for name in TORCH_STACK)])
def test_a_library_stays_in_its_room(library: str, homes: Sequence[str]) -> None:
    """One SDK, one adapter: replacing a library touches the files named here and no others."""
    none_of(
        [
            f"{source.at(node)} imports {name}; only {', '.join(homes)} may"
            for source in sources()
            if not source.path.startswith(tuple(homes))
            for node, name in imports(source)
            if under(name, library)
        ]
    )


def test_nothing_is_imported_behind_the_maps_back() -> None:
    """An import by a computed name would pass every test above."""
    none_of(
        [
            f"{source.at(node)} calls {name}"
            for source in sources()
            for node, name in calls(source)
            if name
            in {"__import__", "importlib.import_module", "import_module", "eval", "exec", "runpy.run_module"}
        ]
    )


def test_only_slack_knows_slack() -> None:
    """What decides and what answers works without Slack; the terminal borrows its sentences and tables, which are pure."""
    may = ("bot/slack/", "bot/app.py", "bot/clockwork.py", "bot/rehearse.py")
    pure = (
        "text",
        "blocks",
        "charts",
        "forgetting_text",
        "guard_blocks",
        "report_beside",
        "report_blocks",
        "report_text",
    )
    sentences = tuple(f"bot.slack.{name}" for name in pure)
    none_of(
        [
            f"{source.at(node)} imports {name}"
            for source in sources()
            if not source.path.startswith(may)
            for node, name in imports(source)
            if under(name, "bot.slack") and not any(under(name, pure) for pure in sentences)
        ]
    )


@pytest.mark.parametrize("path", PURE)
def test_what_decides_acts_on_nothing(path: str) -> None:
    """Pure modules have no way to reach a socket, a process, a log or the store."""
    source = next((each for each in sources() if each.path == path), None)
    assert source is not None, f"{path} is gone; correct the list of pure modules"
    found = [
        f"{source.at(node)} imports {name}"
        for node, name in imports(source)
        if name.split(".")[0] in EDGES or under(name, "storage.store") or under(name, "storage.database")
    ]
    waits = [source.at(node) for node in nodes(source) if isinstance(node, (ast.AsyncFunctionDef, ast.Await))]
    none_of(found + [f"{place} waits for something" for place in waits])


def test_the_environment_is_read_in_one_place() -> None:
    """Settings are read once, in bot/settings.py; two child processes set variables of their own and read none."""
    found = []
    setters = set()
    for source in sources():
        if source.path == "bot/settings.py":
            continue
        written = set(_environment_writes(source))
        for node in _environment_uses(source):
            if node in written and source.path in SETS_ITS_OWN_ENVIRONMENT:
                setters.add(source.path)
            else:
                found.append(f"{source.at(node)} uses the environment")
    none_of(found)
    assert setters == SETS_ITS_OWN_ENVIRONMENT, "an exception is no longer needed: take it off the list"


def _environment_uses(source: Source) -> Iterator[ast.AST]:
    for node in nodes(source):
        if (
            isinstance(node, ast.Attribute)
            and ast.unparse(node) in {"os.environ", "os.environb", "os.getenv"}
        ) or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {alias.name for alias in node.names} & {"environ", "environb", "getenv"}
        ):
            yield node


def _environment_writes(source: Source) -> Iterator[ast.AST]:
    """`os.environ["NAME"] = ...` and `os.environ.setdefault(...)` as a statement of its own."""
    for node in nodes(source):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            yield node.value
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value.func
            if isinstance(called, ast.Attribute) and called.attr == "setdefault":
                yield called.value


def test_nothing_is_unpickled() -> None:
    """A file that somebody else wrote can be read, never run."""
    modules = ("pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal", "jsonpickle")
    found = [
        f"{source.at(node)} imports {name}"
        for source in sources()
        for node, name in imports(source)
        if any(under(name, module) for module in modules)
    ]
    for source in sources():
        for node, name in calls(source):
            unsafe = {
                "allow_pickle": True,
                "weights_only": False,
                "use_safetensors": False,
                "safe_serialization": False,
            }
            words = {each.arg: each.value for each in node.keywords if each.arg in unsafe}
            if name in {"torch.load", "torch.save"} or any(
                not isinstance(value, ast.Constant) or value.value is unsafe[key]
                for key, value in words.items()
            ):
                found.append(f"{source.at(node)} calls {ast.unparse(node)[:80]}")
    none_of(found)


def test_no_code_that_comes_with_a_model_is_run() -> None:
    """`trust_remote_code` is False wherever it is written, and written where models are loaded."""
    found, said = [], set()
    for source in sources():
        for node in nodes(source):
            for value in _values_of(node, "trust_remote_code"):
                said.add(source.path)
                if not (isinstance(value, ast.Constant) and value.value is False):
                    found.append(f"{source.at(node)} does not say trust_remote_code=False")
    none_of(found)
    assert {"bot/models/local_weights.py", "training/trainers/base.py"} <= said


def _values_of(node: ast.AST, name: str) -> Iterator[ast.expr]:
    if isinstance(node, ast.keyword) and node.arg == name:
        yield node.value
    elif isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        yield from (value for key, value in pairs if isinstance(key, ast.Constant) and key.value == name)
    elif isinstance(node, ast.Assign):
        yield from (node.value for target in node.targets if ast.unparse(target).endswith(name))


IMPORT_ALL = """
import json, logging, os, sys, threading
before, seen = dict(os.environ), []

def watch(event, arguments):
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & writes:
        seen.append(f"opened {arguments[0]} to write")
    elif event in {"os.mkdir", "os.remove", "os.rename", "os.fork", "os.posix_spawn", "os.system", "subprocess.Popen"}:
        seen.append(f"{event} {arguments[:2]}")
    elif event in {"socket.connect", "socket.bind", "socket.getaddrinfo", "sqlite3.connect"}:
        seen.append(f"{event} {arguments[1:]}")

sys.addaudithook(watch)
for name in json.loads(sys.argv[1]):
    try:
        __import__(name)
    except ImportError as error:
        seen.append(f"{name} cannot be imported: {error}")
told = {
    "did": seen,
    "threads": [each.name for each in threading.enumerate()],
    "logging": [str(each) for each in logging.getLogger().handlers],
    "environment": sorted(set(os.environ.items()) ^ set(before.items())),
    "loaded": sorted(sys.modules),
}
print(json.dumps(told))
"""


def import_all(names: Sequence[str], folder: Path) -> dict[str, list[str]]:
    """Import modules in a fresh process in an empty folder, and say what that did."""
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(folder),
    }
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, json.dumps(list(names))],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert (lines[:-1], done.stderr) == ([], ""), "importing printed something"
    told: dict[str, list[str]] = json.loads(lines[-1])
    return told


MADE_OF_NUMBERS = {
    f"training/{name}.py"
    for name in ("clusters", "contamination", "dataset_picking", "shingles", "sketches", "splits")
}
"""They compute with numpy and nothing else; who freezes a dataset imports them then."""


def core_modules() -> list[str]:
    """Every module but those of the processes that hold weights or compute, and Alembic's scripts, which it runs itself."""
    kept = [
        source.path
        for source in sources()
        if source.path not in set(TORCH) - SETS_ITS_OWN_ENVIRONMENT | MADE_OF_NUMBERS
        and not source.path.startswith("storage/migrations/")
    ]
    return [path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in kept]


def test_importing_does_nothing(tmp_path: Path) -> None:
    """No output, file, thread, process, network, log or change of the environment; and neither `import bot.app` nor any
    other module of the core loads torch or a provider's SDK."""
    told = import_all(core_modules(), tmp_path)
    assert told["did"] == []
    assert told["threads"] == ["MainThread"]
    assert (told["logging"], told["environment"]) == ([], [])
    assert list(tmp_path.iterdir()) == []
    assert heavy(told["loaded"]) == set(), (
        "importing every module of the core loads what a small deployment lacks"
    )


def heavy(loaded: Sequence[str]) -> set[str]:
    """What takes seconds to import, or is not installed everywhere."""
    names = {*TORCH_STACK, "openai", "google.genai", "numpy", "sacrebleu", "tantivy", "psycopg", "playwright"}
    return names & set(loaded)


def test_the_terminal_answers_at_once(tmp_path: Path) -> None:
    """`apprentice --help` waits for no Slack, no database and no model."""
    told = import_all(["bot.cli"], tmp_path)
    assert "bot.cli" in told["loaded"]
    slow = {"slack_bolt", "slack_sdk", "sqlalchemy", "aiohttp", "bot.app"}
    assert (slow | heavy(told["loaded"])) & set(told["loaded"]) == set()


def project() -> dict[str, object]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_packages_are_those_that_are_shipped() -> None:
    """A checkout, a wheel and an editable install agree: three packages, each of their folders importable."""
    shipped = re.search(r"packages = \[([^]]*)\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert shipped is not None
    assert sorted(re.findall(r'"(\w+)"', shipped.group(1))) == sorted(LAYERS)
    tops = {Path(file).parts[0] for file in tracked() if file.endswith(".py")}
    assert tops - set(LAYERS) == {"tests"}
    folders = {(ROOT / source.path).parent for source in sources()}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []
    assert {part for file in tracked() if file.startswith("tests/") for part in Path(file).parts[1:-1]} <= {
        "benchmarks",
        "node",
    }


def test_every_import_is_declared() -> None:
    """A library that is imported is a dependency of ours, not a guest of somebody else's."""
    declared = {re.split(r"[\[<>=~! ]", line)[0] for line in _requirements()}
    names = {
        "google": "google-genai",
        "dotenv": "python-dotenv",
        "stdnum": "python-stdnum",
        "rouge_score": "rouge-score",
        "slack_bolt": "slack-bolt",
    }
    names |= {"slack_sdk": "slack-sdk", "pydantic_settings": "pydantic-settings", "yaml": "pyyaml"}
    foreign = {
        (name.split(".")[0], source.at(node))
        for source in sources()
        for node, name in imports(source)
        if name.split(".")[0] not in {*LAYERS, *sys.stdlib_module_names, "__future__"}
    }
    lacking = {
        top: place for top, place in foreign if names.get(top, top) not in declared and top not in COMES_WITH
    }
    none_of(
        [
            f"{place} imports {top}, which pyproject.toml does not name"
            for top, place in sorted(lacking.items())
        ]
    )
    imported = {top for top, _ in foreign}
    assert set(COMES_WITH) <= imported, "a guest is no longer imported: take it off the list"


COMES_WITH = {
    "pydantic": "pydantic-settings is built on it, and its version must fit",
    "dotenv": "pydantic-settings reads .env with it",
    "httpx2": "openai and google-genai send with it; their adapters name its errors",
    "jinja2": "chat templates of transformers are written in it",
    "tokenizers": "transformers is built on it, and its version must fit",
}
"""Libraries that arrive with a dependency and must have the version that one asks for."""


def _requirements() -> list[str]:
    described = project()["project"]
    assert isinstance(described, dict)
    extras = described["optional-dependencies"]
    return [*described["dependencies"], *(line for lines in extras.values() for line in lines)]


@cache
def tracked() -> tuple[str, ...]:
    """Files that are, or would be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("this is no git checkout")
    return tuple(name for name in listed.stdout.splitlines() if (ROOT / name).is_file())


def test_no_machine_is_named() -> None:
    """What is committed works on any machine: no folder of ours, no package host (pip's own settings name those)."""
    folders = re.compile(r"(?<![\w.:/])/(?:work|home|Users|root|tmp)/(?!\.\.\.)[\w.-]+")
    hosts = re.compile(
        r"--(?:extra-)?index-url|--find-links|\b(?:pypi|pythonhosted|npmjs|artifactory)\.[a-z]+\b|/whl/"
    )
    here = str(Path(__file__).relative_to(ROOT))
    found = []
    for name in tracked():
        text = (ROOT / name).read_bytes()
        if name == here or b"\0" in text[:4096]:
            continue
        for number, line in enumerate(text.decode("utf-8").splitlines(), start=1):
            hit = folders.search(line) or hosts.search(line)
            if hit is not None:
                found.append(f"{name}:{number}: {hit.group()}")
    none_of(found)


def test_a_file_fits_a_mind_and_a_function_a_screen() -> None:
    """Files under 500 lines, functions under 60; the exceptions are named, and go when they are no longer needed."""
    files = {source.path for source in sources() if source.text.count("\n") > FILE_LINES}
    functions = [
        (source.path, f"{source.at(node)} {node.name}: {length(node)} lines")
        for source in sources()
        for node in nodes(source)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and length(node) > FUNCTION_LINES
    ]
    none_of(
        [f"{path} has more than {FILE_LINES} lines" for path in sorted(files - set(LONG_FILES))]
        + [said for path, said in functions if path not in LONG_FUNCTIONS]
    )
    assert files == set(LONG_FILES), "an exception is no longer needed: take it off the list"
    assert {path for path, _ in functions} == set(LONG_FUNCTIONS)


def length(node: ast.stmt) -> int:
    """Lines of a statement."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_there_is_no_drawer_for_odds_and_ends() -> None:
    """A helper belongs to the noun it helps, and a module says what it is for."""
    drawers = {"utils", "util", "helpers", "common", "misc", "manager", "tools"}
    none_of([source.path for source in sources() if Path(source.path).stem in drawers])
    undescribed = [
        source.path
        for source in sources()
        if not source.path.endswith("__init__.py")
        and ast.get_docstring(source.tree) is None
        and "/migrations/versions/" not in source.path
    ]
    none_of([f"{path} does not say what it is for" for path in undescribed])


def test_every_test_can_fail() -> None:
    """A test that checks nothing proves nothing."""
    silent, seen = [], 0
    for file in sorted((ROOT / "tests").glob("test_*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        functions = [
            node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        ]
        checking = {each.name for each in functions if _checks(each, set())}
        for each in functions:
            if each.name.startswith("test_"):
                seen += 1
                if not _checks(each, checking):
                    silent.append(f"tests/{file.name}:{each.lineno} {each.name} checks nothing")
    none_of(silent)
    assert seen > 100


def _checks(function: ast.AST, checking: set[str]) -> bool:
    """Whether something in a test can fail on purpose: an assertion, or a helper that makes one."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant):
            return True
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).split(".")[-1]
            if name in {"raises", "warns", "fail", "expect", *checking}:
                return True
            if name.startswith(("assert_", "expect_", "check_", "verify_", "wait_for_")):
                return True
    return False
