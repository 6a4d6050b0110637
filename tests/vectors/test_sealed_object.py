"""The published vectors of docs/spec/sealed-object.md: the same bytes for ever, opened and refused as their README says."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from types import ModuleType

import pytest

from archiver.errors import KeyUnavailableError, VerificationError
from tests.seal_keys import LOCAL_IDENTITY, OPS_IDENTITY, OTHER_IDENTITY, VECTORS, key_file, opened

_IDENTITIES = {"ops.key.pem": OPS_IDENTITY, "other.key.pem": OTHER_IDENTITY, "local.key": LOCAL_IDENTITY}


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sealed_object_vectors", VECTORS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_README = (VECTORS / "README.md").read_text()
_GENERATOR = _generator()
_DIGESTS = {name: digest for digest, name in re.findall(r"^([0-9a-f]{64})  (\S+)$", _README, re.MULTILINE)}
_PLAINTEXT_DIGESTS = {name: hashlib.sha256(text).hexdigest() for name, text in _GENERATOR.plaintexts().items()}

_GOOD = [
    ("rsa-empty.der", "ops.key.pem", "empty"),
    ("rsa-call.der", "ops.key.pem", "call"),
    ("kek-block.der", "local.key", "block"),
    ("kek-call.der", "local.key", "call"),
    ("three-long.der", "ops.key.pem", "long"),
    ("three-long.der", "other.key.pem", "long"),
    ("three-long.der", "local.key", "long"),
    ("openssl-issuer-serial.der", "ops.key.pem", "call"),
    ("openssl-stream.der", "ops.key.pem", "call"),
    ("openssl-secretkey.der", "local.key", "call"),
]


def test_every_vector_has_the_digest_that_the_readme_states() -> None:
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VECTORS.iterdir()
        if path.suffix not in {".md", ".py"} and path.is_file()
    }
    assert found | _PLAINTEXT_DIGESTS == _DIGESTS


def test_todays_code_makes_the_same_bytes() -> None:
    derived = _GENERATOR.derive()
    assert len(derived) == 18
    for name, content in derived.items():
        assert content == key_file(name), name


@pytest.mark.parametrize(("name", "key", "text"), _GOOD)
@pytest.mark.parametrize("step", [1 << 20, 1000, 1])
def test_good_vector_opens(name: str, key: str, text: str, step: int) -> None:
    if step == 1 and text == "long":
        step = 7
    plaintext = opened(key_file(name), _IDENTITIES[key], expect=_PLAINTEXT_DIGESTS[text], step=step)
    assert plaintext == _GENERATOR.plaintexts()[text]


def test_detached_vector_opens_with_its_body() -> None:
    body = key_file("detached.body")
    plaintext = opened(body, LOCAL_IDENTITY, expect=_PLAINTEXT_DIGESTS["call"], detached=key_file("detached.der"))
    assert plaintext == _GENERATOR.plaintexts()["call"]


@pytest.mark.parametrize("name", sorted(path.name for path in VECTORS.glob("bad-*.der")))
def test_bad_vector_is_refused(name: str) -> None:
    wanted = KeyUnavailableError if name == "bad-wrong-recipient.der" else VerificationError
    with pytest.raises(wanted):
        opened(key_file(name), LOCAL_IDENTITY, OPS_IDENTITY)


def test_readme_names_every_vector() -> None:
    table = set(re.findall(r"^\| (\S+\.der)(?: \+ \S+)? \|", _README, re.MULTILINE))
    assert table == {path.name for path in VECTORS.glob("*.der")}
