"""What the keys of `storage` do, as the storage itself is asked and shows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from archiver.clock import SystemClock
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import Account, month_of_calls, samples
from archiver.demo.simulators.server import Simulator
from tests.acceptance.archive import Archive, make_archive
from tests.acceptance.cli import archiver
from tests.acceptance.test_archive import s3
from tests.fixtures_s3 import NewBucket
from tests.http_servers import Authority, answer, authority, says, serve
from tests.lying_s3 import Answer, Call, LyingS3, Onward


@pytest.fixture
async def plivo() -> AsyncIterator[dict[str, Simulator]]:
    """One provider with two calls."""
    clock = SystemClock()
    sim = fleet.fleet(clock, samples(), count=0)["plivo"]
    sim.account = Account(month_of_calls("plivo", seed=5, count=2, audio=samples(), until=clock.now(), days=5))
    async with sim:
        yield {"plivo": sim}


def behind(lying_s3: LyingS3, new_bucket: NewBucket, folder: Path, more: str) -> str:
    """The storage section for a fresh bucket that is reached through the proxy, with `more` keys."""
    from dataclasses import replace

    section = s3(replace(new_bucket(), endpoint=lying_s3.endpoint), folder)
    return section.replace("[{", f"[{{{more}, ")


async def once(archive: Archive) -> None:
    told = await asyncio.to_thread(archiver, "-c", archive.path, "run", "--once")
    assert told.returncode == 0, told.stderr


def named(headers: dict[str, str], name: str) -> str | None:
    return next((value for header, value in headers.items() if header.lower() == name), None)


@pytest.mark.effect("storage[](s3).storage_class")
async def test_storage_class_is_that_of_recordings_and_of_nothing_that_is_read_at_any_time(
    plivo: dict[str, Simulator], lying_s3: LyingS3, new_bucket: NewBucket, sqlite_url: str, tmp_path: Path
) -> None:
    asked: dict[str, str | None] = {}

    def note(call: Call, onward: Onward) -> Answer | None:
        if call.operation in {"PutObject", "CreateMultipartUpload"}:
            asked[call.path] = named(call.headers, "x-amz-storage-class")
        return onward(call.without("x-amz-storage-class"))

    lying_s3.lie(note)
    storage = behind(lying_s3, new_bucket, tmp_path, "storage_class: GLACIER_IR")
    await once(make_archive(tmp_path, plivo, sqlite_url, storage))
    kinds: dict[str, set[str | None]] = {}
    for path, storage_class in asked.items():
        kinds.setdefault(path.split("/")[3], set()).add(storage_class)
    assert kinds.pop("recordings") == {"GLACIER_IR"}
    assert kinds == {"canary": {None}, "custody": {None}, "catalogue": {None}}


OWNER = "111122223333"


def owned(call: Call, onward: Onward) -> Answer | None:
    """What AWS does with a bucket of that owner."""
    if named(call.headers, "x-amz-expected-bucket-owner") in {None, OWNER}:
        return onward(call.without("x-amz-expected-bucket-owner"))
    return Answer(403, {}, b"<Error><Code>AccessDenied</Code></Error>")


@pytest.mark.effect("storage[](s3).bucket_owner")
async def test_every_call_names_the_owner_and_a_bucket_of_another_owner_gets_nothing(
    plivo: dict[str, Simulator], lying_s3: LyingS3, new_bucket: NewBucket, sqlite_url: str, tmp_path: Path
) -> None:
    lying_s3.lie(owned)
    archive = make_archive(
        tmp_path, plivo, sqlite_url, behind(lying_s3, new_bucket, tmp_path, f'bucket_owner: "{OWNER}"')
    )
    await once(archive)
    assert {row["state"] for row in await archive.rows()} == {"archived"}
    owners = [named(headers, "x-amz-expected-bucket-owner") for headers in lying_s3.headers]
    assert set(owners) == {OWNER, "000000000000"}
    assert owners.count("000000000000") == 1  # the probe's own question, whether owners are checked at all
    # The same name, but somebody else's bucket.
    archive.path.write_text(archive.path.read_text().replace(OWNER, "444455556666"))
    before = len(lying_s3.calls)
    told = await asyncio.to_thread(archiver, "-c", archive.path, "check", "--online")
    assert told.returncode == 69
    assert "may not use this bucket" in told.stdout
    assert "PutObject" not in lying_s3.calls[before:]


async def test_a_storage_that_ignores_the_expected_owner_is_said_to_do_so(
    plivo: dict[str, Simulator], lying_s3: LyingS3, new_bucket: NewBucket, sqlite_url: str, tmp_path: Path
) -> None:
    lying_s3.lie(lambda call, onward: onward(call.without("x-amz-expected-bucket-owner")))
    storage = behind(lying_s3, new_bucket, tmp_path, f'bucket_owner: "{OWNER}"')
    archive = make_archive(tmp_path, plivo, sqlite_url, storage)
    told = await asyncio.to_thread(archiver, "-c", archive.path, "check", "--online")
    assert "bucket_owner protects nothing here" in told.stdout


@pytest.mark.effect("storage[](s3).sse.mode", "storage[](s3).sse.key_id")
async def test_every_upload_asks_for_the_encryption_that_is_said(
    plivo: dict[str, Simulator], lying_s3: LyingS3, new_bucket: NewBucket, sqlite_url: str, tmp_path: Path
) -> None:
    asked: set[tuple[str | None, str | None]] = set()

    def note(call: Call, onward: Onward) -> Answer | None:
        if call.operation in {"PutObject", "CreateMultipartUpload"}:
            asked.add(
                (
                    named(call.headers, "x-amz-server-side-encryption"),
                    named(call.headers, "x-amz-server-side-encryption-aws-kms-key-id"),
                )
            )
        return onward(call.without("x-amz-server-side-encryption"))

    lying_s3.lie(note)
    storage = behind(lying_s3, new_bucket, tmp_path, "sse: {mode: 'aws:kms', key_id: alias/acme}")
    await once(make_archive(tmp_path, plivo, sqlite_url, storage))
    assert asked == {("aws:kms", "alias/acme")}


@pytest.mark.effect(
    "storage[](s3).kind", "storage[](s3).id", "storage[](s3).endpoint", "storage[](s3).bucket", "storage[](s3).prefix",
    "storage[](s3).access_key", "storage[](s3).secret_key", "storage[](s3).object_lock.mode",
    "storage[](s3).required", "storage[](directory).kind", "storage[](directory).id", "storage[](directory).path",
    "storage[](directory).required",
)  # fmt: skip
async def test_copies_lie_where_and_are_locked_as_is_said_and_only_a_required_one_holds_things_up(
    plivo: dict[str, Simulator], new_bucket: NewBucket, sqlite_url: str, tmp_path: Path
) -> None:
    options = new_bucket()
    bucket = s3(options, tmp_path, mode="governance").replace("prefix: calls/", "prefix: of-acme/")
    bucket = bucket.replace("id: primary", "id: frankfurt").removesuffix("]")
    (tmp_path / "broken").write_text("no folder")
    broken = "{id: broken, kind: directory, path: broken, required: REQUIRED}"
    storage = f"{bucket}, {{id: worm, kind: directory, path: folder, required: false}}, {broken}]"
    archive = make_archive(tmp_path, plivo, sqlite_url, storage.replace("REQUIRED", "true"))
    told = await asyncio.to_thread(archiver, "-c", archive.path, "run", "--once")
    assert told.returncode != 0
    assert {row["state"] for row in await archive.rows()} == {"spooled"}, "a required copy is lacking"
    archive.path.write_text(archive.path.read_text().replace("required: true", "required: false"))
    await asyncio.to_thread(archiver, "-c", archive.path, "run", "--once")
    for row in await archive.rows():
        copies = row["copies"]
        assert isinstance(copies, list)
        assert row["state"] == "archived"
        assert sorted((each["storage"], each["lock_mode"]) for each in copies) == [
            ("frankfurt", "governance"), ("worm", "off"),
        ]  # fmt: skip
        (remote,) = (each for each in copies if each["storage"] == "frankfurt")
        assert (remote["bucket"], remote["key"].startswith("of-acme/recordings/")) == (options.bucket, True)
        assert list((tmp_path / "folder").rglob(remote["key"].rpartition("/")[2] + "*"))
    wrong = archive.path.read_text()
    assert options.access_key is not None
    archive.path.write_text(wrong.replace(options.access_key.reveal(), "somebody-else"))
    told = await asyncio.to_thread(archiver, "-c", archive.path, "check", "--online")
    assert (told.returncode, "wrong keys" in told.stdout) == (69, True)


class _Listener:
    """An HTTPS server that writes down what an S3 client says to it, and refuses it."""

    def __init__(self, ca: Authority) -> None:
        self.ca = ca

    async def heard(self, archive: Archive, more: str) -> str:
        no = answer(403, b"<Error><Code>AccessDenied</Code></Error>", "Content-Type: application/xml")
        async with serve(says(no), tls=self.ca.context(names=("127.0.0.1", "localhost", "acme.localhost"))) as server:
            keys = (
                f"endpoint: 'https://localhost:{server.port}', bucket: acme, access_key: AKEXAMPLE, secret_key: file:s3"
            )
            text = archive.path.read_text()
            start = text.index("storage: ")
            end = text.index("\n", start)
            archive.path.write_text(f"{text[:start]}storage: {{kind: s3, {keys}, {more}}}{text[end:]}")
            await asyncio.to_thread(archiver, "-c", archive.path, "check", "--online")
            return "".join(asked.raw.decode("latin-1") for asked in server.asked)


@pytest.mark.effect(
    "storage[](s3).region", "storage[](s3).session_token", "storage[](s3).ca_bundle", "storage[](s3).addressing"
)
async def test_requests_are_signed_for_the_region_with_the_session_and_go_to_a_server_of_the_trusted_authority(
    plivo: dict[str, Simulator], sqlite_url: str, tmp_path: Path
) -> None:
    archive = make_archive(tmp_path, plivo, sqlite_url, "{kind: directory, path: copies}")
    for name in ("s3", "session"):
        (tmp_path / name).write_text(f"secret-{name}")
        (tmp_path / name).chmod(0o400)
    listener = _Listener(authority(tmp_path))
    more = "region: eu-west-7, session_token: file:session, ca_bundle: ca.pem, addressing: path"
    said = await listener.heard(archive, more)
    assert "/eu-west-7/s3/aws4_request" in said
    assert "x-amz-security-token: secret-session" in said.lower()
    assert " /acme" in said
    assert "host: localhost:" in said.lower()
    assert await listener.heard(archive, "addressing: path") == "", "no authority that this machine trusts"
    virtual = await listener.heard(archive, "ca_bundle: ca.pem, addressing: virtual")
    assert " /acme" not in virtual, "the bucket stands in the name of the host, which only some machines resolve"
