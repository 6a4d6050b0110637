"""Names in every script stand in the PDFs as they are: shaped, embedded, and to be found by their own letters."""

from __future__ import annotations

import io
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pypdf
import pytest
from pypdf.generic import ContentStream

from archiver.documents import fonts
from archiver.documents.pdf import INK, Sheet

NAMES = {
    "Devanagari": "राजेश कुमार शर्मा क्षत्रिय ज्ञान",
    "Chinese": "王小明 张伟 張偉",
    "Japanese and Korean": "鈴木 デルタ 김철수",
    "Arabic": "محمد بن عبد الله العربي",
    "Hebrew": "דוד בן־גוריון",
    "Cyrillic": "Елена Жаворонкова",
    "Greek": "Νίκος Καζαντζάκης",
    "Thai": "สมชาย ใจดี น้ำ กำลัง",
    "Tamil": "தமிழ்ச்செல்வன்",
    "Bengali": "বাংলা ক্ষমা",
    "Vietnamese": "Nguyễn Thị Bích Ngọc",
    "Latin": "Zoë Ñandú Çelik",
    "mixed": "Call of محمد (agent 42) with राजेश and 王明",
}


def _pdf(*texts: str, style: str = "", family: str = "Helvetica") -> bytes:
    sheet = Sheet("letters", datetime(2026, 11, 20, tzinfo=UTC), foot="letters")
    for text in texts:
        sheet.pen(11, INK, style, family)
        sheet.say(text, 6)
    return bytes(sheet.output())


def _text(pdf: bytes) -> str:
    """All that stands in it, less space, where a reader sees gaps between letters, and less the parts of letters: dots and joints
    have glyphs of their own, which mean nothing alone."""
    said = "".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf)).pages)
    return "".join(each for each in said if (each.isprintable() and not each.isspace()) or each in fonts.JOINERS)


def _drawn(pdf: bytes) -> dict[str, set[int]]:
    """Of each embedded font the glyphs that the pages draw."""
    reader, found = pypdf.PdfReader(io.BytesIO(pdf)), dict[str, set[int]]()
    for page in reader.pages:
        resources, font = page["/Resources"]["/Font"], None  # type: ignore[index]
        for operands, operator in ContentStream(page.get_contents(), reader).operations:
            if operator == b"Tf":
                font = resources[operands[0]].get_object()
            if operator == b"Tj" and font is not None and font["/Subtype"] == "/Type0":
                under = font["/DescendantFonts"][0].get_object()
                table, codes = under["/CIDToGIDMap"].get_object().get_data(), operands[0].original_bytes
                pairs = (int.from_bytes(codes[at : at + 2], "big") * 2 for at in range(0, len(codes), 2))
                glyphs = {int.from_bytes(table[at : at + 2], "big") for at in pairs}
                found.setdefault(font["/BaseFont"], set()).update(glyphs)
                assert under["/FontDescriptor"].get_object()["/FontFile2"].get_object().get_data()
    return found


@pytest.mark.parametrize("script", NAMES)
def test_name_is_found_in_the_pdf_by_its_own_letters(script: str) -> None:
    """They were question marks. Words, not lines: what runs from right to left is drawn in the order of the eye."""
    pdf = _pdf(NAMES[script])
    said = _text(pdf)
    assert [word for word in NAMES[script].replace("(", "").replace(")", "").split() if word not in said] == []
    assert "?" not in said
    assert "U+" not in said
    assert all(0 not in glyphs for glyphs in _drawn(pdf).values())  # .notdef, an empty box


@pytest.mark.parametrize("first", ["Devanagari", "Arabic", "Greek"])
def test_no_line_is_lost_behind_one_in_another_font(first: str) -> None:
    """fpdf2 forgets the font of the page behind a line that begins in a fallback font: the next one vanished."""
    texts = (NAMES[first], *NAMES.values(), "plain words", NAMES["Greek"])
    written = Counter("".join("".join(texts).split()))
    assert written - Counter(_text(_pdf(*texts, style="B", family="Courier"))) == Counter()


def test_plain_paper_embeds_nothing_and_is_the_same_twice() -> None:
    assert b"FontFile" not in _pdf("Zoë – “quoted” … 100 %")
    assert _pdf(*NAMES.values()) == _pdf(*NAMES.values())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a\U0001d11eb", "a[U+1D11E]b"),
        ("evil\u202egnp.exe", "evil[U+202E]gnp.exe"),
        ("a\u2066b\u200f\x1b[2J\ufeff", "a[U+2066]b[U+200F][U+001B][2J[U+FEFF]"),
        ("two\nlines", "two\nlines"),
        ("क्\u200dष", "क्\u200dष"),
        ("\u2764\ufe0f", "\u2764"),
    ],
)
def test_what_no_font_has_or_nobody_would_see_is_named_by_its_number(text: str, told: str) -> None:
    assert fonts.named(text) == told
    assert "".join(told.split()) in _text(_pdf(text))


def test_without_the_font_packages_letters_are_named_not_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_folder", lambda *_: None)
    fonts._shows.cache_clear()
    try:
        assert "[U+738B]明".replace("明", "[U+660E]") in _text(_pdf("王明"))
    finally:
        fonts._shows.cache_clear()


def test_fonts_are_of_the_locked_packages_and_small_in_the_document() -> None:
    assert {name for name, _ in fonts.faces()} >= {
        "Sans",
        "SansArabic",
        "SansHebrew",
        "SansDevanagari",
        "SansThai",
        "CJK",
    }
    assert all(isinstance(file, Path) and file.is_file() for _, file in fonts.faces())
    assert len(_pdf(*NAMES.values())) < 150_000
