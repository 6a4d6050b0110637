"""Opens once, as the daemon would, the files that a configuration names: keys, certificates, channels. Asks nobody."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from archiver.errors import ArchiverError, ConfigurationError

if TYPE_CHECKING:
    from archiver.clock import Clock
    from archiver.config.load import Loaded
    from archiver.config.model import Config
    from archiver.config.problem import Problem
    from archiver.config.secrets import SecretRef

_KEY = "archiver init makes good keys"
_At: TypeAlias = "Callable[..., AbstractContextManager[None]]"


def doubts(loaded: Loaded, clock: Clock) -> list[Problem]:
    """Return a problem, `C112`, for everything that is where the configuration says, but is not of the right kind."""
    from archiver.config.explain import written_at

    found: list[Problem] = []

    @contextmanager
    def at(*place: str | int, hint: str = "") -> Iterator[None]:
        try:
            yield
        except ArchiverError as problem:
            written = written_at(loaded.document, place)
            found.append(loaded.document.problem("C112", written, problem.detail, hint))

    if loaded.config is not None:
        _custody(loaded.config, at)
        _encryption(loaded.config, at)
        _others(loaded.config, at, clock)
        found += _database(loaded, loaded.config)
    return found


def _database(loaded: Loaded, config: Config) -> Iterator[Problem]:
    from archiver.config.explain import written_at
    from archiver.config.problem import Severity
    from archiver.database.transport import tls_doubt

    doubt = tls_doubt(config.database.resolve().reveal())
    if doubt is not None:
        hint = "Leave sslmode out: verify-full is what is meant then; sslrootcert=FILE names a certificate authority of your own"
        place = written_at(loaded.document, ("database",))
        yield loaded.document.problem("C214", place, doubt, hint, severity=Severity.WARNING)


def _custody(config: Config, at: _At) -> None:
    from archiver.assembly.keys import verifier_keys
    from archiver.assembly.log import certificates, witness_key
    from archiver.custody.keys import load_public_key, load_signing_key
    from archiver.translog.timestamp import load_roots

    custody = config.custody
    with at("custody", "signing_key", hint=_KEY):
        load_signing_key(_bytes(custody.signing_key))
    if custody.log_key is not None:
        with at("custody", "log_key", hint=_KEY):
            load_signing_key(_bytes(custody.log_key))
    if custody.former_key is not None:
        with at("custody", "former_key", hint="what signing_key was before `archiver keys rotate custody`"):
            load_signing_key(_bytes(custody.former_key))
    if custody.rotations:
        with at("custody", "rotations", hint="the notes that `archiver keys rotate custody` wrote, all of them"):
            verifier_keys(config)
    for index, host in enumerate(custody.hosts):
        with at("custody", "hosts", index, hint="the public half of that host's custody key"):
            load_public_key(_bytes(host))
    for index, witness in enumerate(custody.witnesses):
        with at("custody", "witnesses", index, "key", hint="as `archiver witness` prints it"):
            witness_key(witness.key)
    if custody.timestamp is not None and custody.timestamp.ca is not None:
        with at("custody", "timestamp", "ca", hint="certificates in PEM, the authority's root among them"):
            load_roots(certificates(custody.timestamp.ca))


def _encryption(config: Config, at: _At) -> None:
    from archiver.seal.recipients import Recipient, load_identity, load_recipient, opens

    kinds = {each.id: each.kind for each in config.encryption.recipients}
    recipients: dict[str, Recipient] = {}
    for index, each in enumerate(config.encryption.recipients):
        name = "public_key" if each.kind == "rsa-oaep-256" else "key"
        ref: SecretRef | None = getattr(each, name)
        if ref is not None:
            with at("encryption", "recipients", index, name, hint=_KEY):
                recipients[each.id] = load_recipient(each.id, each.kind, _bytes(ref))
    for index, own in enumerate(config.encryption.identities):
        ref = own.private_key or own.key
        if ref is None:
            continue
        name = "private_key" if own.private_key else "key"
        with at("encryption", "identities", index, name, hint="it must be the other half of the recipient with its id"):
            identity = load_identity(own.id, kinds[own.id], _bytes(ref))
            recipient = recipients.get(own.id)
            if recipient is not None and not opens(identity, recipient):
                raise ConfigurationError(f"{own.id}: this key does not open what is sealed to the recipient")


def _others(config: Config, at: _At, clock: Clock) -> None:
    from archiver.assembly.alerts import build_channel

    for index, each in enumerate(config.storage):
        bundle: Path | None = getattr(each, "ca_bundle", None)
        if bundle is not None:
            with at("storage", index, "ca_bundle", hint="certificates in PEM"):
                _certificates(bundle)
    for index, channel in enumerate(config.alerting.channels):
        with at("alerting", "channels", index, hint="see docs/reference/configuration.md"):
            build_channel(channel, clock)


def _certificates(path: Path) -> None:
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise ConfigurationError(f"{path} holds no certificates") from None
    except OSError as problem:
        raise ConfigurationError(f"{path} cannot be read: {problem.strerror}") from problem


def _bytes(ref: SecretRef) -> bytes:
    return ref.resolve().reveal().encode()
