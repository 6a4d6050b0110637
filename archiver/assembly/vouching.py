"""Puts forks of the log, silent witnesses and refused events into the register of gaps, where status and alerts see
them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from archiver.assembly.facts import limits
from archiver.clock import Chance
from archiver.completeness import register
from archiver.completeness.gap import Code, Gap, Grade
from archiver.config import model
from archiver.custody.ledger import Ledger
from archiver.database import Connection
from archiver.recording import Json
from archiver.translog import reader
from archiver.translog.forks import Fork, Silence, silences
from archiver.translog.note import VerifierKey
from archiver.translog.reader import Quarantined

FORKS, VOUCHERS = "log", "vouchers"


class Vouching:
    """Keeps on record the parties that contradict the log or no longer vouch for it. Part of the keeper."""

    def __init__(
        self, config: model.Config, ledger: Ledger, chance: Chance, log_id: int, witnesses: Sequence[VerifierKey]
    ) -> None:
        stamps = config.custody.timestamp
        self._stamping = None if stamps is None else ("tsa", stamps.every)
        self._patience = limits(config).checkpoint
        self._ledger, self._chance, self._log_id, self._witnesses = ledger, chance, log_id, witnesses
        self._clean = False

    def tell_forks(self, conn: Connection, forks: Iterable[Fork], now: datetime) -> None:
        """Open a gap for each fork. Only a person's acknowledgement settles it, since a fork never goes away."""
        found = [
            Gap("", f"log:{each.where}", Code.LOG_FORKED, Grade.OPEN, f"two histories: {each.detail}",
                {"ours": each.ours, "theirs": each.theirs}, now)
            for each in forks
        ]  # fmt: skip
        register.refresh(conn, self._ledger, self._chance, "", found, now, source=FORKS, whole=False)

    def look(self, conn: Connection, now: datetime) -> None:
        """Bring the register up to date on silent witnesses and authorities, and on events that the log refused."""
        found = silences(conn, self._log_id, self._witnesses, self._stamping, now, self._patience)
        gaps = [*map(_gap, found), *_refused(reader.quarantined(conn))]
        if not gaps and self._clean:
            return
        changes = register.refresh(conn, self._ledger, self._chance, "", gaps, now, source=VOUCHERS)
        # This transaction may be rolled back: after a closure, look once more.
        self._clean = not gaps and not changes.closed


def _refused(rows: Iterable[Quarantined]) -> Iterator[Gap]:
    """Yields one gap for all events that no enrolled writer signed, if there are any: somebody else wrote into the
    database."""
    kept = list(rows)
    if kept:
        detail = f"{len(kept)} event(s) were refused by the custody log: no enrolled writer of ours signed them"
        reasons: dict[str, Json] = dict(sorted(Counter(each.reason for each in kept).items()))
        evidence: dict[str, Json] = {"events": len(kept), "reasons": reasons}
        yield Gap("", "log:refused", Code.EVENTS_REFUSED, Grade.OPEN, detail, evidence, kept[0].at)


def _gap(it: Silence) -> Gap:
    what = "cosigned a checkpoint" if it.witness else "given a time stamp"
    kind, code = ("witness", Code.WITNESS_SILENT) if it.witness else ("timestamp", Code.TIMESTAMP_SILENT)
    grade = Grade.OPEN if it.lasting else Grade.WATCHED
    since = "yet" if it.never else "any more"
    return Gap("", f"{kind}:{it.name}", code, grade, f"{kind} {it.name} has not {what} {since}", {}, it.since)
