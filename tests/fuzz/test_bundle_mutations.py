"""Twenty bags, thousands of mutations by an attacker who can make every manifest anew: none is accepted (custody.md T9).

800 in CI, as many times more as ARCHIVER_FUZZ says; a release runs 10,000.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from archiver.evidence import verifier
from archiver.evidence.verifier.bag import CONTENT, TAGS
from archiver.evidence.verifier.events import TYPE
from tests.evidence_log import Bag, b64, jcs, key_of, lines, make_bag, sha256, sign_note
from tests.fuzz.mutator import times

MUTATIONS = times(800)
BAGS = 20

Files = dict[str, bytes]
Mutation = Callable[[Files, Bag, Bag, random.Random], None]


def _some(files: Files, chance: random.Random, *parts: str) -> str:
    return chance.choice(sorted(name for name in files if not parts or any(part in name for part in parts)))


def _flip_bit(files: Files, _bag: Bag, _other: Bag, chance: random.Random) -> None:
    name = _some(files, chance)
    data = bytearray(files[name] or b"\0")
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    files[name] = bytes(data)


def _cut(files: Files, _bag: Bag, _other: Bag, chance: random.Random) -> None:
    name = _some(files, chance)
    files[name] = files[name][: chance.randrange(max(1, len(files[name])))]


def _grow(files: Files, _bag: Bag, _other: Bag, chance: random.Random) -> None:
    name = _some(files, chance)
    files[name] += chance.choice([b"\0", b"\n", b" ", b"{}", files[name]])


def _drop_file(files: Files, _bag: Bag, _other: Bag, chance: random.Random) -> None:
    del files[_some(files, chance)]


def _drop_event(files: Files, bag: Bag, _other: Bag, chance: random.Random) -> None:
    """The first, a middle or the last; those behind it renumbered, as a careful attacker would."""
    folder = f"data/recordings/{chance.choice(bag.recordings)}"
    events = sorted(name for name in files if name.startswith(f"{folder}/events/"))
    gone = chance.choice([0, len(events) // 2, len(events) - 1])
    for seq in range(gone, len(events)):
        for kind, suffix in (("events", "json"), ("proofs", "tlog-proof")):
            data = files.pop(f"{folder}/{kind}/{seq:04d}.{suffix}")
            if seq > gone:
                files[f"{folder}/{kind}/{seq - 1:04d}.{suffix}"] = data


def _swap_files(files: Files, _bag: Bag, _other: Bag, chance: random.Random) -> None:
    kind = chance.choice(["/events/", "/proofs/", ".json", "data/"])
    one, two = _some(files, chance, kind), _some(files, chance, kind)
    files[one], files[two] = files[two], files[one]


def _foreign_file(files: Files, _bag: Bag, other: Bag, chance: random.Random) -> None:
    """A proof, an event, an audio, a checkpoint of another genuine bag."""
    kind = chance.choice([".tlog-proof", "/events/", "audio.", "private.json", "data/log/checkpoint", "request.json"])
    files[_some(files, chance, kind)] = other.files[_some(other.files, chance, kind)]


def _foreign_recording(files: Files, bag: Bag, other: Bag, chance: random.Random) -> None:
    """A whole recording of another bag in the place of one of this."""
    gone, come = (
        f"data/recordings/{chance.choice(bag.recordings)}/",
        f"data/recordings/{chance.choice(other.recordings)}/",
    )
    for name in [name for name in files if name.startswith(gone)]:
        del files[name]
    files.update({name: data for name, data in other.files.items() if name.startswith(come)})


def _drop_recording(files: Files, bag: Bag, _other: Bag, chance: random.Random) -> None:
    gone = f"data/recordings/{chance.choice(bag.recordings)}/"
    for name in [name for name in files if name.startswith(gone)]:
        del files[name]


def _forged_event(files: Files, _bag: Bag, _other: Bag, chance: random.Random) -> None:
    """An event with one word changed, signed anew with the attacker's own key."""
    name = _some(files, chance, "/events/")
    entry = json.loads(files[name])
    thief = key_of("thief")
    entry["ev"]["outcome"] = "forged"
    entry["ev"]["actor"]["writer"] = thief.public_key().public_bytes_raw().hex()
    body, kind = jcs(entry["ev"]), TYPE
    entry["sig"] = b64(thief.sign(b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(body), body)))
    files[name] = jcs(entry)


def _lying_statement(files: Files, _bag: Bag, _other: Bag, chance: random.Random) -> None:
    """A day made to look better than it was stated to be."""
    name = _some(files, chance, "data/statements/")
    said = json.loads(files[name])
    said |= chance.choice([{"listed": said["listed"] + 1}, {"listings": []}, {"archived_bytes": 1}, {"revision": 2}])
    files[name] = jcs(said)


def _foreign_statement(files: Files, _bag: Bag, other: Bag, chance: random.Random) -> None:
    """What was stated of another day, or by another archive, with its event or without."""
    name, theirs = _some(files, chance, "data/statements/"), _some(other.files, chance, "data/statements/")
    files[name] = other.files[theirs]
    if chance.random() < 0.5:
        digest = sha256(files[name]).hex().encode()
        files |= {path: data for path, data in other.files.items() if "archive-events" in path and digest in data}


def _drop_statement(files: Files, _bag: Bag, _other: Bag, chance: random.Random) -> None:
    del files[_some(files, chance, "data/statements/")]


def _forged_checkpoint(files: Files, bag: Bag, _other: Bag, chance: random.Random) -> None:
    """Another root under the attacker's own signature, in the checkpoint and in every proof."""
    origin, size, _ = bag.log.body().split("\n")[:3]
    body = f"{origin}\n{size}\n{b64(chance.randbytes(32))}\n"
    forged = (body + "\n" + sign_note(body, origin, key_of("thief"))).encode()
    genuine = files["data/log/checkpoint"]
    for name, data in files.items():
        if genuine in data:
            files[name] = data.replace(genuine, forged)


MUTATORS: list[Mutation] = [
    _flip_bit, _flip_bit, _flip_bit, _cut, _grow, _drop_file, _drop_event, _swap_files, _foreign_file, _foreign_recording,
    _drop_recording, _forged_event, _forged_checkpoint, _lying_statement, _foreign_statement, _drop_statement,
]  # fmt: skip


def _attack(files: Files, chance: random.Random) -> None:
    """Make anew what anybody can: nothing, the manifests, also the content's, also a signature with a key of one's own."""
    effort = chance.randrange(4)
    if effort == 0:
        return
    if effort > 1 and "data/content-manifest.txt" in files:
        content = {name: data for name, data in files.items() if re.fullmatch(CONTENT, name)}
        files["data/content-manifest.txt"] = lines(content)
    files["manifest-sha256.txt"] = lines({name: data for name, data in files.items() if name.startswith("data/")})
    files["tagmanifest-sha256.txt"] = lines({name: files[name] for name in TAGS if name in files})
    if effort > 2:
        files["tagmanifest-sha256.sig"] = key_of("thief").sign(files["tagmanifest-sha256.txt"])


def _put(folder: Path, name: str, data: bytes | None) -> None:
    path = folder / name
    if data is None:
        path.unlink()
        while path.parent != folder and not any(path.parent.iterdir()):
            path = path.parent
            path.rmdir()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _accepted(folder: Path, bag: Bag, files: Files) -> bool:
    """Whether the verifier takes the mutated bag; the folder is as before afterwards."""
    changed = {name for name in files.keys() | bag.files.keys() if files.get(name) != bag.files.get(name)}
    for name in sorted(changed):
        _put(folder, name, files.get(name))
    try:
        return all(mark == "PASS" for mark, _ in verifier.examine(folder, *bag.arguments).lines)
    except verifier.Wrong:
        return False
    finally:
        for name in sorted(changed):
            _put(folder, name, bag.files.get(name))


@pytest.fixture(scope="module")
def bags() -> list[Bag]:
    return [
        make_bag(f"mutated {number}", 1 + number % 3, noise=2 + number, stated=1 + number % 2) for number in range(BAGS)
    ]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(BAGS))
def test_no_mutation_is_accepted_and_the_clean_bag_is(number: int, bags: list[Bag], tmp_path: Path) -> None:
    bag, other = bags[number], bags[(number + 3) % BAGS]
    folder = bag.write(tmp_path / "bag")
    for attempt in range(MUTATIONS // BAGS):
        chance = random.Random(f"{number} {attempt}")
        files, mutate = dict(bag.files), chance.choice(MUTATORS)
        while files == bag.files:  # a manifest made anew is no mutation
            mutate(files, bag, other, chance)
            _attack(files, chance)
        assert not _accepted(folder, bag, files), f"bag {number}, attempt {attempt}: {mutate.__name__} was accepted"
    assert all(mark == "PASS" for mark, _ in verifier.examine(folder, *bag.arguments).lines)
    shutil.rmtree(folder)
