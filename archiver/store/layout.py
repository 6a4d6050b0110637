"""Where objects lie: keys that tell nothing of the call. Pure: no I/O, no clock.

A key is a hash over the recording's own id in this archive and over the sealed bytes, so that the same sealed object always
finds the same key (an answer lost is repaired by looking there), and different bytes never compete for one. Year and month
of the call are all that a key says in clear; they let a person and a lifecycle rule narrow a listing down.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime

from archiver import errors

_KEY = re.compile(r"[a-z0-9_-]+(/[a-z0-9_-]+)*")
# C2SP tlog-tiles gives the log's names ("tile/0/x001/234.p/5"), and the log's origin ("keys/acme.example/2026.vkey").
_LOG_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_LOG = "custody/"
CANARIES = "canary/"
"""Where canaries lie, below the storage's own prefix."""
_CANARY = re.compile(f"{CANARIES}[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}")
_LONGEST = 200


def recording_key(recording_uuid: str, sealed_sha256: str, started_at: datetime | None) -> str:
    """The key of a sealed recording: `recordings/2026/05/3f/3f9a…`."""
    month = started_at.astimezone(UTC).strftime("%Y/%m") if started_at else "undated"
    return f"recordings/{month}/{_shelf(recording_uuid, sealed_sha256)}"


def quarantine_key(recording_uuid: str, sealed_sha256: str) -> str:
    """The key of what came instead of a recording and was kept at the deadline."""
    return f"quarantine/{_shelf(recording_uuid, sealed_sha256)}"


def catalogue_key(sealed_sha256: str) -> str:
    """The key of a sealed segment of the catalogue."""
    return f"catalogue/{_shelf('catalogue', sealed_sha256)}"


def is_content(key: str) -> bool:
    """True for what holds a provider's bytes: recordings, and what is in quarantine."""
    return key.startswith(("recordings/", "quarantine/"))


def canary_key(uuid: str) -> str:
    """The key of an object that the probe makes to try the storage. `uuid` makes it unique."""
    return f"{CANARIES}{uuid}"


def is_canary(key: str) -> bool:
    """True for what `canary_key` makes of a UUID, and for nothing else that may lie there."""
    return _CANARY.fullmatch(key) is not None


def under(prefix: str, key: str) -> str:
    """`key` with the storage's own `prefix` before it; one that has it already stays as it is.

    So a caller may name an object by the archive's key or by the key that the storage showed in `Stored`.
    """
    return key if key.startswith(prefix) else prefix + key


def object_key(prefix: str, key: str) -> str:
    """`under`, for one object. Raises `NotAllowedError` for a key that this module cannot have made: no dots, no empty parts."""
    full = under(prefix, key)
    own = full.removeprefix(prefix)
    if len(own) > _LONGEST or not _KEY.fullmatch(own):
        raise errors.NotAllowedError("an object key has [a-z0-9/_-], no empty part and at most 200 characters")
    return full


def log_key(prefix: str, name: str) -> str:
    """The key of a piece of the custody log. Raises `NotAllowedError` for a name that the log does not make."""
    if len(name) > _LONGEST or not _LOG_NAME.fullmatch(name):
        raise errors.NotAllowedError(
            "a name in the log has [A-Za-z0-9._-/], no part that is empty or begins with a dot"
        )
    return f"{prefix}{_LOG}{name}"


def log_name(prefix: str, key: str) -> str:
    """The piece of the log that lies under `key`: `log_key` turned back."""
    return key.removeprefix(f"{prefix}{_LOG}")


def log_listing(prefix: str, names: str) -> str:
    """Where the pieces of the log lie whose names begin with `names`, which may be empty or end anywhere."""
    return f"{prefix}{_LOG}{names}"


def _shelf(recording_uuid: str, sealed_sha256: str) -> str:
    """256 shelves keep any one folder of a directory storage small."""
    name = hashlib.sha256(f"object-key/v1\n{recording_uuid}\n{sealed_sha256}".encode()).hexdigest()
    return f"{name[:2]}/{name}"
