"""Runbook pages: the same shape for all, and commands that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from archiver.cli import archiver
from tests.config_files import ROOT

PAGES = sorted((ROOT / "docs" / "runbook").glob("*.md"))
HEADINGS = ["What it means", "What is at stake", "First three commands", "How it ends"]


def commands(text: str) -> list[str]:
    block = re.search(r"## First three commands\n\n```\n(.*?)\n```", text, re.DOTALL)
    assert block is not None
    return block[1].splitlines()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_says_what_it_means_what_is_at_stake_what_to_do_and_how_it_ends(page: Path) -> None:
    text = page.read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE)[:4] == HEADINGS
    assert f"`{page.stem}`" in text
    assert len(commands(text)) == 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_exist_with_their_options(page: Path) -> None:
    text = page.read_text()
    inline = [each for each in re.findall(r"`(archiver [a-z][^`]*)`", text) if "." not in each]
    for line in [*commands(text), *inline]:
        words = shlex.split(line)
        if words[0] != "archiver":
            assert words[0] in {"systemctl", "timedatectl"}
            continue
        _resolve(words[1:], line)


def _resolve(words: list[str], line: str) -> None:
    command: click.Command = archiver
    context = click.Context(archiver)
    while isinstance(command, click.Group) and words:
        found = command.get_command(context, words.pop(0))
        assert found is not None, line
        command = found
    options = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
    assert [word for word in words if word.startswith("--") and word not in options] == [], line
