"""Finds unclaimed versions under claimed keys. Reads pages of listings, so that no request for each key is needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from archiver import errors
from archiver.recording import Stored
from archiver.store.port import ObjectStore, Version
from archiver.verify.finding import Claimed

PAGE = 1000
"""The number of versions that one answer lists, where a storage lists versions at all."""
_FOLDERS = ("recordings/", "quarantine/")


@dataclass(slots=True)
class Beside:
    """The unclaimed versions in listings of claimed keys. Claimed versions are not kept, so an intact archive needs
    little memory.
    """

    _others: dict[tuple[str, str], list[Version]] = field(default_factory=dict)

    def of(self, copy: Stored) -> list[Version] | None:
        """Return the other versions and markers under this copy's key. None when no listing showed the key: ask for it
        by itself.
        """
        return self._others.get((copy.storage, copy.key))

    def add(self, storage: str, others: Mapping[str, list[Version]]) -> None:
        """Add the content of one whole listing, by key."""
        self._others |= {(storage, key): versions for key, versions in others.items()}


async def look_beside(claims: Iterable[Claimed], stores: Mapping[str, ObjectStore]) -> Beside:
    """Walk once the listings that contain the claimed copies. A storage that does not list them adds nothing."""
    wanted: dict[tuple[str, str], dict[str, frozenset[str]]] = {}
    for claimed in claims:
        for copy in claimed.copies:
            folder = next((each for each in _FOLDERS if f"/{each}" in f"/{copy.key}"), None)
            if folder is not None and copy.version_id is not None and copy.storage in stores:
                keys = wanted.setdefault((copy.storage, folder), {})
                keys[copy.key] = keys.get(copy.key, frozenset()) | {copy.version_id}
    beside = Beside()
    for (storage, _), keys in wanted.items():
        with contextlib.suppress(errors.DestinationError):  # the later request for each key reports the reason
            beside.add(storage, await _others(stores[storage], keys))
    return beside


async def _others(store: ObjectStore, claimed: Mapping[str, frozenset[str]]) -> dict[str, list[Version]]:
    """Return, for each claimed key that the listing shows, the versions that are not claimed."""
    found: dict[str, list[Version]] = {}
    async for version in store.versions(_beginning(claimed)):
        if version.key in claimed:
            others = found.setdefault(version.key, [])
            if version.version_id not in claimed[version.key]:
                others.append(version)
    return found


def _beginning(keys: Iterable[str]) -> str:
    """Return the common prefix of all keys."""
    first, last = min(keys), max(keys)
    return first[: next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]
