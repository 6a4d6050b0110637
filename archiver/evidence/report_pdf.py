"""Makes the report as PDF: the same facts as the HTML page, with the time line drawn. Pure: the same bytes for the same
facts."""

from __future__ import annotations

from fpdf.enums import XPos, YPos

from archiver.documents.pdf import INK, RAIL, SOFT, TROUBLE, Sheet
from archiver.documents.phrases import format_instant
from archiver.evidence.report import STATED_LIMITS, Chapter, Line, Report


def report_pdf(facts: Report) -> bytes:
    """Return the report on A4."""
    paper = _Paper(facts)
    paper.cover()
    for chapter in facts.chapters:
        paper.chapter(chapter)
    if facts.statements:
        paper.completeness()
    paper.log()
    return bytes(paper.output())


class _Paper(Sheet):
    def __init__(self, facts: Report) -> None:
        super().__init__(
            f"Custody report {facts.request.export}",
            facts.request.made_at,
            foot=f"Custody report, export {facts.request.export}",
        )
        self._facts = facts

    def cover(self) -> None:
        facts, request = self._facts, self._facts.request
        self.pen(20, INK, "B")
        self.cell(0, 9, "Chain of custody", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.pen(10, SOFT)
        count = f"{len(facts.chapters)} call recording{'' if len(facts.chapters) == 1 else 's'}"
        self.say(f"{count}, {facts.events} events in the log, exported {format_instant(request.made_at)}", 6)
        self.ln(3)
        self.fact("Archive", request.instance)
        self.fact("Export", request.export, mono=True)
        self.fact("Requested by", request.requested_by)
        self.fact("Reason", request.reason)
        if request.legal_basis:
            self.fact("Legal basis", request.legal_basis)
        selection = "; ".join(f"{name} {value}" for name, value in sorted(request.selection.items()))
        self.fact("Selection", selection or "as listed below")
        for each in request.redactions:
            self.fact("Left out", each)
        self.ln(3)
        self.pen(9.5, INK)
        self.say(
            "This report explains; the events are the evidence. Each line names the file that holds the signed event and its "
            "leaf in the log. Whether they hold is for verify_custody.py to say, with keys that you have from elsewhere: see "
            "README-VERIFY.txt. Times are the archive's own clock"
            + (
                "; IT WAS SET BACK: a station with a minus is dated before the one that it follows. "
                if facts.set_back
                else ". "
            )
            + "Of a person, the account is what the system said; a name that is claimed is what the person said. "
            "A character that no font here has, or that would turn the text around unseen, is named by its number, as [U+202E].",
            4.6,
        )

    def chapter(self, chapter: Chapter) -> None:
        self.heading(f"Recording {chapter.id}")
        if chapter.audio:
            self.fact("Audio", f"{chapter.audio.path}, {chapter.audio.size:,} bytes")
            self.fact("SHA-256", chapter.audio.sha256, mono=True)
        else:
            self.fact("Audio", "none in this bundle")
        for name, value in chapter.disclosed:
            self.fact(name, value)
        if len(chapter.milestones) > 1:
            self._time_line(chapter)
        self.ln(2)
        for line in chapter.lines:
            self._event(line, rail=True, first=line is chapter.lines[0], last=line is chapter.lines[-1])

    def completeness(self) -> None:
        self.heading("Completeness")
        for each in self._facts.statements:
            self.room(16)
            self.pen(9.5, INK if each.complete else TROUBLE, "B")
            verdict = "complete" if each.complete else "not complete"
            self.say(f"{each.day}  {each.provider}: {verdict}", 4.6)
            self.pen(8, SOFT)
            self.say("; ".join(each.words), 3.7)
            self.say(f"{each.file}, leaf {each.leaf}, stated {format_instant(each.at)}", 3.7)
            self.ln(1.5)
        self.pen(9, INK)
        self.say(STATED_LIMITS, 4.6)

    def log(self) -> None:
        facts = self._facts
        self.heading("The log")
        self.fact("Log", facts.checkpoint.origin)
        self.fact("Checkpoint", f"{facts.checkpoint.size} leaves, root {facts.checkpoint.root.hex()}")
        self.fact("Log key", facts.log_key, mono=True)
        for host in facts.hosts:
            self.fact("Host key", host, mono=True)
        self.fact("Cosigned by", ", ".join(facts.witnesses) or "no witness that the archive knows")
        if facts.unchecked:
            self.fact(
                "Not checked",
                f"signature lines in the name of {', '.join(facts.unchecked)}: anybody can write such a line",
            )
        self.fact("Time stamps", ", ".join(name for name, _ in facts.stamps) or "none")
        self.ln(2)
        for line in facts.archive:
            self._event(line, rail=False)

    def _time_line(self, chapter: Chapter) -> None:
        self.room(34)
        self.ln(3)
        self.pen(8, SOFT)
        self.say("Time line (not to scale)", 4)
        stops, left, top = chapter.milestones, self.l_margin, self.get_y() + 6
        step = self.epw / len(stops)
        self.set_draw_color(*RAIL)
        self.set_line_width(0.8)
        self.line(left + step / 2, top, left + self.epw - step / 2, top)
        for number, stop in enumerate(stops):
            middle = left + step * (number + 0.5)
            self.set_draw_color(*(TROUBLE if stop.trouble else RAIL))
            self.set_fill_color(*(TROUBLE if stop.trouble else (255, 255, 255)))
            self.circle(middle, top, 1.7, style="DF")
            self.pen(6.5, SOFT)
            self.centred(middle - step / 2, top - 5, step, stop.after)
            self.pen(8, TROUBLE if stop.trouble else INK, "B")
            self.centred(middle, top + 3, step, stop.label)
            self.pen(6.5, SOFT)
            self.centred(middle, top + 6.5, step, f"{stop.at:%Y-%m-%d}")
            self.centred(middle, top + 9.5, step, f"{stop.at:%H:%M:%S}")
            if stop.by:
                self.centred(middle, top + 12.5, step, self.fitting(step - 1, stop.by))
        self.set_xy(left, top + 17)

    def _event(self, line: Line, *, rail: bool, first: bool = False, last: bool = False) -> None:
        person = [f"person: {line.by}" + (f"; reason: {line.reason}" if line.reason else "")] if line.by else []
        states = "; ".join([*person, *(f"{name} {value}" for name, value in line.details)])
        indent = 6.0 if rail else 0.0
        self.pen(8, SOFT)
        width = self.epw - indent
        rows = len(self.rows(width, states)) if states else 0
        height = 10.5 + 3.7 * min(rows, 40)
        self.room(height)
        top = self.get_y()
        if rail:
            middle, at = self.l_margin + 1.8, top + 2.6
            self.set_draw_color(*RAIL)
            self.set_line_width(0.8)
            self.line(middle, at if first else top, middle, at if last else top + height)
            self.set_draw_color(*(TROUBLE if line.trouble else RAIL))
            self.set_fill_color(*(TROUBLE if line.trouble else (255, 255, 255)))
            self.circle(middle, at, 1.5, style="DF")
        self.set_x(self.l_margin + indent)
        self.pen(9.5, TROUBLE if line.trouble else INK, "B")
        self.cell(width, 4.6, line.title)
        self.set_x(self.l_margin + indent)
        self.pen(8.5, INK)
        self.cell(width, 4.6, format_instant(line.at), align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.set_x(self.l_margin + indent)
        self.pen(7, SOFT, family="Courier")
        self.cell(width, 3.6, f"{line.type}  {line.file}, leaf {line.leaf}", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        if states:
            self.set_x(self.l_margin + indent)
            self.pen(8, SOFT)
            self.multi_cell(width, 3.7, states, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.set_y(max(self.get_y(), top + height) if rows <= 40 else self.get_y())
