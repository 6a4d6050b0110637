"""Tries locks: sets a lock, extends it, sets a hold; then tries everything that an intruder or a mistake would try
against it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from archiver.recording import LockMode
from archiver.store.probe_trial import Canary, Trial
from archiver.store.s3_canary import CANARY_LOCK
from archiver.store.s3_refusal import Refused
from archiver.store.s3_upload import digests_of
from archiver.store.s3_vault import satisfies


class LockTrial(Trial):
    """The part of a probe that is about locks."""

    def _try_locks(self, canaries: list[Canary]) -> None:
        wrong = [each.way for each in canaries if not self._locked(each)]
        self._check(
            "locked-as-asked", not wrong, f"not locked: {', '.join(wrong)}" if wrong else "mode and date read back"
        )
        extends = not wrong and self._retain(canaries[0], self._until + timedelta(seconds=1))
        self._check("extending-works", extends, f"a lock {'can' if extends else 'cannot'} be made longer")
        self._survives(
            "deletion-refused", "a delete", canaries, lambda each: self._bucket.delete(each.key, each.version_id)
        )
        if self._mode is LockMode.COMPLIANCE:
            self._survives(
                "bypass-refused",
                "a delete with bypass",
                canaries,
                lambda each: self._bucket.delete(each.key, each.version_id, bypass=True),
            )
        self._try_shortening(canaries)

    def _locked(self, canary: Canary) -> bool:
        """Tell whether a canary is locked, by the upload itself or else afterwards; the report says which, and only the
        outcome counts."""
        if canary.version_id is None:
            return False
        head = self._bucket.head(canary.key, canary.version_id)
        at_once = head is not None and satisfies(head.lock, self._lock)
        said = "the lock comes with the upload" if at_once else "the lock is lost: it is set afterwards"
        self._check(f"lock-kept-on-{canary.way}", at_once, said)
        if at_once:
            return True
        return self._retain(canary, self._until)

    def _retain(self, canary: Canary, until: datetime) -> bool:
        """Lock until then, with a checksum or with Content-MD5 alone; the way whose effect is seen goes into the
        profile."""

        def lock(md5: bool) -> Refused | None:
            return self._refusal(lambda: self._bucket.retain(canary.key, canary.version_id, self._mode, until, md5=md5))

        for md5 in (self.profile.lock_md5, not self.profile.lock_md5):
            lock(md5)
            head = self._bucket.head(canary.key, canary.version_id)
            if head is not None and satisfies(head.lock, replace(self._lock, retain_until=until)):
                self.profile = replace(self.profile, lock_md5=md5)
                return True
        return False

    def _survives(self, name: str, what: str, canaries: list[Canary], attack: Callable[[Canary], None]) -> None:
        lost = []
        for each in canaries:
            self._refusal(lambda each=each: attack(each))  # type: ignore[misc]
            if not self._reads(each):
                lost.append(each.way)
        self._check(
            name, not lost, f"{what} removed a locked canary ({', '.join(lost)})" if lost else f"{what} is refused"
        )

    def _try_shortening(self, canaries: list[Canary]) -> None:
        """Try to shorten or weaken the locks. This trial is the last, because where it succeeds the canaries are not
        locked any more."""
        sooner, md5 = self._until - CANARY_LOCK / 2, self.profile.lock_md5
        attacks = [(self._mode, sooner, False)]
        if self._mode is LockMode.COMPLIANCE:
            attacks += [(self._mode, sooner, True), (LockMode.GOVERNANCE, self._until, True)]
        weakened = set()
        for each in canaries:
            for mode, until, bypass in attacks:
                # Guarded as the storage takes locks: a request refused for its checksum proves nothing.
                attack = partial(self._bucket.retain, each.key, each.version_id, mode, until, bypass=bypass, md5=md5)
                self._refusal(attack)
            head = self._bucket.head(each.key, each.version_id)
            if head is None or not satisfies(head.lock, self._lock):
                weakened.add(each.way)
        ok = not weakened
        self._check(
            "shortening-refused",
            ok,
            "a lock cannot be shortened or weakened" if ok else f"a lock was shortened ({', '.join(sorted(weakened))})",
        )

    def _try_hold(self) -> None:
        """Try a legal hold on a version without a date of its own, where the bucket allows that, so that only the hold
        protects it."""
        key = self._key()
        held = None
        put = lambda: self._bucket.put(key, self._body, digests_of(self._body, self.profile), lock=self._least)  # noqa: E731
        if self._refusal(put) is None:
            held = Canary(key, self._version_of(key), "hold")
        works = held is not None and self._holds(held)
        said = (
            "a held version is not deleted" if self._least is None else "a hold is kept, beside the bucket's own lock"
        )
        self._check("legal-hold-works", works, said if works else "a legal hold protects nothing")

    def _holds(self, held: Canary) -> bool:
        def hold(on: bool, md5: bool) -> Refused | None:
            return self._refusal(lambda: self._bucket.hold(held.key, held.version_id, on, md5=md5))

        ways = (self.profile.lock_md5, not self.profile.lock_md5)
        md5 = next((each for each in ways if hold(True, each) is None), None)
        if md5 is None:
            return False
        head = self._bucket.head(held.key, held.version_id)
        self._refusal(lambda: self._bucket.delete(held.key, held.version_id))
        kept = self._reads(held) and head is not None and head.lock.legal_hold
        hold(False, md5)
        self.profile = replace(self.profile, lock_md5=md5)
        return kept
