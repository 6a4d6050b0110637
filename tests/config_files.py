"""Configurations for tests: a small valid one, and edits of it."""

from __future__ import annotations

from pathlib import Path

from archiver.config.load import Loaded, read

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "config" / "archiver.example.yaml"
MINIMAL = ROOT / "config" / "archiver.minimal.yaml"

VALID = """\
version: 1
state_dir: state
defaults:
  poll_every: 10m
providers:
  - id: justcall
    kind: justcall
    api_key: env:JC_KEY
    api_secret: env:JC_SECRET
    plan: team
  - id: kazoo
    kind: kazoo
    base_url: https://kazoo.example.net:8443
    account_id: 0123456789abcdef0123456789abcdef
    auth_token: env:KAZOO_TOKEN
    retention: {months: 6}
  - id: vobiz
    kind: vobiz
    auth_id: MA_1
    auth_token: env:VOBIZ_TOKEN
    retention: none
  - id: plivo
    kind: plivo
    auth_id: MA1
    auth_token: env:PLIVO_TOKEN
storage:
  - id: primary
    kind: s3
    bucket: recordings
    access_key: env:S3_KEY
    secret_key: env:S3_SECRET
  - id: second
    kind: directory
    path: /mnt/worm
encryption:
  recipients:
    - id: ops
      kind: rsa-oaep-256
      public_key: file:ops.pem
    - id: site
      kind: aes-kw-256
      key: file:site.key
      escrow: true
  identities:
    - id: site
      key: file:site.key
custody:
  signing_key: file:custody.pem
retention:
  default: 7y
  rules:
    - match: {provider: kazoo}
      keep: 1y
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "archiver.yaml"
    file.write_text(text)
    return file


def read_text(folder: Path, text: str, *, resolve_secrets: bool = False) -> Loaded:
    return read(written(folder, text), resolve_secrets=resolve_secrets)
