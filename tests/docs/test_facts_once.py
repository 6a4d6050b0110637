"""Facts that many modules need are written in one of them."""

from __future__ import annotations

import ast

import pytest

from archiver.custody.event import Type
from archiver.documents.phrases import EVENTS
from tests.config_files import ROOT

_PACKAGE = ROOT / "archiver"
_VERIFIER = "evidence/verifier/claims.py"  # stands alone in a bundle, with a copy of its own


@pytest.mark.parametrize(
    ("words", "where"),
    [
        ("os.fsync(", {"durable.py"}),
        ("custody-priv-v1", {"custody/event.py", _VERIFIER}),
        ("engine.dispose()", {"assembly/database.py"}),
        ("Writer(await", {"assembly/session.py"}),
        ('.replace("+00:00", "Z")', set()),
        ("State.LISTED, State.WAITING, State.SPOOLED", {"recording.py"}),
        ("'listed', 'waiting', 'spooled'", set()),
    ],
)
def test_fact_stands_where_it_belongs_and_nowhere_else(words: str, where: set[str]) -> None:
    found = {path.relative_to(_PACKAGE).as_posix() for path in _PACKAGE.rglob("*.py") if words in path.read_text()}
    assert found == where


def test_types_of_events_are_named_and_not_spelled() -> None:
    """Lines of the program's own log have names of the same form; the sentences of reports lie below custody."""
    types = {each.value for each in Type}
    spelled = {
        (path.relative_to(_PACKAGE).as_posix(), node.value)
        for path in _PACKAGE.rglob("*.py")
        if "verifier" not in path.parts
        for tree in [ast.parse(path.read_text())]
        for logged in [{id(call.args[0]) for call in ast.walk(tree) if isinstance(call, ast.Call) and call.args}]
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in types and id(node) not in logged
    }
    assert {path for path, _ in spelled} == {"custody/event.py", "documents/phrases.py"}
    assert set(EVENTS) <= types
