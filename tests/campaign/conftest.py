"""What all runs of a campaign share: a warm parent, the simulators' event loop, and databases copied from a template."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.campaign.parent import Parent
from tests.campaign.world import Loop, Shared, World, world
from tests.fixtures_db import Server
from tests.fixtures_s3 import ACCESS_KEY, SECRET_KEY

NewWorld = Callable[..., AbstractContextManager[World]]


@pytest.fixture(scope="session")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    clients: list[Any] = []

    def s3() -> Any:
        if not clients:
            clients.append(
                boto3.client(
                    "s3",
                    endpoint_url=request.getfixturevalue("seaweedfs"),
                    region_name="us-east-1",
                    aws_access_key_id=ACCESS_KEY.reveal(),
                    aws_secret_access_key=SECRET_KEY.reveal(),
                )
            )
        return clients[0]

    with closing(Loop()) as loop, Parent() as parent:
        yield Shared(loop, parent, tmp_path_factory.mktemp("probed"), s3)
    for client in clients:
        client.close()


@pytest.fixture
def new_world(request: pytest.FixtureRequest, shared: Shared, tmp_path: Path) -> NewWorld:
    """Worlds by storage and database kind, each started from nothing."""
    lookup = request.getfixturevalue

    @contextmanager
    def make(storage: str, database: str, **options: Any) -> Iterator[World]:
        folder = tmp_path / "world"
        folder.mkdir()
        if database == "sqlite":
            shutil.copy(lookup("sqlite_template"), folder / "archiver.db")
            url = f"sqlite:///{folder}/archiver.db"
        else:
            url = lookup("postgresql").create(migrated=True)
        try:
            with world(folder, shared, storage, url, **options) as made:
                yield made
        finally:
            if database != "sqlite":
                server: Server = lookup("postgresql")
                server.drop(url)

    return make
