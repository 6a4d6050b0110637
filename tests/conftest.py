"""Fixtures shared by all tests. Servers are real; one that cannot start fails the run."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

pytest_plugins = ["tests.folders", "tests.fixtures_db", "tests.fixtures_s3", "tests.folder_times"]

# No test trusts anybody outside of it: the system's 140 authorities would be read anew for each client, 60 ms of a processor.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).parent / "vectors" / "sealed-object" / "ops.cert.pem")

# A busy machine takes its time: how long an example takes is no verdict. CI always tries the same examples.
settings.register_profile("archiver", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("archiver")


@pytest.fixture(autouse=True)
def _logging_is_nobodys() -> Iterator[None]:
    """A command that ran in this process has set up logging as its configuration says: the next test must not find it so."""
    yield
    structlog.reset_defaults()
    root = logging.getLogger()
    for each in [each for each in root.handlers if type(each) is logging.StreamHandler]:
        root.removeHandler(each)
    root.setLevel(logging.WARNING)
    logging.getLogger("archiver").setLevel(logging.NOTSET)
