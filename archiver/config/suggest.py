"""Suggests the word that was probably meant. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant by `word`; None when no known word is near."""
    found = difflib.get_close_matches(word[:60].lower(), list(known), n=1, cutoff=0.65)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint like `did you mean poll_every?`, or "" when no known word is near."""
    found = closest(word, known)
    return f"did you mean {found}?" if found is not None else ""
