"""Writes one log for everything: JSON lines (or text on a terminal), each redacted before it leaves the process.

Events have stable dotted names; free text is never parsed. Libraries that log through the standard module take the same
way out, so that no library can print a signed URL past us. Exceptions are named, not printed: their texts hold URLs and
parameters.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from structlog.types import EventDict, Processor

from archiver.redaction import place_of, redact, traceback_of


def redact_event(_logger: object, _method: str, event: EventDict) -> Mapping[str, Any]:
    """Return the event with every text value free of secrets, URL queries, control characters and whole phone
    numbers."""
    return {name: _clean(value) for name, value in event.items()}


def configure(format_: str, level: str, stream: TextIO | None = None) -> None:
    """Set up the process's logging once. `format_`: json, text, or auto (text on a terminal)."""
    out = stream or sys.stderr
    as_text = format_ == "text" or (format_ == "auto" and out.isatty())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        _name_exception,
        redact_event,
    ]
    final: Processor = (
        structlog.dev.ConsoleRenderer(colors=out.isatty(), timestamp_key="ts")
        if as_text
        else structlog.processors.JSONRenderer(sort_keys=True, default=str)
    )
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, final], foreign_pre_chain=shared
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("archiver").setLevel(level.upper())


def last_words(bug: Exception) -> str:
    """Log a bug that ends the process: one redacted line, in JSON unless logging was set up otherwise. Returns the
    error's type and place."""
    if not structlog.is_configured():
        configure("json", "info")
    where = place_of(bug)
    log = structlog.get_logger("archiver.process")
    log.critical("process.bug", error_type=type(bug).__name__, error_at=where, traceback=traceback_of(bug))
    return f"{type(bug).__name__} at {where}"


def _name_exception(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event["error_type"] = type(error).__name__
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        if where is not None:
            event["error_at"] = f"{where.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{where.tb_lineno}"
    return event


def _clean(value: object) -> object:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {str(name): _clean(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(each) for each in value]
    return value
