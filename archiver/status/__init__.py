"""Makes one report in three forms: a table for people, JSON for scripts, metrics for Prometheus. Reads, never
writes."""
