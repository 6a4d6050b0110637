"""One error tree, typed by what the caller must do.

The first line of each docstring is the sentence a person reads; `detail` adds the particulars. A detail never
holds a secret, a signed URL or a whole provider answer: errors end up in logs, in the database and in tickets.
"""

from __future__ import annotations

import enum
from datetime import timedelta


class Exit(enum.IntEnum):
    """Exit codes, an interface for scripts (sysexits where one fits). Unknown codes mean failure."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    AT_RISK = 3
    LOST = 4
    INTEGRITY = 65
    NOT_FOUND = 66
    UNAVAILABLE = 69
    UNFINISHED = 75
    NOT_ALLOWED = 77
    CONFIGURATION = 78
    INTERRUPTED = 130
    TERMINATED = 143


class ArchiverError(Exception):
    """Something unexpected went wrong."""

    exit_code: Exit = Exit.UNEXPECTED

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.detail = detail

    @property
    def sentence(self) -> str:
        """The docstring's first line: the same words for every error of this type."""
        return (type(self).__doc__ or "").strip().splitlines()[0].rstrip(".")

    def __str__(self) -> str:
        return f"{self.sentence}: {self.detail}" if self.detail else self.sentence


# --- refuse to start, or refuse the command -------------------------------------------------------------------


class ConfigurationError(ArchiverError):
    """The configuration cannot be used."""

    exit_code = Exit.CONFIGURATION


class SchemaError(ConfigurationError):
    """The database schema is not the one this version knows."""


class NotAllowedError(ArchiverError):
    """This may not be done here."""

    exit_code = Exit.NOT_ALLOWED


class NotFoundError(ArchiverError):
    """Nothing was found."""

    exit_code = Exit.NOT_FOUND


class KeyUnavailableError(ArchiverError):
    """A key that this needs is not available."""

    exit_code = Exit.UNAVAILABLE


# --- try again later; nothing is lost -------------------------------------------------------------------------


class TransientError(ArchiverError):
    """It failed for now; trying again may help.

    `retry_after` is the shortest wait that the other side asked for, when it said so.
    """

    exit_code = Exit.UNFINISHED

    def __init__(self, detail: str = "", *, retry_after: timedelta | None = None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class UnavailableError(TransientError):
    """A system that this depends on cannot be reached."""

    exit_code = Exit.UNAVAILABLE


class OddAnswerError(UnavailableError):
    """A system that this depends on answered something that nothing can be made of."""


class ThrottledError(TransientError):
    """The provider asked for a pause; every request of this credential waits."""


class ListingError(TransientError):
    """The provider's answer is not a listing; the window stays open."""


class GarbledAnswerError(ListingError):
    """The provider's answer is none of its API's, a login or maintenance page perhaps; asking again may help."""


class AnswerTooLargeError(ListingError):
    """The provider's answer is larger than any answer that is read; fewer rows may fit."""


class NotReadyError(TransientError):
    """The provider knows the recording, but its audio is not there yet."""


class NotUnderstoodError(TransientError):
    """The provider's words about this recording's audio cannot be read; they do not say that there is none."""


class OutOfTurnError(TransientError):
    """The recording itself is fetched before its other renditions."""


class LinkRefusedError(TransientError):
    """The link was refused or has expired; a fresh one is needed. Does not count as an attempt."""


class OtherRecordingError(TransientError):
    """The provider's API shows another recording under this id; a link to this one can only come with a listing."""


class UnacceptableMediaError(TransientError):
    """The download is plainly not a recording; it will be asked for again."""


class CutShortError(TransientError):
    """The download ended before the whole recording had come."""


class TooSlowError(TransientError):
    """The download was slower than the limit and was given up."""


class SpoolFullError(TransientError):
    """The spool has no room; fetching waits until objects have been stored."""


class DestinationError(TransientError):
    """The storage did not take or show the object.

    The storage waits for its next try; the recording's attempts are not counted.
    """


class OutcomeUnknownError(TransientError):
    """The database did not say whether the change was kept; it must be read again."""


# --- a person must act, other work goes on --------------------------------------------------------------------


class CredentialsRefusedError(ArchiverError):
    """The provider refused the credentials; the provider is parked until they work."""

    exit_code = Exit.UNAVAILABLE


class EgressRefusedError(ArchiverError):
    """A link leads to where the archiver may not go."""


class TooLargeError(ArchiverError):
    """The recording is larger than max_size."""


class RecordingGoneError(ArchiverError):
    """The provider says that it does not have this recording."""


class NoRecordingError(ArchiverError):
    """The provider says that this call has no recording."""


class LeaseLostError(ArchiverError):
    """Another replica holds this work now; whatever was done is not recorded."""


# --- never retried quietly ------------------------------------------------------------------------------------


class VerificationError(ArchiverError):
    """Bytes or proof are not what was promised."""

    exit_code = Exit.INTEGRITY


class ConflictError(VerificationError):
    """The storage holds different bytes under this object's key."""


class RolledBackError(VerificationError):
    """The database is behind what was published; stop and run `archiver custody recover`."""


class ForkedError(ConflictError):
    """There are two histories of the custody log; keep both heads, and find out who signed the other.

    `where`: who shows the other one. `ours` and `theirs`: the heads, as signed or as said. `size`: of theirs, where it
    is known.
    """

    def __init__(self, detail: str, *, where: str, ours: str, theirs: str, size: int | None = None) -> None:
        super().__init__(detail)
        self.where, self.ours, self.theirs, self.size = where, ours, theirs, size


class NotLockedError(VerificationError):
    """The storage does not protect the object as it was asked to."""
