"""Secrets by reference: the configuration says where a secret is, never what it is.

`env:NAME` an environment variable · `file:/path` a file, relative paths from the configuration's folder · `cred:name` a systemd
credential (`$CREDENTIALS_DIRECTORY`) or a container secret (`/run/secrets`). Read anew at every `resolve()`, so that a rotated
secret is found after a reload.
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
    """What the value is for, and so what it may look like and who may read its file."""

    TOKEN = "token"  # noqa: S105
    KEY = "key"
    PUBLIC = "public"


class Scheme(enum.StrEnum):
    ENV = "env"
    FILE = "file"
    CRED = "cred"
    LITERAL = "literal"


class BadReferenceError(ValueError):
    """It begins like a reference, but names nothing."""


class NotAReferenceError(ValueError):
    """It is a value, where only a reference may stand."""


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a value is to be found. A `LITERAL` holds the value itself and occurs only where that is no secret."""

    scheme: Scheme
    name: str
    base: Path = Path()
    use: Use = Use.TOKEN

    @classmethod
    def parse(cls, text: str, *, base: Path, use: Use = Use.TOKEN, literal: bool = False) -> SecretRef:
        """Raises `BadReferenceError` or, unless `literal` values are welcome, `NotAReferenceError`. Neither repeats the text."""
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
        """The value, less one final line break. Raises `ConfigurationError` with the reason, never with the value."""
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
        """What is risky about the file, in words; "" when nothing is."""
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
        # Links are followed: Kubernetes mounts every secret as one. What they lead to must be a plain file that only its owner
        # changes. Non-blocking, so that a pipe in its place cannot stop the daemon.
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
