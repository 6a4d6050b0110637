"""Whatever goes into the image was chosen by its hash."""

from __future__ import annotations

import re
import tomllib

from tests.config_files import ROOT


def entries(name: str) -> dict[str, set[str]]:
    """The pinned packages of a lock file, with their hashes."""
    text = "".join(line for line in (ROOT / name).read_text().splitlines(True) if not line.strip().startswith("#"))
    return {
        found[1]: set(re.findall(r"--hash=(sha256:[0-9a-f]{64})", found[0]))
        for found in re.finditer(r"^([a-z0-9.-]+==[^ ]+)(?: \\\n +--hash=\S+)+", text, re.MULTILINE)
    }


def test_the_image_installs_nothing_that_is_not_pinned_by_hash() -> None:
    docker = (ROOT / "Dockerfile").read_text()
    installs = re.findall(r"pip install ([^\n\\\\]*)", docker)
    assert installs
    for each in installs:
        assert "--require-hashes" in each or each.strip() == "--no-deps /dist/*.whl", each
    assert all(entries("requirements-runtime.lock").values())


def test_the_build_is_pinned_and_by_the_hashes_that_development_uses() -> None:
    build, whole = entries("requirements-build.lock"), entries("requirements.lock")
    assert build
    assert build.items() <= whole.items()
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert set(required) <= build.keys()
