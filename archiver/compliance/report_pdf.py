"""Renders the report as PDF: the same words as the HTML page, with each provider's calendar drawn.

Pure: the same bytes for the same facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fpdf.enums import XPos, YPos

from archiver.compliance import rules, words
from archiver.compliance.facts import Account, Day, Log, Missing, Report, Storage, Verdict
from archiver.documents.pdf import INK, SOFT, TROUBLE, Colour, Sheet
from archiver.documents.phrases import format_instant

_FILL: Mapping[Verdict, Colour] = {
    Verdict.COMPLETE: (227, 241, 232),
    Verdict.MISSING: (253, 240, 205),
    Verdict.PARTLY: (250, 223, 198),
    Verdict.NEVER: (246, 207, 203),
    Verdict.OUTSIDE: (238, 240, 243),
    Verdict.RUNNING: (255, 255, 255),
}
_CELL = 11.0
_RULE: Colour = (213, 219, 227)


def report_pdf(it: Report) -> bytes:
    """The report as a PDF file, on A4."""
    paper = _Paper(it)
    paper.cover()
    for account in it.accounts:
        paper.account(account)
    paper.gaps()
    for storage in it.storages:
        paper.storage(storage)
    paper.checks()
    paper.accesses()
    paper.log(it.log)
    paper.unchecked()
    return bytes(paper.output())


class _Paper(Sheet):
    def __init__(self, it: Report) -> None:
        title = f"{it.instance}: compliance report {it.month}"
        super().__init__(title, it.made_at, foot=title)
        self._it = it

    def cover(self) -> None:
        it = self._it
        self.pen(20, INK, "B")
        self.cell(0, 9, f"Compliance report, {it.month.title}", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.pen(10, SOFT)
        only = f", {it.only} only" if it.only else ""
        self.say(
            f"{it.instance}{only}: what was listed, archived, missed and checked. Made {format_instant(it.made_at)}", 5
        )
        self.ln(3)
        self.pen(11, INK if it.complete else TROUBLE, "B")
        self.say(words.headline(it), 5.4)
        self.ln(3)
        head = ("Provider", "Time listed", "Days", "Listed", "No audio", "Archived", "Of listed", "Open gaps", "Late")
        rows = [
            (
                each.provider, words.share(each.coverage), f"{each.count(Verdict.COMPLETE)}/{len(each.judged)}",
                each.total("listed"), each.total("without_audio"), each.safe, words.share(each.capture),
                sum(gap.provider == each.provider and gap.standing == "open" for gap in it.gaps), each.late_total,
            )
            for each in it.accounts
        ]  # fmt: skip
        self._grid((38, 20, 16, 18, 18, 18, 18, 18, 14), head, rows)
        self.ln(3)
        self.pen(9, INK)
        self.say(f"What it rests on. {words.rests_on(it)}", 4.4)
        self.pen(9, SOFT)
        self.say(
            "Figures are the journal's when the report was made; months and days are UTC. Where a day has a signed statement, "
            "its leaf in the custody log is named. A character that no font here has is named by its number, as "
            "[U+1D11E].",
            4.4,
        )

    def account(self, it: Account) -> None:
        weeks = words.weeks(it)
        self.room(30 + _CELL * (len(weeks) + 1))
        self.heading(it.provider if it.configured else f"{it.provider} (no longer configured)")
        self._calendar(weeks)
        self.pen(7, SOFT)
        key = (": ".join(words.MEANINGS[each]) for each in Verdict if it.count(each))
        self.say(f"{'. '.join(key)}. 3/4: three archived of four that should have audio.", 3.4)
        self.ln(2)
        for name, value in words.figures(it):
            self.fact(name, value)
        self.ln(2)
        rows = [
            (
                each.day, words.MEANINGS[each.verdict][0], each.listed, each.archived + each.disposed, each.without_audio,
                each.pending, each.gone + each.absent, each.gaps_open, words.rest(each),
            )
            for each in it.days if each.verdict is not Verdict.RUNNING
        ]  # fmt: skip
        head = ("Day", "Verdict", "Listed", "Arch.", "No audio", "Pend.", "Gone", "Gaps", "Rests on")
        self._grid((18, 20, 13, 12, 14, 12, 11, 10, 68), head, rows)
        for late in it.late:
            self.pen(8, TROUBLE if late.past_deletion(self._it.made_at) else INK)
            archived = format_instant(late.archived_at) if late.archived_at else "not yet"
            deletes = format_instant(late.delete_at) if late.delete_at else "at a time not known"
            by = f"to be safe by {format_instant(late.archive_by)}; the provider deletes it {deletes}"
            self.say(f"Late: {late.recording}, {by}; archived: {archived}", 3.9)

    def gaps(self) -> None:
        it = self._it
        self.heading("Gaps")
        self.pen(9, INK)
        self.say(
            f"{len(it.gaps)} stood in this month or are about it, {it.unsettled} of them open; {len(it.losses)} are losses.",
            4.6,
        )
        for each in it.gaps[: words.MOST_GAPS]:
            self._gap(each)
        if len(it.gaps) > words.MOST_GAPS:
            self.pen(9, SOFT)
            self.say(f"{words.MOST_GAPS} are shown; all are in the CSV and JSON forms.", 4.6)

    def storage(self, it: Storage) -> None:
        self.heading("Custody against the journal" if it.id == "custody" else f"Storage {it.id}")
        if it.id != "custody":
            self.fact("This month's", words.protection(it))
            self.fact("Lock enforcement", words.probe(it))
        self.fact("Compared", f"{len(it.runs)} time(s) in the month")
        shown = [each for each in it.runs if each.findings or each is it.runs[-1]]
        for each in shown[-10:]:
            self.fact("", words.run(each))

    def checks(self) -> None:
        self.heading("Verification")
        self.fact("Verified", f"{len(self._it.checks)} time(s) in the month")
        shown = [
            each for each in self._it.checks if each.failures or each.depth == "full" or each is self._it.checks[-1]
        ]
        for each in shown[-10:]:
            self.fact("", words.check(each))

    def accesses(self) -> None:
        self.heading("Heard and exported")
        found = self._it.accesses
        self.fact("In the month", f"{len(found)} time(s); what is claimed was not checked")
        for each in found[: words.MOST_ACCESSES]:
            self.fact("", words.access(each))
        if len(found) > words.MOST_ACCESSES:
            self.fact("", f"{words.MOST_ACCESSES} are shown; all are in the JSON form, and in archiver access list.")

    def log(self, it: Log | None) -> None:
        self.heading("Custody log")
        if it is None:
            self.fact("Log", "none")
            return
        self.fact("Log", it.origin, mono=True)
        self.fact("Leaves now", f"{it.size}, {it.waiting} event(s) waiting")
        pause = words.pause(it.longest_pause)
        self.fact(
            "Checkpoints", f"{it.checkpoints} signed in the month, {it.published} published; longest pause {pause}"
        )
        for name, each in (("Newest published", it.newest), ("First of month", it.first), ("Last of month", it.last)):
            if each is not None:
                self.fact(name, f"{each.size} leaves, {format_instant(each.signed_at)}, root {each.root}", mono=True)
        for vouched in it.vouched:
            self.fact(
                vouched.kind.capitalize(), f"{vouched.name}: {vouched.count}, last {format_instant(vouched.last_at)}"
            )
        self.fact("Refused rows", str(len(it.refused)))
        self.ln(2)
        rows = [
            (f"{words.event(each.type)} ({each.type})", each.count, f"{each.first} to {each.last}")
            for each in it.events
        ]
        self._grid((110, 20, 48), ("Events of the month", "Count", "Leaves"), rows)

    def unchecked(self) -> None:
        self.heading("What was not checked")
        self.pen(9, INK)
        for each in rules.unchecked(self._it):
            self.say(f"-  {each}", 4.6)
            self.ln(0.6)

    def _calendar(self, weeks: Sequence[Sequence[Day | None]]) -> None:
        width, left, top = self.epw / 7, self.l_margin, self.get_y() + 1
        for number, name in enumerate(words.WEEKDAYS):
            self.pen(7.5, SOFT)
            self.centred(left + width * (number + 0.5), top, width, name)
        top += 4
        self.set_line_width(0.2)
        self.set_draw_color(*_RULE)
        for row, week in enumerate(weeks):
            for column, day in enumerate(week):
                if day is not None:
                    self._day(left + column * width, top + row * _CELL, width, day)
        self.set_xy(left, top + len(weeks) * _CELL + 3)

    def _day(self, left: float, top: float, width: float, day: Day) -> None:
        self.set_fill_color(*_FILL[day.verdict])
        self.rect(left + 0.4, top + 0.4, width - 0.8, _CELL - 0.8, style="DF")
        self.pen(7.5, SOFT)
        self.set_xy(left, top + 1.2)
        self.cell(width - 0.8, 3, str(day.day.day), align="R")
        self.pen(7, INK)
        self.set_xy(left, top + 1.2)
        self.cell(width, 3, words.MEANINGS[day.verdict][0])
        self.pen(7, SOFT)
        self.set_xy(left, top + 5.4)
        self.cell(width, 3, words.cell(day))

    def _gap(self, it: Missing) -> None:
        self.room(16)
        self.ln(1.5)
        self.pen(9, TROUBLE if it.standing == "open" else INK, "B")
        loss = {"whole": ", lost", "part": ", lost in part"}.get(it.loss or "", "")
        self.say(f"{it.provider or 'archive'}: {it.code} ({it.standing}{loss})", 4.4)
        self.pen(8, INK)
        self.say(it.detail, 3.8)
        self.pen(8, SOFT)
        for text in (words.about(it), words.evidence(it), words.history(it)):
            if text:
                self.say(text, 3.7)

    def _grid(self, widths: Sequence[float], head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Draws a table. A cell of the last column takes as many lines as its text needs."""
        self._row(widths, head, bold=True)
        for row in rows:
            self._row(widths, [str(each) for each in row])

    def _row(self, widths: Sequence[float], cells: Sequence[str], *, bold: bool = False) -> None:
        self.pen(7.5, SOFT if bold else INK, "B" if bold else "")
        *short, last = cells
        lines = self.rows(widths[-1], last) or [""]
        self.room(3.7 * len(lines) + 1)
        for width, text in zip(widths, short, strict=False):
            self.cell(width, 3.7, text[: int(width)])
        self.multi_cell(widths[-1], 3.7, last, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.set_draw_color(*_RULE)
        self.set_line_width(0.1)
        self.line(self.l_margin, self.get_y() + 0.3, self.l_margin + self.epw, self.get_y() + 0.3)
        self.ln(0.6)
