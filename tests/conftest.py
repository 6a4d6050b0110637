"""Fixtures shared by all tests. Servers are real; one that cannot start fails the run."""

import os

from hypothesis import settings

pytest_plugins = ["tests.fixtures_db", "tests.fixtures_s3", "tests.folder_times"]

# A busy machine takes its time: how long an example takes is no verdict. CI always tries the same examples.
settings.register_profile("archiver", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("archiver")
