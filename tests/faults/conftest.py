"""Each test has the product's log to itself, at its most talkative, whoever configured logging before."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from datetime import timedelta

import pytest
import structlog

from archiver import logs
from archiver.ingest import poll


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about how long a walk waits before it is tried again, and seven seconds for each add up."""
    monkeypatch.setattr(poll, "_PAUSE", timedelta(milliseconds=10))


@pytest.fixture(autouse=True)
def log() -> Iterator[io.StringIO]:
    """What the daemon would have written to its output."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    logs.configure("json", "debug", stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
