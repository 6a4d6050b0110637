"""Custody rows read as docs/spec/custody-event.md says, with nothing but JSON, SHA-256 and Ed25519."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_TYPE = b"application/vnd.compliance-archiver.custody-event.v1+json"
Tables = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Chain:
    """One subject's events, in order."""

    events: Sequence[Mapping[str, Any]]

    def of(self, kind: str) -> list[Mapping[str, Any]]:
        """What the events of one type have to say."""
        return [event["data"] for event in self.events if event["type"] == kind]


def chains(tables: Tables, hosts: frozenset[str]) -> tuple[dict[str, Chain], list[str]]:
    """Every subject's chain, and everything that is wrong with any of them."""
    subjects = {each["subject_no"]: each for each in tables["custody_subject"]}
    entries: dict[str, dict[int, bytes]] = {each["subject"]: {} for each in subjects.values()}
    problems: list[str] = []
    for number, seq, raw in _rows(tables):
        subject = subjects[number]["subject"]
        if entries[subject].setdefault(seq, raw) != raw:
            problems.append(f"{subject} has two events {seq}")
    found: dict[str, Chain] = {}
    for each in subjects.values():
        name, own = each["subject"], entries[each["subject"]]
        if not own:
            problems.append(f"{name} has no event")
            continue
        found[name] = Chain([json.loads(own[seq])["ev"] for seq in sorted(own)])
        problems += [f"{name}: {problem}" for problem in _chain(name, own, each)]
    problems += _signatures(found, entries, hosts)
    problems += _commitments(tables, subjects, found)
    problems += [f"the log quarantined {each}" for each in tables.get("custody_quarantine", [])]
    return found, problems + _tree(tables)


def _rows(tables: Tables) -> list[tuple[int, int, bytes]]:
    """Subject number, sequence number and bytes of every event: those that wait, and those that are in the log."""
    waiting = [(each["subject_no"], each["seq"], each["entry"]) for each in tables["custody_pending"]]
    leaves = {(each["log_id"], each["leaf_index"]): each["entry"] for each in tables.get("custody_event", [])}
    return waiting + [
        (each["subject_no"], each["seq"], leaves[each["log_id"], each["leaf_index"]])
        for each in tables.get("custody_subject_event", [])
    ]


def _chain(name: str, entries: Mapping[int, bytes], head: Mapping[str, Any]) -> list[str]:
    problems: list[str] = []
    if sorted(entries) != list(range(len(entries))):
        problems.append(f"events {sorted(entries)} are not numbered without a gap")
    previous: bytes | None = None
    for seq in sorted(entries):
        event = json.loads(entries[seq])["ev"]
        if (event["subject"], event["seq"]) != (name, seq):
            problems.append(f"event {seq} says that it is {event['seq']} of {event['subject']}")
        if event["prev"] != (None if previous is None else previous.hex()):
            problems.append(f"event {seq} does not name the one before it")
        previous = hashlib.sha256(b"\x00" + entries[seq]).digest()
    if (head["head_seq"], head["head_hash"]) != (max(entries), previous):
        problems.append("its head is not its last event")
    return problems


def _signatures(
    found: Mapping[str, Chain], entries: Mapping[str, Mapping[int, bytes]], hosts: frozenset[str]
) -> list[str]:
    archive = found["archive"].events if "archive" in found else []
    enrolled = {
        event["data"]["writer"]
        for event in archive
        if event["type"] == "writer.enrolled" and event["actor"]["writer"] in hosts
    }
    problems = []
    for subject, chain in found.items():
        for event, (seq, raw) in zip(chain.events, sorted(entries[subject].items()), strict=True):
            writer, kind = event["actor"]["writer"], event["type"]
            if writer not in (hosts if kind.startswith("writer.") else enrolled):
                problems.append(f"{subject} {seq}: its writer is not one of ours")
            if not _signed(raw, bytes.fromhex(writer)):
                problems.append(f"{subject} {seq}: the signature is not its writer's")
    return problems


def _signed(raw: bytes, writer: bytes) -> bool:
    body, _, rest = raw.removeprefix(b'{"ev":').rpartition(b',"sig":"')
    signed = b"DSSEv1 %d %b %d %b" % (len(_TYPE), _TYPE, len(body), body)
    try:
        Ed25519PublicKey.from_public_bytes(writer).verify(base64.b64decode(rest.removesuffix(b'"}')), signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def _tree(tables: Tables) -> list[str]:
    """The log is one RFC 6962 tree over its entries, in the database and in each checkpoint that was signed."""
    leaves = {each["leaf_index"]: each["entry"] for each in tables.get("custody_event", [])}
    if sorted(leaves) != list(range(len(leaves))):
        return ["the log's entries are not numbered without a gap"]
    hashes = [hashlib.sha256(b"\x00" + leaves[index]).digest() for index in range(len(leaves))]
    claims = [("the tree", each) for each in tables.get("custody_tree", [])]
    claims += [("a checkpoint", each) for each in tables.get("custody_checkpoint", [])]
    problems = [
        f"{what} of size {each['size']} has another root than its entries"
        for what, each in claims
        if each["size"] > len(hashes) or each["root"] != _root(hashes[: each["size"]])
    ]
    if any(each["size"] != len(hashes) for each in tables.get("custody_tree", [])):
        problems.append(f"the tree is not over all of the log's {len(hashes)} entries")
    return problems


def _root(hashes: Sequence[bytes]) -> bytes:
    """RFC 6962 §2.1."""
    if len(hashes) < 2:
        return hashes[0] if hashes else hashlib.sha256(b"").digest()
    half = 1 << (len(hashes) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + _root(hashes[:half]) + _root(hashes[half:])).digest()


def _commitments(tables: Tables, subjects: Mapping[int, Mapping[str, Any]], found: Mapping[str, Chain]) -> list[str]:
    """What is kept beside the events is what they commit to."""
    kept = {(each["subject_no"], each["seq"], each["grp"]): each for each in tables["custody_private"]}
    wanted = {
        (number, event["seq"], group): digest
        for number, each in subjects.items()
        for event in (found[each["subject"]].events if each["subject"] in found else ())
        for group, digest in event["priv"].items()
    }
    problems = []
    for place in kept.keys() | wanted.keys():
        row = kept.get(place)
        said = None if row is None else hashlib.sha256(b"custody-priv-v1\x00" + row["salt"] + row["data"]).hexdigest()
        if said != wanted.get(place):
            problems.append(f"{subjects[place[0]]['subject']} {place[1]}: {place[2]} is not what the event commits to")
    return problems
