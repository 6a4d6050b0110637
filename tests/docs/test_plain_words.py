"""The checker of docstrings finds what it says it finds, and finds nothing in the package."""

from __future__ import annotations

import pytest

from tests.docs.plain_words import ROOT, docstrings, fault, faults


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Reads the page.", None),
        ("What was listed.", "begins with 'What'"),
        ("`Who` signs: nobody knows.", "begins with '`Who`'"),
        ("Tells " + "very " * 25 + "much.", "27 words in the first sentence"),
        ("Reads the page: " + "word " * 40, None),
        ("\n    Reads\n    the page.\n", None),
    ],
)
def test_first_sentence_is_judged_by_its_beginning_and_its_length(text: str, found: str | None) -> None:
    assert fault(text) == found


def test_docstrings_of_modules_classes_functions_and_attributes_are_found() -> None:
    source = '"""A."""\nX = 1\n"""B."""\nclass C:\n    """C."""\n    y: int\n    """D."""\n'
    source += '    def f(self):\n        """E."""\n        "no"\n'
    assert [text for _, text in docstrings(source)] == ["A.", "B.", "C.", "D.", "E."]


def test_package_has_none_to_mend() -> None:
    assert list(faults([ROOT / "archiver", ROOT / "dev.py"])) == []
