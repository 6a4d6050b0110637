"""The command: keys and policy come in, every claim is checked and told, and so is what no claim proves."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from archiver.evidence.verifier.bag import UNSAFE
from archiver.evidence.verifier.claims import Bundle
from archiver.evidence.verifier.events import HEX32
from archiver.evidence.verifier.primitives import UNREADABLE, Wrong, need, parse_key, sha256


# --- the command -------------------------------------------------------------------------------------------------------------
def examine(root: Path, log_key: str = "", host_keys: Iterable[str] = (), policy: str = "") -> Bundle:
    """Every claim of the bundle in `root`, checked. Raises `Wrong` where a key is missing or unusable."""
    trust, which = root / "data/trust", "host" if log_key else "log"
    try:
        key = parse_key(log_key or (trust / "log.vkey").read_text("utf-8"), 1)
        hosts = set(host_keys) or (trust / "hosts.txt").read_text("ascii").split()
    except UNREADABLE as exc:
        raise Wrong(f"no {which} key was given, and the bundle's own copy in data/trust cannot be read") from exc
    need(all(re.fullmatch(HEX32, host) for host in hosts), "a host key is 64 lower-case hexadecimal digits")
    bundle = Bundle(root, key, hosts)
    bundle.check_all(policy)
    return bundle


def caveats(bundle: Bundle, log_key: bool, host_key: bool, policy: bool) -> list[str]:
    """What an honest reader must know that nothing here proves."""
    hosts = "".join(f"\n    {host}" for host in sorted(bundle.hosts))
    stated, stamped = bundle.names("data/statements"), bundle.names("data/tsa", "*.tsr")
    said = [
        (log_key, f"that this log is the archive's: no --log-key was given. Is this its key?\n    {bundle.key.text}"),
        (host_key, f"that the archive's host admitted the writers: no --host-key. Are these its keys?{hosts}"),
        (policy, "that others were shown the same log: no --policy says which witnesses must have cosigned it"),
        (stamped, "when this log existed: no time stamp of an outside authority is here"),
        (stated, "that the archive had all of any day: no completeness statement is here"),
        (not stated, "that a provider's lists and totals, by which completeness is stated, showed all that it had"),
        (not stated, "that a completeness statement still held when this bundle was made: it tells of its own time"),
        (False, "the times in the events: they are the archive's own clock, bounded only by time stamps"),
        (False, "what the provider did before the download, and who speaks"),
        (False, "that the selection in request.json left nothing out, and what happened after this export"),
        (False, "that no writer had been retired, beyond what the archive events in this bundle say"),
        (False, "what report, certificate draft and request.json say in words: the events are the evidence"),
    ]
    return [text for settled, text in said if not settled] + bundle.unproved


def main(arguments: Iterable[str] = ()) -> int:
    parser = argparse.ArgumentParser(prog="verify_custody.py", description="Verify an evidence bundle of recordings.")
    parser.add_argument("bundle", type=Path, help="the folder that holds bagit.txt")
    parser.add_argument("--log-key", default="", metavar="NAME+ID+KEY", help="the log's key, had from elsewhere")
    parser.add_argument("--host-key", default=[], action="append", metavar="HEX", help="the archive host's public key")
    parser.add_argument("--policy", type=Path, metavar="FILE", help="your witnesses and quorum, a c2sp.org/tlog-policy")
    given = parser.parse_args(list(arguments) or None)
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    print(f"verify_custody.py, SHA-256 {sha256(Path(__file__).read_bytes()).hex()}: compare it with the published one")
    if not given.bundle.is_dir():
        print(
            re.sub(UNSAFE, "?", f"RESULT FAIL: {str(given.bundle)!r} is no folder; name the one that holds bagit.txt")
        )
        return 65
    try:
        policy = given.policy.read_text("utf-8") if given.policy else ""
        need(policy.strip() or not given.policy, f"the policy {str(given.policy)!r} is empty")
        bundle = examine(given.bundle, given.log_key, given.host_key, policy)
    except (Wrong, OSError, ValueError) as exc:
        print(re.sub(UNSAFE, "?", f"RESULT NOT PROVED: a key is missing or unusable: {exc}"))
        return 69
    for mark, text in bundle.lines:
        print(f"{mark}  {text}")
    print("\nNOT PROVED here:")
    for text in caveats(bundle, bool(given.log_key), bool(given.host_key), bool(policy)):
        print("\n".join(re.sub(UNSAFE, "?", line) for line in f"  - {text}".split("\n")))
    failed = sum(mark == "FAIL" for mark, _ in bundle.lines)
    result = f"FAIL, claims: {failed}" if failed else "PASS" if given.log_key else "NOT PROVED: no --log-key"
    print(f"\nRESULT {result}")
    return 65 if failed else 0 if given.log_key else 69


if __name__ == "__main__":
    sys.exit(main())
