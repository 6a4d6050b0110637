"""Whether a witness or an authority has fallen silent is told by the checkpoints and stamps that are kept."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from archiver.translog.checkpoint import Checkpoint
from archiver.translog.forks import Silence, cosigned, stamp_silence, witness_silence
from archiver.translog.note import Cosigner, Signer
from archiver.translog.reader import Signed

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LOG = Signer("test/custody", Ed25519PrivateKey.from_private_bytes(b"l" * 32))
OURS = Cosigner("w.example", Ed25519PrivateKey.from_private_bytes(b"w" * 32))
THEIRS = Cosigner("w.example", Ed25519PrivateKey.from_private_bytes(b"x" * 32))


def checkpoints(ages: Iterable[tuple[float, Cosigner | None]]) -> list[Signed]:
    """Newest first; each so many hours old, cosigned by this witness."""
    found = []
    for number, (age, witness) in enumerate(ages):
        checkpoint = Checkpoint(LOG.name, 100 - number, b"r" * 32)
        note = f"{checkpoint.body}\n{LOG.sign(checkpoint.body)}" + (witness.sign(checkpoint.body, 1) if witness else "")
        at = NOW - age * HOUR
        found.append(Signed(checkpoint.size, checkpoint.root, note, at, at))
    return found


@pytest.mark.parametrize(
    ("ages", "expected"),
    [
        ([], None),
        ([(0, OURS)], None),
        ([(0, None), (1, None), (2, OURS)], None),
        ([(0, None), (1, None), (2, None), (2.5, OURS)], (2, False, False)),
        ([(0, None), (3, None), (4, OURS)], None),
        ([(0, None), (3.1, None), (4, OURS)], (3.1, False, True)),
        ([(0, None), (0, None), (0, None)], (0, True, True)),
        ([(0, THEIRS), (0, THEIRS), (0, THEIRS)], (0, True, True)),
        ([(0, None)], None),
    ],
)
def test_silence_is_read_from_what_is_kept(
    ages: list[tuple[float, Cosigner | None]], expected: tuple[float, bool, bool] | None
) -> None:
    found = witness_silence(checkpoints(ages), OURS.key, NOW, 3 * HOUR)
    if expected is None:
        assert found is None
    else:
        since, never, lasting = expected
        assert found == Silence("w.example", True, NOW - since * HOUR, never=never, lasting=lasting)


def test_a_line_of_another_key_is_no_cosignature() -> None:
    ours, theirs = checkpoints([(0, OURS), (0, THEIRS)])
    assert [cosigned(each.note, OURS.key) for each in (ours, theirs)] == [True, False]


@pytest.mark.parametrize(("last", "silent"), [(4.0, False), (4.1, True), (1.0, False), (None, True)])
def test_stamps_are_late_when_the_log_grew_and_none_came(last: float | None, silent: bool) -> None:
    at = None if last is None else NOW - last * HOUR
    found = stamp_silence("tsa", at, NOW - 10 * HOUR, HOUR, NOW, 3 * HOUR)
    assert (found is not None) is silent
