"""Makes the lists that turn a folder into a bag: BagIt 1.0 (RFC 8493), and our list of the content. Pure: no I/O, no
clock."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

BAGIT = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
MANIFEST = "manifest-sha256.txt"
TAG_MANIFEST = "tagmanifest-sha256.txt"
SIGNATURE = "tagmanifest-sha256.sig"
CONTENT_MANIFEST = "data/content-manifest.txt"

_SEGMENT = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_PATH = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")


@dataclass(frozen=True, slots=True)
class File:
    """One file of the bag, by its path from the bag's root."""

    path: str
    sha256: str
    size: int

    @property
    def payload(self) -> bool:
        return self.path.startswith("data/")


def check_path(path: str) -> str:
    """Return `path`, if a bag may hold it: no file name that a shell or another system could read in a second way.

    Raises ValueError.
    """
    if not _PATH.fullmatch(path) or len(path) > 200:
        raise ValueError(f"{path!r} is no path that a bundle may hold")
    return path


def listing(files: Iterable[File]) -> bytes:
    """Return the list of files in the format of sha256sum, sorted by path: `sha256sum -c` checks it from the bag's
    root."""
    return "".join(f"{each.sha256}  {each.path}\n" for each in sorted(files, key=lambda each: each.path)).encode(
        "ascii"
    )


def bag_info(files: Iterable[File], made_at: datetime, about: Mapping[str, str]) -> bytes:
    """Return `bag-info.txt`: date and Payload-Oxum (RFC 8493 §2.2.2), then `about`, on one line each."""
    payload = [each for each in files if each.payload]
    fields = {
        "Bagging-Date": made_at.date().isoformat(),
        "Payload-Oxum": f"{sum(each.size for each in payload)}.{len(payload)}",
        **{name: " ".join(value.split()) for name, value in about.items()},
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items()).encode()
