"""What is checked of one custody event, of the order of several, and of a time stamp."""

from __future__ import annotations

import json
import re
import unicodedata
from datetime import datetime
from typing import Any, NamedTuple

from archiver.evidence.verifier.primitives import Wrong, need, need_past, number, sha256, signed, unbase64

# --- custody events, docs/spec/custody-event.md -------------------------------------------------------------------------------
HEX32, WORD = r"[0-9a-f]{64}", r"[a-z][a-z0-9_]{0,31}"
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
TYPE = b"application/vnd.compliance-archiver.custody-event.v1+json"
SHAPE = {  # member -> what its JSON text must be
    "actor": rf'\{{"kind":"{WORD}","user":(null|"([^"\\]|\\.)+"),"writer":"{HEX32}"\}}', "data": r"\{.*\}",
    "at": r'"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z"', "op": r'null|".+"',
    "id": f'"{UUID}"', "outcome": f'"{WORD}"', "prev": f'null|"{HEX32}"', "seq": r"[0-9]+", "v": "1",
    "priv": rf'\{{("[a-z0-9_.]{{1,64}}":"{HEX32}",?)*\}}', "type": r'"[a-z_]{1,32}\.[a-z_]{1,32}"',
    "subject": rf'"(archive|rec:{UUID}|hold:[A-Za-z0-9._-]{{1,64}})"',
}  # fmt: skip
AFTER = {  # type -> what must have come before, and what both must then say alike
    "recording.sealed": ("recording.downloaded", "pt_sha256"), "recording.stored": ("recording.sealed", "ct_sha256"),
    "recording.store_verified": ("recording.stored", "storage", "ct_sha256"), "export.delivered": ("export.prepared",),
    "provider.deleted": ("provider.delete_intended",), "provider.delete_confirmed": ("provider.deleted",),
}  # fmt: skip


class Event(NamedTuple):
    ev: dict[str, Any]
    hash: bytes
    leaf: int


def loads(raw: bytes) -> Any:
    """JSON that all readers read alike: no fractions, no member twice."""
    once = lambda pairs: need(len(dict(pairs)) == len(pairs), "JSON names a member twice") and dict(pairs)  # noqa: E731
    return json.loads(raw.decode("utf-8"), parse_float=number, parse_constant=number, object_pairs_hook=once)


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def in_profile(value: Any, depth: int = 0) -> bool:
    if isinstance(value, (dict, list)):
        keys, items = (list(value), value.values()) if isinstance(value, dict) else ([], value)
        names = all(re.fullmatch(r"[a-z0-9_.]+", key) for key in keys)
        return depth < 16 and names and all(in_profile(item, depth + 1) for item in items)
    return unicodedata.is_normalized("NFC", value) if isinstance(value, str) else value is None or abs(value) < 2**53


def parse_event(raw: bytes) -> dict[str, Any]:
    """The event of an entry in the right form and truly signed; whether its writer is the archive's is not asked here."""
    entry = loads(raw)
    need(len(raw) <= 16384 and canonical(entry) == raw and in_profile(entry), "it is not in canonical form")
    ev, sig = entry["ev"], unbase64(entry["sig"], 64)
    good = entry.keys() == {"ev", "sig"} and ev.keys() == SHAPE.keys() and (ev["prev"] is None) == (ev["seq"] == 0)
    good = good and all(re.fullmatch(shape, canonical(ev[name]).decode()) for name, shape in SHAPE.items())
    good = good and all(len(text or "") <= 200 for text in (ev["op"], ev["actor"]["user"]))
    need(good, "it is no custody event of format v1")
    body = canonical(ev)
    message = b"DSSEv1 %d %b %d %b" % (len(TYPE), TYPE, len(body), body)
    need(signed(bytes.fromhex(ev["actor"]["writer"]), message, sig), "its writer's signature is false")
    need_past(ev["at"], "%Y-%m-%dT%H:%M:%S.%fZ", "it is dated")
    return ev  # type: ignore[no-any-return]


def check_order(events: list[Event]) -> None:
    need(events[0].ev["type"] == "recording.discovered", "its first event is not recording.discovered")
    for place, (ev, _, _) in enumerate(events):
        earlier, *alike = AFTER.get(ev["type"], ("",))
        before = [e.ev["data"] for e in events[:place] if e.ev["type"] == earlier]
        found = any(all(data.get(name) == ev["data"].get(name) for name in alike) for data in before)
        need(found or not earlier, f"event {place} is {ev['type']}, but no {earlier} of the same thing came before it")


# --- completeness statements, docs/spec/completeness-statement.md --------------------------------------------------------------
def told(said: dict[str, Any]) -> str:
    """What a completeness statement says, for people."""
    states, holes, codes = said["states"], said["holes"], [gap["code"] for gap in said["gaps"]]
    counts = [f"{states[state]} {state}" for state in sorted(states)] + [f"{said['without_audio']} without audio"]
    counts += [f"{said['rejects']} rows not understood"] if said["rejects"] else []
    counts += [f"{len(holes)} spans of the day never listed in full"] if holes else []
    counts += [f"gap {code}: {codes.count(code)}" for code in sorted(set(codes))]
    verdict = f"{'COMPLETE' if said['complete'] else 'NOT COMPLETE'} (revision {said['revision']})"
    return f"{said['provider']} listed {said['listed']} recordings of {said['day']}; {'; '.join(counts)}; {verdict}"


HISTORY = (
    "history of statement "  # a claim that may fail in a bundle that is right: then the archive contradicted itself
)


def check_succession(stated: list[dict[str, Any]], renamed: bool = False) -> str:
    """The events that state one day, in the order of their chain: numbered upwards, each naming the one before it.

    `renamed`: the account had another name once, under which the one before the first may have been stated.
    """
    digests: dict[int, str] = {}
    last: dict[str, Any] = {}
    complete = chained = False
    for ev in stated:
        data = ev["data"]
        revision, digest, seq = data["revision"], data["statement_sha256"], ev["seq"]
        chained = chained or "previous" in data  # early statements did not name the one before them
        wrong = ""
        if renamed and not last:
            last = data.get("previous") or {}
        if revision in digests:
            if digests[revision] != digest:
                wrong = f"revision {revision} was stated twice, of different content, again by event {seq}"
        elif last and revision < last["revision"]:
            wrong = f"event {seq} states revision {revision}, after revision {last['revision']}"
        elif data.get("previous", last or None) != (last or None):
            wrong = f"event {seq} states revision {revision}, and does not name the statement before it"
        if data["complete"] and last and not complete and chained and not data.get("because"):
            wrong = wrong or f"event {seq} calls the day complete, which it was not, and states no reason"
        if wrong and "rehomed" in data:
            continue  # said by a database that had been turned back, and known to be astray
        need(not wrong, wrong)
        digests[revision] = digest
        last, complete = {"revision": revision, "sha256": digest}, data["complete"]
    return f"revisions stated in this log: {len(digests)}, each after the one before it"


# --- RFC 3161 time stamps: what they cover and when; who signed them is for openssl ------------------------------------------
def check_stamp(raw: bytes, covered: bytes) -> datetime:
    """When the time stamp response `raw` says that `covered` existed: TSTInfo has digest, serial, genTime."""
    need(re.match(rb"\x30(?:[^\x80-\xff]|\x81.|\x82..)\x30.\x02\x01[\x00\x01]", raw, re.DOTALL), "it was not granted")
    time = rb"(?:\x17\x0d([0-9]{12})|\x18[\x0f-\x16]([0-9]{14})(?:\.[0-9]+)?)Z"  # UTCTime or GeneralizedTime
    info = re.search(re.escape(b"\x04\x20" + sha256(covered)) + rb"\x02.{2,40}?" + time, raw, re.DOTALL)
    at = info[2] if info else None
    if at is None:
        raise Wrong("it is a time stamp of something else, or not by SHA-256")
    for old, new, old_end, new_end in re.findall(rb"\x30[\x1e-\x22]" + time + time, raw):  # a certificate's validity
        since, until = (new or (b"20" if old < b"5" else b"19") + old for old, new in ((old, new), (old_end, new_end)))
        need(since <= at <= until, "a certificate in it had expired, or was not valid yet, at its time")
    return need_past(at.decode(), "%Y%m%d%H%M%S", "it is dated")
