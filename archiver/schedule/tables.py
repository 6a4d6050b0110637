"""Defines the tables of heartbeats, leases and rate budgets, which go by the database's clock."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, String, Table, Text

from archiver.database import UtcDateTime, metadata

# One heartbeat per replica, not per recording: a claim is alive while its owner is.
replica = Table(
    "replica",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("spool_id", String(36), nullable=False),
    Column("host", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("alive_until", UtcDateTime, nullable=False),
)

lease = Table(
    "lease",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("holder", String(36), nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("until", UtcDateTime, nullable=False),
)

# A rate budget shared by all replicas (GCRA): `next_free` is when the next request may be sent.
budget = Table(
    "budget",
    metadata,
    Column("credential", String(128), primary_key=True),
    Column("next_free", UtcDateTime, nullable=False),
)
