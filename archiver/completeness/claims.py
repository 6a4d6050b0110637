"""Makes the claims that verification checks, from the rows of the journal."""

from __future__ import annotations

from dataclasses import replace

from archiver.ingest.archived_recordings import CopyRow, RecordingRow
from archiver.recording import LockMode, State, Stored
from archiver.verify.finding import Claimed


def claimed(row: RecordingRow) -> Claimed:
    """The claim of a recording; of a body in quarantine, kept in a recording's place, only its copies have a digest."""
    if row.state != State.ARCHIVED and row.copies:
        row = replace(row, sealed_sha256=row.copies[0].sealed_sha256, sealed_bytes=row.copies[0].size)
    copies = tuple(_stored(each) for each in row.copies)
    modes = [each.lock_mode for each in row.copies]
    odd = [(copy, mode) for copy, mode in zip(copies, modes, strict=True) if mode not in set(LockMode)]
    return Claimed(
        id=row.id,
        provider=row.provider,
        state=row.state,
        plaintext_sha256=row.plaintext_sha256,
        plaintext_bytes=row.plaintext_bytes,
        sealed_sha256=row.sealed_sha256,
        sealed_bytes=row.sealed_bytes,
        retain_until=row.retain_until,
        copies=copies,
        odd=tuple((copy, f"the journal has a lock mode that is none: {mode[:40]!r}") for copy, mode in odd),
    )


def _stored(each: CopyRow) -> Stored:
    return Stored(
        storage=each.storage,
        bucket=each.bucket,
        key=each.key,
        version_id=each.version_id,
        size=each.size,
        sealed_sha256=each.sealed_sha256,
        lock_mode=LockMode.read(each.lock_mode, LockMode.COMPLIANCE),
        retain_until=each.retain_until,
        legal_hold=each.legal_hold,
        checked_by=each.checked_by,
    )
