"""The report as PDF: the same facts as the HTML page, with the time line drawn. Pure: the same bytes for the same facts."""

from __future__ import annotations

from fpdf import FPDF
from fpdf.enums import MethodReturnValue, XPos, YPos

from archiver.evidence.report import Chapter, Line, Report, format_instant

_INK, _SOFT, _RAIL, _TROUBLE, _RULE = (28, 36, 48), (91, 102, 117), (47, 111, 143), (179, 38, 30), (213, 219, 227)
# The fonts that every reader has know Latin-1 only. Nothing is dropped quietly: what they lack shows as "?".
_PLAIN = str.maketrans({"–": "-", "—": "-", "…": "...", "‘": "'", "’": "'", "“": '"', "”": '"'})


def report_pdf(facts: Report) -> bytes:
    """The report on A4."""
    paper = _Paper(facts)
    paper.cover()
    for chapter in facts.chapters:
        paper.chapter(chapter)
    paper.log()
    return bytes(paper.output())


class _Paper(FPDF):
    def __init__(self, facts: Report) -> None:
        super().__init__(format="A4")
        self._facts = facts
        self.set_creation_date(facts.request.made_at)
        self.set_title(f"Custody report {facts.request.export}")
        self.set_margins(16, 16, 16)
        self.set_auto_page_break(auto=True, margin=18)
        self.alias_nb_pages()
        self.add_page()

    def footer(self) -> None:
        self.set_y(-12)
        self._pen(7.5, _SOFT)
        self.cell(0, 4, _plain(f"Custody report, export {self._facts.request.export}"))
        self.set_x(self.l_margin)
        self.cell(0, 4, f"page {self.page_no()} of {{nb}}", align="R")

    def cover(self) -> None:
        facts, request = self._facts, self._facts.request
        self._pen(20, _INK, "B")
        self.cell(0, 9, "Chain of custody", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self._pen(10, _SOFT)
        count = f"{len(facts.chapters)} call recording{'' if len(facts.chapters) == 1 else 's'}"
        self._text(f"{count}, {facts.events} events in the log, exported {format_instant(request.made_at)}", 6)
        self.ln(3)
        self._fact("Archive", request.instance)
        self._fact("Export", request.export, mono=True)
        self._fact("Requested by", request.requested_by)
        self._fact("Reason", request.reason)
        if request.legal_basis:
            self._fact("Legal basis", request.legal_basis)
        selection = "; ".join(f"{name} {value}" for name, value in sorted(request.selection.items()))
        self._fact("Selection", selection or "as listed below")
        for each in request.redactions:
            self._fact("Left out", each)
        self.ln(3)
        self._pen(9.5, _INK)
        self._text(
            "This report explains; the events are the evidence. Each line names the file that holds the signed event and its "
            "leaf in the log. Whether they hold is for verify_custody.py to say, with keys that you have from elsewhere: see "
            "README-VERIFY.txt. Times are the archive's own clock. Characters that this document's fonts lack are shown as ?; "
            "report.html has them.",
            4.6,
        )

    def chapter(self, chapter: Chapter) -> None:
        self._heading(f"Recording {chapter.id}")
        if chapter.audio:
            self._fact("Audio", f"{chapter.audio.path}, {chapter.audio.size:,} bytes")
            self._fact("SHA-256", chapter.audio.sha256, mono=True)
        else:
            self._fact("Audio", "none in this bundle")
        for name, value in chapter.disclosed:
            self._fact(name, value)
        if len(chapter.milestones) > 1:
            self._time_line(chapter)
        self.ln(2)
        for line in chapter.lines:
            self._event(line, rail=True, first=line is chapter.lines[0], last=line is chapter.lines[-1])

    def log(self) -> None:
        facts = self._facts
        self._heading("The log")
        self._fact("Log", facts.checkpoint.origin)
        self._fact("Checkpoint", f"{facts.checkpoint.size} leaves, root {facts.checkpoint.root.hex()}")
        self._fact("Log key", facts.log_key, mono=True)
        for host in facts.hosts:
            self._fact("Host key", host, mono=True)
        self._fact("Cosigned by", ", ".join(facts.witnesses) or "no witness")
        self._fact("Time stamps", ", ".join(name for name, _ in facts.stamps) or "none")
        self.ln(2)
        for line in facts.archive:
            self._event(line, rail=False)

    def _time_line(self, chapter: Chapter) -> None:
        self._room(32)
        self.ln(3)
        self._pen(8, _SOFT)
        self._text("Time line (not to scale)", 4)
        stops, left, top = chapter.milestones, self.l_margin, self.get_y() + 6
        step = self.epw / len(stops)
        self.set_draw_color(*_RAIL)
        self.set_line_width(0.8)
        self.line(left + step / 2, top, left + self.epw - step / 2, top)
        for number, stop in enumerate(stops):
            middle = left + step * (number + 0.5)
            self.set_draw_color(*(_TROUBLE if stop.trouble else _RAIL))
            self.set_fill_color(*(_TROUBLE if stop.trouble else (255, 255, 255)))
            self.circle(middle, top, 1.7, style="DF")
            self._pen(6.5, _SOFT)
            self._centred(middle - step / 2, top - 5, step, stop.after)
            self._pen(8, _TROUBLE if stop.trouble else _INK, "B")
            self._centred(middle, top + 3, step, stop.label)
            self._pen(6.5, _SOFT)
            self._centred(middle, top + 6.5, step, f"{stop.at:%Y-%m-%d}")
            self._centred(middle, top + 9.5, step, f"{stop.at:%H:%M:%S}")
        self.set_xy(left, top + 15)

    def _event(self, line: Line, *, rail: bool, first: bool = False, last: bool = False) -> None:
        states = "; ".join(f"{name} {value}" for name, value in line.details)
        indent = 6.0 if rail else 0.0
        self._pen(8, _SOFT)
        width = self.epw - indent
        rows = len(self._rows(width, states)) if states else 0
        height = 10.5 + 3.7 * min(rows, 40)
        self._room(height)
        top = self.get_y()
        if rail:
            middle, at = self.l_margin + 1.8, top + 2.6
            self.set_draw_color(*_RAIL)
            self.set_line_width(0.8)
            self.line(middle, at if first else top, middle, at if last else top + height)
            self.set_draw_color(*(_TROUBLE if line.trouble else _RAIL))
            self.set_fill_color(*(_TROUBLE if line.trouble else (255, 255, 255)))
            self.circle(middle, at, 1.5, style="DF")
        self.set_x(self.l_margin + indent)
        self._pen(9.5, _TROUBLE if line.trouble else _INK, "B")
        self.cell(width, 4.6, _plain(line.title))
        self.set_x(self.l_margin + indent)
        self._pen(8.5, _INK)
        self.cell(width, 4.6, format_instant(line.at), align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.set_x(self.l_margin + indent)
        self._pen(7, _SOFT, family="Courier")
        self.cell(
            width, 3.6, _plain(f"{line.type}  {line.file}, leaf {line.leaf}"), new_x=XPos.LMARGIN, new_y=YPos.NEXT
        )
        if states:
            self.set_x(self.l_margin + indent)
            self._pen(8, _SOFT)
            self.multi_cell(width, 3.7, _plain(states), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.set_y(max(self.get_y(), top + height) if rows <= 40 else self.get_y())

    def _rows(self, width: float, text: str) -> list[str]:
        """How `text` breaks into lines in the present font."""
        rows = self.multi_cell(width, 3.7, _plain(text), align="L", dry_run=True, output=MethodReturnValue.LINES)
        return rows if isinstance(rows, list) else []

    def _heading(self, text: str) -> None:
        self._room(40)
        self.ln(5)
        self.set_draw_color(*_INK)
        self.set_line_width(0.5)
        self.line(self.l_margin, self.get_y(), self.l_margin + self.epw, self.get_y())
        self.ln(2)
        self._pen(12, _INK, "B")
        self._text(text, 7)

    def _fact(self, name: str, value: str, *, mono: bool = False) -> None:
        self._pen(9, _SOFT)
        self.cell(30, 4.8, _plain(name)[:24])
        self._pen(8 if mono else 9, _INK, family="Courier" if mono else "Helvetica")
        self.multi_cell(self.epw - 30, 4.8, _plain(value) or "-", align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def _text(self, text: str, height: float) -> None:
        self.multi_cell(0, height, _plain(text), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def _centred(self, middle: float, top: float, width: float, text: str) -> None:
        self.set_xy(middle - width / 2, top)
        self.cell(width, 3, _plain(text), align="C")

    def _pen(self, size: float, colour: tuple[int, int, int], style: str = "", family: str = "Helvetica") -> None:
        self.set_font(family, style, size)
        self.set_text_color(*colour)

    def _room(self, height: float) -> None:
        """Begin a new page rather than cut in two what is `height` high."""
        if self.get_y() + min(height, 200) > self.page_break_trigger:
            self.add_page()


def _plain(text: str) -> str:
    return text.translate(_PLAIN).encode("latin-1", "replace").decode("latin-1")
