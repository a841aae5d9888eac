"""The pages say what is true: commands and options that exist, links that lead somewhere, files that are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from allocator.cli import GROUPS, MODULES, cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```[a-z]*\n(.*?)^```", re.M | re.S)
CALL = re.compile(r"(?:^(?:\s*\$ )?|\$\()\s*allocator (.*)", re.M)
SPAN = re.compile(r"`allocator ([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
REPOSITORY = re.compile(r"`((?:src|docs|tests|examples|benchmarks)/[\w./-]+|[\w/]+\.(?:py|sql))`")

every_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


def fenced(text: str) -> str:
    """All fenced blocks, continued lines joined."""
    return "\n".join(FENCE.findall(text)).replace("\\\n", " ")


def words(command: str) -> list[str]:
    """The words of a command line, up to a pipe, a redirection, a comment or the end of a substitution."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|;&<>()")
    lexer.whitespace_split = True
    found: list[str] = []
    for word in lexer:
        if set(word) <= set("|;&<>()"):
            break
        found.append(word)
    return found


def resolve(arguments: list[str]) -> tuple[click.Context, click.Command, list[str]]:
    """The command that a line means, its context and what follows its name; UsageError when there is none."""
    command: click.Command = cli
    context, rest = click.Context(cli, info_name="allocator"), arguments
    while isinstance(command, click.Group):
        _, rest, _ = command.make_parser(context).parse_args(list(rest))
        if not rest:
            break
        following = command.get_command(context, rest[0])
        if following is None:
            raise click.UsageError(f"no command {rest[0]!r}")
        command, context, rest = following, click.Context(following, parent=context, info_name=rest[0]), rest[1:]
    return context, command, rest


def faults(commands: list[str], *, whole: bool) -> list[str]:
    """What is wrong with these command lines; unless `whole`, arguments may be missing."""
    wrong = []
    for line in commands:
        try:
            context, command, rest = resolve(words(line))
            if whole:
                command.make_context(context.info_name, rest, parent=context.parent)
            else:
                known = {name for option in command.get_params(context) for name in option.opts}
                unknown = [word for word in rest if word.startswith("--") and word.split("=")[0] not in known]
                if unknown:
                    raise click.UsageError(f"no option {', '.join(unknown)}")
        except (click.ClickException, ValueError) as error:
            wrong.append(f"allocator {line}: {error}")
        except click.exceptions.Exit:
            pass  # --help and --version
    return wrong


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as they are made for a rendered page."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.requirement("V05")
@every_page
def test_every_fenced_command_line_can_be_parsed(page: Path) -> None:
    assert faults(CALL.findall(fenced(page.read_text(encoding="utf-8"))), whole=True) == []


@pytest.mark.requirement("V05")
@every_page
def test_every_command_in_the_text_exists_with_its_options(page: Path) -> None:
    prose = FENCE.sub("", page.read_text(encoding="utf-8")).replace("\n", " ")
    assert faults(SPAN.findall(prose), whole=False) == []


@every_page
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in slugs(target)):
            broken.append(link)
    assert broken == []


@every_page
def test_no_page_names_a_file_that_is_missing(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    sources = {path.as_posix() for folder in ("src", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.*")}
    missing = [
        name
        for name in REPOSITORY.findall(text)
        if not (ROOT / name).exists() and not any(path.endswith("/" + name) for path in sources)
    ]
    assert missing == []


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in MODULES if f"`{name}`" not in text] == []
    assert [group for group in GROUPS if group.lower() not in text.lower()] == []


@pytest.mark.requirement("V05")
def test_the_readme_links_to_every_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = [path.name for path in (ROOT / "docs").glob("*.md")]
    assert [name for name in pages if f"(docs/{name})" not in text] == []


@pytest.mark.parametrize(
    "line",
    [
        "revael P-001",
        "--as PH-1 reveal P-001 --retyp P-001",
        "reveal",
        "correct P-001 --what nothing --value x --reason y",
        "person ad X",
        "--hom here status",
    ],
)
def test_a_wrong_command_line_is_found(line: str) -> None:
    assert faults([line], whole=True) != []


@pytest.mark.parametrize(
    "text", ["$ allocator status", "allocator status", "    allocator status", "c=$(allocator status)"]
)
def test_a_command_line_is_seen(text: str) -> None:
    assert [words(line) for line in CALL.findall(text)] == [["status"]]
