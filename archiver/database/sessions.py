"""Finds the session that holds up the database, for a sentence to the person who waits."""

from __future__ import annotations

from sqlalchemy import Connection, text

_IDLE = text("""
    SELECT pid, application_name, host(client_addr) AS host, to_char(xact_start AT TIME ZONE 'UTC', 'HH24:MI:SS') AS since
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
      AND state = 'idle in transaction' AND state_change < clock_timestamp() - interval '3 seconds'
    ORDER BY xact_start LIMIT 1
""")


def idle_session(conn: Connection) -> str | None:
    """Describes the PostgreSQL session that has been idle in a transaction longest; only a superuser learns of other
    roles' sessions."""
    if conn.dialect.name != "postgresql":
        return None
    row = conn.execute(_IDLE).one_or_none()
    if row is None:
        return None
    where = row.host or "a local socket"
    return (
        f"another process ({row.application_name or 'unnamed'} at {where}, PostgreSQL session {row.pid})"
        f" has held a transaction open since {row.since} UTC"
    )
