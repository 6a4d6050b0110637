"""Keeps metrics for Prometheus. Labels are provider ids, storages, outcomes: never a phone number, an agent or a
recording."""

from __future__ import annotations

from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from archiver.alerts.judgement import Judgement
from archiver.alerts.rule import Kind, Level
from archiver.completeness.verified import Integrity
from archiver.recording import State
from archiver.status.report import Outlook, Report

_LAG = (10, 60, 300, 900, 3600, 4 * 3600, 86_400, 3 * 86_400, 7 * 86_400, 30 * 86_400)
_STAGE = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120, 600)


class Metrics:
    """Counts the events of the ingest pipeline, and shows the last status report as gauges."""

    def __init__(self, version: str) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"archiver_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"archiver_{name}", text, labels, registry=registry)

        self._discovered = counter("recordings_discovered", "Recordings first listed", "provider")
        self._archived = counter("recordings_archived", "Recordings archived", "provider")
        self._lost = counter("recordings_lost", "Recordings gone before they were archived", "provider", "reason")
        self._rejected = counter("listed_rows_rejected", "Listed rows that could not be understood", "provider")
        self._suspicious = counter("suspicious_empty", "Empty listings where recordings were known", "provider")
        self._downloaded = counter("downloaded_bytes", "Audio bytes received", "provider")
        self._uploaded = counter("uploaded_bytes", "Sealed bytes stored", "target")
        self._requests = counter("provider_requests", "Requests sent to the provider", "provider", "endpoint", "code")
        self._attempts = counter("fetch_attempts", "Attempts by outcome", "provider", "outcome")
        self._refreshes = counter("url_refreshes", "Fresh links asked for", "provider")
        self._polls = counter("polls", "Polls by outcome", "provider", "outcome")
        self._integrity = counter("integrity_failures", "Bytes or proof not as promised", "kind")
        self._notified = counter("notifications", "Alerts told, and pings, by outcome", "channel", "outcome")
        self._lag = Histogram(
            "archiver_archive_lag_seconds", "Call end to archived", ["provider"], buckets=_LAG, registry=registry
        )
        self._stage = Histogram(
            "archiver_stage_duration_seconds", "Time in a stage", ["stage"], buckets=_STAGE, registry=registry
        )
        self._answer = Histogram("archiver_provider_request_duration_seconds", "Provider answers", ["provider", "endpoint"],
                                 buckets=_STAGE, registry=registry)  # fmt: skip
        self._recordings = gauge("recordings", "Recordings by state", "provider", "state")
        self._at_risk = gauge("recordings_at_risk", "Pending recordings past their archive-by", "provider")
        self._nearest = gauge(
            "nearest_deadline_timestamp_seconds", "Earliest provider deletion of a pending one", "provider"
        )
        self._last_poll = gauge("last_poll_success_timestamp_seconds", "Last complete poll", "provider")
        self._covered = gauge("covered_until_timestamp_seconds", "Listed without a gap up to here", "provider")
        self._gap = gauge("coverage_gaps", "Spans of provider time never enumerated", "provider")
        self._spool = gauge("spool_bytes", "Sealed bytes waiting for the storage")
        self._spool_limit = gauge("spool_limit_bytes", "The spool's quota")
        self._trusted = gauge("storage_trusted", "1 while the storage's proof is fresh and unbelied", "target")
        self._read = gauge(
            "copy_oldest_reading_timestamp_seconds", "Last whole reading of the copy read longest ago", "target"
        )
        self._copies = gauge("copies_missing", "Archived recordings of which the storage has no copy yet", "target")
        self._level = gauge("status_level", "0 on time, 1 late, 2 at risk, 3 integrity, 4 lost")
        self._concerns = gauge("concerns", "What is wrong now, as status and alerts say it", "kind", "level")
        self._poll_due = gauge("poll_due_timestamp_seconds", "By when a complete poll must have come", "provider")
        self._quota = gauge("provider_quota_used_ratio", "How full the provider's storage is", "provider")
        self._cost = gauge(
            "provider_storage_cost_dollars", "What the provider takes for storage: so far, a month, a year from now",
            "provider", "until",
        )  # fmt: skip
        self._gaps_open = gauge("gaps_open", "Gaps that nobody explained or acknowledged", "provider")
        self._slack = gauge(
            "forecast_slack_seconds", "How long a standstill loses nothing; negative: it does", "provider"
        )
        self._first_loss = gauge("forecast_first_loss_timestamp_seconds", "First loss at this pace", "provider")
        self._leaves = gauge("custody_entries", "Events in the custody log")
        self._events_waiting = gauge("custody_waiting", "Events that wait for the custody log")
        self._events_refused = gauge("custody_refused", "Events that were refused and kept")
        self._checkpoint = gauge("custody_last_checkpoint_timestamp_seconds", "When the log was last published")
        self._verified = gauge("last_full_verify_timestamp_seconds", "When everything was last verified")
        self._verify_failures = gauge("verify_failures", "What verification found, until all is verified anew", "kind")
        self._reloaded = gauge("config_last_reload_successful", "0 when the last reload was refused")
        self._reloaded.set(1)  # the configuration that the process began with is in force
        self._reloaded_at = gauge("config_last_reload_success_timestamp_seconds", "When a reload last took effect")
        self._loop_lag = gauge("loop_lag_seconds", "How late the event loop runs")
        gauge("build_info", "Version", "version").labels(version).set(1)

    # --- called by the ingest pipeline (archiver.ingest.telemetry.Telemetry) ---------------------------------

    def polled(self, provider: str, *, ok: bool, seconds: float) -> None:
        self._polls.labels(provider, "ok" if ok else "failed").inc()
        self._stage.labels("poll").observe(seconds)

    def discovered(self, provider: str, count: int, *, rejected: int) -> None:
        self._discovered.labels(provider).inc(count)
        self._rejected.labels(provider).inc(rejected)

    def suspicious_empty(self, provider: str) -> None:
        self._suspicious.labels(provider).inc()

    def fetched(self, provider: str, size: int, seconds: float) -> None:
        self._downloaded.labels(provider).inc(size)
        self._stage.labels("fetch").observe(seconds)

    def refreshed(self, provider: str) -> None:
        self._refreshes.labels(provider).inc()

    def stored(self, storage: str, size: int, seconds: float) -> None:
        self._uploaded.labels(storage).inc(size)
        self._stage.labels("store").observe(seconds)

    def archived(self, provider: str, lag_seconds: float | None) -> None:
        self._archived.labels(provider).inc()
        if lag_seconds is not None:
            self._lag.labels(provider).observe(max(0.0, lag_seconds))

    def attempted(self, provider: str, outcome: str) -> None:
        self._attempts.labels(provider, outcome).inc()
        if outcome in ("ConflictError", "NotLockedError", "VerificationError"):
            self._integrity.labels(outcome).inc()

    def lost(self, provider: str, reason: str) -> None:
        self._lost.labels(provider, reason).inc()

    # --- called by the daemon ---------------------------------------------------------------------------------

    def requested(self, provider: str, endpoint: str, code: int | str, seconds: float) -> None:
        """Counts one request to a provider's API or media host."""
        self._requests.labels(provider, endpoint, str(code)).inc()
        self._answer.labels(provider, endpoint).observe(seconds)

    def notified(self, channel: str, outcome: str) -> None:
        """Counts one message to one channel (archiver.alerts.dispatch.Telemetry)."""
        self._notified.labels(channel, outcome).inc()

    def reloaded(self, at: datetime, *, ok: bool) -> None:
        self._reloaded.set(1 if ok else 0)
        if ok:
            self._reloaded_at.set(at.timestamp())

    def loop_lag(self, lag: timedelta) -> None:
        self._loop_lag.set(lag.total_seconds())

    def spool(self, used: int, limit: int) -> None:
        self._spool.set(used)
        self._spool_limit.set(limit)

    def show(self, report: Report) -> None:
        """Sets the gauges to the report."""
        self._nearest.clear()  # a provider with nothing pending has no deadline
        self._first_loss.clear()
        self._slack.clear()
        self._poll_due.clear()
        for each in report.providers:
            counts, name = each.counts, each.provider
            for state in State:
                self._recordings.labels(name, state.value).set(counts.states.get(state, 0))
            self._at_risk.labels(name).set(counts.overdue)
            self._gap.labels(name).set(each.holes)
            if counts.nearest_deadline is not None:
                self._nearest.labels(name).set(counts.nearest_deadline.timestamp())
            if counts.poll_succeeded_at is not None:
                self._last_poll.labels(name).set(counts.poll_succeeded_at.timestamp())
            if each.poll_due_at is not None:
                self._poll_due.labels(name).set(each.poll_due_at.timestamp())
            if each.covered_until is not None:
                self._covered.labels(name).set(each.covered_until.timestamp())
            self._show_outlook(name, each.outlook)
        if report.custody is not None:
            self._leaves.set(report.custody.leaves)
            self._events_waiting.set(report.custody.waiting)
            self._events_refused.set(report.custody.refused)
            if report.custody.published_at is not None:
                self._checkpoint.set(report.custody.published_at.timestamp())
        self._show_storages(report)
        self._show_judgement(report.judgement)
        self._show_integrity(report.integrity)

    def _show_storages(self, report: Report) -> None:
        self._trusted.clear()
        self._read.clear()
        for storage, proof in report.storages.items():
            if proof.get("configured", True):
                self._trusted.labels(storage).set(1 if proof.get("trusted") else 0)
            if (read_at := proof.get("oldest_reading_at")) is not None:
                self._read.labels(storage).set(datetime.fromisoformat(str(read_at)).timestamp())
        self._copies.clear()
        for storage in report.storages:
            self._copies.labels(storage).set(report.copies_missing.get(storage, 0))

    def _show_judgement(self, it: Judgement) -> None:
        self._level.set(list(Level).index(it.level))
        self._concerns.clear()  # a concern that is over
        for kind in Kind:
            self._concerns.labels(kind.value, Level.ON_TIME.value).set(0)  # a kind that never fired has a series, too
        for each in it.concerns:
            self._concerns.labels(each.kind.value, each.level.value).inc()

    def _show_outlook(self, name: str, ahead: Outlook) -> None:
        self._gaps_open.labels(name).set(ahead.gaps)
        if ahead.quota_ratio is not None:
            self._quota.labels(name).set(ahead.quota_ratio)
        if ahead.slack is not None:
            self._slack.labels(name).set(ahead.slack.total_seconds())
        if ahead.first_loss_at is not None:
            self._first_loss.labels(name).set(ahead.first_loss_at.timestamp())
        if (cost := ahead.storage_cost) is not None and cost.currency == "USD":
            for until, micros in (("now", cost.so_far), ("month", cost.per_month), ("year", cost.in_a_year)):
                self._cost.labels(name, until).set(micros / 1e6)

    def _show_integrity(self, it: Integrity) -> None:
        if it.full is not None:
            self._verified.set(it.full.finished_at.timestamp())
        self._verify_failures.clear()  # a kind that is no longer found
        for kind, count in it.failures.items():
            self._verify_failures.labels(kind).set(count)

    def text(self) -> bytes:
        """Returns the exposition format that Prometheus scrapes."""
        return generate_latest(self.registry)
