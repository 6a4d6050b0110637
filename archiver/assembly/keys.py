"""Loads the configured keys: those that seal and open recordings, and those that sign their history."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from archiver import errors
from archiver.config import model
from archiver.custody.keys import derive_log_key, load_public_key, load_signing_key, public_hex
from archiver.seal.recipients import Identity, Recipient, load_identity, load_recipient
from archiver.translog.note import Signer
from archiver.translog.rotation import LogKeys, log_keys
from archiver.wall import Kind, Walls


def signing_key(config: model.Config) -> Ed25519PrivateKey:
    """The host's custody key."""
    return load_signing_key(config.custody.signing_key.resolve().reveal().encode())


def hosts(config: model.Config) -> frozenset[str]:
    """The host keys that may enrol writers, in hex: of this host and of the other hosts that write to the archive."""
    others = (load_public_key(each.resolve().reveal().encode()) for each in config.custody.hosts)
    before = (host for each in verifier_keys(config).rotations for host in each.hosts)
    return frozenset({public_hex(signing_key(config)), *map(public_hex, others), *before})


def log_signer(config: model.Config) -> Signer:
    """The signer of the log's checkpoints: with the configured key, or with one derived from this host's custody
    key."""
    name = log_name(config)
    given = config.custody.log_key
    key = (
        derive_log_key(signing_key(config), name)
        if given is None
        else load_signing_key(given.resolve().reveal().encode())
    )
    return Signer(name, key)


def log_name(config: model.Config) -> str:
    """The log's name, which is in each of its checkpoints."""
    return config.custody.origin or f"{config.instance}/custody"


def retiring_signer(config: model.Config) -> Signer | None:
    """The log's former key, which signs beside the present one as long as `custody.former_key` is configured."""
    former = config.custody.former_key
    if former is None:
        return None
    name, key = log_name(config), load_signing_key(former.resolve().reveal().encode())
    return Signer(name, key if config.custody.log_key is not None else derive_log_key(key, name))


def verifier_keys(config: model.Config) -> LogKeys:
    """The log's key, and its former keys by the notes in `custody.rotations`. Raises `ConfigurationError`."""
    try:
        return log_keys(log_signer(config).key, [each.read_bytes() for each in config.custody.rotations])
    except errors.VerificationError as wrong:
        raise errors.ConfigurationError(f"custody.rotations: {wrong.detail}") from wrong
    except OSError as failed:
        raise errors.ConfigurationError(f"custody.rotations: {failed.filename}: {failed.strerror}") from failed


def build_recipients(config: model.Config, walls: Walls) -> list[Recipient]:
    """All recipients of the recordings sealed from now on. Raises `ConfigurationError` or `KeyUnavailableError`."""
    found: list[Recipient] = []
    for each in config.encryption.recipients:
        if isinstance(each, model.KeyWrapRecipient):
            found.append(load_recipient(each.id, each.kind, each.key.resolve().reveal().encode()))
        elif each.kms is not None:
            from archiver.seal.kms import kms_recipient  # boto3 takes a while to load

            with walls.held(Kind.KEYS, each.id, "get_public_key"):
                found.append(
                    kms_recipient(each.id, each.kms.key_id, region=each.kms.region, endpoint=each.kms.endpoint)
                )
        else:
            assert each.public_key is not None
            found.append(load_recipient(each.id, each.kind, each.public_key.resolve().reveal().encode()))
    return found


def build_identities(config: model.Config, walls: Walls) -> list[Identity]:
    """The keys with which this host opens recordings; empty on a host that only writes."""
    found: list[Identity] = []
    for each in config.encryption.identities:
        if each.kms is not None:
            from archiver.seal.kms import KmsIdentity

            key = KmsIdentity(each.id, each.kms.key_id, region=each.kms.region, endpoint=each.kms.endpoint)
            found.append(walls.around(Kind.KEYS, each.id, key))
        else:
            secret = each.private_key or each.key
            assert secret is not None
            kind = "rsa-oaep-256" if each.private_key else "aes-kw-256"
            found.append(load_identity(each.id, kind, secret.resolve().reveal().encode()))
    return found
