"""The folder that a bundle is, a BagIt bag: which files may be in it, how they are read, whether all are there and unchanged."""

from __future__ import annotations

import functools
import hashlib
import re
import stat
from pathlib import Path, PurePosixPath

from archiver.evidence.verifier.events import UUID
from archiver.evidence.verifier.primitives import need

# --- the bag, RFC 8493 --------------------------------------------------------------------------------------------------------
PATH = r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*"
RECORDING = rf"recordings/{UUID}/"
CONTENT = rf"data/(request\.json|statements/[\w.-]+\.json|{RECORDING}(audio\.[a-z0-9]+|provider\.json|private(-\d{{4,}})?\.json))"
OTHER = (  # with the content, all that may lie below data/: what no rule is about could say anything
    rf"data/(content-manifest\.txt|report\.(html|pdf)|certificate-902\.txt|{RECORDING}(events/\d+\.json|proofs/\d+\.tlog-proof)"
    r"|log/(checkpoint(\.body|\.sig)?|known\.checkpoint|consistency\.txt|archive-events/\d+\.(json|tlog-proof))"
    r"|tsa/[\w-]+\.(tsr|tsq|pem|crl|checkpoint|consistency)|trust/(log\.vkey|log\.pem|hosts\.txt|policy\.txt|rotations/\d{2}\.note))"
)
TAGS = {"bagit.txt", "bag-info.txt", "manifest-sha256.txt", "README-VERIFY.txt", "verify_custody.py"}
UNSAFE = r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"  # what a terminal or a page obeys
STRAY = (
    r"\.DS_Store|(?i:(eh)?thumbs\.db|desktop\.ini)|\._.+"  # what the file managers of macOS and Windows leave behind
)
BAGIT = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"


class Bag:
    """The files of a bundle."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.last = ""  # the file that was opened last
        self.strays: list[str] = []
        self.digest = functools.lru_cache(maxsize=None)(self.compute_digest)

    def names(self, folder: str, pattern: str = "*") -> list[str]:
        found = (path.name for path in (self.root / folder).glob(pattern) if not re.fullmatch(STRAY, path.name))
        return sorted(found, key=lambda name: (len(name), name))  # 10000.json comes after 9999.json

    def file(self, name: str) -> Path:
        self.last = name
        need((self.root / name).is_file(), f"{name} is missing: the bundle is incomplete or was cut off")
        return self.root / name

    def read(self, name: str) -> bytes:
        need(self.file(name).stat().st_size < 2**28, f"{name} is too long")
        return self.file(name).read_bytes()

    def compute_digest(self, name: str) -> str:
        total = hashlib.sha256()
        with self.file(name).open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                total.update(block)
        return total.hexdigest()

    def manifest(self, name: str) -> set[str]:
        """The files that a list in the format of sha256sum names, each compared with its digest."""
        *lines, end = self.read(name).decode("utf-8").split("\n")
        pairs = [line.partition("  ")[::2] for line in lines]
        sound = not end and pairs and len({path for _, path in pairs}) == len(pairs)
        need(sound, f"{name} is cut off, empty, or lists a file twice")
        for digest, path in pairs:
            need(re.fullmatch(PATH, path), f"{name} lists a file {path[:200]!r}, whose name is outside the format")
            need(self.digest(path) == digest, f"{path} was changed: {name} has another SHA-256")
        return {path for _, path in pairs}

    def check_files(self) -> str:
        need(self.read("bagit.txt") == BAGIT, "bagit.txt is not that of a BagIt 1.0 bag")
        known = self.manifest("manifest-sha256.txt")
        for name in sorted(known):
            need(re.fullmatch(f"{CONTENT}|{OTHER}", name), f"{name} has no place in the format: nothing vouches for it")
        need(self.manifest("tagmanifest-sha256.txt") == TAGS, "the tag manifest lists the wrong files")
        known |= TAGS | {"tagmanifest-sha256.txt", "tagmanifest-sha256.sig"}
        folders = {parent.as_posix() for name in known for parent in PurePosixPath(name).parents}
        for path in sorted(self.root.rglob("*")):
            mode, name = path.lstat().st_mode, path.relative_to(self.root).as_posix()
            need(stat.S_ISDIR(mode) or stat.S_ISREG(mode), f"{name} is no ordinary file")
            if stat.S_ISDIR(mode):
                need(name in folders, f"{name} is an empty folder that nothing accounts for")
            elif name not in known:
                self.check_stray(path, name, known | folders)
        return f"{len(known)} files, exactly those that the manifests list, with the digests that they list"

    def check_stray(self, path: Path, name: str, known: set[str]) -> None:
        """A small file of a name that file managers give. Nothing reads it, and it is told: nothing vouches for it."""
        need(re.fullmatch(STRAY, path.name), f"{name} is in the bundle, but in no manifest")
        owner = path.with_name(path.name[2:]).relative_to(self.root).as_posix()
        beside = not path.name.startswith("._") or owner in known or re.fullmatch(STRAY, path.name[2:])
        need(beside, f"{name} is in the bundle, but in no manifest, and belongs to no file that is")
        size = path.lstat().st_size
        need(size <= 2**20, f"{name} is too long for what a file manager leaves behind, and in no manifest")
        self.strays.append(
            f"{name}, {size} bytes, was left by a file manager: nothing vouches for it, delete it unopened"
        )
