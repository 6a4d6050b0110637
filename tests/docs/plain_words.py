"""Names docstrings whose first sentence is not plain: `python -m tests.docs.plain_words [PATH …]`, a part of `dev.py lint`.

A first sentence has at most 25 words, and no clause stands in it for a noun ("What was listed", "Who signs"). Nothing here can
tell whether a sentence is understood; it finds the two faults that are made most often.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_WORDS = 25
CLAUSES = frozenset(
    {"What", "Who", "Whom", "Whose", "Whether", "How", "Where", "Which", "That", "When", "Why"}
    | {"Whatever", "Whoever", "Whichever", "Wherever"}
)
FROZEN = "archiver/evidence/verifier/"  # its bytes are in the specification of bundles


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of each docstring, those below attributes and constants too."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for before, each in zip([None, *node.body], node.body, strict=False):
            match each:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    if before is None or isinstance(before, ast.Assign | ast.AnnAssign):
                        yield each.lineno, text


def fault(text: str) -> str | None:
    """Return the fault of a docstring's first sentence; None when it has neither."""
    first = re.split(r"(?<=[.:;?])\s", " ".join(text.split()), maxsplit=1)[0]
    words = first.split()
    if len(words) > MOST_WORDS:
        return f"{len(words)} words in the first sentence"
    if words and words[0].strip('`"') in CLAUSES:
        return f"begins with {words[0]!r}"
    return None


def faults(paths: list[Path]) -> Iterator[str]:
    """Yield a line for each docstring that is not plain in the Python files under `paths`."""
    for root in paths:
        for path in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
            name = path.relative_to(ROOT).as_posix()
            if name.startswith(FROZEN):
                continue
            for line, text in docstrings(path.read_text()):
                if (found := fault(text)) is not None:
                    yield f"{name}:{line}: {found}"


def main(arguments: list[str]) -> int:
    paths = [Path(each).resolve() for each in arguments] or [ROOT / "archiver", ROOT / "dev.py"]
    found = list(faults(paths))
    for each in found:
        print(each)
    print(f"Plain words: {len(found)} docstring(s) to mend." if found else "Plain words: all docstrings pass.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
