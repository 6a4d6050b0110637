"""From an open download to bytes that are safe: receive, judge, spool (DESIGN §3, steps 3 and 4)."""
