"""A provider in a process of its own: Vobiz's listing, its media as synthetic WAV, and a sink for PUTs.

Every recording differs from the others in its first samples. Makes bytes at memory speed, so that what is measured is the client.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

ACCOUNT = "MA_BENCHMARK"
TOKEN = "a token for loopback only"
BYTES_PER_SECOND = 16_000
_PIECE = bytes(range(251)) * 4177
_NEWEST = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)


def beginning(number: int, size: int) -> bytes:
    """The WAV header (8 kHz, 16 bit, mono) and the samples that make this recording unique."""
    rest = (size - 44).to_bytes(4, "little")
    form = b"fmt \x10\0\0\0\x01\0\x01\0" + (8000).to_bytes(4, "little") + BYTES_PER_SECOND.to_bytes(4, "little")
    whole = (size - 8).to_bytes(4, "little")
    return b"RIFF" + whole + b"WAVE" + form + b"\x02\0\x10\0" + b"data" + rest + number.to_bytes(16, "little")


class Handler(BaseHTTPRequestHandler):
    """Listing, media, sink."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    count: ClassVar[int]
    size: ClassVar[int]

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path.endswith(".wav"):
            self._media(int(url.path.rpartition("/")[2].removesuffix(".wav")))
        else:
            self._list(int(parse_qs(url.query).get("offset", ["0"])[0]))

    def do_PUT(self) -> None:
        left, buffer = int(self.headers["Content-Length"]), bytearray(1 << 20)
        while left:
            left -= self.rfile.readinto1(memoryview(buffer)[: min(left, len(buffer))])
        self._head(0, "text/plain")

    def _media(self, number: int) -> None:
        self._head(self.size, "audio/wav")
        first = beginning(number, self.size)
        self.wfile.write(first)
        left = self.size - len(first)
        while left > 0:
            left -= self.wfile.write(memoryview(_PIECE)[:left])

    def _list(self, offset: int) -> None:
        last = min(offset + 100, self.count)
        meta = {
            "limit": 100,
            "offset": offset,
            "total_count": self.count,
            "next": "more" if last < self.count else None,
        }
        rows = [self._row(number) for number in range(offset, last)]
        answer = json.dumps({"api_id": "1", "meta": meta, "objects": rows}).encode()
        self._head(len(answer), "application/json")
        self.wfile.write(answer)

    def _row(self, number: int) -> dict[str, object]:
        ended = _NEWEST - timedelta(seconds=number)
        lasted = (self.size - 44) * 1000 // BYTES_PER_SECOND
        end_ms = int(ended.timestamp() * 1000)
        return {
            "add_time": ended.isoformat(sep=" "),
            "call_uuid": f"call-{number}",
            "from_number": "+15550100",
            "to_number": "+15550101",
            "recording_duration_ms": lasted,
            "recording_start_ms": end_ms - lasted,
            "recording_end_ms": end_ms,
            "recording_format": "wav",
            "recording_id": f"recording-{number}",
            "recording_type": "conversation",
            "recording_url": f"http://{self.headers['Host']}/v1/Account/{ACCOUNT}/Recording/{number}.wav",
            "resource_uri": f"/v1/Account/{ACCOUNT}/Recording/recording-{number}/",
        }

    def _head(self, length: int, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Silent."""


@contextmanager
def source(count: int, size: int) -> Iterator[int]:
    """The port of a running source with `count` recordings of `size` bytes."""
    command = [sys.executable, "-m", "benchmarks.source", str(count), str(size)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    Handler.count, Handler.size = int(sys.argv[1]), int(sys.argv[2])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
