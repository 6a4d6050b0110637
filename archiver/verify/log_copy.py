"""Names one storage's copy of the log to the checks, and takes their findings about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from archiver.errors import VerificationError
from archiver.store.port import Shelf
from archiver.translog.published_log import PublishedCheckpoint, read_checkpoint
from archiver.verify.finding import Finding, Kind, Verification
from archiver.verify.leaves import Trust
from archiver.verify.recorded_log import RecordedLog


@dataclass(frozen=True, slots=True)
class LogCopy:
    """The log in one storage, and what it is compared with. Without `recorded`, the copy is checked by itself."""

    shelf: Shelf
    trust: Trust
    recorded: RecordedLog | None
    result: Verification
    _said: set[str] = field(default_factory=set)

    def found(self, kind: Kind, name: str, detail: str) -> None:
        self.result.findings.append(
            Finding(kind, f"log in {self.shelf.id}", f"{name}: {detail}", storage=self.shelf.id, key=name)
        )

    def failed(self, name: str, exc: VerificationError) -> None:
        """Add a finding at the piece that the error names, else at `name`; only once, even when other pieces depend on
        that piece.
        """
        detail = exc.detail.removeprefix(f"{self.shelf.id}: ")
        if detail in self._said:
            return
        self._said.add(detail)
        named, _, rest = detail.partition(" ")
        if named.startswith(("tile/", "checkpoints/")):
            name, detail = named.rstrip(":"), rest
        self.found(Kind.LOG_SHELF, name, detail)

    async def checkpoint(self, name: str) -> PublishedCheckpoint | None:
        """Return the checkpoint of this name; None where it is missing, or where it does not open, which is a
        finding."""
        try:
            return await read_checkpoint(self.shelf, self.trust.log_key, name)
        except VerificationError as exc:
            self.failed(name, exc)
            return None
