"""One archive in a world of its own: two providers, a storage, a database, and whoever looks at it all afterwards."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sqlalchemy.engine import make_url

from archiver.clock import SystemChance, SystemClock
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import Audio, SimRecording, samples
from archiver.demo.simulators.server import Simulator
from tests.acceptance.archive import make_archive
from tests.campaign.oracle import Scene, Storage, StoredObject, Truth, read_database, violations
from tests.campaign.parent import Ended, Parent, Run
from tests.campaign.points import Order
from tests.fixtures_s3 import ACCESS_KEY, SECRET_KEY

STORAGES = ("single", "multipart", "directory")
_LARGE = 5 * 1024 * 1024 + 100_000  # two parts: S3 takes none below 5 MiB but the last
PREFIX = "calls/"
_RETENTION = timedelta(days=40)


class Loop:
    """An event loop in a thread, for the simulators."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="simulators", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def call(self, work: Callable[[], object]) -> None:
        """`work` in the loop's thread."""

        async def act() -> None:
            work()

        self.run(act())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Folder:
    """A directory storage, walked."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def objects(self) -> Sequence[StoredObject]:
        paths = sorted(path for path in (self._root / "recordings").rglob("*") if path.is_file())
        return [
            StoredObject(path.relative_to(self._root).as_posix(), None, path.read_bytes())
            for path in paths
            if path.suffix != ".lock"
        ]

    def unfinished(self) -> Sequence[str]:
        return []


class Bucket:
    """A bucket, just made, and asked without the product."""

    def __init__(self, client: Any, name: str) -> None:
        client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
        self._client, self._name, self._prefix = client, name, f"{PREFIX}recordings/"

    def objects(self) -> Sequence[StoredObject]:
        listed = self._client.list_object_versions(Bucket=self._name, Prefix=self._prefix)
        assert not listed["IsTruncated"]
        markers = [
            StoredObject(each["Key"], each["VersionId"], b"", marker=True) for each in listed.get("DeleteMarkers", [])
        ]
        return [self._read(each["Key"], each["VersionId"]) for each in listed.get("Versions", [])] + markers

    def _read(self, key: str, version_id: str) -> StoredObject:
        named = {"Bucket": self._name, "Key": key, "VersionId": version_id}
        answer = self._client.get_object(**named)
        data = answer["Body"].read()
        try:
            lock = self._client.get_object_retention(**named)["Retention"]
        except ClientError:
            return StoredObject(key, version_id, data)
        return StoredObject(key, version_id, data, lock["Mode"].lower(), lock["RetainUntilDate"])

    def unfinished(self) -> Sequence[str]:
        found = self._client.list_multipart_uploads(Bucket=self._name, Prefix=self._prefix)
        return [each["Key"] for each in found.get("Uploads", [])]


@dataclass(frozen=True, slots=True)
class Shared:
    """What all worlds of a session have in common. `s3` gives a client, when one is needed at all."""

    loop: Loop
    parent: Parent
    probed: Path
    s3: Callable[[], Any]


Calls = dict[str, list[SimRecording]]
Change = Callable[[Calls], object]


def unchanged(_calls: Calls) -> None:
    """The calls as they are."""


def one_id_twice(calls: Calls) -> None:
    """The Vobiz document's own sample: one id, two recordings."""
    first, second, *_ = calls["vobiz"]
    calls["vobiz"][1] = replace(second, id=first.id)


@dataclass(slots=True)
class World:
    """Made by `world`. Each `run` is a process of its own."""

    folder: Path
    sims: Mapping[str, Simulator]
    shared: Shared
    storage: str
    database: str
    view: Storage
    config: Path
    canaries: Mapping[str, bytes]
    sabotage: str | None = None
    stale_links: int = 1
    more: list[Path] = field(default_factory=list)

    def run(self, *orders: Order, kill_after: float | None = None) -> Ended:
        """One run, with what it must meet."""
        return self.shared.parent.run(self.ordered(*orders, kill_after=kill_after))

    def ordered(self, *orders: Order, **changes: Any) -> Run:
        stash = self.folder / "stash"
        stash.mkdir(exist_ok=True)
        run = Run(
            config=self.config, told=self.folder / "told", log=self.folder / "log", stash=stash, storage=self.storage,
            probed=self.shared.probed, orders=orders, sabotage=self.sabotage, stale_links=self.stale_links,
        )  # fmt: skip
        return replace(run, **changes)

    def hurry_sessions(self) -> None:
        """Let PostgreSQL end the transaction of a process that stands still after half a second, not after a minute."""
        secret = self.folder / "db"
        secret.chmod(0o600)
        hasty = make_url(self.database).update_query_dict({"options": "-c idle_in_transaction_session_timeout=500"})
        secret.write_text(hasty.render_as_string(hide_password=False))

    def replica(self) -> Run:
        """A run of another replica: the same archive, with a spool of its own."""
        text = self.config.read_text()
        other = self.config.with_name("other.yaml")
        other.write_text(text.replace("state_dir: state", "state_dir: other"))
        (self.folder / "other").mkdir(mode=0o700)
        self.more.append(self.folder / "other")
        return self.ordered(config=other, alive=1.0)

    def fired(self) -> list[str]:
        """The points that did what was ordered, in all runs so far."""
        told = self.folder / "told"
        return told.read_text().split() if told.exists() else []

    def wrong(self, *, at_rest: bool = False) -> list[str]:
        """What the oracle finds now."""
        return violations(self.scene(), at_rest=at_rest)

    def scene(self) -> Scene:
        host = load_pem_private_key((self.folder / "custody.pem").read_bytes(), None)
        assert isinstance(host, Ed25519PrivateKey)
        states = [self.folder / "state", *self.more]
        return Scene(
            truth=truth(self.sims),
            database=self.database,
            storages={"primary": self.view},
            spools=[each / "spool" for each in states if (each / "spool").exists()],
            key=base64.b64decode((self.folder / "seal.key").read_bytes()),
            hosts=frozenset({host.public_key().public_bytes_raw().hex()}),
            canaries=self.canaries,
            places=[*states, self.folder / "log", *self._database_files()],
            retention=_RETENTION,
            locked="off" if self.storage == "directory" else "compliance",
            rivals=bool(self.more),
        )

    def _database_files(self) -> list[Path]:
        return sorted(self.folder.glob("archiver.db*"))

    def withdraw(self) -> list[str]:
        """The provider drops the audio of whatever the journal says is safe. Returns which."""
        safe = {
            (row["provider"], row["provider_recording_id"])
            for row in read_database(self.database)["recording"]
            if row["state"] == "archived" or row["spool_name"]
        }
        never = SystemClock().now() + timedelta(days=1000)
        for provider, name in safe:
            self.shared.loop.call(lambda p=provider, n=name: self.sims[p].account.replace(n, available_at=never))  # type: ignore[misc]
        return sorted(name for _, name in safe)

    def age(self) -> bool:
        """Make what a death left in the spool too old to be anybody's. True when something was left."""
        left = list((self.folder / "state" / "spool").glob("*.sealed"))
        for path in left:
            old = time.time() - 7200
            os.utime(path, (old, old))
        return bool(left)

    def recover(self) -> list[str]:
        """An ordinary run, a second one if only the sweep has something left to do, and what is wrong after it."""
        ended = self.run()
        if ended.code == 0 and self.age():
            ended = self.run()
        bad = [] if ended == Ended(None, 0) else [f"12: the run after it ended with {ended}"]
        return bad + self.wrong(at_rest=True)


def calls(now: datetime, *, large: bool) -> Calls:
    """Three recordings at Vobiz, two of them with the same sound, and one at JustCall."""
    sounds = {each.format: each for each in samples()}
    mp3, wav = sounds["mp3"], sounds["wav"]

    def call(name: str, days: float, audio: Audio) -> SimRecording:
        started = (now - timedelta(days=days)).replace(microsecond=0)
        return SimRecording(id=name, started_at=started, duration=audio.duration, audio=audio)

    return {
        "vobiz": [call("11111111-aaaa", 3, wav), call("22222222-bbbb", 2, mp3), call("33333333-cccc", 1, mp3)],
        "justcall": [call("call_0123abcd", 1.5, longer(mp3) if large else mp3)],
    }


def longer(audio: Audio) -> Audio:
    """The same sound over and over, until it takes two parts."""
    times = _LARGE // len(audio.data) + 1
    return Audio(audio.data * times, audio.format, audio.duration * times)


def truth(sims: Mapping[str, Simulator]) -> list[Truth]:
    """What the providers hold, or held before they withdrew it."""
    return [
        Truth(provider, each.id, each.started_at, each.ended_at, each.audio.data)
        for provider, sim in sims.items()
        for each in sim.truth()
        if each.audio is not None
    ]


def canaries(sims: Mapping[str, Simulator]) -> dict[str, bytes]:
    """A piece from the middle of each sound, and every credential."""
    found = {}
    for each in truth(sims):
        middle = next(
            at for at in range(len(each.audio) // 2, len(each.audio)) if len(set(each.audio[at : at + 48])) > 24
        )
        found[f"the audio of {each.recording_id}"] = each.audio[middle : middle + 48]
    secrets = ("api_key", "api_secret", "auth_token")
    for provider in sims:
        found |= {
            f"{provider}'s {name}": value.encode()
            for name, value in fleet.CREDENTIALS[provider].items()
            if name in secrets
        }
    return found


@contextlib.contextmanager
def world(
    folder: Path,
    shared: Shared,
    storage: str,
    database: str,
    *,
    sabotage: str | None = None,
    change: Change = unchanged,
) -> Iterator[World]:
    """A world whose archive has not run yet. `change` alters the calls before anybody sees them."""
    now = SystemClock().now()
    scenario = calls(now, large=storage == "multipart")
    change(scenario)
    made = fleet.fleet(SystemClock(), samples(), count=0)
    sims = {name: made[name] for name in scenario}
    for name, recordings in scenario.items():
        sims[name].account.add(*recordings)
        shared.loop.run(sims[name].start())
    view: Folder | Bucket
    if storage == "directory":
        view, section = Folder(folder / "copies"), "[{id: primary, kind: directory, path: copies}]"
    else:
        name = f"campaign-{SystemChance().uuid()}"
        view, section = Bucket(shared.s3(), name), bucket_section(shared.s3(), name, folder)
    archive = make_archive(folder, sims, database, section, retention=f"{_RETENTION.days}d")
    since = f"backfill_from: {now - timedelta(days=4):%Y-%m-%d}"
    archive.path.write_text(re.sub(r"backfill_from: [0-9-]+", since, archive.path.read_text()))
    try:
        yield World(
            folder, sims, shared, storage, database, view, archive.path, canaries(sims) | key_canaries(folder), sabotage
        )
    finally:
        for sim in sims.values():
            shared.loop.run(sim.stop())


def key_canaries(folder: Path) -> dict[str, bytes]:
    """The archive's own keys."""
    sealing = (folder / "seal.key").read_bytes().strip()
    signing = (folder / "custody.pem").read_bytes().splitlines()[1]
    return {"the sealing key": base64.b64decode(sealing), "the sealing key in base64": sealing, "the host key": signing}


def bucket_section(client: Any, name: str, folder: Path) -> str:
    """The storage section for a bucket."""
    (folder / "s3").write_text(SECRET_KEY.reveal())
    (folder / "s3").chmod(0o400)
    return (
        f'[{{id: primary, kind: s3, endpoint: "{client.meta.endpoint_url}", bucket: {name}, prefix: {PREFIX}, '
        f"access_key: {ACCESS_KEY.reveal()}, secret_key: file:s3, object_lock: {{mode: compliance}}}}]"
    )
