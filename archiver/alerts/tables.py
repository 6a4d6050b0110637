"""The table of the alerts sent to each channel. It is working state: if it is lost, alerts that hold are sent again."""

from __future__ import annotations

from sqlalchemy import Column, Integer, String, Table, Text

from archiver.database import UtcDateTime, metadata

# One alert on its way to one channel (archiver.alerts.route.Entry), and the claim of the replica that is sending it.
alert_state = Table(
    "alert_state",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("subject", String(128), primary_key=True),
    Column("channel", String(64), primary_key=True),
    Column("sentence", Text, nullable=False),
    Column("weight", Integer, nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    Column("cleared_at", UtcDateTime),
    Column("told_at", UtcDateTime),
    Column("told_weight", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("claim", String(36)),
    Column("claimed_until", UtcDateTime),
)
