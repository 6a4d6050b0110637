"""A4 in the house style, for every report as PDF. Pure: the same bytes for the same facts."""

from __future__ import annotations

from datetime import datetime

from fpdf import FPDF
from fpdf.enums import MethodReturnValue, XPos, YPos

Colour = tuple[int, int, int]
INK: Colour = (28, 36, 48)
SOFT: Colour = (91, 102, 117)
RAIL: Colour = (47, 111, 143)
TROUBLE: Colour = (179, 38, 30)
# The fonts that every reader has know Latin-1 only. Nothing is dropped quietly: what they lack shows as "?".
_PLAIN = str.maketrans({"–": "-", "−": "-", "—": "-", "…": "...", "‘": "'", "’": "'", "“": '"', "”": '"'})


class Sheet(FPDF):
    """Pages with a footer, and what is written on them. `foot` stands below each page, with its number."""

    def __init__(self, title: str, made_at: datetime, *, foot: str) -> None:
        super().__init__(format="A4")
        self._foot = foot
        self.set_creation_date(made_at)
        self.set_title(title)
        self.set_margins(16, 16, 16)
        self.set_auto_page_break(auto=True, margin=18)
        self.alias_nb_pages()
        self.add_page()

    def footer(self) -> None:
        self.set_y(-12)
        self.pen(7.5, SOFT)
        self.cell(0, 4, plain(self._foot))
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
        """A name and what it is."""
        self.pen(9, SOFT)
        self.cell(30, 4.8, plain(name)[:24])
        self.pen(8 if mono else 9, INK, family="Courier" if mono else "Helvetica")
        self.multi_cell(self.epw - 30, 4.8, plain(value) or "-", align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def say(self, text: str, height: float) -> None:
        """A paragraph in the present font."""
        self.multi_cell(0, height, plain(text), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def centred(self, middle: float, top: float, width: float, text: str) -> None:
        self.set_xy(middle - width / 2, top)
        self.cell(width, 3, plain(text), align="C")

    def pen(self, size: float, colour: Colour, style: str = "", family: str = "Helvetica") -> None:
        self.set_font(family, style, size)
        self.set_text_color(*colour)

    def rows(self, width: float, text: str) -> list[str]:
        """How `text` breaks into lines in the present font."""
        rows = self.multi_cell(width, 3.7, plain(text), align="L", dry_run=True, output=MethodReturnValue.LINES)
        return rows if isinstance(rows, list) else []

    def fitting(self, width: float, text: str) -> str:
        """As much of `text` as has room in the present font."""
        if self.get_string_width(plain(text)) <= width:
            return text
        kept = next(
            n for n in range(len(text), -1, -1) if self.get_string_width(plain(f"{text[:n]}…")) <= width or not n
        )
        return f"{text[:kept]}…"

    def room(self, height: float) -> None:
        """Begin a new page rather than cut in two what is `height` high."""
        if self.get_y() + min(height, 200) > self.page_break_trigger:
            self.add_page()


def plain(text: str) -> str:
    """As the fonts can show it."""
    return text.translate(_PLAIN).encode("latin-1", "replace").decode("latin-1")
