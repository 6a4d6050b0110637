"""The claims of a bundle, each checked by itself: what holds, what does not, what nothing here proves."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import cast

from archiver.evidence.verifier.bag import CONTENT, UNSAFE, Bag
from archiver.evidence.verifier.events import (
    HEX32,
    HISTORY,
    Event,
    canonical,
    check_order,
    check_stamp,
    check_succession,
    in_profile,
    loads,
    parse_event,
    told,
)
from archiver.evidence.verifier.primitives import (
    UNREADABLE,
    Checkpoint,
    Key,
    Wrong,
    check_consistency,
    check_quorum,
    climb,
    need,
    number,
    parse_checkpoint,
    parse_rotation,
    sha256,
    signed,
    unbase64,
)


# --- the bundle ---------------------------------------------------------------------------------------------------------------
class Bundle(Bag):
    """One bundle under examination. `lines` says what holds and what does not, `unproved` what nothing here proves."""

    def __init__(self, root: Path, key: Key, hosts: Iterable[str]) -> None:
        super().__init__(root)
        self.key, self.hosts = key, set(hosts)
        self.periods: list[tuple[int, Key]] = []  # up to which size earlier keys of the log signed
        self.lines: list[tuple[str, str]] = []
        self.unproved: list[str] = []
        self.checkpoint = cast("Checkpoint", None)
        self.admitted: dict[str, dict[str, int]] = {"writer.enrolled": {}, "writer.retired": {}}  # key -> leaf
        self.chains: dict[str, list[Event]] = {}
        self.renamed: set[str] = set()  # providers that went by another name before
        self.stated: list[Event] = []  # what the archive's own events state of a provider's day
        self.dated: list[tuple[datetime, int, str]] = []  # what time stamps say: when, how many leaves, which stamp

    def claim(self, what: str, check: Callable[..., str], *args: str) -> None:
        try:
            mark, said = "PASS", check(*args)
        except Wrong as exc:
            mark, said = "FAIL", str(exc)
        except UNREADABLE as exc:
            mark, said = "FAIL", f"damaged or not in the format ({type(exc).__name__}): {self.last}"
        self.lines.append((mark, re.sub(UNSAFE, "?", f"{what}: {said}")))

    def follow_keys(self) -> None:
        """From the key that was given to those before and behind it, by the notes with which each introduced the next."""
        notes = [
            parse_rotation(self.read(f"data/trust/rotations/{name}")) for name in self.names("data/trust/rotations")
        ]
        first = self.key
        for old, new, size in sorted(notes, key=lambda each: each[2]):
            if old == self.key:
                self.periods.append((size, old))
                self.key = new
        for old, new, size in sorted(notes, key=lambda each: -each[2]):
            if new == first:
                self.periods.insert(0, (size, old))
                first = old
        need(len(self.periods) == len(notes), "data/trust/rotations tells of keys that are not this log's")

    def key_of(self, size: int) -> Key:
        return next((key for until, key in self.periods if size <= until), self.key)

    def check_checkpoint(self) -> str:
        self.follow_keys()
        checkpoint = parse_checkpoint(self.read("data/log/checkpoint"))
        checkpoint.check_log_signature(self.key_of(checkpoint.size), "the checkpoint")
        self.checkpoint = checkpoint
        body, pem = self.read("data/log/checkpoint.body"), self.read("data/trust/log.pem").split(b"\n")
        need(body == self.checkpoint.body.encode(), "data/log/checkpoint.body is no true copy: do not check by it")
        spki = b"MCowBQYDK2VwAyEA" + base64.b64encode(self.key.public)  # RFC 8410
        need(
            pem[1:] == [spki, b"-----END PUBLIC KEY-----", b""], "data/trust/log.pem is another key: do not check by it"
        )
        return f"{self.checkpoint.size} leaves, root {self.checkpoint.root.hex()}, signed by {self.key.name}"

    def related(self, name: str, proof: str) -> Checkpoint:
        """Another checkpoint of the log, proved to tell the same history."""
        other = parse_checkpoint(self.read(name))
        other.check_log_signature(self.key_of(other.size), name)
        path = [unbase64(line, 32) for line in self.read(proof).decode("utf-8").splitlines()]
        old, new = sorted((other, self.checkpoint), key=lambda each: each.size)
        check_consistency(old, new, path)
        return other

    def check_known(self) -> str:
        known = self.related("data/log/known.checkpoint", "data/log/consistency.txt")
        need(known.size <= self.checkpoint.size, "the earlier checkpoint is from the future: it has more leaves")
        return f"the log began with the {known.size} leaves of root {known.root.hex()}; compare with your own copy"

    def event(self, entry: str, proof: str) -> Event:
        """The event in the file `entry`: well-formed, signed, in the log, and by a writer who might write then."""
        head, _, note = self.read(proof).decode("utf-8").partition("\n\n")
        first, index, *path = head.split("\n")
        need(first == "c2sp.org/tlog-proof@v1" and index.startswith("index "), f"{proof} is no log proof")
        need(note.encode() == self.checkpoint.raw, f"{proof} is foreign: it is for another checkpoint")
        leaf, siblings, raw = number(index[6:]), [unbase64(line, 32) for line in path], self.read(entry)
        size, digest = self.checkpoint.size, sha256(b"\x00" + raw)
        need(leaf < size, f"{entry} is from the future: leaf {leaf}, but the checkpoint has only {size}")
        found = climb(leaf, size - 1, siblings, digest)
        need(found == (self.checkpoint.root,), f"{entry} is not in the log: its proof does not lead to the root")
        try:
            event = Event(parse_event(raw), digest, leaf)
        except Wrong as exc:
            raise Wrong(f"{entry}: {exc}") from exc
        writer, host = event.ev["actor"]["writer"], event.ev["type"] in self.admitted
        need((writer in self.hosts) == host, f"{entry}: {writer} is {'no' if host else 'a'} host's key")
        need(not host or event.ev["subject"] == "archive", f"{entry}: it admits a writer, but not to the archive")
        enrolled, retired = (self.admitted[kind].get(writer, leaf) for kind in self.admitted)
        need(host or enrolled < leaf, f"{entry}: its writer {writer} was not enrolled before it")
        need(host or retired >= leaf, f"{entry}: its writer {writer} had been retired before it")
        return event

    def check_archive(self) -> str:
        names = self.names("data/log/archive-events", "*.json")
        for name in names:
            path = f"data/log/archive-events/{name[:-5]}"
            event = self.event(f"{path}.json", f"{path}.tlog-proof")
            need(name == f"{event.leaf:012d}.json", f"{path}.json is leaf {event.leaf}")
            if event.ev["type"] in self.admitted:
                self.admitted[event.ev["type"]].setdefault(event.ev["data"]["writer"], event.leaf)
            if event.ev["type"] == "provider.renamed" and event.ev["subject"] == "archive":
                self.renamed.add(event.ev["data"]["to"])
            if event.ev["type"] == "reconcile.completed" and event.ev["data"].get("kind") == "completeness":
                need(event.ev["subject"] == "archive", f"{path}.json states completeness, but not as the archive")
                self.stated.append(event)
        enrolled, retired = map(len, self.admitted.values())
        return f"{len(names)} events of the archive itself; {enrolled} writers enrolled, {retired} retired"

    def check_statement(self, name: str) -> str:
        """After `check_archive`: stated by an event, repeated there rightly, free of contradiction."""
        raw = self.read(f"data/statements/{name}")
        named = [each for each in self.stated if each.ev["data"].get("statement_sha256") == sha256(raw).hex()]
        need(named, "no event in this bundle states it: it was changed, or its event was left out")
        said, (ev, _, leaf) = loads(raw), named[0]
        need(canonical(said) == raw and in_profile(said), "it is not in canonical form")
        need(said["schema"] == "archiver.completeness/v1", "it is no completeness statement of format v1")
        provider, day, states, holes, gaps = (said[of] for of in ("provider", "day", "states", "holes", "gaps"))
        need(name == f"{provider}-{day}.json", "its file is named after another provider or day")
        codes = [gap["code"] for gap in gaps]
        repeated = {"gaps": {code: codes.count(code) for code in codes}, "archived": states.get("archived", 0)}
        repeated |= {of: said[of] for of in ("provider", "day", "revision", "complete", "listed", "without_audio")}
        repeated |= {"statement_bytes": len(raw), "listings": len(said["listings"])}
        for of, value in repeated.items():
            need(canonical(ev["data"][of]) == canonical(value), f"it and the event that states it differ in {of}")
        need(sum(states.values()) == said["listed"], "its states do not add up to what was listed")
        unexcused = holes or [gap for gap in gaps if gap["grade"] == "open" and not gap["acknowledged"]]
        need(not (said["complete"] and unexcused), "it calls the day complete and names what is missing")
        newest, last = (
            max(each.ev["data"]["revision"] for each in self.statements_of(name)),
            self.statements_of(name)[-1],
        )
        counts = said["revision"] == newest or last.ev["data"]["statement_sha256"] == sha256(raw).hex()
        need(counts, f"it is revision {said['revision']}, but {newest} was stated of this day")
        return f"{told(said)}. So stated by the archive on {ev['at'][:19].replace('T', ' ')} UTC, leaf {leaf}"

    def statements_of(self, name: str) -> list[Event]:
        """After `check_archive`: what was stated of the day that a file is named after, in the order of the chain."""
        data = ((each, each.ev["data"]) for each in self.stated)
        return sorted(
            (each for each, of in data if f"{of['provider']}-{of['day']}.json" == name), key=lambda e: int(e.ev["seq"])
        )

    def check_history(self, name: str) -> str:
        stated = [each.ev for each in self.statements_of(name)]
        return check_succession(stated, stated[0]["data"]["provider"] in self.renamed)

    def check_chain(self, recording: str) -> str:
        folder, events, prev = f"data/recordings/{recording}", self.chains.setdefault(recording, []), None
        for seq, name in enumerate(self.names(f"{folder}/events")):
            need(name == f"{seq:04d}.json", f"event {seq} is missing")
            event = self.event(f"{folder}/events/{name}", f"{folder}/proofs/{seq:04d}.tlog-proof")
            place = event.ev["subject"], event.ev["seq"], event.ev["prev"]
            need(place == (f"rec:{recording}", seq, prev), f"event {seq} does not follow the one before it")
            back = events and event.ev["at"] < events[-1].ev["at"]
            if back:
                clock = f"event {seq} of recording {recording} is dated before event {seq - 1}"
                self.unproved.append(f"that the archive's clock was right: {clock}, which it follows")
            events.append(event)
            prev = event.hash.hex()
        if not self.names(folder, "audio.*"):
            self.unproved.append(f"what recording {recording} sounds like: its audio is not in this bundle")
        need(events, "it has no events")
        check_order(events)
        ev, data = events[-1].ev, events[-1].ev["data"]
        need(ev["type"] == "export.prepared", "the last event is not an export: events were left out at the end")
        named, head = data["content_manifest_sha256"], {"seq": ev["seq"] - 1, "hash": ev["prev"]}
        need(named == self.digest("data/content-manifest.txt"), "the last event is an export of other content")
        need(data.get("head", head) == head, "the export names another event as the one before it")
        return f"events 0 to {ev['seq']} unbroken and in the log; the last, leaf {events[-1].leaf}, is this export"

    def check_audio(self, recording: str, name: str) -> str:
        stated = [e.ev for e in self.chains[recording] if e.ev["type"] in {"recording.sealed", "recording.downloaded"}]
        need(stated, "no event says what it is")
        digest = self.digest(f"data/recordings/{recording}/{name}")
        need(digest == stated[-1]["data"]["pt_sha256"], "it is not what was downloaded and sealed")
        return f"byte for byte what event {stated[-1]['seq']} states, SHA-256 {digest}"

    def check_private(self, recording: str, name: str) -> str:
        events, groups = self.chains[recording], loads(self.read(f"data/recordings/{recording}/{name}"))
        among = events if name == "private.json" else [events[int(name[8:-5])]]
        for group, kept in groups.items():
            salted = b"custody-priv-v1\x00" + bytes.fromhex(kept["salt"]) + canonical(kept["data"])
            need(re.fullmatch(HEX32, kept["salt"]) and kept.keys() == {"salt", "data"}, f"group {group} is malformed")
            logged = sha256(salted).hex() in [event.ev["priv"].get(group) for event in among]
            need(logged, f"group {group} is not what was logged")
        return f"{', '.join(sorted(groups)) or 'nothing'} as committed to in the log"

    def check_provider(self, recording: str, name: str) -> str:
        """After `check_private`: the answer stands in the private group provider_meta."""
        answer = loads(self.read(f"data/recordings/{recording}/private.json"))["provider_meta"]["data"]["row_base64"]
        same = self.read(f"data/recordings/{recording}/{name}") == unbase64(answer)
        need(same, "it is not the provider's answer that was logged")
        return "the provider's answer as private.json has it"

    def check_export(self) -> str:
        ends = [chain[-1].ev for chain in self.chains.values() if chain]
        vouched = len(ends) == len(self.chains) > 0 and all(ev["type"] == "export.prepared" for ev in ends)
        need(vouched, "no event in the log vouches for all recordings in the bundle")
        content = {name for name in self.manifest("manifest-sha256.txt") if re.fullmatch(CONTENT, name)}
        need(self.manifest("data/content-manifest.txt") == content, "the content manifest does not list the content")
        request = loads(self.read("data/request.json"))
        need(sorted(request["recordings"]) == sorted(self.chains), "request.json names other recordings")
        need(all(ev["data"]["request"] == request["export"] for ev in ends), "request.json is of another export")
        tags, signature = self.read("tagmanifest-sha256.txt"), self.read("tagmanifest-sha256.sig")
        good = all(signed(bytes.fromhex(ev["actor"]["writer"]), tags, signature) for ev in ends)
        need(good, "the bundle was changed after its exporter signed it: tagmanifest-sha256.sig does not match")
        return f"{request['export']}: content as logged, the whole signed by its exporter"

    def check_time(self, name: str) -> str:
        stamped, path = self.checkpoint, "data/log/checkpoint"
        if self.names("data/tsa", f"{name}.checkpoint"):
            path = f"data/tsa/{name}.checkpoint"
            stamped = self.related(path, f"data/tsa/{name}.consistency")
        at = check_stamp(self.read(f"data/tsa/{name}.tsr"), stamped.raw)
        need(re.fullmatch(r"[A-Za-z0-9_-]+", name), "its file name is outside the format")
        self.dated.append((at, stamped.size, name))
        self.unproved.append(
            f"that time stamp {name} is its authority's. With the authority's own root certificate as ROOT.pem, run:\n"
            f"    openssl ts -verify -data {path} -in data/tsa/{name}.tsr -untrusted data/tsa/{name}.pem"
            f" -CAfile ROOT.pem -attime {at.timestamp():.0f}"
        )
        return f"it dates the log's first {stamped.size} leaves to {at:%Y-%m-%d %H:%M:%S} UTC; whose it is, see below"

    def check_dates(self, recording: str) -> str:
        """Between which stamped trees its events came into the log. An old tree can be stamped late."""
        leaves = sorted(event.leaf for event in self.chains[recording])
        need(leaves, "it has no events")
        before = [(size, at, name) for at, size, name in self.dated if size <= leaves[0]]
        since = [(at, size, name) for at, size, name in self.dated if size > leaves[0]]
        said = [f"its first event, leaf {leaves[0]}"]
        for _, at, name in [max(before)] if before else []:
            said.append(f"is not in the tree stamped {at:%Y-%m-%d %H:%M:%S} UTC ({name})")
        for at, _, name in [min(since)] if since else []:
            said.append(f"is in the one stamped {at:%Y-%m-%d %H:%M:%S} UTC ({name})")
        stamped = sum(leaf < max(size for _, size, _ in self.dated) for leaf in leaves)
        return f"{', '.join(said)}; {stamped} of its {len(leaves)} events stand under a time stamp"

    def check_all(self, policy: str) -> None:
        self.claim("files", self.check_files)
        self.lines += [("NOTE", re.sub(UNSAFE, "?", f"stray file: {text}")) for text in self.strays]
        self.claim("checkpoint", self.check_checkpoint)
        if not self.checkpoint:
            self.unproved.append("anything: there is no checkpoint of the log to measure the rest by")
            return
        self.claim("archive", self.check_archive)
        for name in self.names("data/statements"):
            self.claim(f"statement {name}", self.check_statement, name)
            if self.statements_of(name):
                self.claim(f"{HISTORY}{name}", self.check_history, name)
        kinds = (("audio.*", self.check_audio), ("private*", self.check_private), ("provider*", self.check_provider))
        for recording in self.names("data/recordings"):
            self.claim(f"recording {recording}", self.check_chain, recording)
            for pattern, check in kinds:
                for name in self.names(f"data/recordings/{recording}", pattern):
                    self.claim(f"recording {recording} {name}", check, recording, name)
        self.claim("export", self.check_export)
        for name in self.names("data/tsa", "*.tsr"):
            self.claim(f"time stamp {name[:-4]}", self.check_time, name[:-4])
        for recording in self.chains if self.dated else ():
            self.claim(f"recording {recording} dates", self.check_dates, recording)
        if self.names("data/log", "known.checkpoint"):
            self.claim("earlier checkpoint", self.check_known)
        if policy or self.names("data/trust", "policy.txt"):
            whose = "by your policy" if policy else "by the bundle's own policy, which proves nothing by itself"
            self.claim(f"witnesses, {whose}", self.check_witnesses, policy)

    def check_witnesses(self, policy: str) -> str:
        text = policy or self.read("data/trust/policy.txt").decode("utf-8")
        self.last = "the policy"
        return check_quorum(text, self.checkpoint, self.key)
