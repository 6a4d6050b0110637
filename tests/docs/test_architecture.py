"""The documents describe the tree as it is: the map names every package, links lead somewhere, tables say what the code says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from archiver.cli import COMMANDS
from archiver.errors import Exit
from archiver.recording import Reason, State
from tests.config_files import ROOT

_MAP = (ROOT / "ARCHITECTURE.md").read_text()
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def _pages() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])


def _tree() -> set[str]:
    root = ROOT / "archiver"
    packages = {f"{each.parent.relative_to(root).as_posix()}/" for each in root.glob("*/**/__init__.py")}
    modules = {each.name for each in root.glob("*.py") if not each.name.startswith("__")}
    return packages | modules


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def _section(text: str, title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def test_map_fits_in_one_sitting() -> None:
    assert len(_MAP.splitlines()) <= 150


def test_map_names_every_package_and_no_other() -> None:
    named = re.findall(r"^\| `([^`]+)` \|", _section(_MAP, "Packages"), re.MULTILINE)
    assert sorted(named) == sorted(_tree())


def test_map_names_every_state_and_reason() -> None:
    states = _section(_MAP, "States")
    assert set(re.findall(r"^\| `(\w+)` \|", states, re.MULTILINE)) == {each.value for each in State}
    assert [each.value for each in Reason if f"`{each.value}`" not in states] == []


def test_readme_names_every_exit_code() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \|", _section((ROOT / "README.md").read_text(), "Exit codes"), re.MULTILINE)
    assert {int(code) for row in rows for code in row.split(",")} == {int(each) for each in Exit}


@pytest.mark.parametrize("page", _pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(page: Path) -> None:
    dead = []
    for target in _LINK.findall(_CODE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        inside = there.is_relative_to(ROOT) and there.exists()
        if not inside or (anchor and there.suffix == ".md" and anchor not in _anchors(there)):
            dead.append(target)
    assert dead == []


_GATED = {
    "archiver.custody": {"ledger", "recover", "rehome"},
    "archiver.custody.ledger": {"Ledger"},
    "archiver.translog.recover": {"recover"},
    "archiver.translog.rehome": {"rehome"},
    "archiver.seal": {"cipher"},
    "archiver.seal.cipher": {"open_sealed"},
}


@pytest.mark.parametrize("module", sorted((ROOT / "archiver" / "cli").rglob("*.py")), ids=lambda path: path.stem)
def test_no_command_writes_events_or_decrypts_but_through_the_gate(module: Path) -> None:
    """Whoever needs a ledger or a plaintext gets it from `assembly.session`, which has passed the gate."""
    tree = ast.parse(module.read_text())
    taken = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and {each.name for each in node.names} & _GATED.get(node.module or "", set())
    ]
    typing = {
        inner
        for node in tree.body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    assert [node.module for node in taken if node not in typing] == []


def test_only_the_composition_root_opens_a_ledger() -> None:
    opening = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "archiver").rglob("*.py")
        if "Ledger.open(" in path.read_text()
    }
    assert opening == {"archiver/assembly/session.py"}


def test_no_command_imports_from_the_module_of_another_command() -> None:
    """What commands share lies in modules that no command is."""
    commands = {place.partition(":")[0] for place, _ in COMMANDS.values()}
    taken = [
        (path.name, node.module)
        for path in (ROOT / "archiver" / "cli").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module in commands
    ]
    assert taken == []
