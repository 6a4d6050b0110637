"""Fixtures shared by all tests. Servers are real; one that cannot start fails the run."""

pytest_plugins = ["tests.fixtures_db", "tests.fixtures_s3"]
