"""The report as files, each whole or not there at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from archiver.compliance.document import days_csv, gaps_csv, report_json
from archiver.compliance.facts import Report
from archiver.compliance.month import Month
from archiver.compliance.page import report_html


def report_pdf(it: Report) -> bytes:
    """The report on paper; what makes it takes a while to load, and most who list the formats do not want it."""
    from archiver.compliance import paper

    return paper.report_pdf(it)


FORMATS: Mapping[str, Mapping[str, Callable[[Report], bytes]]] = {
    "html": {".html": report_html},
    "pdf": {".pdf": report_pdf},
    "json": {".json": report_json},
    "csv": {"-days.csv": days_csv, "-gaps.csv": gaps_csv},
}


def stem(month: Month, only: str | None = None) -> str:
    """What the files of a report are called, before their endings."""
    return f"report-{month}" + (f"-{only}" if only else "")


def render(it: Report, formats: Collection[str] = tuple(FORMATS)) -> dict[str, bytes]:
    """The files by name."""
    return {
        f"{stem(it.month, it.only)}{ending}": make(it)
        for name, makers in FORMATS.items()
        if name in formats
        for ending, make in makers.items()
    }


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put the files into the folder, in the place of earlier ones, readable by their owner alone.

    Raises OSError; what is there is always a whole file, and no link that somebody laid there is followed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        part = folder / f".{name}.part"
        part.unlink(missing_ok=True)  # of a death half way
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        part.replace(folder / name)
