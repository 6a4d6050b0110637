"""The notary: whatever is asked, and whatever happens to its file, it never signs two trees that do not continue one another."""

from __future__ import annotations

import itertools
import shutil
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver import errors
from archiver.translog.checkpoint import Checkpoint, open_checkpoint
from archiver.translog.merkle import EMPTY_ROOT, verify_consistency
from archiver.translog.notary import Conflict, Notary, Refused
from tests.custody_examples import SteadyClock
from tests.log_trees import LOG, ORIGIN, WITNESS, forked, honest

TREE = honest(300)


@pytest.fixture
def notary(tmp_path: Path) -> Notary:
    return Notary(tmp_path / "notary.db", LOG, SteadyClock())


def sign(notary: Notary, old: int, new: int) -> str:
    return notary.add_checkpoint(old, TREE.proof(old, new), TREE.checkpoint(new))


def test_first_tree_is_signed_and_remembered_by_the_next_process(notary: Notary, tmp_path: Path) -> None:
    line = sign(notary, 0, 7)
    checkpoint = TREE.checkpoint(7)
    assert open_checkpoint(f"{checkpoint.body}\n{line}".encode(), LOG.key) == (checkpoint, ())
    again = Notary(tmp_path / "notary.db", LOG, SteadyClock())
    assert again.last(ORIGIN) == (7, checkpoint.root)
    assert again.origins() == [ORIGIN]


def test_unknown_log_has_the_empty_tree(notary: Notary) -> None:
    assert notary.last("elsewhere.example") == (0, EMPTY_ROOT)


def test_each_continuation_is_signed(notary: Notary) -> None:
    for old, new in ((0, 1), (1, 1), (1, 2), (2, 255), (255, 256), (256, 300)):
        sign(notary, old, new)
    assert notary.last(ORIGIN) == (300, TREE.checkpoint().root)


def test_signature_lost_after_the_tree_was_remembered_is_given_again_the_same(notary: Notary) -> None:
    first = sign(notary, 0, 9)
    with pytest.raises(Conflict) as conflict:
        sign(notary, 0, 9)
    assert conflict.value.last_size == 9
    assert sign(notary, 9, 9) == first


def test_other_tree_of_the_same_size_is_refused(notary: Notary) -> None:
    sign(notary, 0, 9)
    other = forked(5, 9)
    with pytest.raises(Refused):
        notary.add_checkpoint(9, [], other.checkpoint())
    assert notary.last(ORIGIN) == (9, TREE.checkpoint(9).root)


def test_tree_that_does_not_continue_the_last_is_refused_with_any_proof(notary: Notary) -> None:
    sign(notary, 0, 9)
    other = forked(5, 20)
    for proof in (other.proof(9), TREE.proof(9, 20), [], [EMPTY_ROOT] * 5, TREE.proof(9, 20)[:-1]):
        with pytest.raises(Refused):
            notary.add_checkpoint(9, proof, other.checkpoint())
    assert sign(notary, 9, 20)


def test_smaller_tree_is_refused_even_with_the_right_old_size(notary: Notary) -> None:
    sign(notary, 0, 9)
    with pytest.raises(Refused):
        notary.add_checkpoint(9, [], TREE.checkpoint(5))
    with pytest.raises(Conflict):
        notary.add_checkpoint(5, [], TREE.checkpoint(5))


def test_first_tree_takes_no_proof(notary: Notary) -> None:
    with pytest.raises(Refused):
        notary.add_checkpoint(0, [EMPTY_ROOT], TREE.checkpoint(5))
    assert notary.last(ORIGIN).size == 0


def test_logs_are_kept_apart(notary: Notary) -> None:
    sign(notary, 0, 9)
    other = forked(0, 4).checkpoint(origin="elsewhere.example")
    assert notary.add_checkpoint(0, [], other)
    assert notary.last("elsewhere.example") == (4, other.root)
    assert notary.last(ORIGIN).size == 9


def test_witness_signs_with_the_time(tmp_path: Path) -> None:
    witness = Notary(tmp_path / "witness.db", WITNESS, SteadyClock())
    checkpoint = TREE.checkpoint(9)
    cosigned = TREE.note(9) + witness.add_checkpoint(0, [], checkpoint).encode()
    found, seen_by = open_checkpoint(cosigned, LOG.key, [WITNESS.key])
    assert found == checkpoint
    assert seen_by == ((WITNESS.key, 1795178097),)


# --- restored from an old copy ------------------------------------------------------------------------------------


def test_state_from_an_old_backup_is_made_safe_by_the_published_checkpoint(notary: Notary, tmp_path: Path) -> None:
    sign(notary, 0, 9)
    shutil.copy(tmp_path / "notary.db", tmp_path / "old.db")
    sign(notary, 9, 20)
    restored = Notary(tmp_path / "old.db", LOG, SteadyClock())
    assert restored.last(ORIGIN).size == 9
    restored.catch_up(TREE.checkpoint(20), TREE.proof(9, 20))
    other = forked(12, 25)
    with pytest.raises(Refused):
        restored.add_checkpoint(20, other.proof(20), other.checkpoint())
    assert sign(restored, 20, 25)


def test_lost_state_is_made_safe_by_the_published_checkpoint(tmp_path: Path) -> None:
    fresh = Notary(tmp_path / "fresh.db", LOG, SteadyClock())
    fresh.catch_up(TREE.checkpoint(20))
    assert fresh.last(ORIGIN) == (20, TREE.checkpoint(20).root)
    with pytest.raises(Conflict):
        fresh.add_checkpoint(0, [], forked(0, 25).checkpoint())


def test_older_checkpoint_teaches_nothing(notary: Notary) -> None:
    sign(notary, 0, 20)
    notary.catch_up(TREE.checkpoint(9))
    notary.catch_up(TREE.checkpoint(20))
    assert notary.last(ORIGIN).size == 20


def test_published_checkpoint_of_another_history_is_refused(notary: Notary) -> None:
    sign(notary, 0, 9)
    other = forked(5, 20)
    with pytest.raises(Refused):
        notary.catch_up(other.checkpoint(), other.proof(9))
    with pytest.raises(Refused):
        notary.catch_up(forked(5, 9).checkpoint())
    assert notary.last(ORIGIN).size == 9


# --- files and processes ------------------------------------------------------------------------------------------


def test_two_at_once_sign_one_line_of_trees(tmp_path: Path) -> None:
    """Two notaries on one file race over two forks: whatever is signed belongs to one of them alone."""
    trees = [honest(60), forked(0, 60)]
    signed: list[tuple[int, Checkpoint]] = []

    def race(number: int) -> None:
        notary = Notary(tmp_path / "notary.db", LOG, SteadyClock())
        tree = trees[number]
        for size in range(1, 61):
            old = notary.last(ORIGIN).size
            try:
                notary.add_checkpoint(old, tree.proof(old, max(old, size)), tree.checkpoint(max(old, size)))
            except (Refused, Conflict):
                continue
            signed.append((number, tree.checkpoint(max(old, size))))

    threads = [threading.Thread(target=race, args=[number]) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({number for number, _ in signed}) == 1
    assert max(checkpoint.size for _, checkpoint in signed) == 60


def test_memory_is_on_disk_before_the_signature_is_made(tmp_path: Path) -> None:
    seen: list[int] = []

    class Watching:
        key = LOG.key

        def sign(self, text: str, time: int) -> str:
            with sqlite3.connect(tmp_path / "notary.db") as db:
                seen.append(db.execute("SELECT size FROM signed").fetchone()[0])
            db.close()
            raise errors.KeyUnavailableError("the token was pulled out")

    watching: Any = Watching()
    notary = Notary(tmp_path / "notary.db", watching, SteadyClock())
    with pytest.raises(errors.KeyUnavailableError):
        sign(notary, 0, 9)
    assert seen == [9]
    with pytest.raises(Refused):
        Notary(tmp_path / "notary.db", LOG, SteadyClock()).add_checkpoint(9, [], forked(5, 9).checkpoint())


@pytest.mark.parametrize("content", [b"not a database, but long enough to be looked into" * 4, None])
def test_file_that_cannot_be_used_is_said_so_and_nothing_is_signed(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "notary.db"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(errors.UnavailableError, match="notary"):
        sign(Notary(path, LOG, SteadyClock()), 0, 9)


def test_note_is_kept_for_the_newest_tree_only(notary: Notary) -> None:
    assert notary.kept(ORIGIN) is None
    sign(notary, 0, 9)
    notary.keep(ORIGIN, 9, b"note of 9")
    sign(notary, 9, 20)
    notary.keep(ORIGIN, 9, b"a late one")
    assert notary.kept(ORIGIN) == b"note of 9"
    notary.keep(ORIGIN, 20, b"note of 20")
    assert notary.kept(ORIGIN) == b"note of 20"


# --- whatever is asked --------------------------------------------------------------------------------------------

FORKS = [honest(40), forked(3, 40), forked(17, 40), forked(0, 40)]
requests = st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(0, 40), st.booleans())


@settings(max_examples=30)
@given(st.lists(requests, max_size=12))
def test_whatever_is_signed_is_one_history(tmp_path_factory: pytest.TempPathFactory, asked: Any) -> None:
    notary = Notary(tmp_path_factory.mktemp("notary") / "notary.db", LOG, SteadyClock())
    signed: list[tuple[int, int]] = []
    for fork, old, size, honestly in asked:
        tree = FORKS[fork]
        claimed = notary.last(ORIGIN).size if honestly else old
        proof = tree.proof(claimed, size) if claimed <= size else []
        try:
            notary.add_checkpoint(claimed, proof, tree.checkpoint(size))
        except (Refused, Conflict):
            continue
        signed.append((fork, size))
    for (a_fork, a), (b_fork, b) in itertools.pairwise(signed):
        assert a <= b
        if a:
            first, second = FORKS[a_fork].checkpoint(a), FORKS[b_fork].checkpoint(b)
            verify_consistency(a, first.root, b, second.root, FORKS[b_fork].proof(a, b))
