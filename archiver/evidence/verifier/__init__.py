"""The verifier that travels in every bundle, to be run by people who have nothing of ours.

Five parts, each knowing only those before it: `primitives`, `events`, `bag`, `claims`, `command`. Bundles carry them joined into
one file, `verify_custody.py`; the archiver and its tests use them as they are. They must run on Python 3.9 with its standard
library alone, import nothing else of the archiver, and hold nothing that Python 3.6 cannot parse.
"""

from __future__ import annotations

import re
from pathlib import Path

from archiver.evidence.verifier.claims import Bundle
from archiver.evidence.verifier.command import caveats, examine, main
from archiver.evidence.verifier.events import HISTORY
from archiver.evidence.verifier.primitives import Wrong

__all__ = ["HISTORY", "PARTS", "Bundle", "Wrong", "caveats", "examine", "joined", "main"]

PARTS = ("primitives", "events", "bag", "claims", "command")
_ABOUT = '''"""Verify an evidence bundle with Python alone:

    python3 -I verify_custody.py BUNDLE --log-key 'NAME+ID+KEY' [--host-key HEX]... [--policy FILE]

Needs Python 3.9 or later, nothing else, no network; reads only; shares no line with the software that wrote the bundle. What it
checks is written in docs/spec/evidence-bundle.md. Take the keys from the contract, a letter, a web site, never from the bundle.
Exit code: 0 every claim holds · 65 a claim fails · 69 nothing fails, but a key is missing or unusable, so nothing is proved
· 72 this Python is too old, so nothing was looked at.
"""

import sys

if sys.version_info < (3, 9):  # before anything that an older Python reads in another way, or not at all
    print("verify_custody.py needs Python 3.9 or later; this is %d.%d. NOTHING WAS CHECKED." % sys.version_info[:2])
    sys.exit(72)
'''


def joined() -> bytes:
    """`verify_custody.py`: each part from its first line `# --- ` on, below what they import of the standard library.

    Its digest is published (docs/spec/evidence-bundle.md), so it depends on nothing but the text of the parts. Python 3.6 can
    parse it, and is told that it is too old, rather than stumbling over a line and saying something about the bundle.
    """
    imports: set[str] = set()
    bodies = []
    for part in PARTS:
        head, mark, body = (Path(__file__).parent / f"{part}.py").read_text("utf-8").partition("\n# --- ")
        lines = re.findall(r"^((?:from (?!archiver\.evidence\.verifier)\S+ )?import) (.+)$", head, re.MULTILINE)
        imports.update(f"{start} {name}" for start, names in lines for name in names.split(", "))
        bodies.append(mark + body)
    imports.discard("from __future__ import annotations")  # unknown to Python 3.6, which would say no more than that
    return "\n".join([_ABOUT, "", *sorted(imports), *bodies]).encode()
