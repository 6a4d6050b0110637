"""Writes the report into files, each whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from archiver import durable
from archiver.compliance.facts import Report
from archiver.compliance.month import Month
from archiver.compliance.report_data import days_csv, gaps_csv, report_json
from archiver.compliance.report_html import report_html


def report_pdf(it: Report) -> bytes:
    """The report as PDF. Its module is imported only here, since it takes a while to load and few callers want it."""
    from archiver.compliance import report_pdf

    return report_pdf.report_pdf(it)


FORMATS: Mapping[str, Mapping[str, Callable[[Report], bytes]]] = {
    "html": {".html": report_html},
    "pdf": {".pdf": report_pdf},
    "json": {".json": report_json},
    "csv": {"-days.csv": days_csv, "-gaps.csv": gaps_csv},
}


def stem(month: Month, only: str | None = None) -> str:
    """The file name of a report, without its ending."""
    return f"report-{month}" + (f"-{only}" if only else "")


def render(it: Report, formats: Collection[str] = tuple(FORMATS)) -> dict[str, bytes]:
    """The content of each file, by name."""
    return {
        f"{stem(it.month, it.only)}{ending}": make(it)
        for name, makers in FORMATS.items()
        if name in formats
        for ending, make in makers.items()
    }


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes the files into the folder, in place of earlier ones, readable by their owner alone.

    Raises OSError. A file in the folder is always whole, and a symbolic link that somebody put there is not followed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        durable.replace(folder / name, content)
