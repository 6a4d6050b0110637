"""Finds by trial the real behaviour of a bucket: the canaries that must survive, and the ways that the store may use.

Brands and versions are never asked (docs/adr/0003-probe-not-brand.md). Two canaries, one put whole and one in parts,
are locked for a day; then the probe tries everything that an intruder or a mistake would try. A check counts the
objects that are *there* afterwards, not the answers. `FATAL` lists the failures that make a bucket untrusted under each
lock mode.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from archiver import errors
from archiver.clock import Chance, Clock
from archiver.recording import Lock, LockMode
from archiver.store.port import Check, ProbeReport
from archiver.store.probe_locks import LockTrial
from archiver.store.probe_trial import Canary
from archiver.store.s3_answer import Unreadable, shown
from archiver.store.s3_bucket import Bucket
from archiver.store.s3_canary import CANARY_LOCK, listed, spent, sweep
from archiver.store.s3_client import S3Options
from archiver.store.s3_default import DefaultRetention, brief, seen
from archiver.store.s3_refusal import Refused
from archiver.store.s3_upload import PARTIAL, digests_of, part_digests
from archiver.store.s3_values import Digests, Head, base64_of
from archiver.store.s3_vault import whole_second

LARGEST_SKEW = timedelta(seconds=300)

# The checksums that guard an object in transit, the least demanding first.
_WAYS: Mapping[str, Mapping[str, Any]] = {
    "SHA-256": {"md5": False, "sha256": True},
    "SHA-256 and MD5": {"md5": True, "sha256": True},
    "MD5 alone": {"md5": True, "sha256": False},
}


class Probe(LockTrial):
    """One run over one bucket. Blocking. Raises `DestinationError` when the bucket cannot be asked at all."""

    def __init__(
        self,
        bucket: Bucket,
        options: S3Options,
        clock: Clock,
        chance: Chance,
        pause: Callable[[float], None] = time.sleep,
        known: DefaultRetention | None = None,
    ) -> None:
        super().__init__(bucket, options, clock, chance, pause)
        self._told = False  # whether the bucket told of its default retention
        self._known = known  # the default retention that an earlier probe saw

    def run(self) -> ProbeReport:
        """Try everything, tidy up, report. `profile` then holds the ways that the storage takes."""
        if self._mode is not LockMode.OFF:
            self._lock = Lock(self._mode, whole_second(self._clock.now() + CANARY_LOCK))
        self._look_at_bucket()
        try:
            self._try_objects()
        finally:
            self._tidy()
        return ProbeReport(self._options.id, tuple(self._checks), self._clock.now())

    # --- what the bucket says ---------------------------------------------------------------------------------

    def _look_at_bucket(self) -> None:
        skew = self._bucket.clock_skew(self._clock.now)
        if skew is None:
            self._unknown("clock-agrees", "the storage does not tell its time")
        else:
            seconds = abs(skew.total_seconds())
            side = "ahead of" if skew > timedelta(0) else "behind"
            self._check(
                "clock-agrees", abs(skew) <= LARGEST_SKEW, f"the storage's clock is {seconds:.0f} s {side} ours"
            )
        if self._options.bucket_owner is not None:
            # Few servers but AWS know the header; one that ignores it must not be believed to check it.
            other = "000000000000" if self._options.bucket_owner != "000000000000" else "999999999999"
            checked = self._bucket.refuses_owner(other)
            said = "refused" if checked else "served all the same: bucket_owner protects nothing here"
            self._check("owner-checked", checked, f"a call that expects another owner is {said}")
        self._ask("versioning-enabled", self._versioning)
        self._ask("object-lock-enabled", self._object_lock)
        if self._mode is LockMode.OFF:
            self._check("protection", False, "lock mode is off: whoever may delete here can delete recordings")

    def _versioning(self) -> tuple[bool, str]:
        status = self._bucket.versioning()
        return status == "Enabled", f"versioning is {shown(status).lower()}"

    def _object_lock(self) -> tuple[bool, str]:
        rules = self._bucket.lock_rules()
        self._told = True
        self._default_is(rules.default)
        return rules.enabled, f"the bucket was made {'with' if rules.enabled else 'without'} Object Lock"

    def _default_is(self, default: DefaultRetention | None) -> None:
        self.profile = replace(self.profile, default=default)
        if default is not None and self._mode is LockMode.OFF:
            self._lock = brief(self._mode, self._clock.now())

    def _ask(self, name: str, question: Callable[[], tuple[bool, str]]) -> None:
        """Ask the bucket about itself and record the answer. No answer is no "no": the later trials decide."""
        try:
            ok, said = question()
        except Unreadable as odd:
            self._unknown(name, odd.detail)
        except Refused as refused:
            if refused.passing:
                raise
            self._unknown(name, f"{'not allowed to ask' if refused.forbidden else 'cannot be asked'}: {refused.detail}")
        else:
            self._check(name, ok, said)

    def _try_objects(self) -> None:
        whole = self._put_canary()
        if whole is None:
            return
        kept = self._reads(whole)
        self._check("reads-back", kept, "what was put is read back" if kept else "what was put is not what is read")
        if not kept or not self._try_listing(whole):
            return
        self._try_default(whole)
        self._try_checksums(whole)
        self._try_put_once(whole)
        parts = self._put_parts(whole)
        canaries = [whole, *([parts] if parts else [])]
        if self._options.sse:
            self._try_encryption(whole)
        if self._mode is not LockMode.OFF:
            self._try_locks(canaries)
            self._try_hold()
        self._try_covering(whole)

    # --- ways -------------------------------------------------------------------------------------------------

    def _put_canary(self) -> Canary | None:
        """Put the first object, by the least demanding way that the storage takes; that way goes into the profile."""
        key = self._key()
        signs = (False, True) if self._options.sign_payload is None else (self._options.sign_payload,)
        refusals: list[str] = []
        for sign in signs:
            if sign is not signs[0]:
                self._bucket.sign_payloads(sign)
            for way, changes in _WAYS.items():
                profile = replace(self.profile, **changes)
                try:
                    version_id = self._bucket.put(key, self._body, digests_of(self._body, profile), lock=self._lock)
                except Refused as refused:
                    if refused.passing:
                        raise
                    refusals.append(refused.detail)
                    continue
                self.profile = profile
                self._check("takes-objects", True, f"takes objects with {way}{', signed body' if sign else ''}")
                return Canary(key, version_id or self._version_of(key), "put")
        if self._mode is LockMode.OFF and self._lock.mode is not LockMode.OFF:  # these keys may state no lock
            self._lock = Lock(self._mode, None)
            return self._put_canary()
        self._check("takes-objects", False, f"refuses objects with this lock: {refusals[0]}")
        return None

    def _try_listing(self, canary: Canary) -> bool:
        """Tell whether an object is found by listing its versions; where nothing is locked, a name in the listing is
        enough."""
        try:
            listed = any(each.key == canary.key for page in self._bucket.versions(canary.key) for each in page)
        except Refused as refused:
            if refused.passing:
                raise
            why = f"{'not allowed to list' if refused.forbidden else 'cannot list'} versions: {refused.detail}"
            self._checks.append(Check("lists-versions", False, why))
            return False
        return (
            self._check("lists-versions", listed, "lists what is there" if listed else "does not list what is there")
            or self._mode is LockMode.OFF
        )

    def _try_default(self, canary: Canary) -> None:
        """Find the lock that the bucket sets by itself: as the bucket told it, or as seen on one object that states no
        lock."""
        if not self._told and self._known is not None:
            self._default_is(self._known)
        elif not self._told:
            key = self._key()
            self._refusal(lambda: self._bucket.put(key, self._body, digests_of(self._body, self.profile)))
            head = self._bucket.head(key, self._version_of(key))
            self._default_is(None if head is None else seen(head.lock, self._clock.now()))
        default = self.profile.default
        if default is None:
            self._check("default-retention", True, "locks nothing by itself")
            return
        said = (
            f"the bucket locks by itself, for {default}: recordings and log are locked no shorter than that, and longer"
        )
        said += " than the configuration says, for as long as it does"
        head, stated = self._bucket.head(canary.key, canary.version_id), self._lock.retain_until
        until = head.lock.retain_until if head else None
        if until is not None and stated is not None and until > stated + CANARY_LOCK:
            said += f"; it overrides shorter locks: each canary, pointer and partial tile of the log stays until {until:%Y-%m-%d}"
        self._check("default-retention", False, said)

    def _try_checksums(self, canary: Canary) -> None:
        head = self._head_with_checksum(canary)
        kept = head is not None and head.sha256 == hashlib.sha256(self._body).hexdigest()
        self._check(
            "sha256-kept", kept, "keeps and shows the SHA-256" if kept else "shows no SHA-256: read back instead"
        )
        right, md5 = digests_of(self._body, self.profile), self.profile.md5
        refuses = self.profile.sha256 and self._refuses(replace(right, sha256=base64_of(bytes(32))))
        if not refuses:
            right = digests_of(self._body, replace(self.profile, md5=True))
            md5 = self._refuses(replace(right, md5=base64_of(bytes(16))))
        said = "a wrong SHA-256 is refused" if refuses else "a wrong SHA-256 is accepted"
        if not self.profile.sha256:
            said = "a wrong MD5 is refused" if md5 else "a wrong MD5 is accepted"
        elif md5 and not refuses:
            said += ", a wrong MD5 is refused"
        self._check("wrong-checksum-refused", refuses or md5, said)
        self.profile = replace(self.profile, checksum_proves=kept and refuses, md5=self.profile.md5 or md5)

    def _head_with_checksum(self, canary: Canary) -> Head | None:
        """Ask with the checksum, and without it after any refusal; then it is not asked for until the next probe."""
        with contextlib.suppress(Refused):
            return self._bucket.head(canary.key, canary.version_id, checksum=True)
        self.profile = replace(self.profile, shows_checksum=False)
        return self._bucket.head(canary.key, canary.version_id)

    def _refuses(self, digests: Digests) -> bool:
        return bool(self._refusal(lambda: self._bucket.put(self._key(), self._body, digests, lock=self._least)))

    def _try_put_once(self, canary: Canary) -> None:
        again = self._refusal(
            lambda: self._bucket.put(
                canary.key, self._body, digests_of(self._body, self.profile), if_absent=True, lock=self._least
            )
        )
        honoured = again is not None and again.already_there
        self.profile = replace(self.profile, conditional_single=honoured)
        said = (
            "a second create is refused" if honoured else f"not refused ({_code(again)}): looks first, and may double"
        )
        self._check("put-once-single", honoured, said)

    def _put_parts(self, canary: Canary) -> Canary | None:
        """Put a second canary, in parts, and try whether its completion can be made conditional."""
        key = self._key()
        refused = self._refusal(lambda: self._upload(key, self._lock, if_absent=False))
        if refused:
            self.profile = replace(self.profile, multipart=False)
            self._check("multipart", False, f"refused ({refused.code}): objects go up whole")
            return None
        again = self._refusal(lambda: self._upload(canary.key, self._least, if_absent=True))
        honoured = again is not None and again.already_there
        self.profile = replace(self.profile, conditional_multipart=honoured)
        said = (
            "a second completion is refused"
            if honoured
            else f"not refused ({_code(again)}): looks first, and may double"
        )
        self._check("put-once-multipart", honoured, said)
        return Canary(key, self._version_of(key), "multipart")

    def _upload(self, key: str, lock: Lock | None, *, if_absent: bool) -> None:
        upload_id = self._bucket.create_upload(key, lock, checksums=self.profile.sha256)
        try:
            part = self._bucket.upload_part(key, upload_id, 1, self._body, part_digests(self._body, self.profile))
            self._bucket.complete_upload(key, upload_id, [part], if_absent=if_absent)
        except errors.DestinationError:
            with contextlib.suppress(errors.DestinationError):
                self._bucket.abort_upload(key, upload_id)
            raise

    def _try_encryption(self, canary: Canary) -> None:
        head = self._bucket.head(canary.key, canary.version_id)
        shown = head.encryption if head else None
        self._check(
            "encryption-kept", shown == self._options.sse, f"asked {self._options.sse}, shows {shown or 'none'}"
        )

    def _try_covering(self, canary: Canary) -> None:
        """Check that the lock protects versions, not names: an object put over a name must leave the version below
        readable."""
        digests = digests_of(b"", self.profile)
        tagged = self._refusal(lambda: self._bucket.put(canary.key, b"", digests, tags=PARTIAL, lock=self._least))
        if tagged is not None:
            self._refusal(lambda: self._bucket.put(canary.key, b"", digests, lock=self._least))
        self.profile = replace(self.profile, tags=tagged is None)
        said = (
            f"refused ({tagged.code}): partial tiles of the log stay until somebody removes them"
            if tagged
            else "takes tags"
        )
        self._check("takes-tags", tagged is None, said)
        kept = self._reads(canary)
        self._check("old-version-kept", kept, "overwriting keeps the old version" if kept else "overwriting destroys")
        self._refusal(lambda: self._bucket.delete(canary.key))
        kept = self._reads(canary)
        said = "a delete marker leaves the version readable" if kept else "a delete without version destroys"
        self._check("delete-marker-hides-nothing", kept, said)

    def _tidy(self) -> None:
        """Remove everything that is not locked, and canaries of earlier probes whose lock has ended. The rest is
        small."""
        with contextlib.suppress(errors.DestinationError):
            there = listed(self._bucket, self._options.prefix)
            for each in there:
                if each.key in self._keys:
                    with contextlib.suppress(Refused):
                        self._bucket.delete(each.key, each.version_id)
            sweep(self._bucket, spent(there, self._options.prefix, self._clock.now()))


def _code(refused: Refused | None) -> str:
    return refused.code if refused else "accepted"
