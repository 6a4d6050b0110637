"""An S3 bucket in memory, for rules that must hold whatever a storage does: honest by default, each kind of lie by name."""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import IO, TypeVar

from archiver.recording import Lock, LockMode
from archiver.store.port import Version
from archiver.store.s3_refusal import Refused
from archiver.store.s3_values import Digests, Head, Part

_T = TypeVar("_T")

UNLOCKED = Lock(LockMode.OFF, None)
BEGAN = datetime(2026, 5, 1, tzinfo=UTC)


def refused(code: str, status: int) -> Callable[[], Refused]:
    """A refusal, new each time that it is raised."""
    return lambda: Refused("Put", code, status)


@dataclass(frozen=True, slots=True)
class Kept:
    """One version: bytes None make it a delete marker."""

    key: str
    version_id: str | None
    body: bytes | None
    lock: Lock
    modified_at: datetime


@dataclass
class MemoryBucket:
    """The verbs of `Bucket`. Each has its effect, unless `lies` says otherwise.

    `before` and `after` hold failures by verb, each raised once: refused, and done with the answer lost. `calls` are those made.
    """

    lies: frozenset[str] = frozenset()
    kept: list[Kept] = field(default_factory=list)
    before: dict[str, list[Callable[[], Exception]]] = field(default_factory=lambda: defaultdict(list))
    after: dict[str, list[Callable[[], Exception]]] = field(default_factory=lambda: defaultdict(list))
    calls: list[str] = field(default_factory=list)
    page: int = 1000
    _parts: dict[str, tuple[str, Lock | None, dict[int, bytes]]] = field(default_factory=dict)
    _number: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    # --- what a test arranges and looks at ---

    def has(self, key: str, body: bytes | None, lock: Lock = UNLOCKED) -> str | None:
        """Someone put this before. Returns the version id."""
        number = next(self._number)
        version_id = None if "no versions" in self.lies else f"v{number}"
        if version_id is None:
            self.kept = [each for each in self.kept if each.key != key]
        # Two at a time share a second, as they may in a bucket.
        self.kept.append(Kept(key, version_id, body, lock, BEGAN + timedelta(seconds=number // 2)))
        return version_id

    def bodies(self, key: str) -> list[bytes | None]:
        return [each.body for each in self.kept if each.key == key]

    # --- the verbs ---

    def put(
        self,
        key: str,
        body: IO[bytes] | bytes,
        digests: Digests,
        *,
        lock: Lock | None = None,
        if_absent: bool = False,
        tags: str | None = None,
        storage_class: str = "STANDARD",
    ) -> str | None:
        data = body if isinstance(body, bytes) else body.read()
        return self._verb("put", lambda: self._put(key, data, lock, if_absent=if_absent))

    def head(self, key: str, version_id: str | None, *, checksum: bool = False) -> Head | None:
        verb = "head with checksum" if checksum else "head"
        return self._verb(verb, lambda: self._head(key, version_id, checksum=checksum))

    def read(self, key: str, version_id: str | None) -> Iterator[bytes]:
        found = self._verb("read", lambda: self._find(key, version_id))
        assert found is not None
        assert found.body is not None
        for start in range(0, len(found.body), 4):
            yield found.body[start : start + 4]

    def versions(self, prefix: str, after: str = "") -> Iterator[list[Version]]:
        if "lists nothing" in self.lies:
            yield []
            return
        found = [each for each in self.kept if each.key.startswith(prefix) and each.key > after]
        rows = [
            Version(each.key, each.version_id, len(each.body or b""), each.modified_at,
                    is_latest=each is self._newest(each.key), is_delete_marker=each.body is None)
            for each in reversed(found)
        ]  # fmt: skip
        rows.sort(key=lambda each: each.key)
        for start in range(0, max(len(rows), 1), self.page):
            self.calls.append("versions")
            yield rows[start : start + self.page]

    def retain(
        self,
        key: str,
        version_id: str | None,
        mode: LockMode,
        until: datetime,
        *,
        bypass: bool = False,
        md5: bool = False,
    ) -> None:
        lifts = "retain lifts holds" in self.lies
        self._guard(md5)
        self._lock("retain", key, version_id, lambda lock: Lock(mode, until, lock.legal_hold and not lifts))

    def hold(self, key: str, version_id: str | None, on: bool, *, md5: bool = False) -> None:
        self._guard(md5)
        self._lock("hold", key, version_id, lambda lock: replace(lock, legal_hold=on))

    def create_upload(
        self, key: str, lock: Lock | None, storage_class: str = "STANDARD", *, checksums: bool = True
    ) -> str:
        name = f"u{next(self._number)}"
        self._parts[name] = (key, lock, {})
        return name

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes, digests: Digests) -> Part:
        self._verb("part", lambda: self._parts[upload_id][2].update({number: body}))
        return Part(number, hashlib.md5(body).hexdigest(), digests.crc32)

    def complete_upload(self, key: str, upload_id: str, parts: list[Part], *, if_absent: bool) -> str | None:
        _, lock, sent = self._parts.pop(upload_id)
        data = b"".join(sent[each.number] for each in parts)
        return self._verb("complete", lambda: self._put(key, data, lock, if_absent=if_absent))

    def abort_upload(self, key: str, upload_id: str) -> None:
        self._parts.pop(upload_id, None)

    # --- within ---

    def _verb(self, name: str, act: Callable[[], _T]) -> _T:
        self.calls.append(name)
        _fail(self.before[name])
        answer = act()
        _fail(self.after[name])
        return answer

    def _put(self, key: str, data: bytes, lock: Lock | None, *, if_absent: bool) -> str | None:
        if if_absent and self._newest(key) is not None and "overwrites" not in self.lies:
            raise Refused("Put", "PreconditionFailed", 412)
        if "drops bytes" in self.lies:
            data = data[:-1]
        if "turns bits" in self.lies:
            data = bytes([data[0] ^ 1]) + data[1:]
        lock = UNLOCKED if lock is None or "drops locks" in self.lies else lock
        version_id = self.has(key, data, replace(lock, retain_until=None) if lock.mode is LockMode.OFF else lock)
        if "keeps nothing" in self.lies:
            self.kept.pop()
        return None if "names no version" in self.lies else version_id

    def _newest(self, key: str) -> Kept | None:
        return next((each for each in reversed(self.kept) if each.key == key), None)

    def _find(self, key: str, version_id: str | None) -> Kept | None:
        if version_id is None:
            return self._newest(key)
        return next((each for each in self.kept if (each.key, each.version_id) == (key, version_id)), None)

    def _head(self, key: str, version_id: str | None, *, checksum: bool) -> Head | None:
        found = self._find(key, version_id)
        if found is None or found.body is None:
            return None
        sha256 = hashlib.sha256(found.body).hexdigest() if checksum and "keeps checksums" in self.lies else None
        shown = None if "shows no version" in self.lies else found.version_id
        return Head(shown, len(found.body), sha256, found.lock, None)

    def _guard(self, md5: bool) -> None:
        if ("wants md5" in self.lies and not md5) or ("refuses md5" in self.lies and md5):
            self.calls.append("refused guard")
            raise Refused("PutObjectRetention", "InvalidRequest", 400)

    def _lock(self, verb: str, key: str, version_id: str | None, change: Callable[[Lock], Lock]) -> None:
        def act() -> None:
            found = self._find(key, version_id)
            if found is not None and f"ignores {verb}" not in self.lies:
                self.kept[self.kept.index(found)] = replace(found, lock=change(found.lock))

        self._verb(verb, act)


def _fail(failures: list[Callable[[], Exception]]) -> None:
    if failures:
        failure = failures.pop(0)()
        raise failure
