"""The report's texts, the same in HTML and PDF. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from archiver.compliance.facts import Access, Account, Check, Day, Lag, Missing, Place, Report, Run, Storage, Verdict
from archiver.documents.phrases import EVENTS, elapsed, format_instant

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MOST_GAPS = MOST_ACCESSES = 200
"""The most gaps, and the most accesses, that are shown to a person; all gaps are in CSV and JSON, all accesses in
JSON."""

MEANINGS: Mapping[Verdict, tuple[str, str]] = {
    Verdict.COMPLETE: ("complete", "listed to the last page; everything archived, without audio, or acknowledged"),
    Verdict.MISSING: ("missing", "listed to the last page; something of it is not archived"),
    Verdict.PARTLY: ("partly listed", "some hours were never listed"),
    Verdict.NEVER: ("never looked", "nobody has listed this day: whether there were calls is not known"),
    Verdict.OUTSIDE: ("not asked for", "before archiving was to begin"),
    Verdict.RUNNING: ("not over", "not over when the report was made"),
}


def headline(it: Report) -> str:
    """The report's main sentence: whether the month is complete, and the archive's present concerns if there are
    any."""
    more = len(it.standing.concerns) - 1
    others = f" (and {more} more)" if more > 0 else ""
    now = f" When this was made: {it.standing.sentence}{others}." if it.standing.concerns else ""
    return _month(it) + now


def _month(it: Report) -> str:
    judged = [
        day for account in it.accounts for day in account.days if day.verdict not in {Verdict.RUNNING, Verdict.OUTSIDE}
    ]
    bad = [day for day in judged if day.verdict is not Verdict.COMPLETE]
    if not it.accounts:
        return "There is no provider to report on."
    if it.complete:
        return "Complete: every day was listed to its last page, and nothing that should have audio is missing unexplained."
    parts = []
    if bad:
        parts.append(f"{len(bad)} of {len(judged)} provider days are not complete")
    if it.unsettled:
        parts.append(f"{it.unsettled} gap(s) are open and not acknowledged")
    if it.forged:
        parts.append(f"{it.forged} statement(s) do not verify against their signed events")
    if it.without_copy:
        parts.append(f"{it.without_copy} archived recording(s) lack a copy in a required storage")
    if it.losses:
        parts.append(f"{len(it.losses)} loss(es) are on record")
    if it.preliminary:
        parts.append("the month is not over")
    return f"Not complete: {'; '.join(parts) or 'no day was to be archived'}."


def rests_on(it: Report) -> str:
    """The proof of the report: the newest published checkpoint."""
    newest = it.log.newest if it.log is not None else None
    if it.log is None or newest is None:
        return "Nothing outside the database: no checkpoint of a custody log has been published."
    return (
        f"Signed statements and events in the log {it.log.origin}, as far as the checkpoint of {newest.size} leaves, root "
        f"{newest.root}, signed {format_instant(newest.signed_at)}. A leaf beyond it, or an event that waits, is marked."
    )


def figures(it: Account) -> list[tuple[str, str]]:
    """One provider's month, as pairs of a name and a value."""
    states = ", ".join(f"{it.count(each)} {MEANINGS[each][0]}" for each in Verdict if it.count(each))
    stated = [each.stated for each in it.judged if each.stated is not None]
    signed = f"{len(stated)} of {len(it.judged)} days; {sum(each.holds for each in stated)} verify and still hold"
    silent = it.total("without_audio")
    found = [
        ("Days", states),
        ("Time listed", f"{share(it.coverage)} of what was to be listed, in {it.scopes} scope(s)"),
        ("Recordings", f"{it.total('listed')} listed, {silent} of them without audio by the provider's word"),
        ("Archived", f"{it.safe} of {it.wanted} ({share(it.capture)}), {size(it.total('archived_bytes'))}"),
        ("Not archived", f"{it.total('pending')} pending, {it.total('gone')} gone, {it.total('absent')} never came up"),
        ("Rejected rows", str(it.total("rejects"))),
        ("Lag after the call", lag(it.after_call)),
        ("Lag after listing", lag(it.after_listing)),
        ("Deadlines", deadlines(it)),
        ("Signed statements", signed),
        ("Last good poll", format_instant(it.poll_succeeded_at) if it.poll_succeeded_at else "none on record"),
    ]
    if it.storage_cost is not None:
        found.append(("Storage at the provider", str(it.storage_cost)))
    for kept in it.kept:
        until = "no end" if kept.first_until is None or kept.last_until is None else (
            f"{kept.first_until:%Y-%m-%d} to {kept.last_until:%Y-%m-%d}"
        )  # fmt: skip
        found.append((f"Kept by rule {kept.rule or '(none)'}", f"{kept.recordings} recording(s), until {until}"))
    return found


def deadlines(it: Account) -> str:
    if not it.late_total:
        return "none missed"
    return f"{it.late_total} not safe by their time; {it.past_deletion} of them past what the provider keeps"


def rest(day: Day) -> str:
    """The proof of a day's figures: its statement, or the journal alone."""
    stated = day.stated
    if stated is None:
        return "the journal alone"
    text = f"statement {stated.revision}, {place(stated.place)}"
    if stated.problem is not None:
        return f"{text}: DOES NOT VERIFY, {stated.problem}"
    return f"{text}; since changed: {', '.join(stated.changed)}" if stated.changed else text


def place(it: Place | None) -> str:
    if it is None:
        return "not signed"
    if it.leaf is None:
        return "signed, waiting for the log"
    return f"leaf {it.leaf}" if it.published else f"leaf {it.leaf}, not under a published checkpoint yet"


def about(it: Missing) -> str:
    """The subject of the gap, and its time."""
    if it.since is None:
        return it.subject
    if it.until is None or it.subject.startswith("rec:"):
        return f"{it.subject}, {it.since:%Y-%m-%d %H:%M}"
    return f"{it.subject}, {it.since:%Y-%m-%d %H:%M} to {it.until:%Y-%m-%d %H:%M}"


def history(it: Missing) -> str:
    """The steps of a gap: opened, acknowledged by a person, closed, each with its place in the log."""
    said = [f"opened {it.opened_at:%Y-%m-%d %H:%M}{_cited(it, 'opened')}"]
    if it.acked_at is not None:
        said.append(
            f"acknowledged {it.acked_at:%Y-%m-%d %H:%M} by {it.acked_by or '?'}: "
            f"{it.ack_reason or 'the reason was lost with the database'}{_cited(it, 'acknowledged')}"
        )
    if it.closed_at is not None:
        said.append(f"closed {it.closed_at:%Y-%m-%d %H:%M}{_cited(it, 'closed')}")
    return "; ".join(said)


def _cited(it: Missing, status: str) -> str:
    return f" ({place(it.events[status])})" if status in it.events else ""


def evidence(it: Missing) -> str:
    return ", ".join(
        f"{name} {_value(value)}" for name, value in sorted(it.evidence.items()) if value not in (None, [], "")
    )


def _value(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def protection(it: Storage) -> str:
    """A storage's copies of the month: their number, locks and legal holds."""
    locks = ", ".join(f"{count} {mode}" for mode, count in sorted(it.locks.items())) or "no copies"
    parts = [f"{it.copies} copies, {size(it.bytes)}", f"locks: {locks}"]
    if it.first_until is not None:
        parts.append(f"first lock ends {it.first_until:%Y-%m-%d}")
    parts.append(f"{it.on_hold} under legal hold")
    if it.without_copy:
        parts.append(f"{it.without_copy} archived recording(s) WITHOUT A COPY HERE")
    return "; ".join(parts)


def probe(it: Storage) -> str:
    if it.trusted is None or it.probed_at is None:
        return "never probed"
    verdict = "trusted" if it.trusted else "NOT TRUSTED"
    failed = f"; failed: {', '.join(it.failed)}" if it.failed else ""
    return f"{verdict} at its last probe, {format_instant(it.probed_at)}{failed}"


def run(it: Run) -> str:
    found = ", ".join(f"{code} {count}" for code, count in sorted(it.findings.items())) or "as recorded"
    counted = (
        f"{it.copies} copies against {it.versions} versions, {it.locks_read} locks read: "
        if it.versions or it.copies
        else ""
    )
    return f"{format_instant(it.at)}, {counted}{found} ({place(it.place)})"


def check(it: Check) -> str:
    """One verification: its depth and its findings."""
    depth = {
        "full": "everything",
        "partly": "everything, not all of it readable",
        "sample": "a sample",
        "rolling": "the copies that were due to be read again",
    }
    found = ", ".join(f"{kind} {count}" for kind, count in sorted(it.failures.items())) or "no mismatch"
    looked = f"{depth.get(it.depth, 'single recordings')}: {it.recordings} recordings, {it.objects_read} objects read"
    return f"{format_instant(it.at)}, {looked}: {found} ({place(it.place)})"


def access(it: Access) -> str:
    """One access: the recording, the person and the reason."""
    unfinished = ", not finished" if it.delivered is False else ""
    said = f"{it.recording} {it.what}{unfinished} by {it.who}"
    return f"{format_instant(it.at)}, {said}{f': {it.reason}' if it.reason else ''} ({place(it.place)})"


def event(type_: str) -> str:
    """The meaning of a type of event."""
    return EVENTS.get(type_) or type_.replace("anomaly.", "Anomaly: ").replace(".", ": ").replace("_", " ")


def lag(it: Lag | None) -> str:
    if it is None:
        return "nothing was archived"
    spread = f"median {elapsed(it.median)}, 95 % within {elapsed(it.p95)}, longest {elapsed(it.longest)}"
    return f"{spread} ({it.recordings} recordings)"


def pause(it: timedelta | None) -> str:
    return "–" if it is None else elapsed(it)


def share(value: float | None) -> str:
    """A percentage, rounded down: only the whole is shown as 100 %."""
    return "–" if value is None else "100 %" if value >= 1 else f"{int(value * 10_000) / 100:.2f} %"


def size(count: int) -> str:
    for unit, each in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= each:
            return f"{count / each:.1f} {unit}"
    return f"{count} bytes"


def weeks(it: Account) -> list[list[Day | None]]:
    """The month as rows of seven, from Monday on."""
    cells: list[Day | None] = [None] * it.days[0].day.weekday()
    cells += it.days
    cells += [None] * (-len(cells) % 7)
    return [cells[n : n + 7] for n in range(0, len(cells), 7)]


def cell(day: Day) -> str:
    """The text in the calendar below the day's verdict."""
    if day.verdict in {Verdict.RUNNING, Verdict.OUTSIDE, Verdict.NEVER} and not day.listed:
        return ""
    wanted = day.listed - day.without_audio
    gaps = f", {day.gaps_open} gap{'' if day.gaps_open == 1 else 's'}" if day.gaps_open else ""
    if not day.listed:
        return f"{'none listed' if day.verdict is Verdict.PARTLY else 'no calls'}{gaps}"
    return f"{day.archived + day.disposed}/{wanted}{gaps}" if wanted else f"{day.listed} without audio{gaps}"
