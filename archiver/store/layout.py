"""Makes the keys of objects in a storage; a key tells nothing of the call but its month. Pure: no I/O, no clock.

A key is a hash over the recording's own id in this archive and over the sealed bytes, so that the same sealed object
always gets the same key (a lost answer is repaired by looking there), and different bytes never compete for one key.
Year and month of the call are all that a key says in clear; they let a person and a lifecycle rule narrow a listing
down.
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
"""The folder of canaries, below the storage's own prefix."""
_CANARY = re.compile(f"{CANARIES}[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}")
_LONGEST = 200


def recording_key(recording_uuid: str, sealed_sha256: str, started_at: datetime | None) -> str:
    """Return the key of a sealed recording: `recordings/2026/05/3f/3f9a…`."""
    month = started_at.astimezone(UTC).strftime("%Y/%m") if started_at else "undated"
    return f"recordings/{month}/{_shelf(recording_uuid, sealed_sha256)}"


def quarantine_key(recording_uuid: str, sealed_sha256: str) -> str:
    """Return the key of a body that came instead of a recording and was kept at the deadline."""
    return f"quarantine/{_shelf(recording_uuid, sealed_sha256)}"


def catalogue_key(sealed_sha256: str) -> str:
    """Return the key of a sealed segment of the catalogue."""
    return f"catalogue/{_shelf('catalogue', sealed_sha256)}"


def is_content(key: str) -> bool:
    """Tell whether an object holds a provider's bytes: recordings, and bodies in quarantine."""
    return key.startswith(("recordings/", "quarantine/"))


def canary_key(uuid: str) -> str:
    """Return the key of an object that the probe makes to try the storage. `uuid` makes the key unique."""
    return f"{CANARIES}{uuid}"


def is_canary(key: str) -> bool:
    """Tell whether `canary_key` can have made the key of a UUID; every other key in the folder is refused."""
    return _CANARY.fullmatch(key) is not None


def under(prefix: str, key: str) -> str:
    """Return `key` with the storage's own `prefix` before it; a key that has the prefix already stays as it is.

    So a caller may name an object by the archive's key or by the key that the storage showed in `Stored`.
    """
    return key if key.startswith(prefix) else prefix + key


def object_key(prefix: str, key: str) -> str:
    """Do what `under` does, for one object. Raises `NotAllowedError` for a key that this module cannot have made: no
    dots, no empty parts."""
    full = under(prefix, key)
    own = full.removeprefix(prefix)
    if len(own) > _LONGEST or not _KEY.fullmatch(own):
        raise errors.NotAllowedError("an object key has [a-z0-9/_-], no empty part and at most 200 characters")
    return full


def log_key(prefix: str, name: str) -> str:
    """Return the key of a file of the custody log. Raises `NotAllowedError` for a name that the log does not make."""
    if len(name) > _LONGEST or not _LOG_NAME.fullmatch(name):
        raise errors.NotAllowedError(
            "a name in the log has [A-Za-z0-9._-/], no part that is empty or begins with a dot"
        )
    return f"{prefix}{_LOG}{name}"


def log_name(prefix: str, key: str) -> str:
    """Return the name of the log file under `key`: the inverse of `log_key`."""
    return key.removeprefix(f"{prefix}{_LOG}")


def log_listing(prefix: str, names: str) -> str:
    """Return the prefix of the log files whose names begin with `names`, which may be empty or end anywhere."""
    return f"{prefix}{_LOG}{names}"


def _shelf(recording_uuid: str, sealed_sha256: str) -> str:
    """Return the first two hex digits of the hash: 256 folders keep any one folder of a directory storage small."""
    name = hashlib.sha256(f"object-key/v1\n{recording_uuid}\n{sealed_sha256}".encode()).hexdigest()
    return f"{name[:2]}/{name}"
