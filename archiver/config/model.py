"""The model of the configuration. Its keys, with defaults and meanings, are defined here and in the modules imported
here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from archiver.config.alerting import Alerting
from archiver.config.fields import (
    DatabaseUrl,
    Duration,
    FilePath,
    Flag,
    Ident,
    Interval,
    IntervalOrNever,
    KeyRef,
    Listen,
    Origin,
    PublicRef,
    Size,
    Text,
    TextOrRef,
    TokenRef,
    Url,
    matching,
    whole,
)
from archiver.config.provider import AnyProvider
from archiver.config.retention import Retention
from archiver.config.secrets import Scheme, SecretRef
from archiver.config.section import Conflict, Section, exactly_one, mappings, none, twice
from archiver.config.values import Size as SizeValue
from archiver.config.values import quoted
from archiver.recording import LockMode


class Defaults(Section):
    """Settings of every provider that does not state its own."""

    poll_every: Interval = timedelta(minutes=10)
    """The time between two polls for new recordings."""
    overlap: Duration = timedelta(hours=24)
    """The length of time already covered that each poll lists again, so that late rows are found."""
    safety_margin: Duration = timedelta(hours=72)
    """The safety margin: a recording must be archived this long before the provider's deadline."""
    concurrency: Annotated[int, whole(1, 64)] = 4
    """Downloads at the same time, per provider."""
    max_size: Size = SizeValue(2 * 2**30)
    """The largest recording that is fetched; larger ones are refused, and shown as gaps."""


class ObjectLock(Section):
    """The storage's protection of objects until their retention ends."""

    mode: Annotated[LockMode, Field(title="lock mode")] = LockMode.COMPLIANCE
    """`compliance`: nobody can shorten the lock, not even the root account. `governance`: users with a special right
    can. `off`: no protection."""


class ServerSideEncryption(Section):
    """Encryption by the storage itself, in addition to the archiver's."""

    mode: Annotated[Literal["AES256", "aws:kms"], Field(title="encryption mode")]
    """`AES256` or `aws:kms`."""
    key_id: Text | None = None
    """KMS key, for `aws:kms`."""


class S3Storage(Section):
    """A bucket made with Object Lock, at AWS or at any server that speaks S3."""

    kind: Literal["s3"]
    """`s3`"""
    id: Ident = "primary"
    """Stable name of the storage, which evidence contains. Never rename it."""
    endpoint: Origin | None = None
    """Scheme, host and port; without it, AWS."""
    region: Text = "us-east-1"
    """Region."""
    bucket: Annotated[
        str, matching(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}", "a bucket's name", "3 to 63 letters, digits, hyphens")
    ]
    """Bucket."""
    bucket_owner: Annotated[str, matching(r"[0-9]{12}", "an AWS account", "its number, 12 digits")] | None = None
    """AWS account that must own the bucket: every call names it, and a bucket of another account refuses the call."""
    prefix: Annotated[
        str, matching(r"[a-z0-9][a-z0-9/_-]{0,80}", "a key prefix", "lower-case letters, digits, / _ -")
    ] = ""
    """Prefix of every object's key."""
    access_key: TextOrRef | None = None
    """Access key id; without it, the role of the machine or pod."""
    secret_key: TokenRef | None = None
    """Secret access key."""
    session_token: TokenRef | None = None
    """Session token, with temporary keys."""
    ca_bundle: FilePath | None = None
    """Certificates to trust instead of the system's."""
    addressing: Annotated[Literal["auto", "path", "virtual"], Field(title="addressing style")] = "auto"
    """Position of the bucket's name in URLs: in the path, or in the host (`virtual`)."""
    object_lock: ObjectLock = ObjectLock()
    """Protection of objects."""
    storage_class: Text = "STANDARD"
    """Storage class of recordings. Objects needed at any time (custody log, catalogue, canaries) have the standard
    class."""
    sse: ServerSideEncryption | None = None
    """Server-side encryption of new objects."""
    required: Flag = True
    """A recording counts as archived only with a copy here. One storage at least is required."""

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        for one, other in (("access_key", "secret_key"), ("secret_key", "access_key"), ("session_token", "access_key")):
            if one in given and other not in given:
                yield Conflict((), "C102", f"missing key '{other}'", f"it goes with {one}")


class DirectoryStorage(Section):
    """A folder, e.g. on a WORM file system. The archiver itself cannot prevent anyone from changing it."""

    kind: Literal["directory"]
    """`directory`"""
    id: Ident = "primary"
    """Stable name of the storage, which evidence contains. Never rename it."""
    path: FilePath
    """Folder."""
    required: Flag = True
    """A recording counts as archived only with a copy here. One storage at least is required."""


class Kms(Section):
    """An RSA key in AWS KMS."""

    key_id: Text
    """Key id, ARN or alias."""
    region: Text
    """Region."""
    endpoint: Origin | None = None
    """Scheme, host and port; without it, AWS."""


class RsaRecipient(Section):
    """An RSA key, 3072 bits or more. The daemon needs only the public half."""

    id: Ident
    """Name of the key in evidence."""
    kind: Literal["rsa-oaep-256"]
    """`rsa-oaep-256`"""
    public_key: PublicRef | None = None
    """Public key or certificate, PEM."""
    kms: Kms | None = None
    """The key in AWS KMS, instead of `public_key`."""
    escrow: Flag = False
    """The private key is kept offline, for the day when all other keys are lost."""

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        yield from exactly_one(given, "public_key", "kms")


class KeyWrapRecipient(Section):
    """A local AES key, for the demo and small sites: a host that can seal recordings can also open them."""

    id: Ident
    """Name of the key in evidence."""
    kind: Literal["aes-kw-256"]
    """`aes-kw-256`"""
    key: KeyRef
    """32 bytes in base64."""
    escrow: Flag = False
    """A copy of the key is kept offline, for the day when all other keys are lost."""


class Identity(Section):
    """A key that opens recordings; configure it only on hosts that may open them."""

    id: Ident
    """Id of the recipient whose other half this key is."""
    private_key: KeyRef | None = None
    """RSA private key, PEM (PKCS#8)."""
    key: KeyRef | None = None
    """AES key, 32 bytes in base64."""
    kms: Kms | None = None
    """RSA key in AWS KMS."""

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        yield from exactly_one(given, "private_key", "key", "kms")


AnyRecipient: TypeAlias = RsaRecipient | KeyWrapRecipient


class Encryption(Section):
    """The keys that can open recordings."""

    recipients: Annotated[tuple[Annotated[AnyRecipient, Field(discriminator="kind")], ...], Field(title="recipient")]
    """Recipients of every recording; each of them alone can open it."""
    identities: tuple[Identity, ...] = ()
    """Keys with which this host opens recordings; none on a host that only writes."""

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        yield from none(given, "recipients")
        yield from twice(given, "recipients")
        known = [each.get("id") for _, each in mappings(given, "recipients")]
        for index, each in mappings(given, "identities"):
            name = each.get("id")
            if name is not None and name not in known:
                message = f"no recipient has the id {quoted(name)}"
                yield Conflict(
                    ("identities", index, "id"), "C130", message, "an identity is the other half of a recipient"
                )


class Timestamp(Section):
    """Time stamps by a third party (RFC 3161)."""

    url: Url
    """Time-stamping authority."""
    every: Interval = timedelta(hours=1)
    """Time between two time stamps."""
    ca: FilePath | None = None
    """Root certificates of the authority's tokens, PEM; without this key, the system's."""


class Witness(Section):
    """A third party that cosigns the log's checkpoints (C2SP tlog-witness)."""

    url: Url
    """The witness's submission prefix, to which `/add-checkpoint` is added."""
    key: Text
    """The witness's verifier key: name+hash+key."""


class Custody(Section):
    """The record of each recording's history, and the log that proves it."""

    signing_key: KeyRef
    """Ed25519 private key, PEM (PKCS#8), that signs the chain of custody for this host."""
    hosts: tuple[PublicRef, ...] = ()
    """Public halves, PEM, of the custody keys of the other hosts that write to this archive."""
    origin: Annotated[
        str | None,
        matching(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,200}", "the name of a log", "letters, digits, . _ - /, no space or +"),
    ] = None
    """Name of the log in its checkpoints; `<instance>/custody` unless stated. Never rename it."""
    rotations: tuple[FilePath, ...] = ()
    """Notes in which a key of the log introduced its successor, as `archiver keys rotate custody` wrote them; they are
    public."""
    former_key: KeyRef | None = None
    """The former `signing_key` (or `log_key`, if there is one): it signs checkpoints beside the new key until you
    remove it."""
    log_key: KeyRef | None = None
    """Ed25519 private key, PEM, that signs checkpoints, the same on every host; derived from `signing_key` unless
    stated."""
    checkpoint_every: Interval = timedelta(seconds=10)
    """Time between two signed and published checkpoints while the log grows."""
    timestamp: Timestamp | None = None
    """Time stamps over checkpoints."""
    witnesses: tuple[Witness, ...] = ()
    """Third parties that cosign checkpoints."""


class Spool(Section):
    """Sealed recordings on disk that wait for a storage."""

    quota: Size = SizeValue(20 * 2**30)
    """The size of the spool at which fetching pauses."""


class Verify(Section):
    """The daemon's own re-reading of what it archived."""

    every: IntervalOrNever = timedelta(days=90)
    """The time within which each copy is read whole again, with its lock: version, size, digest, and what else stands
    under its key. Reading costs what the storage charges for it. `never`: nothing is read unless somebody calls
    `archiver verify`."""


class Web(Section):
    """Health, metrics and status over HTTP."""

    listen: Listen
    """Host and port; there is no authentication, so keep it to this machine or a trusted network."""
    names: Annotated[tuple[str, ...], Field(title="host names")] = ()
    """Other host names under which clients call this server, such as a service name. Loopback, addresses and this
    host's name are always accepted; any other name gets the answer 421."""


class Logging(Section):
    """The log, which goes to standard output."""

    format: Annotated[Literal["auto", "json", "text"], Field(title="log format")] = "auto"
    """`auto`: text on a terminal, JSON elsewhere."""
    level: Annotated[Literal["debug", "info", "warning", "error"], Field(title="log level")] = "info"
    """The lowest level that is logged."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The pace at which one provider is polled and fetched: its own settings before the defaults.

    `cron`, when set, replaces `every`.
    """

    every: timedelta
    cron: str | None
    overlap: timedelta
    safety_margin: timedelta
    concurrency: int
    max_size: int


def _as_list(given: Any) -> Any:
    return [given] if isinstance(given, Mapping) else given


def _version(given: Any) -> Any:
    return 1 if given == "1" else given


class Config(Section):
    """The whole file."""

    version: Annotated[Literal[1], BeforeValidator(_version), Field(title="version of the configuration format")]
    """Format of this file."""
    instance: Annotated[str, matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", "a name", "letters, digits, hyphens")] = (
        "archiver"
    )
    """Name of this archive in logs, metrics and evidence."""
    database: DatabaseUrl = SecretRef(Scheme.LITERAL, "sqlite:///archiver.db")
    """SQLite (relative to `state_dir`), or a reference to a `postgresql+psycopg://…` URL. A connection to another
    machine uses `verify-full`, unless the URL says `?sslmode=…`."""
    state_dir: FilePath
    """Folder for the spool and the embedded database; only the daemon's user may enter it."""
    defaults: Defaults = Defaults()
    """Settings of every provider that does not state its own."""
    providers: Annotated[tuple[Annotated[AnyProvider, Field(discriminator="kind")], ...], Field(title="provider")]
    """Provider accounts whose recordings are archived."""
    storage: Annotated[
        tuple[Annotated[S3Storage | DirectoryStorage, Field(discriminator="kind")], ...],
        BeforeValidator(_as_list),
        Field(title="storage"),
    ]
    """Storages that recordings are archived in; a single one needs no list."""
    encryption: Encryption
    """The keys that can open recordings."""
    custody: Custody
    """The record of each recording's history."""
    retention: Retention = Retention()
    """The time for which the archive's copies are kept and locked."""
    spool: Spool = Spool()
    """Sealed recordings on disk that wait for a storage."""
    alerting: Alerting = Alerting()
    """Channels and routes of alerts; nobody is told unless stated."""
    verify: Verify = Verify()
    """The daemon's own re-reading of what it archived."""
    web: Web | None = None
    """Health, metrics and status over HTTP; off unless stated."""
    logging: Logging = Logging()
    """The log, which goes to standard output."""

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        yield from none(given, "providers")
        yield from none(given, "storage")
        yield from twice(given, "providers")
        storages = {"storage": _as_list(given.get("storage"))}
        yield from twice(storages, "storage", default="primary")
        listed = mappings(storages, "storage")
        if listed and all(str(each.get("required", True)).lower() == "false" for _, each in listed):
            message = "no storage is required: nothing would ever prove that a recording is stored"
            yield Conflict(("storage",), "C130", message, "leave out  required: false  for one of them at least")
        known = [each.get("id") for _, each in mappings(given, "providers")]
        retention = given.get("retention")
        for index, rule in mappings(retention, "rules") if isinstance(retention, Mapping) else []:
            match = rule.get("match")
            name = match.get("provider") if isinstance(match, Mapping) else None
            if name is not None and name not in known:
                place = ("retention", "rules", index, "match", "provider")
                yield Conflict(place, "C130", f"no provider has the id {quoted(name)}", "a rule that can never match")

    def pace(self, provider: AnyProvider) -> Pace:
        """The pace at which this provider is polled and fetched."""
        own, common = provider, self.defaults
        return Pace(
            every=own.poll_every or common.poll_every,
            cron=own.poll_cron,
            overlap=common.overlap if own.overlap is None else own.overlap,
            safety_margin=common.safety_margin if own.safety_margin is None else own.safety_margin,
            concurrency=own.concurrency or common.concurrency,
            max_size=own.max_size or common.max_size,
        )
