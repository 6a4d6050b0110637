"""Rubbish in: a list of problems out, never another exception, never a hang, never a secret."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archiver.config.load import read
from archiver.config.problem import render
from tests.config_files import EXAMPLE

FRAGMENTS = st.sampled_from(
    [
        *"\t{}[]|>'\"#~\n\x00\u2028\ufeffé😀",
        *(": ", "- ", "? ", "  ", "&a ", "*a", "<<: *a\n", "{<<: {<<: {}}}", "!x ", "---\n", "%YAML 1.1\n"),
        *("null", "0x1", "1e999", ".inf", "-0", "9" * 400, "env:", "file:", "kind: ", "id: "),
    ]
)


YAMLISH = st.text(alphabet="abc:-{}[]&*!|>'\"#%@`,? \n\t01.~<=\\é", max_size=40)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    text = EXAMPLE.read_text()
    for _ in range(draw(st.integers(1, 4))):
        at, span = draw(st.integers(0, len(text))), draw(st.integers(0, 30))
        text = text[:at] + draw(st.one_of(st.text(max_size=6), YAMLISH, FRAGMENTS)) + text[at + span :]
    return text.encode("utf-8", "surrogatepass")


def survives(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "archiver.yaml"
        file.write_bytes(raw)
        loaded = read(file, resolve_secrets=False)
        assert (loaded.config is None) == bool(loaded.errors)
        shown = render(loaded.problems)
        assert all(char.isprintable() or char == "\n" for char in shown)


@given(mutated())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_mutated_example_is_read_or_refused(raw: bytes) -> None:
    survives(raw)


@given(
    st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
)
@settings(max_examples=200)
def test_rubbish_is_refused(raw: bytes) -> None:
    survives(raw)


def test_a_large_and_deep_file_is_refused_quickly() -> None:
    survives(b"[" * 200_000)
    survives(b"a:\n" * 80_000)
    survives(b"- " * 100_000)
    survives(b"x" * 300_000)
    survives(b"".join(b" " * depth + b"a:\n" for depth in range(500)))
