"""What the vault promises of one bucket, whatever the storage does: on a bucket in memory, refused and done-but-unheard alike."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from archiver import errors
from archiver.recording import Lock, LockMode, Stored
from archiver.store.s3_client import S3Options
from archiver.store.s3_default import DefaultRetention
from archiver.store.s3_refusal import Refused
from archiver.store.s3_upload import Item, Profile
from archiver.store.s3_vault import Vault, oldest_first
from tests.memory_bucket import UNLOCKED, MemoryBucket, refused

KEY = "recordings/ab/abcd"
BODY = b"sealed bytes of a call"
DIGEST = hashlib.sha256(BODY).hexdigest()
NOW = datetime(2026, 5, 1, tzinfo=UTC)
UNTIL = datetime(2033, 5, 1, tzinfo=UTC)
LOCK = Lock(LockMode.COMPLIANCE, UNTIL)
HELD = Lock(LockMode.COMPLIANCE, UNTIL, legal_hold=True)
GOVERNED = Lock(LockMode.GOVERNANCE, UNTIL)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
PROVED = Profile(conditional_single=True, conditional_multipart=True, checksum_proves=True)
SINGLE_ONLY = dataclasses.replace(PROVED, conditional_multipart=False)
PROFILES = (
    Profile(),
    Profile(multipart=False),
    PROVED,
    SINGLE_ONLY,
    dataclasses.replace(PROVED, checksum_proves=False),
)
VERSIONS: list[tuple[str | None, list[str]]] = [("v1", []), (None, []), ("v1", ["shows no version"])]
IN_PARTS = {"multipart_threshold": 8, "single_limit": 8, "part_size": 5}
LATE = 120.0  # seconds after which a PUT without an answer is not finished any more


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return self.seconds


def vault(bucket: MemoryBucket, profile: Profile = PROVED, clock: Clock | None = None, **options: object) -> Vault:
    asked = dataclasses.replace(S3Options("main", "vault"), **options)  # type: ignore[arg-type]
    made = Vault(bucket, asked, clock or Clock())  # type: ignore[arg-type]
    made.profile = profile
    return made


def item(lock: Lock = LOCK, body: bytes = BODY) -> Item:
    return Item(KEY, body, len(body), hashlib.sha256(body).hexdigest(), lock)


def stored(version_id: str | None = "v1", lock: Lock = LOCK, checked_by: str = "full-read") -> Stored:
    return Stored(
        "main", "vault", KEY, version_id, len(BODY), DIGEST, lock.mode, lock.retain_until, lock.legal_hold, checked_by
    )


def bucket(*lies: str) -> MemoryBucket:
    return MemoryBucket(frozenset(lies))


LOST = errors.DestinationError
BUSY = refused("InternalError", 500)
FORBIDDEN = refused("AccessDenied", 403)
RACED = refused("ConditionalRequestConflict", 409)


# --- put once -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("options", [{}, IN_PARTS], ids=["whole", "in parts"])
@pytest.mark.parametrize("lock", [LOCK, HELD, GOVERNED, UNLOCKED])
def test_what_was_put_is_one_version_and_is_told_as_it_is_shown(
    profile: Profile, options: dict[str, int], lock: Lock
) -> None:
    here = bucket()
    keeper = vault(here, profile, **options)
    first = keeper.put_once(item(lock))
    in_parts = bool(options) and profile.multipart
    assert first == stored(first.version_id if in_parts else "v1", lock)
    assert keeper.put_once(item(lock)) == first
    assert here.bodies(KEY) == [BODY]
    assert here.calls.count("part") == (5 if in_parts else 0), "no part is larger than asked"


def test_a_bucket_that_was_not_probed_is_trusted_with_nothing() -> None:
    here = bucket("keeps checksums", "overwrites")
    keeper = Vault(here, S3Options("main", "vault"), Clock())  # type: ignore[arg-type]
    first = keeper.put_once(item())
    assert (keeper.put_once(item()), first.checked_by) == (first, "full-read")
    assert here.bodies(KEY) == [BODY]


def test_a_storage_without_versions_keeps_what_is_not_locked_and_nothing_else() -> None:
    assert vault(bucket("no versions")).put_once(item(UNLOCKED)) == stored(None, UNLOCKED)
    for lies in (["no versions"], ["no versions", "drops locks"]):
        with pytest.raises(errors.NotLockedError, match="no version id"):
            vault(bucket(*lies)).put_once(item(LOCK))


@pytest.mark.parametrize("code", [("NotImplemented", 501), ("InvalidArgument", 400), ("AccessDenied", 403)])
def test_a_storage_that_refuses_to_show_a_checksum_is_asked_without_and_the_bytes_are_read(
    code: tuple[str, int],
) -> None:
    here = bucket("keeps checksums")
    here.before["head with checksum"] += [refused(*code)] * 2
    assert vault(here).put_once(item()) == stored()
    assert (
        vault(bucket("keeps checksums"), dataclasses.replace(PROVED, shows_checksum=False)).put_once(item()) == stored()
    )


def test_a_head_refused_for_the_moment_is_no_answer_to_whether_it_shows_checksums() -> None:
    here = bucket("keeps checksums")
    here.before["head with checksum"].append(BUSY)
    with pytest.raises(Refused):
        vault(here).put_once(item())


def test_a_storage_whose_profile_says_that_it_shows_no_checksum_is_not_asked_for_one() -> None:
    here = bucket("keeps checksums")
    vault(here, dataclasses.replace(PROVED, shows_checksum=False)).put_once(item())
    assert "head with checksum" not in here.calls


@pytest.mark.parametrize("lies", [[], ["shows no version"]])
def test_the_version_just_put_is_found_where_the_answer_does_not_name_it(lies: list[str]) -> None:
    here = bucket("names no version", "overwrites", *lies)
    here.has(KEY, b"other bytes")
    here.has(KEY, None)
    put = vault(here).put_once(item())
    assert (put.version_id, put.sealed_sha256) == ("v3", DIGEST)
    assert ("versions" in here.calls) is bool(lies), "a listing is asked for only when the object does not say"


def test_a_storage_that_names_and_shows_no_version_of_what_it_took_is_not_believed() -> None:
    with pytest.raises(errors.VerificationError):
        vault(bucket("names no version", "keeps nothing")).put_once(item())


@pytest.mark.parametrize("digest", ["keeps checksums", "keeps none"])
@pytest.mark.parametrize("profile", PROFILES)
def test_a_checksum_counts_only_where_the_storage_was_seen_to_check_it(digest: str, profile: Profile) -> None:
    here = bucket(digest)
    by = "head-checksum" if profile.checksum_proves and digest == "keeps checksums" else "full-read"
    assert vault(here, profile).put_once(item()).checked_by == by
    assert ("read" in here.calls) is (by == "full-read")


@pytest.mark.parametrize("checksums", [[], ["keeps checksums"]])
@pytest.mark.parametrize("lie", ["drops bytes", "turns bits", "keeps nothing"])
def test_nothing_is_called_stored_that_does_not_read_back(lie: str, checksums: list[str]) -> None:
    with pytest.raises(errors.VerificationError):
        vault(bucket(lie, *checksums)).put_once(item())


# --- refused, or done with its answer lost --------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, IN_PARTS], ids=["whole", "in parts"])
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("failure", [lambda: LOST("no answer"), RACED, FORBIDDEN, BUSY])
def test_a_put_that_fails_leaves_one_version_or_an_error_that_says_what_to_do(
    failure: Callable[[], Exception], when: str, profile: Profile, options: dict[str, int]
) -> None:
    here, clock = bucket(), Clock()
    in_parts = bool(options) and profile.multipart
    verb = "complete" if in_parts else "put"
    conditional = profile.conditional_multipart if in_parts else profile.conditional_single
    getattr(here, when)[verb].append(failure)
    keeper = vault(here, profile, clock, **options)
    # Where a second version is not refused, nothing is sent while the first may still come to be.
    must_wait = when == "before" and not conditional and failure not in {RACED, FORBIDDEN}
    refuses = isinstance(failure(), Refused) and failure is not RACED
    if refuses:
        with pytest.raises(Refused) as raised:
            keeper.put_once(item())
        assert raised.value.code == failure().code  # type: ignore[attr-defined]
    if must_wait:
        for seconds in (0.0, LATE - 0.5):
            clock.seconds = 1000 + seconds
            with pytest.raises(errors.DestinationError, match="may still finish it"):
                keeper.put_once(item())
        assert here.calls.count(verb) == 1
        clock.seconds = 1000 + LATE
    assert keeper.put_once(item()).sealed_sha256 == DIGEST
    assert here.bodies(KEY) == [BODY]


@pytest.mark.parametrize(("failure", "raised"), [(lambda: LOST("no answer"), LOST), (RACED, Refused)])
def test_a_put_is_tried_twice_and_then_it_is_the_destination(
    failure: Callable[[], Exception], raised: type[Exception]
) -> None:
    here = bucket()
    here.before["put"] += [failure, failure]
    with pytest.raises(raised) as met:
        vault(here).put_once(item())
    assert type(met.value) is raised
    assert here.calls.count("put") == 2
    assert here.kept == []


def test_another_object_does_not_wait_for_one_without_an_answer() -> None:
    here = bucket()
    here.before["put"].append(lambda: LOST("no answer"))
    keeper = vault(here, Profile())
    with pytest.raises(errors.DestinationError):
        keeper.put_once(item())
    assert keeper.put_once(dataclasses.replace(item(), key=KEY + "0")).sealed_sha256 == DIGEST
    with pytest.raises(errors.DestinationError, match="may still finish it"):
        keeper.put_once(item())


def test_an_answer_that_never_came_is_forgotten_when_nothing_can_come_of_it_any_more() -> None:
    here, clock = bucket(), Clock()
    here.before["put"] += [BUSY, BUSY]
    keeper = vault(here, Profile(), clock)
    for key in (KEY, KEY + "0"):
        with pytest.raises(Refused):
            keeper.put_once(dataclasses.replace(item(), key=key))
        clock.seconds += LATE
    assert keeper.put_once(item()).sealed_sha256 == DIGEST


def test_what_was_answered_is_not_waited_for_when_it_is_gone() -> None:
    here = bucket()
    keeper = vault(here, Profile())
    keeper.put_once(item())
    here.kept.clear()
    assert keeper.put_once(item()).sealed_sha256 == DIGEST


def test_a_delete_marker_alone_is_not_what_a_put_without_an_answer_left() -> None:
    here = bucket()
    here.before["put"].append(BUSY)
    keeper = vault(here, Profile())
    with pytest.raises(Refused):
        keeper.put_once(item())
    here.has(KEY, None)
    with pytest.raises(errors.DestinationError, match="may still finish it"):
        keeper.put_once(item())


def test_what_came_to_be_without_an_answer_is_found_below_a_delete_marker() -> None:
    here = bucket()
    here.after["put"].append(BUSY)
    keeper = vault(here, Profile())
    with pytest.raises(Refused):
        keeper.put_once(item())
    here.has(KEY, None)
    assert keeper.put_once(item()).version_id == "v1"
    assert here.bodies(KEY) == [BODY, None]


def test_what_someone_deleted_and_nobody_is_waiting_for_is_stored_anew() -> None:
    here = bucket()
    here.has(KEY, b"other bytes")
    here.has(KEY, None)
    assert vault(here, Profile()).put_once(item()).version_id == "v3"


# --- too large for one request ----------------------------------------------------------------------------------------

LARGE = {"multipart_threshold": 8, "single_limit": 1000, "part_size": 5}
TOO_LARGE = [refused("EntityTooLarge", 400), refused("413", 413)]


@pytest.mark.parametrize("failure", [*TOO_LARGE, lambda: LOST("reset")])
def test_what_is_too_large_for_one_request_goes_in_parts_from_then_on(failure: Callable[[], Exception]) -> None:
    here = bucket("keeps checksums")
    here.before["put"].append(failure)
    keeper = vault(here, **LARGE)
    assert keeper.put_once(item()).sealed_sha256 == DIGEST
    assert (here.calls.count("put"), here.calls.count("complete")) == (1, 1)
    for body, in_parts in ((BODY[1:] + b"x", True), (BODY[1:], False)):
        here.calls.clear()
        keeper.put_once(dataclasses.replace(item(body=body), key=f"{KEY}{len(body)}"))
        assert ("put" not in here.calls) is in_parts
    keeper.profile = PROVED  # proved anew: what was too large may pass again
    here.calls.clear()
    keeper.put_once(dataclasses.replace(item(), key=KEY + "x"))
    assert "put" in here.calls


@pytest.mark.parametrize("failure", TOO_LARGE)
@pytest.mark.parametrize(
    ("profile", "threshold"),
    [(dataclasses.replace(PROVED, multipart=False), 8), (PROVED, len(BODY))],
    ids=["no parts there", "too small for parts"],
)
def test_what_is_too_large_and_cannot_go_in_parts_is_refused(
    profile: Profile, threshold: int, failure: Callable[[], Exception]
) -> None:
    here = bucket()
    here.before["put"] += [failure, failure]
    with pytest.raises(Refused, match=failure().code):  # type: ignore[attr-defined]
        vault(here, profile, **{**LARGE, "multipart_threshold": threshold}).put_once(item())
    assert here.calls.count("put") == 1


@pytest.mark.parametrize("failure", TOO_LARGE)
def test_a_part_that_is_too_large_is_not_sent_again(failure: Callable[[], Exception]) -> None:
    here = bucket()
    here.before["part"] += [failure, failure]
    with pytest.raises(Refused):
        vault(here, **IN_PARTS).put_once(item())
    assert here.calls.count("part") == 1


@pytest.mark.parametrize(("threshold", "sent"), [(8, 1), (len(BODY), 2)])
def test_many_bytes_are_not_sent_twice_before_it_was_looked_whether_they_came(threshold: int, sent: int) -> None:
    here = bucket()
    here.after["put"].append(lambda: LOST("no answer"))
    keeper = vault(here, dataclasses.replace(PROVED, multipart=False), multipart_threshold=threshold)
    assert keeper.put_once(item()).version_id == "v1"
    assert here.calls.count("put") == sent


@pytest.mark.parametrize("code", ["BadDigest", "XAmzContentSHA256Mismatch"])
def test_bytes_damaged_on_their_way_are_our_fault_and_are_sent_once(code: str) -> None:
    here = bucket()
    here.before["put"].append(refused(code, 400))
    with pytest.raises(errors.VerificationError, match=code):
        vault(here).put_once(item())
    assert here.calls == ["put"]


# --- what is there already ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("there", "adopted"),
    [
        ([BODY], "v1"),
        ([BODY, b"x" * len(BODY)], "v1"),  # an attempt to cover it
        ([b"x" * len(BODY), BODY], "v2"),
        ([b"short", None, BODY, BODY], "v3"),
        ([b"x" * len(BODY)], None),
        ([b"short"], None),
    ],
)
def test_the_oldest_version_with_these_very_bytes_is_adopted_and_no_other(
    there: list[bytes | None], adopted: str | None, profile: Profile
) -> None:
    here = bucket()
    for each in there:
        here.has(KEY, each, LOCK)
    here.has(KEY + "0", BODY, LOCK)
    if adopted is None:
        with pytest.raises(errors.ConflictError, match=KEY):
            vault(here, profile).put_once(item())
    else:
        assert vault(here, profile).put_once(item()).version_id == adopted
    assert here.bodies(KEY) == there
    alike = sum(each is not None and len(each) == len(BODY) for each in there)
    reads = here.calls.count("read")
    assert reads == 0 if alike == 0 else reads <= alike + 1, "what has another size is not fetched"


@pytest.mark.parametrize("asked", [LOCK, HELD])
def test_the_version_that_is_adopted_is_the_one_that_is_locked_though_a_newer_one_covers_it(asked: Lock) -> None:
    here = bucket()
    here.has(KEY, BODY)
    here.has(KEY, b"short", HELD)
    assert vault(here).put_once(item(asked)) == stored("v1", asked)
    assert [each.lock for each in here.kept] == [asked, HELD]


def test_an_object_that_exists_and_is_not_listed_is_no_conflict_but_a_storage_to_ask_later() -> None:
    here = bucket("lists nothing")
    here.has(KEY, BODY)
    with pytest.raises(errors.DestinationError, match="lists no version") as raised:
        vault(here).put_once(item())
    assert not isinstance(raised.value, errors.ConflictError)


def test_what_was_adopted_without_its_lock_is_locked_now() -> None:
    here = bucket()
    here.has(KEY, BODY)
    assert vault(here).put_once(item(HELD)) == stored(lock=HELD)


@pytest.mark.parametrize("page", [1, 2, 3, 100])
def test_versions_are_in_the_order_they_came_and_of_this_key_alone(page: int) -> None:
    here = MemoryBucket(page=page)
    wanted = [here.has(KEY, body) for body in (b"1", None, b"3", b"4", b"5")]
    here.has(KEY[:-1], b"before")
    for number in range(4):
        here.has(f"{KEY}{number}", b"behind")
    found = oldest_first(here, KEY)  # type: ignore[arg-type]
    assert [each.version_id for each in found] == wanted
    assert [each.is_latest for each in found] == [False] * 4 + [True]
    assert here.calls.count("versions") == 5 // page + 1, "the first other key ends the search"


# --- locks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "lies", "shown"),
    [
        (LOCK, ["drops locks"], LOCK),
        (HELD, ["drops locks"], HELD),
        (Lock(LockMode.OFF, None, legal_hold=True), ["drops locks"], Lock(LockMode.OFF, None, legal_hold=True)),
        (Lock(LockMode.OFF, UNTIL, legal_hold=True), ["drops locks"], Lock(LockMode.OFF, None, legal_hold=True)),
        (HELD, ["drops locks", "retain lifts holds"], HELD),
        (LOCK, ["drops locks", "ignores retain"], None),
        (HELD, ["drops locks", "ignores hold"], None),
        (HELD, ["drops locks", "ignores retain"], None),
    ],
)
def test_a_lock_that_the_put_lost_is_set_afterwards_or_nothing_is_stored(
    asked: Lock, lies: list[str], shown: Lock | None
) -> None:
    if shown is None:
        with pytest.raises(errors.NotLockedError, match="asked compliance until 2033-05-01T00:00:00Z"):
            vault(bucket(*lies)).put_once(item(asked))
    else:
        assert vault(bucket(*lies)).put_once(item(asked)) == stored(lock=shown)


@pytest.mark.parametrize("verb", ["retain", "hold"])
def test_a_lock_refused_for_good_says_what_was_asked_and_what_is_there(verb: str) -> None:
    here = bucket("drops locks")
    here.before[verb].append(FORBIDDEN)
    with pytest.raises(errors.NotLockedError) as raised:
        vault(here).put_once(item(HELD))
    assert "asked compliance until 2033-05-01T00:00:00Z with legal hold, got off, then" in str(raised.value)
    assert "AccessDenied" in str(raised.value)


@pytest.mark.parametrize(("lie", "proved"), [("wants md5", True), ("refuses md5", False)])
@pytest.mark.parametrize("right", [True, False])
def test_a_lock_is_guarded_as_the_storage_takes_it_though_it_was_proved_otherwise(
    lie: str, proved: bool, right: bool
) -> None:
    here = bucket("drops locks", lie)
    keeper = vault(here, dataclasses.replace(PROVED, lock_md5=proved is right))
    assert keeper.put_once(item(HELD)) == stored(lock=HELD)
    assert keeper.hold(KEY, "v1", on=False).legal_hold is False
    assert ("refused guard" in here.calls) is not right


@pytest.mark.parametrize("failure", [refused("NotImplemented", 501), refused("InvalidRequest", 400)])
@pytest.mark.parametrize("verb", ["retain", "hold"])
def test_a_lock_refused_for_its_guard_is_asked_for_once_more_with_the_other(
    verb: str, failure: Callable[[], Exception]
) -> None:
    here = bucket("drops locks")
    here.before[verb].append(failure)
    assert vault(here).put_once(item(HELD)) == stored(lock=HELD)


def test_a_lock_that_is_refused_either_way_is_refused_and_one_that_may_not_be_set_is_asked_once() -> None:
    here = bucket("drops locks", "wants md5", "refuses md5")
    with pytest.raises(errors.NotLockedError):
        vault(here).put_once(item(LOCK))
    assert here.calls.count("refused guard") == 2
    here = bucket("drops locks")
    here.before["retain"] += [FORBIDDEN, FORBIDDEN]
    with pytest.raises(errors.NotLockedError):
        vault(here).put_once(item(LOCK))
    assert here.calls.count("retain") == 1


@pytest.mark.parametrize("verb", ["retain", "hold"])
def test_a_lock_refused_for_the_moment_is_asked_again_later(verb: str) -> None:
    here = bucket("drops locks")
    here.before[verb].append(BUSY)
    keeper = vault(here)
    with pytest.raises(Refused):
        keeper.put_once(item(HELD))
    assert keeper.put_once(item(HELD)) == stored(lock=HELD)


@pytest.mark.parametrize(
    ("there", "asked", "shown"),
    [
        (Lock(LockMode.COMPLIANCE, UNTIL + DAY), LOCK, Lock(LockMode.COMPLIANCE, UNTIL + DAY)),
        (Lock(LockMode.COMPLIANCE, UNTIL - DAY), LOCK, LOCK),
        (Lock(LockMode.GOVERNANCE, UNTIL + DAY), LOCK, Lock(LockMode.COMPLIANCE, UNTIL + DAY)),
        (Lock(LockMode.COMPLIANCE, UNTIL + DAY), HELD, Lock(LockMode.COMPLIANCE, UNTIL + DAY, legal_hold=True)),
        (HELD, LOCK, HELD),
    ],
)
def test_a_lock_only_ever_grows(there: Lock, asked: Lock, shown: Lock) -> None:
    here = bucket()
    here.has(KEY, BODY, there)
    assert vault(here).put_once(item(asked)) == stored(lock=shown)


def test_a_lock_to_the_microsecond_is_asked_for_to_the_next_second() -> None:
    put = vault(bucket()).put_once(item(Lock(LockMode.COMPLIANCE, UNTIL + timedelta(microseconds=1))))
    assert put.retain_until == UNTIL + SECOND


@pytest.mark.parametrize(
    ("default", "asked", "shown"),
    [
        (None, NOW + DAY, NOW + DAY),
        (DefaultRetention(LockMode.COMPLIANCE, days=30), NOW + DAY, NOW + 31 * DAY),
        (DefaultRetention(LockMode.COMPLIANCE, days=30), NOW + 60 * DAY, NOW + 60 * DAY),
        (DefaultRetention(LockMode.COMPLIANCE, days=30), None, None),
    ],
)
def test_what_is_to_stay_is_locked_no_shorter_than_the_buckets_own_default(
    default: DefaultRetention | None, asked: datetime | None, shown: datetime | None
) -> None:
    lock = Lock(LockMode.OFF if asked is None else LockMode.COMPLIANCE, asked)
    put = vault(bucket(), dataclasses.replace(PROVED, default=default)).put_once(item(lock))
    assert put.retain_until == shown


def test_what_is_not_to_stay_states_a_short_lock_only_where_the_bucket_would_lock_it_for_long() -> None:
    assert vault(bucket()).brief_lock() is None
    default = DefaultRetention(LockMode.COMPLIANCE, years=7)
    keeper = vault(bucket(), dataclasses.replace(PROVED, default=default), lock_mode=LockMode.COMPLIANCE)
    assert keeper.brief_lock() == Lock(LockMode.COMPLIANCE, NOW + DAY)


# --- looking, extending, holding ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version_id", "lies"), VERSIONS)
@pytest.mark.parametrize("checksums", [True, False])
def test_looking_tells_what_is_there_with_its_digest_where_one_is_kept(
    version_id: str | None, lies: list[str], checksums: bool
) -> None:
    here = bucket("keeps checksums" if checksums else "", *lies)
    here.has(KEY, BODY, HELD)
    shown = vault(here).inspect(KEY, version_id)
    wanted = stored(lock=HELD, checked_by="head-checksum")
    assert shown == (wanted if checksums else dataclasses.replace(wanted, sealed_sha256="", checked_by=""))


def test_looking_at_what_is_not_there_is_no_error_but_locking_it_is() -> None:
    here = bucket()
    here.has(KEY, BODY)
    for key, version_id in ((KEY, "v2"), (KEY + "x", None)):
        assert vault(here).inspect(key, version_id) is None
        with pytest.raises(errors.NotFoundError):
            vault(here).extend(key, version_id, UNTIL)
        with pytest.raises(errors.NotFoundError):
            vault(here).hold(key, version_id, on=True)


@pytest.mark.parametrize(("version_id", "lies"), [*VERSIONS, ("v1", ["retain lifts holds"])])
@pytest.mark.parametrize(
    ("there", "mode", "shown"),
    [
        (LOCK, LockMode.COMPLIANCE, Lock(LockMode.COMPLIANCE, UNTIL + DAY)),
        (HELD, LockMode.COMPLIANCE, Lock(LockMode.COMPLIANCE, UNTIL + DAY, legal_hold=True)),
        (GOVERNED, LockMode.COMPLIANCE, Lock(LockMode.GOVERNANCE, UNTIL + DAY)),  # its own mode, as it was put
        (UNLOCKED, LockMode.GOVERNANCE, Lock(LockMode.GOVERNANCE, UNTIL + DAY)),
        (Lock(LockMode.COMPLIANCE, UNTIL + 2 * DAY), LockMode.COMPLIANCE, Lock(LockMode.COMPLIANCE, UNTIL + 2 * DAY)),
        (UNLOCKED, LockMode.OFF, UNLOCKED),
    ],
)
def test_extending_keeps_mode_and_hold_and_never_shortens(
    there: Lock, mode: LockMode, shown: Lock, version_id: str | None, lies: list[str]
) -> None:
    here = bucket("keeps checksums", *lies)
    here.has(KEY, BODY, there)
    almost = UNTIL + DAY - timedelta(microseconds=1)
    answer = vault(here, lock_mode=mode).extend(KEY, version_id, almost)
    assert answer == stored(lock=shown, checked_by="head-checksum")
    assert here.kept[0].lock == shown


def test_extending_that_did_not_take_or_was_refused_is_told_apart_from_an_outage() -> None:
    here = bucket("ignores retain")
    here.has(KEY, BODY, LOCK)
    with pytest.raises(errors.NotLockedError, match=r"asked compliance until 2033-05-02T00:00:00Z, got .* 2033-05-01"):
        vault(here).extend(KEY, "v1", UNTIL + DAY)
    for failure, raised in ((FORBIDDEN, errors.NotLockedError), (BUSY, Refused)):
        here.before["retain"].append(failure)
        with pytest.raises(raised):
            vault(here).extend(KEY, "v1", UNTIL + DAY)


def test_an_object_that_vanishes_while_it_is_locked_is_not_locked() -> None:
    class Vanishing(MemoryBucket):
        def retain(self, *arguments: object, **named: object) -> None:
            self.kept.clear()

    here = Vanishing()
    here.has(KEY, BODY, LOCK)
    with pytest.raises(errors.NotLockedError, match="no object"):
        vault(here).extend(KEY, "v1", UNTIL + DAY)


@pytest.mark.parametrize(("version_id", "lies"), VERSIONS)
@pytest.mark.parametrize(("there", "on"), [(LOCK, True), (HELD, False), (HELD, True), (LOCK, False)])
def test_a_hold_is_set_and_lifted_and_asked_for_only_when_it_changes(
    there: Lock, on: bool, version_id: str | None, lies: list[str]
) -> None:
    here = bucket("keeps checksums", *lies)
    here.has(KEY, BODY, there)
    shown = dataclasses.replace(there, legal_hold=on)
    assert vault(here).hold(KEY, version_id, on=on) == stored(lock=shown, checked_by="head-checksum")
    assert ("hold" in here.calls) is (there.legal_hold is not on)


@pytest.mark.parametrize(("there", "on", "said"), [(LOCK, True, "set"), (HELD, False, "lifted")])
def test_a_hold_that_did_not_take_or_was_refused_is_told_apart_from_an_outage(there: Lock, on: bool, said: str) -> None:
    here = bucket("ignores hold")
    here.has(KEY, BODY, there)
    with pytest.raises(errors.NotLockedError, match=said):
        vault(here).hold(KEY, "v1", on=on)
    for failure, raised in ((FORBIDDEN, errors.NotLockedError), (BUSY, Refused)):
        here.before["hold"].append(failure)
        with pytest.raises(raised):
            vault(here).hold(KEY, "v1", on=on)


@pytest.mark.parametrize("shows_checksum", [True, False])
def test_a_version_that_was_named_is_held_and_extended_and_no_other(shows_checksum: bool) -> None:
    here = bucket()
    for each in (UNLOCKED, HELD, LOCK):
        here.has(KEY, BODY, each)
    keeper = vault(here, dataclasses.replace(PROVED, shows_checksum=shows_checksum))
    assert keeper.hold(KEY, "v1", on=True) == dataclasses.replace(
        stored("v1", Lock(LockMode.OFF, None, legal_hold=True), ""), sealed_sha256=""
    )
    keeper.hold(KEY, "v2", on=False)
    keeper.extend(KEY, "v2", UNTIL + DAY)
    assert [each.lock for each in here.kept] == [
        Lock(LockMode.OFF, None, legal_hold=True),
        Lock(LockMode.COMPLIANCE, UNTIL + DAY),
        LOCK,
    ]
    keeper.hold(KEY, None, on=True)
    assert [each.lock for each in here.kept][2] == HELD, "no version named is the newest"
