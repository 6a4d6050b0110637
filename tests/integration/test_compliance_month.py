"""The report of a month that was lived through, on both databases: every figure right, and resting on a leaf that says so."""

from __future__ import annotations

import csv
import io
import json
from datetime import date, timedelta

import pytest
from sqlalchemy import Engine, select, update

from archiver.completeness import verified
from archiver.completeness.tables import statement as statements
from archiver.completeness.verified import Depth, Verified
from archiver.compliance.facts import Account, Day, Missing, Report, Verdict
from archiver.compliance.month import Month
from archiver.compliance.report_data import days_csv, gaps_csv, report_json
from archiver.compliance.report_html import report_html
from archiver.compliance.report_pdf import report_pdf
from archiver.compliance.rules import unchecked
from archiver.custody.event import parse
from archiver.translog import reader
from tests.compliance_month import JUSTCALL, OUTAGE, VOBIZ, Life


@pytest.fixture
def life(database: Engine) -> Life:
    return Life(database).live()


def account(it: Report, provider: str) -> Account:
    return next(each for each in it.accounts if each.provider == provider)


def day(it: Report, provider: str, number: int) -> Day:
    return account(it, provider).days[number - 1]


def gap(it: Report, code: str, provider: str, standing: str) -> Missing:
    (found,) = (each for each in it.gaps if (each.code, each.provider, each.standing) == (code, provider, standing))
    return found


def test_month_is_told_as_it_was_and_every_figure_names_its_leaf(life: Life) -> None:
    it = life.report()
    _calendar(it)
    _figures(it)
    _gaps(it, life)
    _log(it, life)
    _forms(it)
    (only,) = life.report(only=VOBIZ).accounts
    assert only == account(it, VOBIZ)
    assert {each.provider for each in life.report(only=VOBIZ).gaps} == {VOBIZ}
    _next_month(life)
    _month_before(life)


def _calendar(it: Report) -> None:
    assert [each.provider for each in it.accounts] == [JUSTCALL, VOBIZ]
    odd = {each.day.day: each.verdict for each in account(it, JUSTCALL).days if each.verdict is not Verdict.COMPLETE}
    assert odd == {7: Verdict.MISSING, 9: Verdict.MISSING}
    odd = {each.day.day: each.verdict for each in account(it, VOBIZ).days if each.verdict is not Verdict.COMPLETE}
    assert odd == {
        **dict.fromkeys(range(1, 5), Verdict.OUTSIDE), 12: Verdict.PARTLY, 13: Verdict.NEVER, 14: Verdict.NEVER,
    }  # fmt: skip
    hours = timedelta(days=27) - (OUTAGE.until - OUTAGE.since)
    assert account(it, VOBIZ).coverage == hours / timedelta(days=27)
    assert day(it, VOBIZ, 12).covered == timedelta(hours=6)


def _figures(it: Report) -> None:
    sales = account(it, JUSTCALL)
    assert (sales.total("listed"), sales.total("without_audio"), sales.total("archived")) == (125, 16, 107)
    assert (sales.total("gone"), sales.total("pending"), sales.total("gaps_open")) == (1, 1, 2)
    assert sales.after_call is not None
    assert sales.after_call.longest == timedelta(days=6, hours=15, minutes=57)
    assert sales.after_call.median == timedelta(hours=2, minutes=57)
    assert (sales.late_total, sales.past_deletion) == (2, 2)
    assert [(each.rule, each.recordings) for each in sales.kept] == [("default", 107)]
    (primary, custody) = it.storages
    assert (primary.copies, primary.locks) == (191, {"compliance": 107, "off": 84})
    assert (len(primary.runs), primary.runs[-1].copies, custody.runs) == (30, 9, ())


def _gaps(it: Report, life: Life) -> None:
    down = gap(it, "never_listed", VOBIZ, "acknowledged")
    assert (down.since, down.until, down.ack_reason) == (OUTAGE.since, OUTAGE.until, "provider was down")
    for status in ("opened", "acknowledged"):
        assert _event(life, down.events[status].leaf)["gap"] == down.id
        assert _event(life, down.events[status].leaf)["status"] == status
    assert gap(it, "gone_at_provider", JUSTCALL, "open").loss == "whole"
    closed = gap(it, "not_fetched", JUSTCALL, "closed")
    assert _event(life, closed.events["closed"].leaf)["status"] == "closed"
    assert gap(it, "not_fetched", JUSTCALL, "open").subject == f"rec:{life.ids['late-9']}"


def _log(it: Report, life: Life) -> None:
    for each in account(it, JUSTCALL).days:
        assert each.stated is not None
        said = _event(life, each.stated.place.leaf)
        assert (said["day"], said["statement_sha256"]) == (each.day.isoformat(), each.stated.sha256)
        assert each.stated.problem is None
    changed = {each.day.day for each in account(it, JUSTCALL).days if each.stated and not each.stated.holds}
    assert changed == {9, 14}
    assert it.log is not None
    assert it.log.newest is not None
    assert (it.log.checkpoints, it.log.published, it.log.said("anomaly.gap")) == (30, 30, 6)
    assert [(each.kind, each.count) for each in it.log.vouched] == [("witness", 30)]
    assert it.log.size == it.log.newest.size + 1
    sentences = "\n".join(unchecked(it))
    assert f"{VOBIZ}: 2 day(s) were never listed" in sentences
    assert "84 copies have no Object Lock" in sentences
    assert "No time stamping authority" in sentences


def _forms(it: Report) -> None:
    rows = list(csv.DictReader(io.StringIO(days_csv(it).decode())))
    assert len(rows) == 62
    assert [row["verdict"] for row in rows if (row["provider"], row["day"]) == (VOBIZ, "2026-10-13")] == ["never"]
    assert len(list(csv.DictReader(io.StringIO(gaps_csv(it).decode())))) == len(it.gaps) == 4
    data = json.loads(report_json(it))["data"]
    assert data["losses"] == [gap(it, "gone_at_provider", JUSTCALL, "open").id]
    assert data["accounts"][1]["days"][11]["covered"] == 6 * 3600


def _event(life: Life, leaf: int | None) -> dict[str, object]:
    assert leaf is not None
    with life.engine.connect() as conn:
        return dict(parse(reader.entry(conn, life.log_id, leaf)).data)


def test_statement_that_was_changed_behind_the_archives_back_is_named(life: Life) -> None:
    with life.engine.begin() as conn:
        mine = (statements.c.provider == JUSTCALL) & (statements.c.day == date(2026, 10, 7))
        document: bytes = conn.execute(select(statements.c.document).where(mine)).scalar_one()
        conn.execute(update(statements).where(mine).values(document=document.replace(b'"gone":1', b'"gone":0')))
    it = life.report()
    stated = day(it, JUSTCALL, 7).stated
    assert stated is not None
    assert stated.problem is not None
    assert stated.problem.endswith("the statement is not the one that was signed")
    assert f"{JUSTCALL}: 1 statement(s) DO NOT VERIFY against their signed events." in unchecked(it)


def _next_month(life: Life) -> None:
    it = life.report(month=Month(2026, 11))
    assert {each.verdict for each in account(it, JUSTCALL).days} == {Verdict.RUNNING}
    assert it.preliminary
    assert not it.complete
    # What is still open from October stands in November too; what closed in October does not.
    assert {each.code for each in it.gaps} == {"gone_at_provider", "not_fetched", "never_listed"}


def _month_before(life: Life) -> None:
    it = life.report(month=Month(2026, 8))
    assert {each.verdict for each in account(it, VOBIZ).days} == {Verdict.OUTSIDE}
    assert it.gaps == ()
    assert account(it, VOBIZ).coverage is None


def test_report_says_when_integrity_was_verified_how_deep_and_with_which_result(database: Engine) -> None:
    life = Life(database)
    began = life.clock.now()
    assert any("No verification of everything" in each for each in unchecked(life.report()))
    for depth, failures in ((Depth.SAMPLE, {"sealed_digest_differs": 2}), (Depth.FULL, {}), (Depth.NAMED, {})):
        life.clock.move(timedelta(days=3))
        with database.begin() as conn:
            verified.keep(conn, life.ledger, Verified(depth, began, life.clock.now(), 9, 8, failures), {})
            life.night(conn, publish=depth is Depth.SAMPLE)
    it = life.report()
    assert [(each.depth, each.failures, each.place.published) for each in it.checks] == [
        ("sample", {"sealed_digest_differs": 2}, True),
        ("full", {}, False),
        ("named", {}, False),
    ]
    assert "Everything archived was last verified, in this month, on 2026-10-07" in " ".join(unchecked(it))
    (shown,) = [each for each in json.loads(report_json(it))["data"]["checks"] if each["depth"] == "full"]
    assert (shown["recordings"], shown["objects_read"], shown["failures"]) == (9, 8, {})
    page = report_html(it).decode()
    assert "a sample: 9 recordings, 8 objects read: sealed_digest_differs 2" in page
    assert report_pdf(it).startswith(b"%PDF")
    assert life.report(month=Month(2026, 9)).checks == ()
