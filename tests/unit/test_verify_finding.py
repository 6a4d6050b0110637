"""What verification makes of what it sees: one table for each rule, from one difference to the findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from archiver.recording import Json, LockMode, Stored
from archiver.verify.finding import (
    Claimed,
    Finding,
    Gravity,
    Kind,
    Verification,
    justification_findings,
    lacking_findings,
    lock_findings,
)

UNTIL = datetime(2033, 5, 1, 12, 30, 15, tzinfo=UTC)
SECOND = timedelta(seconds=1)
COPY = Stored("s3", "vault", "recordings/ab", "v1", 120, "ct", LockMode.COMPLIANCE, UNTIL, False, "full-read")
OTHER = replace(COPY, storage="disk", key="ab", version_id=None, lock_mode=LockMode.OFF, retain_until=None)
CLAIMED = Claimed("r1", "acme", "archived", "pt", 100, "ct", 120, UNTIL, (COPY,))
Events = list[tuple[str, dict[str, Json]]]


def found(kind: Kind, detail: str, copy: Stored = COPY) -> Finding:
    return Finding(kind, "rec:r1", detail, "acme", copy.storage, copy.key, copy.version_id)


# --- locks ----------------------------------------------------------------------------------------------------------

HELD = replace(COPY, legal_hold=True)
WEAKER, SHORTER = Kind.LOCK_WEAKER, Kind.LOCK_SHORTER


@pytest.mark.parametrize(
    ("recorded", "seen", "findings"),
    [
        (COPY, {}, []),
        (COPY, {"retain_until": UNTIL + SECOND, "legal_hold": True}, []),
        (COPY, {"lock_mode": LockMode.GOVERNANCE}, [(WEAKER, "compliance was recorded, the storage shows governance")]),
        (replace(COPY, lock_mode=LockMode.GOVERNANCE), {"lock_mode": LockMode.COMPLIANCE}, []),
        (COPY, {"lock_mode": LockMode.OFF, "retain_until": None}, [
            (WEAKER, "compliance was recorded, the storage shows off"),
            (SHORTER, "locked until 2033-05-01 was recorded, now not at all")]),
        (COPY, {"retain_until": UNTIL - SECOND}, [
            (SHORTER, "locked until 2033-05-01 12:30:15 was recorded, now 2033-05-01 12:30:14")]),
        (HELD, {"legal_hold": False}, [(WEAKER, "a legal hold was recorded, the storage shows none")]),
        (replace(HELD, lock_mode=LockMode.OFF), {"legal_hold": False, "retain_until": None}, [
            (WEAKER, "a legal hold was recorded, the storage shows none")]),
        (replace(COPY, lock_mode=LockMode.OFF), {"retain_until": None}, []),
        (replace(COPY, retain_until=None), {"retain_until": None}, []),
    ],
)  # fmt: skip
def test_a_lock_that_protects_less_than_was_recorded_is_found(
    recorded: Stored, seen: dict[str, object], findings: list[tuple[Kind, str]]
) -> None:
    shown = replace(recorded, **seen)  # type: ignore[arg-type]
    assert list(lock_findings(CLAIMED, recorded, shown)) == [found(*each) for each in findings]


# --- copies that policy demands ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("demanded", "at", "retain_until", "lacking"),
    [
        (("s3",), UNTIL - SECOND, UNTIL, []),
        (("s3", "disk", "tape"), UNTIL - SECOND, UNTIL, ["disk", "tape"]),
        (("disk",), UNTIL, UNTIL, []),  # it may be disposed of by now
        (("disk",), UNTIL, None, ["disk"]),
        (("disk",), None, None, []),  # nobody says what time it is: not looked at
    ],
)
def test_a_storage_that_lacks_the_copy_it_is_to_have_is_found_while_the_recording_must_be_kept(
    demanded: tuple[str, ...], at: datetime | None, retain_until: datetime | None, lacking: list[str]
) -> None:
    claimed = replace(CLAIMED, retain_until=retain_until)
    said = "every configured storage is to have a copy, and this one has none"
    assert list(lacking_findings(claimed, demanded, at)) == [
        Finding(Kind.COPY_MISSING, "rec:r1", said, "acme", each) for each in lacking
    ]


# --- what signed events justify ---------------------------------------------------------------------------------------


def events() -> Events:
    """What is written of a recording with one copy."""
    return [
        ("recording.discovered", {}),
        ("recording.downloaded", {"pt_sha256": "pt"}),
        ("recording.sealed", {"pt_sha256": "pt", "ct_sha256": "ct", "pt_bytes": 100, "ct_bytes": 120}),
        ("recording.stored", {
            "storage": "s3", "bucket": "vault", "key": "recordings/ab", "version_id": "v1", "ct_bytes": 120,
            "ct_sha256": "ct", "lock_mode": "compliance", "retain_until": "2033-05-01T12:30:15Z"}),
        ("recording.store_verified", {"storage": "s3", "ct_sha256": "ct", "result": "ok", "method": "full-read"}),
    ]  # fmt: skip


SEALED, STORED, VERIFIED = 2, 3, 4


def changed(index: int, **data: Json) -> Callable[[], Events]:
    def make() -> Events:
        made = events()
        made[index][1].update(data)
        return made

    return make


def without(*indexes: int) -> Callable[[], Events]:
    return lambda: [each for index, each in enumerate(events()) if index not in indexes]


def followed_by(kind: str, data: Mapping[str, Json]) -> Callable[[], Events]:
    return lambda: [*events(), (kind, dict(data))]


def adopted(pt_sha256: str) -> Callable[[], Events]:
    return lambda: [("recording.downloaded", {"pt_sha256": pt_sha256, "same_content_as": "r0"})]


NOT_SEALED = Finding(Kind.CLAIM_UNJUSTIFIED, "rec:r1", "no event says that it was sealed", "acme")


def differs(name: str, ours: object, said: object) -> Finding:
    detail = f"the journal says {name} {ours}…, the signed event {said}…"
    return Finding(Kind.CLAIM_UNJUSTIFIED, "rec:r1", detail, "acme")


def copy_differs(name: str, ours: object, said: object) -> Finding:
    return found(Kind.CLAIM_UNJUSTIFIED, f"the journal says {name} {ours}, the signed event {said}")


def never(what: str) -> Finding:
    return found(Kind.CLAIM_UNJUSTIFIED, f"no event says that this {what}")


@pytest.mark.parametrize(
    ("told", "findings"),
    [
        (events, []),
        (without(0, 1), []),
        (without(SEALED), [NOT_SEALED]),
        (list, [NOT_SEALED]),
        (changed(SEALED, pt_sha256="other"), [differs("pt_sha256", "pt", "other")]),
        (changed(SEALED, ct_sha256="other"), [differs("ct_sha256", "ct", "other")]),
        (changed(SEALED, pt_bytes=99), [differs("pt_bytes", 100, 99)]),
        (changed(SEALED, ct_bytes=None), [differs("ct_bytes", 120, None)]),
        (changed(SEALED, pt_sha256="d" * 64), [differs("pt_sha256", "pt", "d" * 16)]),
        # a later sealing supersedes an earlier one
        (lambda: [("recording.sealed", {"pt_sha256": "first"}), *events()], []),
        (followed_by("recording.sealed", {"pt_sha256": "pt", "ct_sha256": "new", "pt_bytes": 100, "ct_bytes": 120}),
         [differs("ct_sha256", "ct", "new")]),
        # one that shares another's object is justified there, if it is the same content
        (adopted("pt"), []),
        (adopted("other"), [NOT_SEALED]),
        # each copy, by its very version
        (without(STORED), [never("version was stored")]),
        (changed(STORED, version_id="v2"), [never("version was stored")]),
        (changed(STORED, key="recordings/ac"), [never("version was stored")]),
        (changed(STORED, storage="s4"), [never("version was stored")]),
        (without(VERIFIED), [never("copy was read back")]),
        (changed(VERIFIED, result="failed"), [never("copy was read back")]),
        (changed(VERIFIED, storage="s4"), [never("copy was read back")]),
        (changed(VERIFIED, ct_sha256="other"), [never("copy was read back")]),
        (changed(VERIFIED, method="head-checksum"), [copy_differs("method", "full-read", "head-checksum")]),
        (changed(STORED, bucket="other"), [copy_differs("bucket", "vault", "other")]),
        (changed(STORED, ct_bytes=121), [copy_differs("ct_bytes", 120, 121)]),
        (changed(STORED, ct_sha256="other"), [copy_differs("ct_sha256", "ct", "other")]),
        (changed(STORED, lock_mode="governance"), [copy_differs("lock_mode", "compliance", "governance")]),
        # a date that the journal made shorter; it may have been made longer since, and stores keep whole seconds
        (changed(STORED, retain_until="2033-05-01T12:30:15.900000Z"), []),
        (changed(STORED, retain_until="2033-05-01T12:30:14Z"), []),
        (changed(STORED, retain_until="2033-05-01T12:30:16Z"), [found(Kind.CLAIM_UNJUSTIFIED,
            "the signed event locks it until 2033-05-01T12:30:16Z, the journal until 2033-05-01 12:30:15+00:00")]),
        (changed(STORED, retain_until=None), [found(Kind.CLAIM_UNJUSTIFIED,
            "the signed event locks it until None, the journal until 2033-05-01 12:30:15+00:00")]),
    ],
)  # fmt: skip
def test_each_claim_of_the_journal_needs_a_signed_event(told: Callable[[], Events], findings: list[Finding]) -> None:
    assert list(justification_findings(CLAIMED, told())) == findings


def test_a_copy_that_nothing_locks_is_justified_without_a_date_and_every_copy_is_asked_for() -> None:
    both = replace(CLAIMED, copies=(COPY, OTHER))
    stored: dict[str, Json] = {
        "storage": "disk", "bucket": "vault", "key": "ab", "version_id": None, "ct_bytes": 120, "ct_sha256": "ct",
        "lock_mode": "off", "retain_until": None,
    }  # fmt: skip
    read: dict[str, Json] = {"storage": "disk", "ct_sha256": "ct", "result": "ok", "method": "full-read"}
    told = [*events(), ("recording.stored", stored), ("recording.store_verified", read)]
    assert list(justification_findings(both, told)) == []
    (missing,) = justification_findings(both, events())
    assert missing == found(Kind.CLAIM_UNJUSTIFIED, "no event says that this version was stored", OTHER)
    (dated,) = justification_findings(
        both, [*told, ("recording.stored", {**stored, "retain_until": "2033-05-01T00:00:00Z"})]
    )
    assert (dated.storage, dated.kind) == ("disk", Kind.CLAIM_UNJUSTIFIED)


# --- the answer -------------------------------------------------------------------------------------------------------


def test_only_a_voucher_is_a_notice_and_everything_else_fails() -> None:
    assert {kind for kind in Kind if Finding(kind, "", "").gravity is Gravity.NOTICE} == {Kind.LOG_VOUCHER}


@pytest.mark.parametrize(("state", "archived"), [("archived", True), ("waiting", False)])
def test_what_is_in_quarantine_is_not_called_archived(state: str, archived: bool) -> None:
    assert replace(CLAIMED, state=state).archived is archived


@pytest.mark.parametrize(
    ("found", "unreachable", "clean"),
    [
        ((), {}, True),
        ((Kind.LOG_VOUCHER,), {}, True),
        ((Kind.LOG_VOUCHER, Kind.SIZE), {}, False),
        ((), {"storage s3": 1}, False),
    ],
)
def test_clean_means_that_nothing_is_wrong_and_all_was_reached(
    found: tuple[Kind, ...], unreachable: dict[str, int], clean: bool
) -> None:
    it = Verification(findings=[Finding(each, "x", "y") for each in found])
    it.unreachable.update(unreachable)
    assert it.clean is clean


def test_the_answer_has_every_figure_under_the_name_that_scripts_know() -> None:
    finding = Finding(Kind.SIZE, "rec:r1", "99 bytes", "acme", "s3", "key", "v1")
    it = Verification(1, 2, 3, 4, 5, 6, 7, 8, 9, [finding, Finding(Kind.LOG_VOUCHER, "log", "new")])
    it.unchecked["opening"] += 10
    it.unreachable["s3"] += 11
    assert it.as_json() == {
        "recordings": 1,
        "objects_read": 2,
        "bytes_read": 3,
        "opened": 4,
        "locks_checked": 5,
        "segments": 6,
        "events": 7,
        "leaves": 8,
        "chains": 9,
        "failures": 1,
        "notices": 1,
        "findings": [
            {
                "kind": "size_differs",
                "gravity": "failure",
                "subject": "rec:r1",
                "detail": "99 bytes",
                "provider": "acme",
                "storage": "s3",
                "key": "key",
                "version_id": "v1",
            },
            {
                "kind": "log_voucher",
                "gravity": "notice",
                "subject": "log",
                "detail": "new",
                "provider": None,
                "storage": None,
                "key": None,
                "version_id": None,
            },
        ],
        "unreachable": {"s3": 11},
        "not_checked": {"opening": 10},
    }
