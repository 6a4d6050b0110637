"""Checks that the files of an anchor belong to the checkpoint that they are kept with. Pure: no I/O, no clock."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from archiver.errors import ConfigurationError, VerificationError
from archiver.translog.timestamp import Token, load_roots, open_token, read_token


def anchor_problems(
    files: Mapping[str, bytes], note: bytes, roots: Sequence[x509.Certificate], logged: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield a problem for each bad file among the `files` kept with the checkpoint `note`.

    `logged` gives, by authority, the SHA-256 of each token that a leaf records. The daemon had verified such a token
    when it logged the token, so only equality counts, and an authority that is no longer configured is no fault. A
    token that no leaf names must lead to `roots`, if any are given.
    """
    for name in sorted(files):
        authority, _, kind = name.rpartition(".")
        if kind not in {"tsr", "tsq", "pem"} or not authority:
            yield name, "is no file of an anchor"
            continue
        response = files.get(f"{authority}.tsr")
        if response is None:
            yield name, "stands without its time stamp"
            continue
        expected = logged.get(authority)
        try:
            known = expected is not None or not roots
            token = read_token(response, note) if known else open_token(response, note, roots)
        except VerificationError as exc:
            if kind == "tsr":
                yield name, exc.detail
            continue
        problem = _problem(kind, files[name], token, expected)
        if problem:
            yield name, problem


def _problem(kind: str, content: bytes, token: Token, expected: str | None) -> str:
    if kind == "tsr":
        other = expected is not None and hashlib.sha256(content).hexdigest() != expected
        return "is not the time stamp that was logged" if other else ""
    if kind == "tsq":
        return "" if content == token.request else "is not the request of its time stamp"
    try:
        kept, used = load_roots(content), load_roots(token.chain)
    except ConfigurationError:
        return "is not certificates in PEM"
    if b"".join(sorted({each.public_bytes(Encoding.PEM) for each in kept})) != content:
        return "is not certificates as the archive writes them"
    return "" if set(used) <= set(kept) else "lacks certificates of its time stamp"
