"""A TCP proxy before a PostgreSQL server that cuts the connection at a COMMIT: unsent, or done with the answer lost."""

from __future__ import annotations

import contextlib
import socket
import threading
from enum import Enum
from typing import Self

from sqlalchemy.engine import make_url


class Cut(Enum):
    """What happens to the next COMMIT."""

    REFUSED = "never reaches the server"
    LOST = "is done, and its answer lost"


class CuttingProxy:
    """Forwards bytes; `arm` says what to do with a coming COMMIT, once."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._cut: Cut | None = None
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def arm(self, cut: Cut) -> None:
        """Cut at the next COMMIT."""
        self._cut = cut

    @property
    def url(self) -> str:
        """The server's URL by way of this proxy."""
        return (
            self._url.set(host="127.0.0.1", port=self._listener.getsockname()[1])
            .set(query={"sslmode": "disable", "gssencmode": "disable"})
            .render_as_string(hide_password=False)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._open:
            _close(end)
        for thread in self._threads:
            thread.join(10)
        for end in self._open:
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = self._connect()
            self._open += [client, server]
            cutting = threading.Event()
            for source, target, upstream in ((client, server, True), (server, client, False)):
                thread = threading.Thread(target=self._forward, args=(source, target, upstream, cutting))
                self._threads.append(thread)
                thread.start()

    def _connect(self) -> socket.socket:
        folder = self._url.query.get("host")
        if folder is None:
            return socket.create_connection((self._url.host or "127.0.0.1", self._url.port or 5432))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{folder}/.s.PGSQL.{self._url.query.get('port', 5432)}")
        return server

    def _forward(self, source: socket.socket, target: socket.socket, upstream: bool, cutting: threading.Event) -> None:
        try:
            while data := source.recv(65536):
                if upstream and b"COMMIT" in data and self._cut:
                    refused, self._cut = self._cut is Cut.REFUSED, None
                    if refused:
                        break
                    cutting.set()
                elif not upstream and cutting.is_set():
                    break  # the server has answered: whatever it says, nobody hears it
                target.sendall(data)
        except OSError:
            pass
        _close(source)
        _close(target)


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
