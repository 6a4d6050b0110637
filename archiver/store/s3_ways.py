"""Writes down the result of a probe of one bucket, so that a process that starts within the hour need not probe again.
Pure.

The result holds for one configuration and one version of the archiver: both go into a digest, without secrets. The
rights depend on the access key, which is in the digest; a session's token changes by itself.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields

from archiver import __version__
from archiver.store.s3_client import S3Options
from archiver.store.s3_default import from_json
from archiver.store.s3_upload import Profile

_SECRET = {"secret_key", "session_token"}


@dataclass(frozen=True, slots=True)
class Ways:
    """The way in which objects are sent to a bucket. `signs`: bodies are signed, too."""

    profile: Profile
    signs: bool


def written(options: S3Options, profile: Profile, *, signs: bool) -> str:
    """Return the ways as text."""
    default = None if profile.default is None else profile.default.as_json()
    found = {"of": _digest(options), "signs": signs, "profile": asdict(profile) | {"default": default}}
    return json.dumps(found, sort_keys=True)


def read(text: str, options: S3Options) -> Ways | None:
    """Read the ways from text; None when they are of another configuration or version, or this version cannot read
    them."""
    try:
        found = json.loads(text)
        profile, signs, default = found["profile"], found["signs"], found["profile"].pop("default")
        if found["of"] != _digest(options) or not all(isinstance(each, bool) for each in (signs, *profile.values())):
            return None
        if profile.keys() | {"default"} != {each.name for each in fields(Profile)}:
            return None
        return Ways(Profile(**profile, default=from_json(default)), signs)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _digest(options: S3Options) -> str:
    said = {each.name: repr(getattr(options, each.name)) for each in fields(options) if each.name not in _SECRET}
    said["access_key"] = "" if options.access_key is None else options.access_key.reveal()
    return hashlib.sha256(json.dumps([__version__, said], sort_keys=True).encode()).hexdigest()
