"""Who acts: the account by the system's word, everything else as a claim; and how that is told."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import click
import pytest

from archiver.cli.options import Options
from archiver.cli.person import acting, reason
from archiver.custody.person import Person, described, names

ACCOUNT, UID = pwd.getpwuid(os.getuid()).pw_name, os.getuid()


def _acting(folder: Path, login: str | None, actor: str | None = None, **environment: str) -> Person:
    if login is not None:
        (folder / "loginuid").write_text(login)
    return acting(Options(actor=actor), environment, folder / "loginuid")


def test_environment_and_options_are_claims_and_the_account_is_the_systems(tmp_path: Path) -> None:
    found = _acting(tmp_path, "0", "ceo", USER="chair", LOGNAME=ACCOUNT, SUDO_USER="ops", SUDO_UID="1007", HOME="/x")
    assert (found.uid, found.account, found.login_uid) == (UID, ACCOUNT, 0)
    assert found.claimed == {"actor": "ceo", "user": "chair", "sudo_user": "ops", "sudo_uid": "1007"}
    assert found.group("why") == {
        "account": ACCOUNT, "uid": UID, "login": "root", "login_uid": 0, "reason": "why",
        "claimed": {"actor": "ceo", "user": "chair", "sudo_user": "ops", "sudo_uid": "1007"},
    }  # fmt: skip


@pytest.mark.parametrize("login", [None, "4294967295", "", "who?"])
def test_login_that_the_kernel_does_not_know_is_none(login: str | None, tmp_path: Path) -> None:
    found = _acting(tmp_path, login)
    assert (found.login_uid, found.login, dict(found.claimed)) == (None, None, {})
    assert found.known_as == ACCOUNT


def test_claim_that_is_no_text_is_kept_as_far_as_it_is_one(tmp_path: Path) -> None:
    found = _acting(tmp_path, None, "a\udcffb\x1b[2J" + "x" * 300)
    assert found.claimed["actor"] == "a\ufffdb\ufffd[2J" + "x" * 193


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ({"account": "ana", "uid": 7, "login": "ana", "login_uid": 7, "claimed": {}}, "ana"),
        ({"account": None, "uid": 7, "login": None, "login_uid": None, "claimed": {}}, "uid 7"),
        ({"account": "root", "uid": 0, "login": "ana", "login_uid": 7, "claimed": {}}, "root, logged in as ana"),
        ({"account": "root", "uid": 0, "login": None, "login_uid": 7, "claimed": {}}, "root, logged in as uid 7"),
        ({"account": "root", "uid": 0, "login": None, "login_uid": None, "claimed": {"sudo_user": "ana"}},
         "root, which claims sudo from ana"),
        ({"account": "ana", "uid": 7, "claimed": {"actor": "ceo", "user": "x"}}, "ceo (claimed by account ana)"),
        ({"account": "ana", "uid": 7, "claimed": {"user": "ceo"}}, "ana"),
        ({"account": "ana", "uid": 7, "claimed": {"actor": "ana"}}, "ana"),
        ({"account": "ana", "uid": 7, "claimed": "ceo"}, "ana"),
        ({"user": "ceo", "reason": "why"}, "ceo (claimed)"),
        ({}, "somebody"),
    ],
)  # fmt: skip
def test_claim_is_never_told_as_a_fact(group: dict[str, object], said: str) -> None:
    assert described(group) == said  # type: ignore[arg-type]


def test_person_is_found_by_every_name_that_it_has_or_claims() -> None:
    group = Person(7, "Ana", 8, "root", {"actor": "CEO"}).group()
    assert names(group) == {"ana", "7", "8", "root", "ceo"}
    assert names({"user": "Chair", "claimed": "nobody"}) == {"chair"}


@pytest.mark.parametrize(
    ("person", "user"),
    [
        (Person(7, "ana", claimed={"actor": "ceo"}), "ceo"),
        (Person(7, "ana", claimed={"user": "ceo"}), "ana"),
        (Person(7), "uid 7"),
    ],
)
def test_person_goes_by_the_name_that_was_asked_for_else_by_the_accounts(person: Person, user: str) -> None:
    assert person.user == user


def test_group_without_a_reason_has_none() -> None:
    assert Person(7).group() == {"account": None, "uid": 7, "login": None, "login_uid": None, "claimed": {}}


@pytest.mark.parametrize("said", [None, "", "   ", "two\nlines", "\x1b[2J"])
def test_reason_that_cannot_be_kept_is_no_reason(said: str | None) -> None:
    with pytest.raises(click.UsageError, match="an export needs --reason"):
        reason(Options(reason=said), "an export")
