"""The main job against the bound of the machine, and where the difference goes.

The bound is what nobody can go below in this process: bare socket copies from the same source and to a sink, two SHA-256 and
one AES-256-GCM over the same bytes. Beside it stands the script that people write instead.
"""

from __future__ import annotations

import hashlib
import io
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import boto3
import requests
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from sqlalchemy import func, select

from archiver.assembly.process import Assembly, assemble
from archiver.assembly.stores import s3_options
from archiver.config.model import Config, S3Storage
from archiver.daemon.supervise import Daemon
from archiver.demo.s3server import S3Server
from archiver.errors import Exit
from archiver.fetch.media import Sniffer
from archiver.ingest import journal, outcomes
from archiver.ingest.claims import Claim
from archiver.ingest.tables import recording
from archiver.recording import Lock, LockMode, Received, Sealed, Stored
from archiver.seal.cipher import Sealer
from archiver.store import layout
from archiver.store.s3 import S3Store
from archiver.store.s3_bucket import Bucket
from archiver.store.s3_upload import Item, in_parts, upload_parts, upload_single
from benchmarks.setting import ACCESS_KEY, PROVIDER, SECRET_KEY, Meter, Used, configure, new_bucket, peak_rss
from benchmarks.setting import spread as spread_of
from benchmarks.source import ACCOUNT, source

STEP = 1 << 20
STAGES = ("list", "fetch", "hash", "encrypt", "spool", "upload", "read-back", "database")
SAMPLE = 200_000_000  # bytes through each stage; the figures are per GB or per object all the same


@dataclass(frozen=True, slots=True)
class Run:
    """One repetition: the archive and, right after it, the bound and the usual script over the same bytes."""

    archive: Used
    bound: Used
    script: Used
    rss: float


async def main(count: int, size: int, concurrency: int, repetitions: int) -> None:
    """Run and print."""
    with (
        tempfile.TemporaryDirectory() as home,
        source(count, size) as port,
        S3Server(Path(home, "s3"), ACCESS_KEY, SECRET_KEY) as server,
    ):
        runs = []
        for number in range(repetitions):
            config = configure(Path(home, f"run{number}"), port, f"[{new_bucket(server)}]", concurrency)
            used, rss = await archive(config, count)
            runs.append(Run(used, bound(port, count, size), script(port, server, number, count, size), rss))
        show(runs, count, size, concurrency)
        sampled = max(1, min(count, SAMPLE // size))
        with source(sampled, size) as sample_port:
            config = configure(Path(home, "stages"), sample_port, f"[{new_bucket(server)}]", concurrency)
            show_stages(await stages(config), runs, count, sampled, size)


async def archive(config: Config, count: int) -> tuple[Used, float]:
    """One sweep, from assembling to the last recording archived, and the process's peak memory by then."""
    meter = Meter()
    assembly = await assemble(config)
    try:
        done = await Daemon(assembly).once()
        used = meter.read()
        by_state = await assembly.read(
            lambda conn: {
                row[0]: row[1]
                for row in conn.execute(select(recording.c.state, func.count()).group_by(recording.c.state))
            }
        )
    finally:
        await assembly.aclose()
    assert done.exit_code is Exit.OK, done
    assert by_state == {"archived": count}, by_state
    return used, peak_rss()


# --- the bound ------------------------------------------------------------------------------------------------


def bound(port: int, count: int, size: int) -> Used:
    """Socket to socket with two hashes and one encryption, in one thread, nothing allocated for each piece."""
    plain, sealed = memoryview(bytearray(STEP)), memoryview(bytearray(STEP + 16))
    meter = Meter()
    with socket.create_connection(("127.0.0.1", port)) as down, socket.create_connection(("127.0.0.1", port)) as up:
        for number in range(count):
            down.sendall(f"GET /v1/Account/{ACCOUNT}/Recording/{number}.wav HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            up.sendall(f"PUT /sink HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
            _answer(down)
            encryptor = Cipher(algorithms.AES(os.urandom(32)), modes.GCM(os.urandom(12))).encryptor()
            first, second, left = hashlib.sha256(), hashlib.sha256(), size
            while left:
                got = down.recv_into(plain, min(left, STEP), socket.MSG_WAITALL)
                assert got, "the source hung up"
                first.update(plain[:got])
                written = encryptor.update_into(plain[:got], sealed)
                second.update(sealed[:written])
                up.sendall(sealed[:written])
                left -= got
            encryptor.finalize()
            _answer(up)
    return meter.read()


def _answer(connection: socket.socket) -> None:
    """Read one answer's head, byte by byte at its end so that none of the body is taken."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        peeked = connection.recv(4096, socket.MSG_PEEK)
        assert peeked, "the source hung up"
        end = (head + peeked).find(b"\r\n\r\n")
        head += connection.recv(len(peeked) if end < 0 else end + 4 - len(head))
    assert b" 200 " in head.partition(b"\r\n")[0], head[:80]


# --- the usual script -------------------------------------------------------------------------------------------


def script(port: int, server: S3Server, number: int, count: int, size: int) -> Used:
    """What is written in an afternoon instead: requests, Fernet, boto3 with its defaults. No lock, record, check or retry."""
    keys = {"aws_access_key_id": server.access_key.reveal(), "aws_secret_access_key": server.secret_key.reveal()}
    client = boto3.client("s3", endpoint_url=server.endpoint, region_name="us-east-1", **keys)
    bucket = f"script-{number}"
    client.create_bucket(Bucket=bucket)
    fernet = Fernet(Fernet.generate_key())
    meter = Meter()
    for each in range(count):
        answer = requests.get(f"http://127.0.0.1:{port}/v1/Account/{ACCOUNT}/Recording/{each}.wav", timeout=60)
        assert len(answer.content) == size
        client.put_object(Bucket=bucket, Key=str(each), Body=fernet.encrypt(answer.content))
    used = meter.read()
    client.close()
    return used


# --- the stages -----------------------------------------------------------------------------------------------


class _Discard(io.RawIOBase):
    """A file that takes everything and keeps nothing."""

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        return len(data)  # type: ignore[arg-type]  # the sealer writes bytes and memoryviews


class Stages:
    """CPU seconds by stage: each alone, one object after the other, no concurrency."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        meter = Meter()
        yield
        self._seconds[name] += meter.read().cpu

    def __getitem__(self, name: str) -> float:
        return self._seconds[name]


async def stages(config: Config) -> Stages:
    """Every recording of the source through every stage by the real code of that stage."""
    measured = Stages()
    assembly = await assemble(config)
    settings = config.storage[0]
    assert isinstance(settings, S3Storage)
    bucket = Bucket(s3_options(settings))
    try:
        store = assembly.destinations[0].store
        assert isinstance(store, S3Store)
        assert (await store.probe()).trusted
        with measured.stage("list"):
            assert await assembly.pollers[PROVIDER].poll()
        claimed = await _claim(assembly, measured)
        while claimed:
            for held in claimed:
                await _one(assembly, store, bucket, held, measured)
            claimed = await _claim(assembly, measured)
    finally:
        bucket.close()
        await assembly.aclose()
    return measured


async def _claim(assembly: Assembly, measured: Stages) -> list[Claim]:
    """One by one, as the daemon does once it is under way."""
    with measured.stage("database"):
        return await assembly.writer.run(
            lambda conn: journal.claim(
                conn, PROVIDER, assembly.replica_id, assembly.spool.id, 1, fetching=True, storing=True
            )
        )


async def _one(assembly: Assembly, store: S3Store, bucket: Bucket, held: Claim, measured: Stages) -> None:
    began = assembly.clock.now()
    with measured.stage("fetch"):
        link = assembly.context.links.fresh(held.id, began)
        async with assembly.providers[PROVIDER].open(held.ref, link) as media:
            chunks = [chunk async for chunk in media.chunks()]
    size = sum(map(len, chunks))
    with measured.stage("hash"):
        digest, sniffer = hashlib.sha256(), Sniffer()
        for chunk in chunks:
            digest.update(chunk)
            sniffer.feed(chunk)
        facts = sniffer.findings().media
    with measured.stage("encrypt"):
        sealer = Sealer(_Discard(), assembly.context.recipients, assembly.chance, size)  # type: ignore[arg-type]
        for chunk in chunks:
            sealer.write(chunk)
        result = sealer.finish()
    with measured.stage("spool"), assembly.spool.part(size) as part:
        for chunk in chunks:
            part.file.write(chunk)
        path = assembly.spool.commit(part)
    # What lies in the spool here is the plaintext: as many bytes as the sealed object to within its frame.
    sealed = Sealed(
        path, size, digest.hexdigest(), size, digest.hexdigest(), result.recipients, result.wrapped_key_sha256
    )
    until = (began + timedelta(days=2)).replace(microsecond=0)
    key = layout.object_key("calls/", layout.recording_key(held.id, sealed.sealed_sha256, held.situation.called_at))
    item = Item(key, path, size, sealed.sealed_sha256, Lock(LockMode.COMPLIANCE, until))
    options = assembly.config.storage[0]
    assert isinstance(options, S3Storage)
    parted = in_parts(item, store.profile, s3_options(options))
    with measured.stage("upload"):
        if parted:
            version = upload_parts(bucket, item, store.profile, s3_options(options).part_size)
        else:
            version = upload_single(bucket, item, store.profile)
    with measured.stage("read-back"):
        head = bucket.head(key, version)
        assert head is not None
        if parted or not (store.profile.checksum_proves and head.sha256):
            again = hashlib.sha256()
            for piece in bucket.read(key, version):
                again.update(piece)
            assert again.hexdigest() == sealed.sealed_sha256
    with measured.stage("spool"):
        assembly.spool.remove(path.name)
    now = assembly.clock.now()
    received = Received(size, sealed.plaintext_sha256, 200, "audio/wav", None, facts, frozenset(), began, now)
    stored = Stored(
        "primary",
        bucket.name,
        key,
        version,
        size,
        sealed.sealed_sha256,
        LockMode.COMPLIANCE,
        until,
        checked_by="full-read",
    )
    ledger = assembly.ledger
    with measured.stage("database"):
        await assembly.writer.run(
            lambda conn: outcomes.fetched(conn, ledger, held, received, sealed, spool_id=assembly.spool.id)
        )
        await assembly.writer.run(
            lambda conn: outcomes.archived(conn, ledger, held, [stored], now, retain_until=until, rule="default")
        )


# --- what is printed ------------------------------------------------------------------------------------------


def show(runs: list[Run], count: int, size: int, concurrency: int) -> None:
    gigabytes = count * size / 1e9
    ratio = [each.archive.cpu / each.bound.cpu for each in runs]
    print(f"\narchive: {count} × {size:,} bytes, {concurrency} at a time, {len(runs)} repetitions (min / median / max)")
    print(f"  wall                {spread_of([each.archive.wall for each in runs])} s")
    print(f"  objects per second  {spread_of([count / each.archive.wall for each in runs], 1)}")
    print(f"  CPU per GB          {spread_of([each.archive.cpu / gigabytes for each in runs])} s")
    print(f"  CPU per object      {spread_of([each.archive.cpu / count * 1000 for each in runs])} ms")
    print(f"  bound, CPU per GB   {spread_of([each.bound.cpu / gigabytes for each in runs])} s")
    print(f"  total / bound       {spread_of(ratio)}")
    print(f"  script, CPU per GB  {spread_of([each.script.cpu / gigabytes for each in runs])} s")
    print(f"  script / bound      {spread_of([each.script.cpu / each.bound.cpu for each in runs])}")
    print(f"  total / script      {spread_of([each.archive.cpu / each.script.cpu for each in runs])}")
    print(f"  script, per second  {spread_of([count / each.script.wall for each in runs], 1)}")
    print(f"  peak memory         {runs[0].rss:.0f} MiB after the first", flush=True)


def show_stages(measured: Stages, runs: list[Run], count: int, sampled: int, size: int) -> None:
    total = sorted(each.archive.cpu for each in runs)[len(runs) // 2] / count
    print(f"\n  stages, each alone over {sampled} objects       CPU ms/object   s/GB   share of the total")
    rows = [(name, measured[name] / sampled) for name in STAGES]
    for name, seconds in [*rows, ("not in a stage", total - sum(each for _, each in rows))]:
        print(f"    {name:<42} {seconds * 1e3:10.2f} {seconds / size * 1e9:8.2f} {seconds / total:12.0%}", flush=True)
