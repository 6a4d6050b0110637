"""Every command that a page, a message or a runbook names is one that the command line understands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from archiver.cli import archiver
from archiver.status.metrics import Metrics
from tests.config_files import ROOT
from tests.docs import generated

PAGES = sorted([ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def commands(text: str) -> list[str]:
    """What stands after `archiver` in code, in blocks and in lines."""
    found: list[str] = []
    for block in re.findall(r"^ *```(?:sh|console)?\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        joined = block.replace("\\\n", " ")
        found += re.findall(r"^ *(?:\$ |sudo |time )*(?:[\w./-]*/)?archiver (.+)$", joined, re.MULTILINE)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return found + re.findall(r"`archiver ([a-z-][^`\n]*)`", prose)


def understood(said: str) -> None:
    """Raises `UsageError` for a command or an option that there is not; what its values are is not judged."""
    words = shlex.split(said.replace("…", "").replace("[", "").replace("]", ""), comments=True)
    words = words[: words.index("|")] if "|" in words else words
    command: click.Command = archiver
    ctx = click.Context(archiver, info_name="archiver")
    while True:
        try:
            _, words, _ = command.make_parser(ctx).parse_args(words)
        except click.BadOptionUsage:  # prose names an option without its value
            return
        if not isinstance(command, click.Group) or not words:
            return
        name, below, words = command.resolve_command(ctx, words)
        assert below is not None
        command, ctx = below, click.Context(below, info_name=name, parent=ctx)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_exist(page: Path) -> None:
    for said in commands(page.read_text()):
        try:
            understood(said)
        except click.UsageError as wrong:
            pytest.fail(f"archiver {said}: {wrong.format_message()}")


@pytest.mark.parametrize("wrong", ["recordings lst", "status --chek", "gaps ack --all", "provider list"])
def test_command_that_there_is_not_is_noticed(wrong: str) -> None:
    assert commands(f"```sh\narchiver {wrong}\n```\n") == commands(f"`archiver {wrong}`") == [wrong]
    with pytest.raises(click.UsageError):
        understood(wrong)


@pytest.mark.parametrize("page", sorted(generated.PAGES))
def test_reference_is_fresh(page: str) -> None:
    written = (generated.REFERENCE / page).read_text()
    assert written == generated.PAGES[page](), "run: python -m tests.docs.generated"


def test_every_option_and_metric_says_what_it_is() -> None:
    rows = re.findall(r"^\| `.*$", generated.command_line() + generated.metrics(), re.MULTILINE)
    assert len(rows) > 100
    assert [row for row in rows if row.endswith("|  |")] == []


def test_metric_of_the_last_reload_is_good_before_there_was_one() -> None:
    assert Metrics("0").registry.get_sample_value("archiver_config_last_reload_successful") == 1.0
