"""The judge of every campaign: what an archive promises (the invariants), looked up in what is really there.

Reads the provider's truth, the database (its own SQL), the storage (its own listing) and the custody rows (`testimony`: its own
Ed25519 and SHA-256) and opens every object with its own CMS reader. Nothing of the product runs here, so that no mistake of the
product can excuse itself. `violations` may be asked at any instant, also just after a kill: whatever the journal claims then
must be true already. `at_rest` asks for more: after the faults have stopped and a run has ended, nothing may be left to do.
"""

from __future__ import annotations

import base64
import hashlib
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import psycopg
from psycopg.rows import dict_row

from tests.campaign.sealed import Opened, UnopenableError, open_sealed
from tests.campaign.testimony import Chain, chains

Row = Mapping[str, Any]
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{40,}={0,2}")
_SIGNED = re.compile(rb"[?&](?:token|signature|X-Amz-Signature)=[0-9a-zA-Z-]{16,}")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@dataclass(frozen=True, slots=True)
class Truth:
    """One recording as its provider holds it."""

    provider: str
    recording_id: str
    started_at: datetime
    ended_at: datetime
    audio: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.audio).hexdigest()


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One version in a storage, as the storage itself shows it. `lock_mode` "off" and no date where nothing locks."""

    key: str
    version_id: str | None
    data: bytes = field(repr=False)
    lock_mode: str = "off"
    retain_until: datetime | None = None
    marker: bool = False


class Storage(Protocol):
    """A storage, looked at without the product."""

    def objects(self) -> Sequence[StoredObject]:
        """Every version of every recording, delete markers too."""

    def unfinished(self) -> Sequence[str]:
        """Uploads that never ended."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Where to look. `canaries`: bytes that may stand nowhere, by name. `hosts`: public host keys in hex.

    `rivals`: a replica was taken for dead while it lived. Then a recording may have been sealed twice, each time with
    another key, and the storage may hold both; the journal must still know one of them, and the other must be genuine.
    """

    truth: Sequence[Truth]
    database: str
    storages: Mapping[str, Storage]
    spools: Sequence[Path]
    key: bytes = field(repr=False)
    hosts: frozenset[str]
    canaries: Mapping[str, bytes] = field(repr=False)
    places: Sequence[Path]
    retention: timedelta
    locked: str
    rivals: bool = False


def violations(scene: Scene, *, at_rest: bool) -> list[str]:
    """Every invariant that does not hold now, each with its number in reference DESIGN §1 and what breaks it."""
    look = _Look(scene)
    found = [
        *look.every_row_is_true(),
        *look.nothing_lost(),
        *look.nothing_twice(),
        *look.custody(),
        *look.secrets(),
    ]
    return found + (look.finished() if at_rest else [])


class _Look:
    """One reading of everything."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.tables = read_database(scene.database)
        self.rows = self.tables["recording"]
        self.copies: dict[str, list[Row]] = {}
        for copy in self.tables["copy"]:
            self.copies.setdefault(copy["recording_id"], []).append(copy)
        self.stored = {name: list(storage.objects()) for name, storage in scene.storages.items()}
        self.objects = {(name, each.key, each.version_id): each for name, kept in self.stored.items() for each in kept}
        self.truth: dict[tuple[str, str], list[Truth]] = {}
        for each in scene.truth:
            self.truth.setdefault((each.provider, each.recording_id), []).append(each)
        self.chains, self.chain_problems = chains(self.tables, scene.hosts)
        self.spooled = {path.name: path for spool in scene.spools for path in spool.glob("*.sealed")}
        self.opened: dict[str, Opened] = {}

    # --- 1 and 2: what the journal says is so ---------------------------------------------------------------------

    def every_row_is_true(self) -> Iterator[str]:
        for row in self.rows:
            name = f"{row['provider']}/{row['provider_recording_id']} ({row['state']})"
            if (row["provider"], row["provider_recording_id"]) not in self.truth:
                yield f"1: {name} was never at the provider"
            elif row["state"] == "archived":
                yield from (f"2: {name}: {problem}" for problem in self._archived(row))
            elif row["state"] in ("listed", "waiting", "spooled"):
                yield from (f"1: {name}: {problem}" for problem in self._pending(row))
            else:
                yield f"1: {name}, though the provider has it"

    def _archived(self, row: Row) -> Iterator[str]:
        if row["owner"] or row["ready"] or row["spool_name"]:
            yield "still has an owner, a place in the queue or a spool file"
        copies = self.copies.get(row["id"], [])
        for storage in self.scene.storages:
            if storage not in [copy["storage"] for copy in copies]:
                yield f"no copy in {storage}"
        for copy in copies:
            held = self.objects.get((copy["storage"], copy["key"], copy["version_id"]))
            if held is None:
                yield f"{copy['storage']} has no such object version"
                continue
            yield from self._copy(row, copy, held)
            yield from self._opens(row, held.data)

    def _copy(self, row: Row, copy: Row, held: StoredObject) -> Iterator[str]:
        sealed = hashlib.sha256(held.data).hexdigest()
        if {sealed} != {row["sealed_sha256"], copy["sealed_sha256"]}:
            yield "the object is not what was sealed"
        if len(held.data) != copy["size"] or len(held.data) != row["sealed_bytes"]:
            yield "the object's size is not what the journal says"
        if held.lock_mode != self.scene.locked or copy["lock_mode"] != self.scene.locked:
            yield f"lock mode {held.lock_mode}, journal {copy['lock_mode']}, policy {self.scene.locked}"
        until, ended = row["retain_until"], row["call_ended_at"] or row["call_started_at"]
        if until is None or until < ended + self.scene.retention:
            yield f"retained until {until}, the policy says {ended + self.scene.retention}"
        elif self.scene.locked != "off" and (held.retain_until is None or held.retain_until < until):
            yield f"locked until {held.retain_until}, the journal says {until}"

    def _spooled(self, row: Row) -> Iterator[str]:
        path = self.spooled.get(row["spool_name"] or "")
        if path is None:
            yield "its spool file is not there"
            return
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != row["sealed_sha256"]:
            yield "its spool file is not what was sealed"
        yield from self._opens(row, data)

    def _opens(self, row: Row, data: bytes) -> Iterator[str]:
        try:
            opened = open_sealed(data, self.scene.key)
        except UnopenableError as problem:
            yield f"does not open: {problem}"
            return
        self.opened[row["id"]] = opened
        named = self.truth[row["provider"], row["provider_recording_id"]]
        genuine = {each.digest for each in named if each.started_at == row["call_started_at"]}
        if opened.digest != row["plaintext_sha256"] or len(opened.audio) != row["plaintext_bytes"]:
            yield "opens to other bytes than the journal says"
        if opened.digest not in genuine:
            another = opened.digest in {each.digest for each in named}
            yield "opens to another recording of the same id" if another else "opens to other bytes than the provider's"

    def _pending(self, row: Row) -> Iterator[str]:
        if row["state"] == "spooled" or row["spool_name"]:
            yield from self._spooled(row)
        if row["archive_by"] is None or row["delete_at"] is None:
            yield "waits without a deadline"
        if not (row["ready"] or row["next_attempt_at"] or row["owner"]):
            yield "waits for nobody"

    # --- 1: no silent loss ----------------------------------------------------------------------------------------

    def nothing_lost(self) -> Iterator[str]:
        """A span that is called covered shows every recording in it; the spans leave no hole between them."""
        spans: dict[str, list[tuple[datetime, datetime]]] = {}
        for span in self.tables["coverage"]:
            spans.setdefault(span["provider"], []).append((span["since"], span["until"]))
        counted = Counter((row["provider"], row["provider_recording_id"]) for row in self.rows)
        for (provider, recording_id), genuine in self.truth.items():
            covered = any(
                since <= each.started_at < until for each in genuine for since, until in spans.get(provider, [])
            )
            if covered and counted[provider, recording_id] < len({each.digest for each in genuine}):
                yield f"1: {provider}/{recording_id} lies in a span that is called covered, and is not in the journal"

    def finished(self) -> list[str]:
        """12: what was to be done is done, and nothing is left lying about."""
        found = []
        archived = Counter(
            (row["provider"], row["provider_recording_id"], row["plaintext_sha256"])
            for row in self.rows
            if row["state"] == "archived"
        )
        wanted = {(each.provider, each.recording_id, each.digest) for each in self.scene.truth}
        found += [f"12: {provider}/{name} is not archived" for provider, name, _ in sorted(wanted - archived.keys())]
        for provider in {each.provider for each in self.scene.truth}:
            spans = [each for each in self.tables["coverage"] if each["provider"] == provider]
            newest = max(each.started_at for each in self.scene.truth if each.provider == provider)
            if len(spans) != 1 or spans[0]["until"] <= newest:
                found.append(f"12: {provider} is covered by {len(spans)} spans, or not to its newest recording")
            state = [each for each in self.tables["provider_state"] if each["provider"] == provider]
            if len(state) != 1 or state[0]["poll_error"] is not None or state[0]["poll_succeeded_at"] is None:
                found.append(f"12: the last poll of {provider} did not succeed")
        found += [f"12: {row['id']} still has an owner" for row in self.rows if row["owner"]]
        left = [path.name for spool in self.scene.spools for path in spool.iterdir() if path.name != "spool.id"]
        found += [f"12: {name} was left in the spool" for name in left]
        found += [
            f"12: an unfinished upload of {key} was left in {name}"
            for name, storage in self.scene.storages.items()
            for key in storage.unfinished()
        ]
        found += ["12: a replica that ended still lives in the journal" for _ in self.tables["replica"]]
        return found

    # --- 3, 4, 5: once, and by one --------------------------------------------------------------------------------

    def nothing_twice(self) -> Iterator[str]:
        named = Counter((row["provider"], row["provider_recording_id"], row["variant"]) for row in self.rows)
        for (provider, name, _), times in named.items():
            audios = {each.digest for each in self.truth.get((provider, name), [])}
            if times > len(audios):
                yield f"4: {times} rows for {provider}/{name}, which has {len(audios)} audios"
        claimed = {
            (copy["storage"], copy["key"], copy["version_id"]) for copies in self.copies.values() for copy in copies
        }
        waiting = {row["sealed_sha256"] for row in self.rows if row["spool_name"]}
        for storage, kept in self.stored.items():
            for each in kept:
                if each.marker:
                    yield f"3: a delete marker hides {each.key} in {storage}"
                elif (storage, each.key, each.version_id) in claimed or (
                    self.scene.rivals and self._genuine(each.data)
                ):
                    continue
                elif hashlib.sha256(each.data).hexdigest() not in waiting:
                    # A death between the PUT and the journal leaves an object that a spooled row will adopt. No other may be.
                    yield f"4: {storage} has {each.key}, which no row claims or is about to claim"
            keys = Counter(each.key for each in kept)
            yield from (f"4: {times} versions of {key} in {storage}" for key, times in keys.items() if times > 1)
        objects = {row["sealed_sha256"]: self.opened[row["id"]] for row in self.rows if row["id"] in self.opened}
        once = Counter(each.nonce for each in objects.values()), Counter(each.data_key for each in objects.values())
        if any(times > 1 for used in once for times in used.values()):
            yield "9: a nonce or a data key was used for two recordings"
        for row in self.rows:
            if row["attempts"] > row["token"]:
                yield f"5: {row['attempts']} attempts under {row['token']} claims of {row['id']}"

    def _genuine(self, data: bytes) -> bool:
        """Whether it opens to a recording of the provider's."""
        try:
            return open_sealed(data, self.scene.key).digest in {each.digest for each in self.scene.truth}
        except UnopenableError:
            return False

    # --- 6: custody -----------------------------------------------------------------------------------------------

    def custody(self) -> Iterator[str]:
        """Every chain is whole and signed, and says of each row exactly what the row says."""
        yield from (f"6: {problem}" for problem in self.chain_problems)
        told = {f"rec:{row['id']}": row for row in self.rows}
        for subject in self.chains:
            if subject.startswith("rec:") and subject not in told:
                yield f"6: {subject} has a chain and no row"
        for subject, row in told.items():
            chain = self.chains.get(subject)
            if chain is None or chain.events[0]["type"] != "recording.discovered":
                yield f"6: {subject} does not begin with its discovery"
            else:
                yield from (f"6: {subject} ({row['state']}): {problem}" for problem in self._told(row, chain))

    def _told(self, row: Row, chain: Chain) -> Iterator[str]:
        sealed, stored = chain.of("recording.sealed"), chain.of("recording.stored")
        verified, downloaded = chain.of("recording.store_verified"), chain.of("recording.downloaded")
        if downloaded and "same_content_as" in downloaded[-1]:
            yield from self._twin(row, downloaded[-1])
            return
        copies = {copy["storage"]: copy for copy in self.copies.get(row["id"], [])}
        if len(stored) != len(copies) or len(verified) != len(copies):
            yield f"{len(stored)} stored and {len(verified)} verified events for {len(copies)} copies"
        if row["state"] != "archived" and not row["spool_name"]:
            if sealed:
                yield "a sealed event for what is not sealed"
            return
        if len(sealed) != len(downloaded) or not sealed or (len(sealed) > 1 and not self.scene.rivals):
            yield f"{len(downloaded)} downloads and {len(sealed)} sealings are told of"
            return
        facts = (row["plaintext_sha256"], row["plaintext_bytes"], row["sealed_sha256"], row["sealed_bytes"])
        if facts != tuple(sealed[-1][name] for name in ("pt_sha256", "pt_bytes", "ct_sha256", "ct_bytes")):
            yield "the sealed event tells of other bytes"
        if (downloaded[-1]["pt_sha256"], downloaded[-1]["bytes"]) != facts[:2]:
            yield "the download event tells of other bytes"
        for event in stored:
            copy = copies.get(event["storage"])
            said = (event["key"], event["version_id"], event["ct_sha256"], event["ct_bytes"], event["lock_mode"])
            if copy is None or said != tuple(
                copy[name] for name in ("key", "version_id", "sealed_sha256", "size", "lock_mode")
            ):
                yield f"the stored event tells of another object in {event['storage']}"
        for event in verified:
            copy = copies.get(event["storage"])
            if copy is None or (event["ct_sha256"], event["version_id"]) != (copy["sealed_sha256"], copy["version_id"]):
                yield f"the verification event tells of another object in {event['storage']}"

    def _twin(self, row: Row, downloaded: Row) -> Iterator[str]:
        """What came was archived already, under another row of the same recording: its copies stand for both."""
        twin = next((each for each in self.rows if f"rec:{each['id']}" == downloaded["same_content_as"]), None)
        if twin is None or twin["state"] != "archived" or twin["plaintext_sha256"] != downloaded["pt_sha256"]:
            yield "it is said to be the same as another, which is not so"
        elif row["plaintext_sha256"] != twin["plaintext_sha256"] or row["sealed_sha256"] != twin["sealed_sha256"]:
            yield "it is the same as another, and the journal says otherwise"

    # --- 9: nothing secret ----------------------------------------------------------------------------------------

    def secrets(self) -> Iterator[str]:
        for place, data in self._everything():
            for name, canary in self.scene.canaries.items():
                if canary in data:
                    yield f"9: {name} stands in {place}"
            if _SIGNED.search(data):
                yield f"9: a signed URL stands in {place}"

    def _everything(self) -> Iterator[tuple[str, bytes]]:
        for place in self.scene.places:
            for path in [place] if place.is_file() else sorted(place.rglob("*")):
                if path.is_file():
                    yield path.name, path.read_bytes()
        for name, rows in self.tables.items():
            for row in rows:
                for column, value in row.items():
                    data = value if isinstance(value, bytes) else str(value).encode()
                    yield f"{name}.{column}", data
                    for encoded in _BASE64.findall(data):
                        yield f"{name}.{column} in base64", base64.b64decode(encoded + b"=" * (-len(encoded) % 4))
        for storage, kept in self.stored.items():
            yield from ((f"{storage}/{each.key}", each.data) for each in kept)


# --- the database ---------------------------------------------------------------------------------------------------


def read_database(url: str) -> dict[str, list[Row]]:
    """Every row of every table at one instant; instants aware, bytes as bytes, on both databases alike."""
    if url.startswith("sqlite"):
        return _read_sqlite(url.partition(":///")[2])
    with psycopg.connect(url.replace("+psycopg", ""), row_factory=dict_row) as conn:
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        named = conn.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        ).fetchall()
        return {
            each["table_name"]: _plain(conn.execute(f'SELECT * FROM "{each["table_name"]}"').fetchall())
            for each in named
        }


def _read_sqlite(path: str) -> dict[str, list[Row]]:
    conn = sqlite3.connect(path, isolation_level=None, timeout=10)
    try:
        conn.row_factory = sqlite3.Row
        conn.execute("BEGIN")
        named = conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {each[0]: _plain([dict(row) for row in conn.execute(f'SELECT * FROM "{each[0]}"')]) for each in named}
    finally:
        conn.close()


def _plain(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    return [{name: _value(value) for name, value in row.items()} for row in rows]


def _value(value: Any) -> Any:
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, str) and _INSTANT.fullmatch(value):
        return datetime.fromisoformat(value)
    return value
