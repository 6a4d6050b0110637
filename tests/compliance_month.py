"""October 2026 at two providers, lived through day by day with the archive's own functions, on a real database. For tests.

JustCall: all of it listed, a recording gone on the 7th, one found late on the 9th after its day was stated, one archived past its
deadline on the 14th, calls without audio on Sundays. Vobiz: configured on the 5th, down from the 12th 06:00 to the 15th 00:00,
acknowledged. The log is sequenced each night, and published except after the last.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Connection, Engine, insert, update

from archiver.clock import SystemChance
from archiver.completeness import issue, register
from archiver.completeness.gap import profile
from archiver.completeness.observe import Watched, observe, utc_day
from archiver.compliance.facts import Report
from archiver.compliance.gather import Asked, gather
from archiver.compliance.month import Month
from archiver.custody.event import ARCHIVE, Type
from archiver.custody.keys import public_hex
from archiver.custody.ledger import Ledger
from archiver.demo.simulators import MovableClock
from archiver.ingest import covered_spans, listing_pages
from archiver.ingest.covered_spans import Walked
from archiver.ingest.tables import copy, recording, storage_state
from archiver.recording import Audio, Json, Listing, RecordingRef, Window
from archiver.schedule.deadline import Deadline
from archiver.translog import publication_rows, reader
from archiver.translog.checkpoint import Checkpoint
from archiver.translog.sequencer import Sequencer, open_log
from tests.custody_examples import HOST_KEY
from tests.log_trees import LOG, ORIGIN, WITNESS

OCTOBER = Month(2026, 10)
DAY = timedelta(days=1)
BEGIN = OCTOBER.span.since
JUSTCALL, VOBIZ = "justcall-sales", "vobiz-in"
OUTAGE = Window(datetime(2026, 10, 12, 6, tzinfo=UTC), datetime(2026, 10, 15, tzinfo=UTC))
_KEPT = datetime(2033, 10, 1, tzinfo=UTC)
FROM = {JUSTCALL: datetime(2026, 9, 1, tzinfo=UTC), VOBIZ: datetime(2026, 10, 5, tzinfo=UTC)}


@dataclass
class Life:
    """The archive as it grows. `ids`: our id of each call by its name."""

    engine: Engine
    clock: MovableClock = field(default_factory=lambda: MovableClock(BEGIN))
    chance: SystemChance = field(default_factory=SystemChance)
    ids: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ledger = Ledger.open(self.clock, self.chance)
        with self.engine.begin() as conn:
            self.log_id = open_log(conn, ORIGIN, self.clock.now())
            self.ledger.enroll(conn, HOST_KEY)
            self.cover(conn, JUSTCALL, Window(FROM[JUSTCALL], BEGIN))
            conn.execute(insert(storage_state).values(
                storage="primary", trusted=True, probed_at=BEGIN, report='[{"name": "lock", "ok": true, "detail": ""}]',
            ))  # fmt: skip

    # --- one thing each -------------------------------------------------------------------------------------------

    def watched(self, provider: str) -> Watched:
        kind = "justcall" if provider == JUSTCALL else "vobiz"
        return Watched(
            provider, profile(kind), ("account",), Window(FROM[provider], utc_day(self.clock.now().date()).since)
        )

    def list(self, conn: Connection, provider: str, name: str, at: datetime, audio: Audio = Audio.PRESENT) -> None:
        length = timedelta(minutes=3)
        listing = Listing(RecordingRef(provider, name), "r", audio, at, at + length, length, b"{}", "d" * 64)

        def due(called: datetime) -> Deadline:
            return Deadline(called + 5 * DAY, called + 3 * DAY, "plan")

        noted = listing_pages.note_page(conn, self.ledger, self.chance, [listing], self.clock.now(), due)
        self.ids[name] = next(iter(noted.ids))

    def archive(self, conn: Connection, name: str, at: datetime, *, locked: bool = True) -> None:
        values = {
            "state": "archived", "ready": False, "reason": None, "plaintext_bytes": 48_000, "archived_at": at,
            "retain_until": _KEPT, "retention_rule": "default",
        }  # fmt: skip
        conn.execute(update(recording).where(recording.c.id == self.ids[name]).values(**values))
        conn.execute(insert(copy).values(
            recording_id=self.ids[name], storage="primary", bucket="b", key=f"recordings/{name}", version_id="v", size=48_416,
            sealed_sha256="ab" * 32, lock_mode="compliance" if locked else "off", retain_until=_KEPT,
            legal_hold=False, checked_by="head", stored_at=at, verified_at=at,
        ))  # fmt: skip

    def cover(self, conn: Connection, provider: str, window: Window) -> None:
        walked = Walked("account", window, 1, 2, None, "ab" * 32)
        covered_spans.cover(conn, self.chance, provider, walked, self.clock.now())

    def look(self, conn: Connection, provider: str) -> None:
        now = self.clock.now()
        found = observe(conn, self.watched(provider), now)
        register.refresh(conn, self.ledger, self.chance, provider, found, now)

    def state(self, conn: Connection, provider: str, day: date) -> None:
        self.look(conn, provider)
        issue.issue(conn, self.ledger, self.watched(provider), day, self.clock.now())

    def night(self, conn: Connection, *, publish: bool = True) -> None:
        """Reconcile, sequence, publish."""
        data: dict[str, Json] = {
            "kind": "storage",
            "storage": "primary",
            "copies": 9,
            "versions": 9,
            "locks_read": 1,
            "findings": {},
        }
        self.ledger.append(conn, ARCHIVE, Type.RECONCILED, data, op="reconcile:primary")
        Sequencer(self.ledger, frozenset({public_hex(HOST_KEY)}), self.log_id).integrate(conn)
        if publish:
            size, root = reader.tree(conn, self.log_id)
            point, now = Checkpoint(ORIGIN, size, root), self.clock.now()
            note = f"{point.body}\n{LOG.sign(point.body)}{WITNESS.sign(point.body, int(now.timestamp()))}"
            publication_rows.keep_signed(conn, self.log_id, point, note, now)
            publication_rows.keep_published(conn, self.log_id, size, now)

    # --- the month ------------------------------------------------------------------------------------------------

    def live(self) -> Life:
        """All of October, until the morning of 2 November."""
        for day in OCTOBER.days:
            with self.engine.begin() as conn:
                self._day(conn, day)
        with self.engine.begin() as conn:
            self.clock.move(9 * timedelta(hours=1))
            self.night(conn, publish=False)
        return self

    def _day(self, conn: Connection, day: date) -> None:
        begin = utc_day(day).since
        self.clock.move(begin + DAY + timedelta(hours=1) - self.clock.now())  # all of it is looked at an hour after it
        for provider in (JUSTCALL, VOBIZ):
            if begin >= FROM[provider]:
                self._calls(conn, provider, day, begin)
        if day.day == 10:
            self.list(conn, JUSTCALL, "late-9", datetime(2026, 10, 9, 15, tzinfo=UTC))
            self.look(conn, JUSTCALL)
        if day.day == 16:
            (outage,) = (each for each in register.open_gaps(conn, VOBIZ) if each["code"] == "never_listed")
            register.acknowledge(
                conn, self.ledger, str(outage["id"]), "r.ortega", "provider was down", self.clock.now()
            )
        if day.day == 20:
            self.archive(conn, "justcall-sales-14-1", self.clock.now())
        self.night(conn)

    def _calls(self, conn: Connection, provider: str, day: date, begin: datetime) -> None:
        sunday = day.weekday() == 6
        spans = [utc_day(day)]
        if provider == VOBIZ:
            spans = [Window(begin, min(begin + DAY, OUTAGE.since)), Window(max(begin, OUTAGE.until), begin + DAY)]
        whole = [each for each in spans if each.since < each.until]
        for number in range(4):
            name, at = f"{provider}-{day.day}-{number}", begin + timedelta(hours=8 + number)
            if not any(each.since <= at < each.until for each in whole):
                continue
            self.list(conn, provider, name, at, Audio.NONE if sunday else Audio.PRESENT)
            if name == "justcall-sales-7-0":
                gone = {"state": "gone", "ready": False, "denials": 3}
                conn.execute(update(recording).where(recording.c.id == self.ids[name]).values(**gone))
            elif name != "justcall-sales-14-1" and not sunday:
                self.archive(conn, name, at + timedelta(hours=number + 1), locked=provider == JUSTCALL)
        for each in whole:
            self.cover(conn, provider, each)
        self.state(conn, provider, day)

    def report(self, *, now: datetime | None = None, only: str | None = None, month: Month = OCTOBER) -> Report:
        watched = [self.watched(JUSTCALL), self.watched(VOBIZ)]
        asked = Asked(
            "acme-prod",
            "1.0",
            month,
            now or self.clock.now(),
            watched,
            {"primary": True},
            only,
            witnesses=(WITNESS.key,),
        )
        with self.engine.begin() as conn:
            return gather(conn, asked)
