"""What the documents promise is there, and what is there is in the documents."""

import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from bot import cli
from bot.cli_options import ExitCode
from bot.settings import Policy, Settings
from bot.slack import text

ROOT = Path(__file__).parent.parent
DOCUMENTS = (
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "STYLE.md",
    "deploy/README.md",
)
HANDBOOK = "bot/handbook/README.md"
PACKAGES = ("bot", "training", "storage")
README_LINES = 250

NOT_SETTINGS = {"PIP_ARGS", "PYTHON", "ONLY", "NAME", "FILE", "DIR", "OUT", "QUESTION", "MODEL", "ID", "N"}
"""Words in capitals that are variables of make, or stand for what somebody types."""


@cache
def read(name: str) -> str:
    """A document."""
    return (ROOT / name).read_text(encoding="utf-8")


@cache
def project() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads(read("pyproject.toml"))


def code(document: str) -> str:
    """Everything that a document writes as code: blocks and spans, one a line."""
    words = read(document)
    blocks = re.findall(r"^```\w*\n(.*?)^```", words, re.M | re.S)
    spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"^```\w*\n.*?^```", "", words, flags=re.M | re.S))
    return "\n".join([*blocks, *spans])


def commands() -> Mapping[str, Any]:
    """The terminal's commands by name, as typer builds them."""
    group = typer.main.get_group(cli.app)
    found: Mapping[str, Any] = group.commands
    assert len(found) > 10
    return found


def make_targets() -> set[str]:
    """What make can be told, as the Makefile declares it."""
    declared = re.search(r"^\.PHONY: (.+)$", read("Makefile"), re.M)
    assert declared is not None
    targets = set(declared.group(1).split())
    assert targets == set(re.findall(r"^([\w-]+):", read("Makefile"), re.M))
    return targets


def test_readme_shows_every_command() -> None:
    """Somebody who reads README knows all that the terminal and make can do."""
    shown = set(re.findall(r"apprentice (\w+)", code("README.md")))
    assert set(commands()) - shown == set()
    assert make_targets() - set(re.findall(r"make ([\w-]+)", code("README.md"))) == set()


@pytest.mark.parametrize("document", [*DOCUMENTS, HANDBOOK, ".env.example"])
def test_a_command_that_is_written_down_exists(document: str) -> None:
    """Commands, their options and make's targets are those of the code."""
    words = read(document) if document == ".env.example" else code(document)
    known = commands()
    for line in re.findall(r"(?<![\w/@-])apprentice ([a-z]\w*[^\n|#]*)", words):
        name, *rest = shlex.split(line.replace("'", "").replace('"', ""), comments=True)
        assert name.strip("`,.:;)") in known, f"{document}: apprentice {line}"
        options = {
            option for parameter in known[name.strip("`,.:;)")].params for option in _options(parameter)
        }
        unknown = [word for word in rest if word.startswith("--") and word.strip("`,.") not in options]
        assert unknown == [], f"{document}: apprentice {line}"
    for target in re.findall(r"(?<![\w-])make ([a-z][\w-]*)", words):
        assert target in make_targets(), f"{document}: make {target}"


def _options(parameter: Any) -> list[str]:
    return [*parameter.opts, *parameter.secondary_opts, "--help"]


def test_readme_begins_with_the_two_commands() -> None:
    """`make run`, then `make test`, on the first screen; and the whole fits one sitting."""
    first = read("README.md").splitlines()[:30]
    shown = [line.split()[1] for line in first if line.startswith("make ")]
    assert shown == ["run", "test"]
    assert len(read("README.md").splitlines()) < README_LINES


def slash_commands() -> set[str]:
    """Commands that the bot listens to."""
    found = set(re.findall(r'app\.command\("(/\w+)"\)', read("bot/slack/listeners.py")))
    assert found
    return found


def test_readme_shows_every_slash_command() -> None:
    """With each of the words that it takes, as the bot's own help lists them."""
    shown = code("README.md")
    assert {name for name in slash_commands() if name not in shown} == set()
    spans = re.findall(r"`([^`]+)`", f"{text.HELP}\n{text.TRAIN_HELP}")
    verbs = {word for span in spans for word in re.findall(r"(?<![\w=@/])[a-z]+(?![\w=])", span)}
    spoken = {"nightly", "weekdays", "at"}
    assert {"status", "privacy", "cancel", "rollback"} <= verbs
    assert {verb for verb in verbs - spoken if not re.search(rf"\b{verb}\b", shown)} == set()


def test_a_slash_command_that_is_written_down_exists() -> None:
    """No document sends people to a command that Slack would refuse."""
    ours = slash_commands()
    for document in (*DOCUMENTS, HANDBOOK):
        for name in re.findall(r"^/([a-z]\w*)(?![\w/])", code(document), re.M):
            assert f"/{name}" in ours, f"{document}: /{name}"


def test_the_exit_codes_are_those_of_the_code() -> None:
    """A script can rely on README."""
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", read("README.md"), re.M)
    assert {int(number) for number, _ in rows} == {code.value for code in ExitCode}
    said = " ".join((cli._apprentice.__doc__ or "").split())
    for number, meaning in rows:
        assert f"{number} {meaning}" in said


def explained() -> dict[str, str]:
    """Names in .env.example, each with the comment above it."""
    found: dict[str, str] = {}
    comment: list[str] = []
    for line in read(".env.example").splitlines():
        setting = re.fullmatch(r"#?([A-Z][A-Z0-9_]*)=(.*)", line)
        if setting is not None:
            assert setting.group(1) not in found, f"{setting.group(1)} is there twice"
            found[setting.group(1)] = " ".join(comment)
        elif line.startswith("# ") and not line.startswith("# ---"):
            comment.append(line[2:])
            continue
        comment = []
    return found


def test_every_setting_is_explained() -> None:
    """.env.example knows each setting, says what it does in a sentence, and knows no other."""
    assert set(explained()) == {name.upper() for name in Settings.model_fields}
    short = [name for name, words in explained().items() if len(words.split()) < 4]
    assert short == []


def test_the_defaults_that_are_shown_are_the_defaults(tmp_path: Path) -> None:
    """Taking the # away from every line of .env.example changes nothing."""
    taken = re.sub(r"^#([A-Z][A-Z0-9_]*=)", r"\1", read(".env.example"), flags=re.M)
    (tmp_path / ".env").write_text(taken, encoding="utf-8")
    assert Settings.read(tmp_path / ".env").model_dump() == Settings.read(None).model_dump()


@pytest.mark.parametrize("document", [name for name in (*DOCUMENTS, HANDBOOK) if name != "STYLE.md"])
def test_a_setting_that_is_written_down_exists(document: str) -> None:
    """In capitals and as code means: put this into .env. (STYLE.md also shows what not to write.)"""
    known = {name.upper() for name in Settings.model_fields} | NOT_SETTINGS
    words = re.sub(r'"[^"\n]*"', "", code(document))
    named = set(re.findall(r"(?<![\w/.-])([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\b", words))
    assert {name for name in named - known - {"RUN_DIR"} if not re.search(rf"<{name}>", words)} == set()


def test_readme_shows_every_policy_and_extra() -> None:
    """The choices that the operator has are all on the page."""
    shown = code("README.md")
    assert {policy.value for policy in Policy if f"{policy.value}" not in shown} == set()
    extras = project()["project"]["optional-dependencies"]
    assert {name for name in extras if not re.search(rf"^{name}$", shown, re.M)} == set()


def requirements() -> set[str]:
    """Every distribution that pyproject.toml names, extras included."""
    described = project()["project"]
    lines = [
        *described["dependencies"],
        *(each for extra in described["optional-dependencies"].values() for each in extra),
    ]
    return {re.split(r"[\[<>=~! ;]", line)[0].lower() for line in lines} - {described["name"]}


def test_every_dependency_has_a_reason() -> None:
    """ARCHITECTURE.md argues each package, and none that is gone."""
    table = re.search(r"^### Dependencies\n(.*?)^## ", read("ARCHITECTURE.md"), re.M | re.S)
    assert table is not None
    rows = re.findall(r"^\| (`.+?) \| (.+) \|$", table.group(1), re.M)
    argued = {name for cell, _ in rows for name in re.findall(r"`([\w-]+)`", cell)}
    assert argued == requirements()
    assert [cell for cell, reason in rows if len(reason.split()) < 4] == []


def mapped() -> Iterator[str]:
    """Paths that the layout names: "bot/desk", "bot/models/", ..."""
    block = re.search(r"^## Layout\n.*?^```\n(.*?)^```", read("ARCHITECTURE.md"), re.M | re.S)
    assert block is not None
    folders: list[str] = []
    for line in block.group(1).splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name, *words = line.strip().split(maxsplit=1)
        assert depth == 0 or words, f"the layout does not say what {name} is for"
        folders[depth:] = [name]
        yield "".join(folders[:depth]) + name


def test_the_layout_is_what_is_there() -> None:
    """Each module and package is on the map, in its place; none is on the map that is gone."""
    closed = ("bot/workspace/", "storage/migrations/")
    there = {*closed, *(f"{package}/" for package in PACKAGES)}
    files = [file.relative_to(ROOT) for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    for path in files:
        folder = f"{path.parent}/"
        if not folder.startswith(closed):
            there |= {folder} | ({str(path.with_suffix(""))} - {f"{folder}__init__"})
    folders = [folder for folder in (ROOT / "bot").iterdir() if folder.is_dir() and _has_data(folder)]
    there |= {f"bot/{folder.name}/" for folder in folders}
    named = list(mapped())
    assert sorted(named) == sorted(set(named))
    assert set(named) == there


def _has_data(folder: Path) -> bool:
    return folder.name != "__pycache__" and any(
        file.suffix != ".pyc" for file in folder.rglob("*") if file.is_file()
    )


def test_modules_that_architecture_names_exist() -> None:
    """A sentence about `training/rundir` is about a file that is there."""
    for name in re.findall(r"`((?:bot|training|storage)/[\w/]+)`", read("ARCHITECTURE.md")):
        path = ROOT / name
        assert path.is_dir() or path.with_suffix(".py").is_file(), name


def test_the_changelog_is_up_to_date() -> None:
    """The newest version there is the one in pyproject.toml, and above it there is room for what comes next."""
    headings = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", read("CHANGELOG.md"), re.M)
    assert headings[0] == ("Unreleased", "")
    newest, date = headings[1]
    assert newest == project()["project"]["version"]
    assert date
    assert "\n- " in read("CHANGELOG.md").split(f"## [{newest}]")[1]


@pytest.mark.parametrize("document", [*DOCUMENTS, HANDBOOK])
def test_links_lead_somewhere(document: str) -> None:
    """A link to a file or a heading of ours finds it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", read(document)):
        if target.startswith("https://"):
            continue
        path, _, heading = target.partition("#")
        file = (ROOT / document).parent / path if path else ROOT / document
        assert file.exists(), f"{document}: {target}"
        if heading:
            assert heading in _anchors(file.read_text(encoding="utf-8")), f"{document}: {target}"


def _anchors(words: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", words, re.M)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_every_document_is_reached_from_readme() -> None:
    """What nobody links to nobody reads."""
    linked = set(re.findall(r"\]\(([^)#\s]+)\)", read("README.md")))
    assert {*DOCUMENTS, HANDBOOK, "LICENSE", ".env.example"} - {"README.md"} <= linked


def test_help_reads_well() -> None:
    """Each command says what it does in a sentence, and each of its options in words."""
    for name, command in commands().items():
        assert (command.help or "").strip().splitlines()[0].endswith("."), name
        for parameter in command.params:
            assert parameter.help, f"{name} {parameter.opts}"
