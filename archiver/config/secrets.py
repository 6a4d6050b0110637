"""Reads secrets by reference: the configuration names the place of a secret, never the secret itself.

`env:NAME` an environment variable · `file:/path` a file, relative paths from the configuration's folder · `cred:name` a
systemd credential (`$CREDENTIALS_DIRECTORY`) or a container secret (`/run/secrets`). A secret is read again at every
`resolve()`, so that a rotated secret is found after a reload.
"""

from __future__ import annotations

import enum
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from archiver.errors import ConfigurationError
from archiver.recording import Secret

_LARGEST: Final = 64 * 1024
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_READ: Final = stat.S_IRGRP | stat.S_IROTH
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CRED_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_UNSUPPORTED: Final = ("vault:", "cmd:")


class Use(enum.StrEnum):
    """The use of a value, which decides its allowed form and the required protection of its file."""

    TOKEN = "token"  # noqa: S105
    KEY = "key"
    PUBLIC = "public"


class Scheme(enum.StrEnum):
    ENV = "env"
    FILE = "file"
    CRED = "cred"
    LITERAL = "literal"


class BadReferenceError(ValueError):
    """The text begins like a reference, but names nothing."""


class NotAReferenceError(ValueError):
    """The text is a value, where only a reference is allowed."""


@dataclass(frozen=True, slots=True)
class SecretRef:
    """A reference to a value. A `LITERAL` holds the value itself, and is allowed only where the value is no secret."""

    scheme: Scheme
    name: str
    base: Path = Path()
    use: Use = Use.TOKEN

    @classmethod
    def parse(cls, text: str, *, base: Path, use: Use = Use.TOKEN, literal: bool = False) -> SecretRef:
        """Parses a reference. Raises `BadReferenceError` or, unless `literal` values are allowed, `NotAReferenceError`.

        Neither error repeats the text.
        """
        prefix, colon, name = text.partition(":")
        if text.startswith(_UNSUPPORTED):
            raise BadReferenceError(f"{prefix}: references are not supported by this version")
        if not colon or prefix not in {Scheme.ENV, Scheme.FILE, Scheme.CRED}:
            if literal:
                return cls(Scheme.LITERAL, text, base, use)
            raise NotAReferenceError
        scheme = Scheme(prefix)
        if scheme is Scheme.ENV and not _ENV_NAME.fullmatch(name):
            raise BadReferenceError("env: must be followed by the name of an environment variable")
        if scheme is Scheme.CRED and not _CRED_NAME.fullmatch(name):
            raise BadReferenceError("cred: must be followed by the name of a credential, not a path")
        if scheme is Scheme.FILE and (not name.strip("/") or "\0" in name):
            raise BadReferenceError("file: must be followed by the path of a file")
        return cls(scheme, name, base, use)

    def resolve(self) -> Secret:
        """Reads the value; a file's without one final line break. Raises `ConfigurationError` that never holds the
        value."""
        if self.scheme is Scheme.LITERAL:
            return Secret(self.name)
        if self.scheme is Scheme.ENV:
            value = os.environ.get(self.name)
            if value is None:
                raise ConfigurationError(f"environment variable {self.name} is not set")
        else:
            value = self._read()
        if not value:
            raise ConfigurationError(f"{self} is empty")
        if self.use is Use.TOKEN and any(not char.isprintable() for char in value):
            raise ConfigurationError(f"{self} holds line breaks or control characters")
        return Secret(value)

    def doubt(self) -> str:
        """The risk about the file of a secret, in words; "" without any."""
        if self.scheme not in {Scheme.FILE, Scheme.CRED} or self.use is Use.PUBLIC:
            return ""
        status = self.path.stat()
        if status.st_mode & _OTHERS_READ:
            return f"{self.path} can be read by others (mode {stat.S_IMODE(status.st_mode):04o}); chmod 0400 it"
        if status.st_uid not in {0, os.geteuid()}:
            return f"{self.path} belongs to another user (uid {status.st_uid}), who can change it"
        return ""

    @property
    def path(self) -> Path:
        """The file of a `file:` or `cred:` reference."""
        if self.scheme is Scheme.FILE:
            return self.base / self.name
        return Path(os.environ.get("CREDENTIALS_DIRECTORY") or "/run/secrets") / self.name

    def __str__(self) -> str:
        return self.name if self.scheme is Scheme.LITERAL else f"{self.scheme}:{self.name}"

    def _read(self) -> str:
        # Links are followed, since Kubernetes mounts every secret as a link. Its target must be a plain file that only
        # its owner can change. Non-blocking, so that a pipe in the file's place cannot stop the daemon.
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:  # noqa: PTH123 – a descriptor, so that what is checked is what is read
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise ConfigurationError(f"{self.path} is not a regular file")
                if status.st_mode & _OTHERS_WRITE:
                    raise ConfigurationError(f"{self.path} can be changed by others; chmod go-w it")
                raw = file.read(_LARGEST + 1)
        except (OSError, ValueError) as problem:
            reason = problem.strerror if isinstance(problem, OSError) else "not a path"
            raise ConfigurationError(f"{self.path} cannot be read: {reason}") from problem
        if len(raw) > _LARGEST:
            raise ConfigurationError(f"{self.path} is larger than {_LARGEST // 1024} KiB")
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            # `from None`: the exception would carry the secret's bytes.
            raise ConfigurationError(f"{self.path} is not UTF-8 text") from None
        return text.removesuffix("\n").removesuffix("\r")
