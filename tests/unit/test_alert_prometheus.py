"""The shipped Prometheus rules: each names metrics that exist, labels that they have, and a runbook page that is there."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ruamel.yaml import YAML

from archiver.alerts.rule import Kind, Severity
from archiver.completeness.verified import Depth, Integrity, Verified
from archiver.ingest.queries import ProviderCounts
from archiver.recording import State
from archiver.status.metrics import Metrics
from archiver.status.report import LogStatus, Outlook, Report, provider_status
from tests.config_files import ROOT

FILE = ROOT / "config" / "prometheus" / "alerts.yml"
RULES: list[dict[str, Any]] = [
    rule for group in YAML(typ="safe", pure=True).load(FILE.read_text())["groups"] for rule in group["rules"]
]
PAGES = {page.relative_to(ROOT).as_posix() for page in (ROOT / "docs" / "runbook").glob("*.md")}


def exposed() -> dict[str, set[str]]:
    """Every series name that /metrics may show, with its labels."""
    found: dict[str, set[str]] = {}
    for name, collector in Metrics("1").registry._names_to_collectors.items():
        found[name] = set(getattr(collector, "_labelnames", ()))
    return found


def test_rules_have_names_of_their_own() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names)) >= 15


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_expression_names_metrics_that_exist_and_labels_that_they_have(rule: dict[str, Any]) -> None:
    metrics, used = exposed(), re.findall(r"\b(archiver_[a-z_]+)(?:\{([^}]*)\})?", rule["expr"])
    assert used
    for name, matchers in used:
        assert name in metrics, name
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= metrics[name], (name, matchers)
    shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert shown <= set.union(*(metrics[name] for name, _ in used))
    assert rule["expr"].count("(") == rule["expr"].count(")")


_FUNCTIONS = {"absent", "delta", "deriv", "increase", "predict_linear", "rate", "sum", "time"}
_WORDS = {"and", "by", "on", "offset", "or", "unless"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_expression_is_made_of_what_prometheus_knows(rule: dict[str, Any]) -> None:
    """Not a parser: it finds misspelt functions, operators and spans, and labels with values that never occur."""
    text = re.sub(r'"[^"]*"', '""', rule["expr"])
    for opening, closing in ("()", "[]", "{}"):
        assert text.count(opening) == text.count(closing)
    assert set(re.findall(r"\b([a-z_]+)\(", re.sub(r"\b(?:and|or|unless|by|on) \(", "(", text))) <= _FUNCTIONS
    plain = re.sub(r"archiver_[a-z_]+|\{[^}]*\}|\[\d+[mhd]\]|\b\d+[mhd]?\b", " ", text)
    assert set(re.findall(r"[a-z_]+", plain)) <= _FUNCTIONS | _WORDS | {"provider"}
    assert re.fullmatch(r"\d+[mhd]", rule.get("for", "0m"))
    for states in re.findall(r'state=~"([^"]*)"', rule["expr"]):
        assert set(states.split("|")) <= {each.value for each in State}


def test_every_gauge_that_a_rule_reads_is_shown_when_there_is_something_to_show() -> None:
    """A metric that exists and is never given a value keeps its rule silent for ever."""
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    counts = ProviderCounts("acme", {"listed": 1}, now, "contract", 1, 0, now, now, None, None, None, 0)
    ahead = Outlook(1, now, 1, -timedelta(hours=1), (), 0.9, now)
    judged = provider_status(counts, (), covered_until=now, holes=(), outlook=ahead, poll_due_at=now)
    done = Verified(Depth.FULL, now, now, 1, 1, {"object_missing": 1})
    log = LogStatus("log", 1, 1, 1, now, 1)
    metrics = Metrics("1")
    metrics.show(
        Report(
            "acme",
            now,
            (judged,),
            (),
            {"primary": {"trusted": True}},
            (),
            "6",
            custody=log,
            integrity=Integrity(done, done, done.failures),
        )
    )
    metrics.spool(1, 2)
    metrics.reloaded(now, ok=True)
    shown = {
        line.partition(" ")[0].partition("{")[0] for line in metrics.text().decode().splitlines() if line[0] != "#"
    }
    read = {
        name for rule in RULES for name in re.findall(r"archiver_[a-z_]+", rule["expr"]) if not name.endswith("_total")
    }
    assert read <= shown


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_rule_says_how_urgent_it_is_and_leads_to_a_page(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"]
    page = rule["annotations"]["runbook_url"]
    assert page in PAGES
    ours = next((kind for kind in Kind if kind.runbook == page), None)
    # The same condition is as urgent here as in our own alerts; a forecast of a loss warns in both.
    assert ours is None or ours.severity.value == rule["labels"]["severity"]


@pytest.mark.parametrize(
    "rule", [each for each in RULES if "increase(" in each["expr"]], ids=lambda rule: rule["alert"]
)
def test_the_first_step_of_a_counter_is_seen(rule: dict[str, Any]) -> None:
    """`increase` sees no step from "no series" to 1. Listed rows are counted, as 0, from the first poll on."""
    assert " unless " in rule["expr"] or "rows_rejected" in rule["expr"]


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    ours = {kind.runbook for kind in Kind if kind.severity is not Severity.NOTE}
    assert ours | {rule["annotations"]["runbook_url"] for rule in RULES} == PAGES


def test_promtool_accepts_the_rules() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; what it would find is tested above as far as that goes without it")
    done = subprocess.run([promtool, "check", "rules", str(FILE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
