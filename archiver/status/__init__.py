"""One report with three faces: a table for people, JSON for scripts, metrics for Prometheus. Reads, never writes."""
