"""Tests write into memory where there is room: nobody pulls the plug on them, so waiting for a disk shows nothing.

A disk takes 3 ms for each fsync, and more of the processor than the rest of a test. That bytes are fsynced, and in which order,
is shown by the calls themselves (`integration/test_spool.py`, `campaign/power.py`); a killed process loses nothing that it wrote.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

_MEMORY = Path("/dev/shm")
_ROOM = 4 << 30  # bytes; a whole run takes a fraction of it
_SAYS = "PYTEST_DEBUG_TEMPROOT"  # pytest's own name for where its folders are


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Unless somebody said where, folders of tests are in memory."""
    if config.option.basetemp is None and _SAYS not in os.environ:
        os.environ[_SAYS] = str(root())


def root() -> Path:
    """The folder that holds what a session writes: memory with room for it, else the disk."""
    if os.environ.get(_SAYS):
        return Path(os.environ[_SAYS])
    try:
        free = shutil.disk_usage(_MEMORY).free if os.access(_MEMORY, os.W_OK) else 0
        free = min(free, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except OSError:
        free = 0
    return _MEMORY if free >= _ROOM else Path(tempfile.gettempdir())
