"""Draws A4 pages in the house style, for every report as PDF. Pure: the same bytes for the same facts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from fpdf import FPDF
from fpdf.enums import MethodReturnValue, TextEmphasis, XPos, YPos
from fpdf.fonts import TTFFont

from archiver.documents import fonts

Colour = tuple[int, int, int]
INK: Colour = (28, 36, 48)
SOFT: Colour = (91, 102, 117)
RAIL: Colour = (47, 111, 143)
TROUBLE: Colour = (179, 38, 30)
# The fonts that every PDF reader has know Latin-1 only; these characters have a Latin-1 form. Embedded fonts set the
# rest.
_PLAIN = str.maketrans({"–": "-", "−": "-", "—": "-", "…": "...", "‘": "'", "’": "'", "“": '"', "”": '"'})


_FAMILY = "letters"


class Sheet(FPDF):
    """Pages with a footer, and the text on them. `foot` stands below each page, with its number.

    A text beyond Latin-1 is set in embedded fonts, shaped and in its own direction; a character that no font has is
    shown as its code point.
    """

    def __init__(self, title: str, made_at: datetime, *, foot: str) -> None:
        super().__init__(format="A4")
        self._foot = foot
        self._joined_to: str | None = None
        self.set_creation_date(made_at)
        self.set_title(title)
        self.set_margins(16, 16, 16)
        self.set_auto_page_break(auto=True, margin=18)
        self.alias_nb_pages()
        self.add_page()

    def footer(self) -> None:
        self.set_y(-12)
        self.pen(7.5, SOFT)
        self.cell(0, 4, self._foot)
        self.set_x(self.l_margin)
        self.cell(0, 4, f"page {self.page_no()} of {{nb}}", align="R")

    def heading(self, text: str) -> None:
        self.room(40)
        self.ln(5)
        self.set_draw_color(*INK)
        self.set_line_width(0.5)
        self.line(self.l_margin, self.get_y(), self.l_margin + self.epw, self.get_y())
        self.ln(2)
        self.pen(12, INK, "B")
        self.say(text, 7)

    def fact(self, name: str, value: str, *, mono: bool = False) -> None:
        """Write a name and its value."""
        self.pen(9, SOFT)
        self.cell(30, 4.8, self.fitting(29, name))
        self.pen(8 if mono else 9, INK, family="Courier" if mono else "Helvetica")
        self.multi_cell(self.epw - 30, 4.8, value or "-", align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def say(self, text: str, height: float) -> None:
        """Write a paragraph in the present font."""
        self.multi_cell(0, height, text, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def centred(self, middle: float, top: float, width: float, text: str) -> None:
        self.set_xy(middle - width / 2, top)
        self.cell(width, 3, text, align="C")

    def pen(self, size: float, colour: Colour, style: str = "", family: str = "Helvetica") -> None:
        self.set_font(family, style, size)
        self.set_text_color(*colour)

    def rows(self, width: float, text: str) -> list[str]:
        """Return the lines into which `text` breaks in the present font."""
        rows = self.multi_cell(width, 3.7, text, align="L", dry_run=True, output=MethodReturnValue.LINES)
        return rows if isinstance(rows, list) else []

    def fitting(self, width: float, text: str) -> str:
        """Return as much of `text` as has room in the present font."""
        with self._letters(text) as shown:
            if self.get_string_width(shown) <= width:
                return text
            kept = next((n for n in range(len(shown), 0, -1) if self.get_string_width(f"{shown[:n]}...") <= width), 0)
            return f"{shown[:kept]}..."

    def room(self, height: float) -> None:
        """Begin a new page rather than cut a block of this `height` in two."""
        if self.get_y() + min(height, 200) > self.page_break_trigger:
            self.add_page()

    def cell(self, w: float | None = None, h: float | None = None, text: str = "", *more: Any, **how: Any) -> bool:
        with self._letters(text) as shown:
            return super().cell(w, h, shown, *more, **how)

    def multi_cell(self, w: float, h: float | None = None, text: str = "", *more: Any, **how: Any) -> Any:
        with self._letters(text) as shown:
            return super().multi_cell(w, h, shown, *more, **how)

    def set_font(self, family: str | None = None, style: str | TextEmphasis = "", size: float = 0) -> None:
        super().set_font(family, style, size)
        if self.page and self.font_family == _FAMILY and self.current_font is not None:
            # fpdf2 would write the font inside the first text's fallback block, and the next line would have none.
            self._out(self._set_font_for_page(self.current_font, self.font_size_pt))

    def get_fallback_font(self, char: str, style: str = "") -> str | None:
        """Return the font for a character; a joiner has the font of the letter before it, for another font would part
        the letters."""
        if char not in fonts.JOINERS or self._joined_to is None:
            self._joined_to = super().get_fallback_font(char, style)
        return self._joined_to

    @contextmanager
    def _letters(self, text: str) -> Iterator[str]:
        """Give `text` as it can be shown, with its font set in the block; afterwards the pen is as before."""
        shown = fonts.named(text.translate(_PLAIN))
        beyond = any(ord(each) > 0xFF for each in shown)
        family, style, size, shaped = (
            self.font_family,
            self.font_style,
            self.font_size_pt,
            self.text_shaping is not None,
        )
        if beyond:
            self._embed(shown)
            self.set_font(_FAMILY, "", size)
        if shaped != beyond:
            self.set_text_shaping(use_shaping_engine=beyond)
        try:
            yield shown
        finally:
            if shaped != beyond:
                self.set_text_shaping(use_shaping_engine=shaped)
            if beyond and family != _FAMILY:
                self.set_font(family, style, size)

    def _embed(self, text: str) -> None:
        """Add the fonts that `text` needs; of each font, the glyphs in use go into the document."""
        base = next(fonts.faces())
        wanted = {base: None} | {face: None for each in sorted(set(text)) if (face := fonts.face_of(each)) is not None}
        new = [(name, file) for name, file in wanted if self._name(name) not in self.fonts]
        for name, file in new:
            self.add_font(self._name(name), "", file)
        if new:
            letters = self.fonts[_FAMILY]
            assert isinstance(letters, TTFFont)
            for joiner in fonts.JOINERS:
                letters.cmap.pop(ord(joiner), None)
            self.set_fallback_fonts([name for name in self.fonts if name.startswith(f"{_FAMILY}-")], exact_match=False)

    def _name(self, face: str) -> str:
        return _FAMILY if face == "Sans" else f"{_FAMILY}-{face.lower()}"
