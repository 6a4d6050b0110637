"""Writes an evidence bundle: a BagIt bag with content, events, proofs, keys and its own verifier
(docs/spec/evidence-bundle.md).

Order of effects. 1. Content is written; the digest of its list goes into `export.prepared`, which the caller appends to
every recording's chain and then waits to see published. 2. The log part is written, the bag closed, signed, verified
and renamed; its digest goes into `export.delivered`. A process that dies on the way leaves a hidden `.part` folder
without `bagit.txt`: never a bundle.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from archiver import durable
from archiver.errors import DestinationError, NotAllowedError, VerificationError
from archiver.evidence import manifest, verifier
from archiver.evidence.letters_txt import certificate, readme
from archiver.evidence.manifest import File
from archiver.evidence.model import Disclosure, Logged, LogPart, Recording, Request, Stamp, Statement
from archiver.evidence.report import Report, report
from archiver.evidence.report_html import report_html
from archiver.evidence.report_pdf import report_pdf
from archiver.recording import Json
from archiver.translog.note import parse_note, parse_vkey

VERIFIER = verifier.joined()
VERIFIER_SHA256 = hashlib.sha256(VERIFIER).hexdigest()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A finished bundle. `bag_sha256` is the digest of its tag manifest, which covers every other file.

    `findings`: faults of the archive, not of the bundle, that the verifier found: statements that contradict one
    another.
    """

    path: Path
    bag_sha256: str
    files: int
    bytes: int
    findings: tuple[str, ...] = ()


class Sink:
    """The destination of a recording's plaintext; counts and hashes the bytes. Blocking."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._sha256.update(data)
        self.size += len(data)
        return self._file.write(data)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()


class Draft:
    """A bundle in the making, in a hidden folder beside its target. A context manager: a draft that is not closed is
    removed.

    Files are made with mode 0600 in folders of mode 0700: they hold plaintext audio and personal data. All methods
    block; methods that write raise `DestinationError` when the disk does not take the data.
    """

    def __init__(self, target: Path, request: Request) -> None:
        """Begin. Raises `NotAllowedError` where `target` exists already, or its folder cannot be made."""
        self.target = target
        self.request = request
        self._part = target.parent / f".{target.name}.{request.export}.part"
        self._files: dict[str, File] = {}
        self._recordings: dict[str, Recording] = {}
        self._statements: list[Statement] = []
        if os.path.lexists(target):
            raise NotAllowedError(f"{target} is there already; a bundle overwrites nothing")
        try:
            self._part.mkdir(mode=0o700)
        except OSError as exc:
            raise NotAllowedError(f"{self._part} cannot be made: {exc.strerror}") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._part, ignore_errors=True)

    @contextlib.contextmanager
    def audio(self, recording: str, suffix: str) -> Generator[Sink]:
        """Take the audio of a recording, `suffix` as in "mp3"; the file counts only if the block ends well. Call `add`
        as well."""
        path = manifest.check_path(f"data/recordings/{recording}/audio.{suffix}")
        with self._create(path) as file:
            sink = Sink(file)
            yield sink
        self._files[path] = File(path, sink.sha256, sink.size)

    def add(self, recording: str, provider: bytes | None = None, private: Iterable[Disclosure] = ()) -> None:
        """Add a recording, after its audio if there is any: the provider's answer as received, and the disclosed parts
        of its events.

        Of several disclosures of one group the newest stands in `private.json`, earlier ones in `private-NNNN.json`.
        """
        folder, disclosed = f"data/recordings/{recording}", tuple(sorted(private, key=lambda each: each.seq))
        audio = next((file for path, file in self._files.items() if path.startswith(f"{folder}/audio.")), None)
        self._recordings[recording] = Recording(recording, audio, disclosed)
        if provider is not None:
            self._put(f"{folder}/provider.json", provider)
        newest = {each.group: each for each in disclosed}
        pages: dict[str, dict[str, Json]] = {}
        for each in disclosed:
            name = "private.json" if each is newest[each.group] else f"private-{each.seq:04d}.json"
            pages.setdefault(name, {})[each.group] = {"salt": each.salt.hex(), "data": dict(each.data)}
        for name, groups in pages.items():
            self._put(f"{folder}/{name}", _json(groups))

    def state(self, statement: Statement) -> None:
        """Add the archive's statement of one provider account and day; each at most once."""
        self._put(statement.path, statement.document)
        self._statements.append(statement)

    def prepare(self) -> str:
        """End the content and return its manifest's digest, for `export.prepared`."""
        request = self.request
        body: dict[str, Json] = {
            "schema": "archiver.evidence-request/v1",
            "export": request.export,
            "instance": request.instance,
            "made_at": request.made_at.isoformat(timespec="seconds"),
            "requested_by": request.requested_by,
            "reason": request.reason,
            "legal_basis": request.legal_basis,
            "selection": dict(request.selection),
            "redactions": list(request.redactions),
            "recordings": [*sorted(self._recordings)],
        }
        if request.person is not None:
            body["person"] = dict(request.person)
        self._put("data/request.json", _json(body))
        return self._put(manifest.CONTENT_MANIFEST, manifest.listing(self._files.values())).sha256

    def close(self, log: LogPart, sign: Callable[[bytes], bytes]) -> Bundle:
        """Finish the bundle: log part, report, manifests, the exporter's signature; verified, then renamed to its
        target.

        `sign` is Ed25519 with the session key that signed the events `export.prepared`. Raises `VerificationError`,
        with nothing left at the target, when the given parts do not prove what the bundle says.
        """
        with _translated():
            self._write_log(log)
            self._write_readers_part(report(self.request, tuple(self._recordings.values()), log, self._statements))
            digest = self._write_tags(sign)
            self._sync_folders()
            findings = self._verify(log)
            if os.path.lexists(self.target):
                raise NotAllowedError(f"{self.target} is there already; a bundle overwrites nothing")
            self._part.rename(self.target)
            durable.sync_folder(self.target.parent)
        return Bundle(self.target, digest, len(self._files), sum(each.size for each in self._files.values()), findings)

    def _write_log(self, log: LogPart) -> None:
        key, note = parse_vkey(log.log_key), parse_note(log.checkpoint)
        own = [each.signature for each in note.signatures if (each.name, each.key_id) == (key.name, key.key_id)]
        if not own:
            raise VerificationError("the log did not sign the checkpoint")
        self._put("data/log/checkpoint", log.checkpoint)
        self._put("data/log/checkpoint.body", note.text.encode())
        self._put("data/log/checkpoint.sig", own[0])
        self._put("data/trust/log.vkey", f"{key.vkey}\n".encode())
        pem = Ed25519PublicKey.from_public_bytes(key.public).public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        self._put("data/trust/log.pem", pem)
        self._put("data/trust/hosts.txt", "".join(f"{key}\n" for key in log.hosts).encode())
        for number, note_of_key in enumerate(log.rotations):
            self._put(f"data/trust/rotations/{number:02d}.note", note_of_key)
        if log.policy is not None:
            self._put("data/trust/policy.txt", log.policy.encode())
        if log.known is not None:
            self._put("data/log/known.checkpoint", log.known.checkpoint)
            self._put("data/log/consistency.txt", _hashes(log.known.consistency))
        for recording, chain in log.events.items():
            for seq, logged in enumerate(chain):
                self._put_logged(f"data/recordings/{recording}", f"events/{seq:04d}", f"proofs/{seq:04d}", logged)
        for logged in log.archive:
            name = f"{logged.index:012d}"
            self._put_logged("data/log/archive-events", name, name, logged)
        for stamp in log.stamps:
            self._put_stamp(stamp)

    def _put_logged(self, folder: str, entry: str, proof: str, logged: Logged) -> None:
        self._put(f"{folder}/{entry}.json", logged.entry)
        self._put(f"{folder}/{proof}.tlog-proof", logged.proof)

    def _put_stamp(self, stamp: Stamp) -> None:
        kept = {"tsr": stamp.response, "tsq": stamp.request, "pem": stamp.chain, "crl": stamp.crl}
        if stamp.checkpoint is not None:
            kept |= {"checkpoint": stamp.checkpoint, "consistency": _hashes(stamp.consistency)}
        for suffix, data in kept.items():
            if data is not None:
                self._put(f"data/tsa/{stamp.name}.{suffix}", data)

    def _write_readers_part(self, facts: Report) -> None:
        self._put("data/report.html", report_html(facts).encode())
        self._put("data/report.pdf", report_pdf(facts))
        self._put("data/certificate-902.txt", certificate(facts).encode())
        self._put("README-VERIFY.txt", readme(facts, VERIFIER_SHA256).encode())
        self._put("verify_custody.py", VERIFIER)

    def _write_tags(self, sign: Callable[[bytes], bytes]) -> str:
        about = {
            "Source-Organization": self.request.instance,
            "External-Identifier": self.request.export,
            "External-Description": "Evidence bundle of call recordings with their custody events and proofs",
            "Bag-Software-Agent": "compliance-archiver",
        }
        self._put("bag-info.txt", manifest.bag_info(self._files.values(), self.request.made_at, about))
        payload = [each for each in self._files.values() if each.payload]
        self._put(manifest.MANIFEST, manifest.listing(payload))
        bagit = File("bagit.txt", hashlib.sha256(manifest.BAGIT).hexdigest(), len(manifest.BAGIT))
        tags = manifest.listing([bagit, *(each for each in self._files.values() if not each.payload)])
        digest = self._put(manifest.TAG_MANIFEST, tags).sha256
        self._put(manifest.SIGNATURE, sign(tags))
        self._put("bagit.txt", manifest.BAGIT)  # last: without it no tool takes the folder for a bag
        return digest

    def _verify(self, log: LogPart) -> tuple[str, ...]:
        """Verify the bundle: nothing goes out that its own verifier refuses, for its reader would find out in court.

        An exception are past statements of the archive about a day that contradict one another: they stand in the log,
        and to hide them would be worse. Returns these findings.
        """
        try:
            found = verifier.examine(self._part, log.log_key, log.hosts, log.policy or "")
        except verifier.Wrong as exc:
            raise VerificationError(str(exc)) from exc
        wrong = [text for mark, text in found.lines if mark == "FAIL"]
        ours = tuple(text for text in wrong if text.startswith(verifier.HISTORY))
        if len(ours) < len(wrong):
            others = [text for text in wrong if text not in ours]
            raise VerificationError("the bundle would not verify: " + "; ".join(others[:3]))
        return ours

    def _put(self, path: str, data: bytes) -> File:
        with self._create(manifest.check_path(path)) as file:
            file.write(data)
        self._files[path] = File(path, hashlib.sha256(data).hexdigest(), len(data))
        return self._files[path]

    @contextlib.contextmanager
    def _create(self, path: str) -> Generator[BinaryIO]:
        """Open a new file, which is on disk when the block ends."""
        with _translated():
            place = self._part / path
            self._make_folder(place.parent)
            with durable.new_file(place) as file:
                yield file

    def _make_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            self._make_folder(folder.parent)
            folder.mkdir(mode=0o700)

    def _sync_folders(self) -> None:
        for folder, _, _ in os.walk(self._part):
            durable.sync_folder(Path(folder))


@contextlib.contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except OSError as exc:
        raise DestinationError(f"the bundle cannot be written: {exc.strerror}") from exc


def _json(value: Json) -> bytes:
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False).encode() + b"\n"


def _hashes(proof: Iterable[bytes]) -> bytes:
    return "".join(f"{base64.b64encode(each).decode()}\n" for each in proof).encode()
