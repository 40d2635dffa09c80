"""What the pages say exists: links lead somewhere, commands parse, every command group is in the README."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from adyton.cli.main import COMMANDS, cli

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def names(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]

    assert missing == []


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that `words` call, and the words left over."""
    command: click.Command = cli
    while words and isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0])
        if found is None:
            break
        command, words = found, words[1:]
    return command, words


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_adyton_command_on_a_page_exists_with_its_options(page: Path) -> None:
    wrong = []
    text_of_page = page.read_text().replace("\\\n> ", "")
    for line in re.findall(r"`adyton ([^`]+)`|^(?:\$ )?adyton (.+)$", text_of_page, re.MULTILINE):
        text = (line[0] or line[1]).split("#")[0].split("&&")[0].replace("…", "").strip(" &")
        if not text or "|" in text:
            continue
        command, rest = command_of(shlex.split(text))
        options = {option for parameter in command.params for option in parameter.opts} | {"--help", "--version"}
        unknown = [word for word in rest if word.startswith("-") and not word[1:].isdigit() and word not in options]
        if (
            (command is cli and rest != ["--help"])
            or unknown
            or (isinstance(command, click.Group) and rest and not rest[0].startswith("-"))
        ):
            wrong.append(text)

    assert wrong == []


def test_every_command_group_loads_and_the_readme_or_docs_name_it() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)

        assert isinstance(command, click.Command), name
        assert f"adyton {name}" in text, f"no page names `adyton {name}`"


def test_no_page_names_a_registry_or_a_path_of_somebodys_machine() -> None:
    tracked = [*PAGES, ROOT / "pyproject.toml", ROOT / "justfile"]
    for page in tracked:
        assert not re.search(r"/(home|root|Users|work)/|pypi\.org|files\.pythonhosted", page.read_text()), page
