"""Builds the storages, with their credentials."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from archiver.clock import Chance, Clock
from archiver.config import model
from archiver.hours import Hours
from archiver.recording import LockMode
from archiver.store.directory import DirectoryStore
from archiver.store.port import ObjectStore
from archiver.wall import Kind, Walls

if TYPE_CHECKING:
    from archiver.store.s3 import S3Options


def build_stores(
    config: model.Config, clock: Clock, chance: Chance, walls: Walls | None = None, hours: Hours | None = None
) -> dict[str, ObjectStore]:
    """Builds every configured storage behind its wall, by id. Raises `ConfigurationError` for unreadable credentials.

    `hours` is told the time at each storage, and compares it with `clock`.
    """
    walls = walls or Walls(clock)
    return {
        each.id: walls.around(Kind.STORAGE, each.id, _adapter(each, clock, chance, hours), hands_out=["shelf"])
        for each in config.storage
    }


def _adapter(
    settings: model.S3Storage | model.DirectoryStorage, clock: Clock, chance: Chance, hours: Hours | None
) -> ObjectStore:
    if isinstance(settings, model.DirectoryStorage):
        return DirectoryStore(settings.id, Path(settings.path), required=settings.required, clock=clock, chance=chance)
    from archiver.store.s3 import S3Store  # boto3 takes a while to load

    hear = None if hours is None else functools.partial(hours.heard_date, f"storage {settings.id}")
    return S3Store(s3_options(settings), clock, chance, hear)


def s3_options(settings: model.S3Storage) -> S3Options:
    """The store's own options, with secrets resolved."""
    from archiver.store.s3 import S3Options

    return S3Options(
        id=settings.id,
        endpoint=settings.endpoint,
        region=settings.region,
        bucket=settings.bucket,
        bucket_owner=settings.bucket_owner,
        prefix=settings.prefix,
        access_key=settings.access_key.resolve() if settings.access_key else None,
        secret_key=settings.secret_key.resolve() if settings.secret_key else None,
        session_token=settings.session_token.resolve() if settings.session_token else None,
        ca_bundle=Path(settings.ca_bundle) if settings.ca_bundle else None,
        addressing=settings.addressing,
        lock_mode=LockMode(settings.object_lock.mode),
        storage_class=settings.storage_class,
        sse=settings.sse.mode if settings.sse else None,
        sse_key_id=settings.sse.key_id if settings.sse else None,
        required=settings.required,
    )
