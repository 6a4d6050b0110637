"""From a configuration to what is to be watched for gaps, and who watches."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection

from archiver.assembly.providers import listing_span
from archiver.completeness.gap import profile
from archiver.completeness.observe import Watched
from archiver.config import model
from archiver.ingest import survey
from archiver.providers.port import Provider


def watched(
    conn: Connection, config: model.Config, providers: Mapping[str, Provider], now: datetime, only: str | None = None
) -> list[Watched]:
    """Every configured provider as it is to be watched, or the one named."""
    return [
        Watched(
            settings.id,
            profile(settings.kind),
            tuple(providers[settings.id].scopes()),
            listing_span(settings, providers[settings.id], now, survey.covered_until(conn, settings.id)),
        )
        for settings in config.providers
        if only in {None, settings.id} and settings.id in providers
    ]
