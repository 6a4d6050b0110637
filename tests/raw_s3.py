"""A gate before an S3 server in memory that sees requests and answers as bytes: heads that no library writes, resets, TLS."""

from __future__ import annotations

import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from tests.lying_s3 import Call, LyingS3

Change = Callable[[str, bytes], bytes | None]
"""Changes the bytes of an answer to an operation; None ends the connection without one."""


@dataclass
class RawS3:
    """The gate. `changes` apply once each, to the first answer that they change; `reset_within` resets one PUT in its body."""

    backend: LyingS3
    tls: ssl.SSLContext | None = None
    changes: list[Change] = field(default_factory=list)
    reset_within: int | None = None
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0
    _open: list[socket.socket] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()
        self.close_kept()
        for thread in self._threads:
            thread.join(10)

    @property
    def endpoint(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self._listener.getsockname()[1]}"

    def close_kept(self) -> None:
        """Close every connection, as a server does with idle ones."""
        for each in self._open:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def by_wire(self, method: str) -> list[bool]:
        """For each request of this method so far, whether it came without the SDK, which signs itself with a header."""
        return [b"amz-sdk-invocation-id" not in head for head in self.heads if head.startswith(method.encode() + b" ")]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        self.connections += 1
        try:
            if self.tls is not None:
                client = self.tls.wrap_socket(client, server_side=True)
            self._open.append(client)
            while self._exchange(client):
                pass
        except OSError:
            pass
        finally:
            client.close()

    def _exchange(self, client: socket.socket) -> bool:
        head, _, body = _until(client, b"\r\n\r\n", b"")
        if not head:
            return False
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
        self.heads.append(head)
        size = int(fields.get(b"content-length", b"0"))
        if b"expect" in fields:
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(body) < size:
            if self.reset_within is not None and len(body) > self.reset_within:
                self.reset_within = None
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            more = client.recv(65536)
            if not more:
                return False
            body += more
        answer, whole = self._asked(head, body)
        if not answer:
            return False
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        operation = Call(method, target, {}, b"").operation
        for change in list(self.changes):
            changed = change(operation, answer)
            if changed != answer:
                self.changes.remove(change)
                if changed is None:
                    return False
                client.sendall(changed)
                return b"content-length" in changed.lower()  # else only the end of the connection ends the answer
        client.sendall(answer)
        return whole

    def _asked(self, head: bytes, body: bytes) -> tuple[bytes, bool]:
        """Return the answer of the server behind, and whether it is whole."""
        address = urlsplit(self.backend.endpoint)
        assert address.hostname
        assert address.port
        asked = b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"expect"))
        with socket.create_connection((address.hostname, address.port), 60) as server:
            server.sendall(asked + b"\r\n\r\n" + body)
            told, end, came = _until(server, b"\r\n\r\n", b"")
            found = re.search(rb"\r\ncontent-length: (\d+)", told, re.IGNORECASE)
            length = int(found[1]) if found and not head.startswith(b"HEAD") else 0
            while len(came) < length and (more := server.recv(65536)):
                came += more
        return told + end + came, len(came) == length


def once(operation: str, make: Callable[[bytes], bytes | None]) -> Change:
    """Change the answer to this operation."""
    return lambda asked, answer: make(answer) if asked == operation else answer


def _until(sock: socket.socket, end: bytes, data: bytes) -> tuple[bytes, bytes, bytes]:
    while end not in data:
        more = sock.recv(65536)
        if not more:
            return b"", b"", b""
        data += more
    return data.partition(end)
