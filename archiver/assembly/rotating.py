"""Replaces the custody key: the old log key introduces the new one, in the log and in a note for everybody.

Order of effects: the event with the note, which is the decision; the note's file; a checkpoint over the event that both
keys signed, and the note beside it in the storages. After a death anywhere behind the event, running the command again
finds the event and goes on. A daemon with the old key signs nothing more from the event on, and goes on saving
recordings.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from archiver import durable, errors
from archiver.assembly.keys import log_name, log_signer, signing_key, verifier_keys
from archiver.assembly.log import NOTARY
from archiver.assembly.session import Archive, Session
from archiver.custody.event import ARCHIVE, Type
from archiver.custody.keys import derive_log_key, public_hex
from archiver.custody.ledger import Appended, Ledger
from archiver.database import Connection, read
from archiver.recording import Json
from archiver.translog import publication_rows, reader
from archiver.translog.notary import Notary
from archiver.translog.note import Signer
from archiver.translog.rotation import Rotation, introduce, log_keys

_PATIENCE = timedelta(minutes=2)


async def rotate(archive: Archive, new_key: Ed25519PrivateKey, note: Path) -> Rotation:
    """Let the configured key introduce `new_key`, and write the note into the file `note`. Stop every daemon first.

    Where the log has a key of its own, `custody.log_key`, that key is replaced and the host's key stays. May be run
    again after an interruption. Raises what `Archive.session` raises; `NotAllowedError` for the key that is configured
    already.
    """
    config = archive.config
    name, own = log_name(config), config.custody.log_key is not None
    old, new = log_signer(config), Signer(name, new_key if own else derive_log_key(new_key, name))
    host = public_hex(signing_key(config) if own else new_key)
    if old.key == new.key:
        raise errors.NotAllowedError("this is the key that is configured already")
    engine = await archive.database()
    archive.lock()
    found = await read(engine, lambda conn: _found(conn, new))
    if found is None:
        session = await archive.session()
        found = await session.once(lambda conn, ledger: _decide(conn, ledger, session, old, new, host))
    rotation, said = found
    durable.replace(note, rotation.note, 0o644)
    await _publish(archive, rotation, said, old, new)
    return rotation


def _found(conn: Connection, new: Signer) -> tuple[Rotation, Appended] | None:
    """The rotation to this key that an earlier run decided; None without one."""
    last = publication_rows.newest_rotation(conn)
    return last if last is not None and last[0].new == new.key else None


def _decide(
    conn: Connection, ledger: Ledger, session: Session, old: Signer, new: Signer, new_host: str
) -> tuple[Rotation, Appended]:
    size, root = reader.tree(conn, session.log.log_id)
    rotation = introduce(old, new, (public_hex(session.host_key), new_host), size, root)
    data: dict[str, Json] = {"old": old.key.vkey, "new": new.key.vkey, "size": size, "note": rotation.note.decode()}
    return rotation, ledger.append(conn, ARCHIVE, Type.LOG_KEY_ROTATED, data, actor_kind="operator")


async def _publish(archive: Archive, rotation: Rotation, said: Appended, old: Signer, new: Signer) -> None:
    config = archive.config
    notes = [*(each.note for each in verifier_keys(config).rotations), rotation.note]
    keys = log_keys(new.key, notes)
    notary = Notary(Path(config.state_dir) / NOTARY, new, archive.clock, keys=keys, beside=old)
    session = await archive.session(notary=notary)
    await session.enrol()
    await session.publish([said], _PATIENCE)
    await session.retire()


def new_signing_key(path: Path, pem: bytes) -> None:
    """Write a new private key into a file of its own, whole or not at all. A file that exists stays as it is."""
    with contextlib.suppress(FileExistsError):
        durable.create(path, pem)
