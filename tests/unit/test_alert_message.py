"""What a message may do to the program that shows it, and when two messages are the same news."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from archiver.alerts.message import compose, inert
from archiver.alerts.route import Entry
from archiver.alerts.rule import Alert, Kind

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ENTRY = Entry(Alert(Kind.POLL_STALLED, "acme", "acme: stalled"), "mail", NOW, NOW)
JOINER = "\u2060"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("@here", f"@{JOINER}here"),
        ("a @ b", "a @ b"),
        ("[open](there)", f"[open]{JOINER}(there)"),
        ("[open][1]", f"[open]{JOINER}[1]"),
        ("![seen]", f"!{JOINER}[seen]"),
        ("<!channel>", f"<{JOINER}!channel>"),
        ("<@U1>", f"<{JOINER}@{JOINER}U1>"),
        ("<b>", f"<{JOINER}b>"),
        ("1 < 2", "1 < 2"),
        ("`code`", "'code'"),
        ("https://x.example", f"https:{JOINER}//x.example"),
        ("12:30, a/b", "12:30, a/b"),
    ],
)
def test_markup_of_other_parties_is_letters_and_reads_the_same(said: str, shown: str) -> None:
    assert inert(said) == shown


@pytest.mark.parametrize(("letters", "shown"), [(599, 599), (600, 600), (601, 600), (5000, 600)])
def test_sentence_is_cut_at_six_hundred_characters(letters: int, shown: int) -> None:
    entry = replace(ENTRY, alert=replace(ENTRY.alert, sentence="ä" * letters))
    (alert,) = compose("main", [entry], NOW).body["alerts"]  # type: ignore[misc, union-attr]
    assert len(alert["sentence"]) == shown  # type: ignore[index, call-overload, arg-type]
    assert alert["sentence"] == "ä" * letters if letters <= 600 else "ä" * 599 + "…"  # type: ignore[index, call-overload]


def test_same_alert_that_began_another_time_is_other_news() -> None:
    later = replace(ENTRY, since=NOW + timedelta(hours=1))
    assert compose("main", [ENTRY], NOW).id != compose("main", [later], NOW).id


def test_subjects_that_read_alike_when_joined_are_different_news() -> None:
    one = replace(ENTRY, alert=replace(ENTRY.alert, subject="a"), channel="bc")
    other = replace(ENTRY, alert=replace(ENTRY.alert, subject="ab"), channel="c")
    assert compose("main", [one], NOW).id != compose("main", [other], NOW).id
