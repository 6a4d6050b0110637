"""Finds fonts for every name that there is: freely licensed fonts from locked packages, read as files and never
imported.

The fonts that every PDF reader has know Latin-1 alone. Other text is set in Noto Sans (SIL OFL 1.1) of its script,
Chinese, Japanese and Korean in WenQuanYi Micro Hei (Apache 2.0); only the glyphs that a document uses are embedded
(docs/adr/0009).
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

_NOTO, _CJK = ("manimgx-fonts", "manimgx_fonts"), ("paperang-p2-fonts-cjk", "paperang_p2_fonts_cjk/fonts")
_SCRIPTS = (
    "Devanagari", "Arabic", "Hebrew", "Thai", "Bengali", "Tamil", "Telugu", "Gujarati", "Gurmukhi", "Kannada", "Malayalam",
    "Oriya", "Sinhala", "Khmer", "Lao", "Myanmar", "Georgian", "Armenian", "Ethiopic", "Symbols",
)  # fmt: skip
# Characters that reverse the following text, or are invisible: a reader must see them. Joiners and line feeds may act.
_UNSEEN = frozenset([*range(0x20), *range(0x7F, 0xA0), 0x061C, 0x200B, 0x200E, 0x200F, *range(0x2028, 0x202F), 0x2060,
                     *range(0x2066, 0x206A), 0xFEFF]) - {0x0A}  # fmt: skip
JOINERS = frozenset("\u200c\u200d")
_SELECTORS = frozenset(range(0xFE00, 0xFE10))


def faces() -> Iterator[tuple[str, Path]]:
    """Yield name and file of each font, in the order of preference; fonts that are not installed are left out."""
    names = ("Sans", *(f"Sans{script}" for script in _SCRIPTS))
    yield from _there(*_NOTO, {name: f"Noto{name}[wght].ttf" for name in names})
    yield from _there(*_CJK, {"CJK": "wqy-microhei.ttc"})
    yield from _there(*_NOTO, {"Emoji": "NotoEmoji[wght].ttf"})


def face_of(char: str) -> tuple[str, Path] | None:
    """Return the font that has this character; None where none has."""
    return next((face for face in faces() if ord(char) in _covered(face[1])), None)


def named(text: str) -> str:
    """Return `text` with a code point ("[U+1D11E]") in place of each character that no font has or that would act
    unseen."""
    seen = (each for each in text if ord(each) not in _SELECTORS)
    return "".join(each if _shows(each) else f"[U+{ord(each):04X}]" for each in seen)


@functools.lru_cache(maxsize=4096)
def _shows(char: str) -> bool:
    if ord(char) in _UNSEEN:
        return False
    return ord(char) < 0x100 or char in JOINERS or face_of(char) is not None


def _there(package: str, folder: str, files: dict[str, str]) -> Iterator[tuple[str, Path]]:
    root = _folder(package, folder)
    if root is not None:
        yield from ((name, root / file) for name, file in files.items() if (root / file).is_file())


@functools.cache
def _folder(package: str, folder: str) -> Path | None:
    try:
        return Path(str(importlib.metadata.distribution(package).locate_file(folder)))
    except importlib.metadata.PackageNotFoundError:  # its characters are told by code point then, not left out
        return None


@functools.cache
def _covered(file: Path) -> frozenset[int]:
    with TTFont(file, fontNumber=0, lazy=True) as font:
        return frozenset(font.getBestCmap())
