"""What stands under claimed keys beside the versions that are claimed, read by pages instead of with a question for each key."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from archiver import errors
from archiver.recording import Stored
from archiver.store.port import ObjectStore, Version
from archiver.verify.finding import Claimed

PAGE = 1000
"""Versions that one answer lists, where a storage lists at all."""
_FOLDERS = ("recordings/", "quarantine/")


@dataclass(slots=True)
class Beside:
    """What listings showed of claimed keys. Only what is not claimed is kept: of an archive in order, next to nothing."""

    _others: dict[tuple[str, str], list[Version]] = field(default_factory=dict)

    def of(self, copy: Stored) -> list[Version] | None:
        """The other versions and markers under this copy's key. None when no listing showed the key: ask for it by itself."""
        return self._others.get((copy.storage, copy.key))

    def add(self, storage: str, others: Mapping[str, list[Version]]) -> None:
        """What one whole listing showed, by key."""
        self._others |= {(storage, key): versions for key, versions in others.items()}


async def look_beside(claims: Iterable[Claimed], stores: Mapping[str, ObjectStore]) -> Beside:
    """Walk the listings below which the claimed copies lie, once. A storage that does not list them shows nothing."""
    wanted: dict[tuple[str, str], dict[str, frozenset[str]]] = {}
    for claimed in claims:
        for copy in claimed.copies:
            folder = next((each for each in _FOLDERS if f"/{each}" in f"/{copy.key}"), None)
            if folder is not None and copy.version_id is not None and copy.storage in stores:
                keys = wanted.setdefault((copy.storage, folder), {})
                keys[copy.key] = keys.get(copy.key, frozenset()) | {copy.version_id}
    beside = Beside()
    for (storage, _), keys in wanted.items():
        with contextlib.suppress(errors.DestinationError):  # who asks for each key hears why
            beside.add(storage, await _others(stores[storage], keys))
    return beside


async def _others(store: ObjectStore, claimed: Mapping[str, frozenset[str]]) -> dict[str, list[Version]]:
    """Of each claimed key that the listing shows, the versions that are not claimed."""
    found: dict[str, list[Version]] = {}
    async for version in store.versions(_beginning(claimed)):
        if version.key in claimed:
            others = found.setdefault(version.key, [])
            if version.version_id not in claimed[version.key]:
                others.append(version)
    return found


def _beginning(keys: Iterable[str]) -> str:
    """What all of them begin with."""
    first, last = min(keys), max(keys)
    return first[: next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]
