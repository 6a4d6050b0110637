"""From a file to a configuration, or to every mistake in it, each at its line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from archiver.config.load import find, load
from archiver.config.model import Config, DirectoryStorage
from archiver.config.problem import InvalidConfigurationError, Severity, render
from archiver.config.provider import JustCall, Kazoo, Plivo
from archiver.config.reference import parts
from archiver.errors import ConfigurationError, Exit
from archiver.recording import LockMode
from archiver.retention.span import Span
from tests.config_files import EXAMPLE, MINIMAL, VALID, read_text, written

BAD = """\
version: 1
instance: acme-prod
providers:
  - id: justcall-sales
    kind: justcall
    api_secret: "sk_live_51Hq"
    retention: 90 day
    pol_every: 10m
    api_key: env:JC_KEY
  - kind: kazzo
    id: kazoo-eu
storage:
  object_lock:
    mode: complience
  kind: s3
  bucket: acme
defaults:
  safety_margin: 72hours
state_dir: /var/lib/archiver
encryption:
  recipients: [{id: ops, kind: rsa-oaep-256, public_key: file:/k, escrow: true}]
custody: {signing_key: file:/s}
retention: {default: 7y}
"""


def test_all_mistakes_are_named_at_once_at_their_places(tmp_path: Path) -> None:
    problems = read_text(tmp_path, BAD).problems
    found = {(each.code, each.line, each.col, each.path) for each in problems}
    assert found == {
        ("C110", 6, 17, "providers[0].api_secret"),
        ("C121", 7, 16, "providers[0].retention"),
        ("C101", 8, 5, "providers[0]"),
        ("C103", 10, 11, "providers[1].kind"),
        ("C103", 14, 11, "storage.object_lock.mode"),
        ("C121", 18, 18, "defaults.safety_margin"),
        ("C204", 10, 5, "providers[1]"),
    }


def test_rendering_shows_the_line_a_caret_and_what_was_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text(BAD)
    with pytest.raises(InvalidConfigurationError) as refusal:
        load(Path("bad.yaml"), resolve_secrets=False)
    shown = render(refusal.value.problems)
    assert "sk_live_51Hq" not in str(refusal.value)
    assert shown.splitlines()[:9] == [
        "error[C110]: secret written into the file             bad.yaml:6:17   providers[0].api_secret",
        '  6 |     api_secret: "•••••••••••"',
        "    |                 ^ fix: echo -n … > /etc/archiver/secrets/justcall-sales_api_secret (0400),"
        + "  api_secret: file:/etc/archiver/secrets/justcall-sales_api_secret".replace("  ", " then  ", 1),
        "error[C121]: '90 day' is not a duration               bad.yaml:7:16   providers[0].retention",
        "  7 |     retention: 90 day",
        "    |                ^ did you mean 90d?  units: y w d h m s, e.g. 1h30m",
        "error[C101]: unknown key 'pol_every'                  bad.yaml:8:5    providers[0]",
        "  8 |     pol_every: 10m",
        "    |     ^ did you mean poll_every?",
    ]
    assert "did you mean kazoo?  one of: justcall kazoo vobiz plivo" in shown
    assert "did you mean compliance?  (cannot be shortened by anyone, root account included)" in shown
    assert shown.splitlines()[-1] == "6 errors, 1 warning; the running daemon keeps its current config."
    assert refusal.value.exit_code is Exit.CONFIGURATION


def edit(old: str, new: str, *more: str) -> str:
    text = VALID
    for before, after in [(old, new), *zip(more[::2], more[1::2], strict=True)]:
        assert text.count(before) >= 1, before
        text = text.replace(before, after, 1)
    return text


JC = "    plan: team\n"
KZ = "    auth_token: env:KAZOO_TOKEN\n"
PL = "    auth_token: env:PLIVO_TOKEN\n"
S3 = "    bucket: recordings\n"

NO_PROVIDERS = (
    VALID[: VALID.index("providers:")] + "providers: []\n" + VALID[VALID.index("storage:") : VALID.index("  rules:")]
)
MANY_LAUGHS = "a: &a [x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 8)}]\n" for before, name in pairwise("abcdef")
)

MISTAKES = [
    # the file itself
    ("", "C100", 1),
    ("- a\n- b\n", "C100", 1),
    ("version: 1\n\tstate_dir: x\n", "C100", 2),
    ("version: [1\n", "C100", 2),
    (edit("state_dir: state", "state_dir: !path state"), "C100", 2),
    (edit("state_dir: state", "state_dir: *nowhere"), "C100", 2),
    (edit("state_dir: state", "state_dir: state\nstate_dir: other"), "C105", 3),
    (edit("state_dir: state", "state_dir: st\x07ate"), "C100", 2),
    (edit("version: 1", "version: 1\n---\nversion: 1"), "C100", 2),
    (edit("defaults:\n  poll_every: 10m", "defaults: &d {<<: *d}"), "C100", 1),
    (edit("defaults:\n  poll_every: 10m", "defaults: &d\n  x: *d"), "C100", 1),
    (edit("state_dir: state", "? [a]\n: b\nstate_dir: state"), "C100", 2),
    (MANY_LAUGHS, "C100", 1),
    # keys
    (edit("version: 1\n", ""), "C102", 1),
    (edit("version: 1", "version: 2"), "C103", 1),
    (edit("state_dir: state\n", ""), "C102", 1),
    (edit("state_dir: state\n", "state_dir:\n"), "C102", 1),
    (edit("defaults:\n", "defalts:\n"), "C101", 3),
    (edit("  poll_every: 10m", "  pol_every: 10m"), "C101", 4),
    (edit("poll_every: 10m", "poll_every: {}"), "C121", 4),
    (edit("defaults:\n  poll_every: 10m", "defaults: 10m"), "C104", 3),
    (edit("defaults:\n  poll_every: 10m", "safety_margin: 72h"), "C101", 3),
    (NO_PROVIDERS, "C102", 5),
    (edit("    bucket: recordings\n", ""), "C102", 27),
    (edit("signing_key: file:custody.pem", "signing_key: [file:custody.pem]"), "C104", 48),
    # intervals and the like
    (edit("10m", "0s"), "C121", 4),
    (edit("10m", "-5m"), "C121", 4),
    (edit("10m", "10"), "C121", 4),
    (edit("  poll_every: 10m", "  max_size: 2G"), "C122", 4),
    (edit("  poll_every: 10m", "  concurrency: 0"), "C104", 4),
    (edit("  poll_every: 10m", "  concurrency: four"), "C104", 4),
    (edit("keep: 1y", "keep: 1year"), "C121", 53),
    (edit("keep: 1y", "keep: 0d"), "C121", 53),
    (edit("match: {provider: kazoo}", "match: {provider: kazo}"), "C130", 52),
    (edit("match: {provider: kazoo}", "match: {}"), "C102", 52),
    # providers
    (edit("kind: justcall", "kind: justcal"), "C103", 7),
    (edit("    kind: justcall\n", ""), "C102", 6),
    (edit("id: justcall", "id: Just Call"), "C104", 6),
    (edit("id: vobiz", "id: plivo"), "C130", 22),
    (edit("env:JC_SECRET", "hunter2"), "C110", 9),
    (edit("env:JC_SECRET", "vault:kv/x#y"), "C111", 9),
    (edit("env:JC_SECRET", "env:JC SECRET"), "C111", 9),
    (edit("plan: team", "plan: gold"), "C103", 10),
    (edit("plan: team", "plan: enterprise"), "C130", 10),
    (edit(JC, JC + "    retention: {plan: pro}\n"), "C130", 11),
    (edit(JC, JC + "    retention: {days: 90, months: 3}\n"), "C130", 11),
    (edit(JC, JC + "    retention: {source: contract}\n"), "C102", 11),
    (edit(JC, JC + "    retention: 3 months\n"), "C121", 11),
    (edit(JC, JC + "    rate: 60/day\n"), "C123", 11),
    (edit(JC, JC + "    poll_every: 5m\n    poll_cron: '0 3 * * *'\n"), "C130", 12),
    (edit(JC, JC + "    poll_cron: '61 * * * *'\n"), "C104", 11),
    (edit(JC, JC + "    base_url: https://api.justcall.io/v2\n"), "C124", 11),
    (edit(JC, JC + "    base_url: http://api.justcall.io\n"), "C124", 11),
    (edit(JC, JC + "    base_url: ftp://api.justcall.io\n"), "C124", 11),
    (edit(JC, JC + "    base_url: https://me:hunter2@api.justcall.io\n"), "C110", 11),
    (edit(JC, JC + "    allow_http: yes\n"), "C104", 11),
    (edit(JC, JC + "    media_hosts: [https://x.example]\n"), "C104", 11),
    (edit(JC, JC + "    backfill_from: yesterday\n"), "C104", 11),
    (edit(JC, JC + "    sales_dialer: true\n"), "C130", 11),
    (edit(JC, JC + "    filters: {direction: sideways}\n"), "C103", 11),
    (edit(JC, JC + "    filters: {call_type: Answered}\n"), "C130", 11),
    (edit(JC, JC + "    filters: {tag: x}\n"), "C101", 11),
    (edit(KZ, ""), "C102", 11),
    (edit(KZ, KZ + "    api_key: env:X\n"), "C130", 16),
    (edit(KZ, "    user: me\n    account_name: acme\n"), "C102", 11),
    (edit(KZ, "    user: me\n    password: env:X\n"), "C130", 15),
    (edit(KZ, KZ + "    method: sha256\n"), "C103", 16),
    (edit(KZ, KZ + "    filters: {direction: inbound}\n"), "C101", 16),
    (edit("    base_url: https://kazoo.example.net:8443\n", ""), "C102", 11),
    (edit(PL, PL + "    filters: {add_time: 2026-01-01 00:00, recording_storage_duration: 3}\n"), "C130", 26),
    (edit(PL, PL + "    filters: {add_time__gt: 2026-01-01T00:00Z}\n"), "C104", 26),
    (edit(PL, PL + "    subaccounts: [SA1]\n    filters: {subaccount: SA1}\n"), "C130", 27),
    (edit(PL, PL + "    subaccounts: [{id: SA1, auth_token: hunter2}]\n"), "C110", 26),
    # storage, keys, the rest
    (edit("kind: s3", "kind: gcs"), "C103", 28),
    (edit("    secret_key: env:S3_SECRET\n", ""), "C102", 27),
    (edit("env:S3_SECRET", "hunter2"), "C110", 31),
    (edit(S3, S3 + "    object_lock: {mode: forever}\n"), "C103", 30),
    (edit(S3, S3 + "    prefix: Calls/\n"), "C104", 30),
    (edit("id: second", "id: primary"), "C130", 32),
    (edit("      public_key: file:ops.pem\n", ""), "C102", 37),
    (edit("file:ops.pem", "MIIBojANBgkqhkiG9w0BAQEFAAOCAY8A"), "C110", 39),
    (edit("kind: aes-kw-256", "kind: aes-256"), "C103", 41),
    (edit("    - id: site\n      key", "    - id: sight\n      key"), "C130", 45),
    (edit("state_dir: state", "state_dir: state\ndatabase: postgresql://me:hunter2@db/archiver"), "C110", 3),
    (edit("state_dir: state", "state_dir: state\ndatabase: mysql://db/archiver"), "C124", 3),
    (edit("state_dir: state", "state_dir: state\nweb: {listen: 8484}"), "C124", 3),
    (edit("state_dir: state", "state_dir: state\nlogging: {level: verbose}"), "C103", 3),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code", "line"), MISTAKES)
def test_mistake_is_named_with_its_code_at_its_line(tmp_path: Path, text: str, code: str, line: int) -> None:
    loaded = read_text(tmp_path, text)
    assert loaded.config is None
    assert (code, line) in [(each.code, each.line) for each in loaded.errors]
    shown = render(loaded.problems)
    assert "hunter2" not in shown
    assert len(loaded.errors) == 1, shown


def test_the_valid_configuration_has_neither_errors_nor_warnings(tmp_path: Path) -> None:
    assert read_text(tmp_path, VALID).problems == ()


@pytest.mark.parametrize("part", list(parts()), ids=lambda part: ".".join(part.pattern) or "top")
def test_a_misspelt_key_of_every_section_is_refused_and_the_right_one_offered(part: object, tmp_path: Path) -> None:
    """Take the example, misspell one key of this section where it stands, and expect to be told."""
    assert hasattr(part, "keys")
    text = EXAMPLE.read_text()
    loaded = read_text(tmp_path, text)
    for key in part.keys:
        place = _place_of(loaded.document.marks, (*part.pattern, key.name), loaded)
        if place is None:
            continue
        line, column = loaded.document.marks[place].key
        lines = text.split("\n")
        at = lines[line - 1]
        lines[line - 1] = at[: column - 1] + key.name + "x" + at[column - 1 + len(key.name) :]
        problems = read_text(tmp_path, "\n".join(lines)).problems
        unknown = [each for each in problems if each.code == "C101" and each.line == line]
        # A section of one's own choosing of keys (KAZOO's filters) takes any that begin right; a kind that is gone is no kind.
        assert unknown or key.name == "kind" or ("filters" in part.pattern and "kazoo" in part.pattern)
        return
    assert not part.keys or part.pattern[-1] in {"kms", "proxy"} or "retention" in part.pattern


def _place_of(marks: object, pattern: tuple[str, ...], loaded: object) -> tuple[str | int, ...] | None:
    from archiver.config.document import within

    for place in marks:  # type: ignore[attr-defined]
        steps: list[str] = []
        for index, step in enumerate(place):
            steps.append("*" if isinstance(step, int) else step)
            below = within(loaded.document.value, *place[: index + 1])  # type: ignore[attr-defined]
            if isinstance(step, int) and isinstance(below, dict) and "kind" in below:
                steps.append(str(below["kind"]))
        if tuple(steps) == pattern:
            return place  # type: ignore[no-any-return]
    return None


def test_example_and_minimal_configurations_load() -> None:
    example = load(EXAMPLE, resolve_secrets=False)
    assert {each.kind for each in example.providers} == {"justcall", "kazoo", "vobiz", "plivo"}
    assert load(MINIMAL, resolve_secrets=False).storage[0].id == "primary"


def test_every_key_stands_in_the_example_and_nothing_else() -> None:
    from archiver.config.load import read

    loaded = read(EXAMPLE, resolve_secrets=False)
    known = {(*part.pattern, key.name) for part in parts() for key in part.keys}
    missing = [pattern for pattern in sorted(known) if _place_of(loaded.document.marks, pattern, loaded) is None]
    # What stands once, with one kind of provider or recipient, need not be repeated with the others.
    alike = {(pattern[0], pattern[-1]) for pattern in known - set(missing)}
    assert [pattern for pattern in missing if (pattern[0], pattern[-1]) not in alike] == []


DESIGN_10 = """\
version: 1
instance: acme-prod
database: sqlite:///archiver.db            # relative to state_dir; or env:ARCHIVER_DATABASE_URL (postgresql+psycopg://…)
state_dir: /var/lib/archiver
defaults: {poll_every: 10m, overlap: 24h, safety_margin: 72h, concurrency: 4, max_size: 2GiB}
providers:
  - {id: justcall-sales, kind: justcall, api_key: env:JC_KEY, api_secret: env:JC_SECRET, plan: team}
  - {id: kazoo-eu, kind: kazoo, base_url: "http://kazoo.example.net:8000", allow_http: true, account_id: 7fd2,
     auth_token: file:/t, retention: {months: 6}}
  - {id: vobiz-in, kind: vobiz, auth_id: env:VID, auth_token: env:VT, retention: {days: 90, source: contract}}
  - {id: plivo-us, kind: plivo, auth_id: env:PID, auth_token: env:PT, subaccounts: [SA1], original: true,
     backfill_from: 2026-01-01}
storage:
  - {id: primary, kind: s3, endpoint: http://127.0.0.1:8333, region: us-east-1, bucket: bbb, prefix: calls/,
     access_key: env:A, secret_key: env:S, ca_bundle: /etc/ca.pem, object_lock: {mode: compliance}, storage_class: STANDARD}
  - {id: second-copy, kind: directory, path: /mnt/worm, required: false}
encryption:
  recipients: [{id: ops-2026, kind: rsa-oaep-256, public_key: file:/p},
               {id: escrow, kind: rsa-oaep-256, public_key: file:/e, escrow: true}]
  identities: [{id: ops-2026, private_key: file:/k}]
custody: {signing_key: file:/s, checkpoint_every: 10s, timestamp: {url: https://tsa.example.org, every: 1h}}
retention: {default: 7y, rules: [{match: {provider: kazoo-eu, direction: internal}, keep: 1y}]}
web: {listen: 127.0.0.1:8484}
"""


def test_the_configuration_of_the_design_means_what_it_says(tmp_path: Path) -> None:
    config = load(written(tmp_path, DESIGN_10), resolve_secrets=False)
    justcall, kazoo, vobiz, plivo = config.providers
    assert isinstance(justcall, JustCall)
    assert justcall.keeps().keeps == timedelta(days=90)
    assert justcall.keeps().quota_bytes == 5 * 10**9
    assert isinstance(kazoo, Kazoo)
    assert (kazoo.base_url, kazoo.keeps().months) == ("http://kazoo.example.net:8000", 6)
    assert kazoo.account_id.resolve().reveal() == "7fd2"
    assert (vobiz.keeps().keeps, vobiz.keeps().source) == (timedelta(days=90), "contract")
    assert isinstance(plivo, Plivo)
    assert (plivo.backfill_from, plivo.original, plivo.subaccounts[0].id) == (
        datetime(2026, 1, 1, tzinfo=UTC),
        True,
        "SA1",
    )
    pace = config.pace(plivo)
    assert (pace.every, pace.overlap, pace.concurrency, pace.max_size) == (
        timedelta(minutes=10),
        timedelta(days=1),
        4,
        2**31,
    )
    first, second = config.storage
    assert not isinstance(first, DirectoryStorage)
    assert (first.object_lock.mode, first.prefix, first.required) == (LockMode.COMPLIANCE, "calls/", True)
    assert second.required is False
    rules, default = config.retention.policy()
    assert (default.keep, rules[0].keep, dict(rules[0].match)) == (
        Span(7),
        Span(1),
        {"provider": "kazoo-eu", "direction": "internal"},
    )
    assert config.web is not None
    assert config.web.listen.port == 8484


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (edit("    retention: {months: 6}\n", ""), "C204"),
        (edit("    plan: team\n", ""), "C204"),
        (edit("      escrow: true\n", ""), "C205"),
        (edit(S3, S3 + "    object_lock: {mode: off}\n"), "C206"),
        (edit(S3, S3 + "    object_lock: {mode: governance}\n"), "C208"),
        (edit(S3, S3 + "    endpoint: http://10.0.0.1\n"), "C207"),
        (edit(JC, JC + "    allow_http: true\n"), "C207"),
        (edit("custody:\n", "custody:\n  witnesses: [{url: 'http://w.example', key: w+1+k}]\n"), "C207"),
        (edit("custody:\n", "custody:\n  timestamp: {url: 'http://tsa.example', every: 1h, ca: tsa.pem}\n"), "C207"),
        (edit("retention:\n  default: 7y\n  rules:\n    - match: {provider: kazoo}\n      keep: 1y\n", ""), "C211"),
        (edit("custody:\n", "web: {listen: 0.0.0.0:8484}\ncustody:\n"), "C210"),
    ],
)
def test_what_is_unwise_is_warned_of_and_still_loads(tmp_path: Path, text: str, code: str) -> None:
    loaded = read_text(tmp_path, text)
    assert loaded.config is not None, render(loaded.problems)
    assert [(each.code, each.severity) for each in loaded.problems] == [(code, Severity.WARNING)]


def test_secret_that_cannot_be_had_is_an_error_at_its_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("JC_SECRET", "KAZOO_TOKEN", "VOBIZ_TOKEN", "PLIVO_TOKEN", "S3_KEY", "S3_SECRET"):
        monkeypatch.setenv(name, "x")
    monkeypatch.delenv("JC_KEY", raising=False)
    for name in ("ops.pem", "site.key", "custody.pem"):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(0o600)
    loaded = read_text(tmp_path, VALID, resolve_secrets=True)
    assert [(each.code, each.line, each.message) for each in loaded.errors] == [
        ("C111", 8, "environment variable JC_KEY is not set")
    ]
    monkeypatch.setenv("JC_KEY", "x")
    (tmp_path / "custody.pem").chmod(0o644)
    loaded = read_text(tmp_path, VALID, resolve_secrets=True)
    assert loaded.config is not None
    assert [(each.code, each.path) for each in loaded.problems] == [("C209", "custody.signing_key")]


def test_other_secrets_on_the_same_line_and_in_unknown_keys_stay_hidden(tmp_path: Path) -> None:
    text = edit(
        "  - id: justcall\n    kind: justcall\n    api_key: env:JC_KEY\n    api_secret: env:JC_SECRET\n    plan: team\n",
        "  - {id: jc, kind: justcall, api_key: env:K, api_secret: hunter2, plan: gold}\n",
        "    auth_token: env:VOBIZ_TOKEN",
        "    auth_token: env:VOBIZ_TOKEN\n    auth_tokn: hunter2\n    my-password: 'hunter2 and more'",
    )
    loaded = read_text(tmp_path, text)
    assert {each.code for each in loaded.errors} == {"C110", "C103", "C101"}
    assert "hunter2" not in render(loaded.problems)
    plan = next(each for each in loaded.errors if each.code == "C103")
    assert plan.excerpt[plan.caret :].startswith("gold")


def test_pasted_private_key_is_not_shown_though_the_file_is_no_yaml(tmp_path: Path) -> None:
    key = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"
    loaded = read_text(tmp_path, f"version: 1\ncustody:\n  signing_key: -----BEGIN\n{key}\nstate_dir: x\n")
    assert loaded.errors
    assert key not in render(loaded.problems)


def test_anchors_and_merges_share_settings_and_keep_their_places(tmp_path: Path) -> None:
    text = edit(
        "    plan: team\n",
        "    <<: &common {rate: 10/s, overlap: 48h}\n    plan: team\n",
        PL,
        PL + "    <<: *common\n    overlap: 1h\n",
    )
    config = load(written(tmp_path, text), resolve_secrets=False)
    assert str(config.providers[0].rate) == "10/s"
    assert config.pace(config.providers[0]).overlap == timedelta(hours=48)
    assert config.pace(config.providers[3]).overlap == timedelta(hours=1)


def test_numbers_keep_their_text_where_text_is_wanted(tmp_path: Path) -> None:
    config = load(
        written(tmp_path, edit("account_id: 0123456789abcdef0123456789abcdef", "account_id: 007")),
        resolve_secrets=False,
    )
    kazoo = config.providers[1]
    assert isinstance(kazoo, Kazoo)
    assert kazoo.account_id.resolve().reveal() == "007"


def test_a_single_storage_needs_no_list(tmp_path: Path) -> None:
    text = MINIMAL.read_text()
    assert len(load(written(tmp_path, text), resolve_secrets=False).storage) == 1


def test_configuration_is_immutable_and_shows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JC_KEY", "hunter2")
    config = load(written(tmp_path, VALID), resolve_secrets=False)
    assert "hunter2" not in repr(config)
    with pytest.raises(ValueError, match="frozen"):
        config.instance = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("plan", "extra", "days", "quota"),
    [
        ("plan: pro", "", 365, 25 * 10**9),
        ("plan: business", "", 730, 100 * 10**9),
        ("plan: enterprise", "retention: {days: 1000}", 1000, None),
        ("plan: team", "retention: 30d", 30, 5 * 10**9),
        ("retention: {plan: pro}", "quota: 1GB", 365, 10**9),
        ("retention: none", "quota: 1GB", None, 10**9),
    ],
)
def test_justcall_keeps_by_plan_unless_told_otherwise(
    tmp_path: Path, plan: str, extra: str, days: int | None, quota: int | None
) -> None:
    config = load(
        written(tmp_path, edit("plan: team", plan + ("\n    " + extra if extra else ""))), resolve_secrets=False
    )
    facts = config.providers[0].keeps()
    assert (facts.keeps, facts.quota_bytes) == (None if days is None else timedelta(days=days), quota)


def test_the_first_usual_place_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARCHIVER_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    with pytest.raises(ConfigurationError, match="archiver init"):
        find()
    (tmp_path / "xdg" / "archiver").mkdir(parents=True)
    (tmp_path / "xdg" / "archiver" / "archiver.yaml").touch()
    assert find() == tmp_path / "xdg" / "archiver" / "archiver.yaml"
    Path("archiver.yaml").touch()
    assert find() == Path("archiver.yaml")
    monkeypatch.setenv("ARCHIVER_CONFIG", "/else/where.yaml")
    assert find() == Path("/else/where.yaml")
    assert find(Path("given.yaml")) == Path("given.yaml")


@pytest.mark.parametrize("name", ["missing.yaml", ".", "x" * 300])
def test_unreadable_file_is_one_plain_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path / name, resolve_secrets=False)


def test_configuration_built_in_python_takes_ready_values() -> None:
    plivo = {"id": "p", "kind": "plivo", "auth_id": "MA1", "auth_token": "env:T", "original": True}
    config = Config.model_validate(
        {
            "version": 1,
            "state_dir": Path("/x"),
            "providers": [plivo | {"poll_every": timedelta(seconds=5)}],
            "storage": {"kind": "directory", "path": "/y"},
            "custody": {"signing_key": "file:/k"},
            "encryption": {"recipients": [{"id": "a", "kind": "aes-kw-256", "key": "file:/a"}]},
        }
    )
    assert config.pace(config.providers[0]).every == timedelta(seconds=5)


def test_filters_are_those_that_the_adapters_know() -> None:
    from archiver.config.filters import JustCallFilters, PlivoFilters, VobizFilters
    from archiver.providers import plivo
    from archiver.providers.catalog import CATALOG

    assert set(JustCallFilters.model_fields) == set(CATALOG["justcall"].filters)
    assert set(VobizFilters.model_fields) == set(CATALOG["vobiz"].filters)
    assert all(plivo.allows(name) for name in PlivoFilters.model_fields)
    assert {name.partition("__")[0] for name in PlivoFilters.model_fields} == {
        name.partition("__")[0] for name in CATALOG["plivo"].filters
    }


@pytest.mark.parametrize(("ca", "warned"), [("", True), (", ca: /etc/archiver/tsa.pem", False)])
def test_time_stamps_without_certificates_of_their_authority_are_warned_of(
    ca: str, warned: bool, tmp_path: Path
) -> None:
    text = DESIGN_10.replace("every: 1h}", f"every: 1h{ca}}}")
    problems = read_text(tmp_path, text).problems
    assert ("C213" in {each.code for each in problems}) is warned
