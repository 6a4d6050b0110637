"""Serves audio over HTTP, with validators and ranges (RFC 9110 §13–14), and signs links."""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import datetime, timedelta
from urllib.parse import unquote

from archiver.demo.simulators.answer import Answer, Ask, RefusedError
from archiver.demo.simulators.pages import DENIED, EXPIRED, ONE_AUTH
from archiver.demo.simulators.scenario import Audio

RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def audio_answer(audio: Audio, ask: Ask, *, full_as_200: bool = False) -> Answer:
    """Returns `audio`, or the single range of it that was asked for. Several ranges, or a range that is not understood,
    give the whole audio.

    `full_as_200`: a range that covers everything is answered with 200, as KAZOO does.
    """
    data, etag = audio.data, f'"{audio.digest[:32]}"'
    headers = {"Content-Type": audio.content_type, "ETag": etag, "Accept-Ranges": "bytes"}
    if ask.headers.get("if-none-match") == etag:
        return Answer(304, headers)
    asked = RANGE.fullmatch(ask.headers.get("range", ""))
    unchanged = ask.headers.get("if-range", etag) == etag
    if asked is None or asked[0] == "bytes=-" or not unchanged:
        return Answer(200, headers, data, whole=data)
    first, last = _span(asked[1], asked[2], len(data))
    if first > last:
        return Answer(416, {**headers, "Content-Range": f"bytes */{len(data)}"})
    if full_as_200 and (first, last) == (0, len(data) - 1):
        return Answer(200, headers, data, whole=data)
    told = {**headers, "Content-Range": f"bytes {first}-{last}/{len(data)}"}
    return Answer(206, told, data[first : last + 1], whole=data)


def _span(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(size - int(last), 0), size - 1
    return int(first), min(int(last), size - 1) if last else size - 1


class Signer:
    """Makes links that work for `life`, and checks them. Each link is new."""

    def __init__(self, secret: str, life: timedelta) -> None:
        self._secret = secret.encode()
        self._made = 0
        self.life = life

    def token(self, path: str, now: datetime) -> str:
        self._made += 1
        stamp = f"{(now + self.life).timestamp():.0f}-{self._made:x}"
        return f"{stamp}-{self._seal(path, stamp)}"

    def check(self, path: str, token: str, now: datetime) -> None:
        """Refuses with 403, as an object store does, unless this signer made `token` for `path`, and it has not
        expired."""
        stamp, _, seal = token.rpartition("-")
        if not hmac.compare_digest(seal.encode(), self._seal(path, stamp).encode()):
            raise RefusedError(DENIED)
        if now.timestamp() >= int(stamp.partition("-")[0]):
            raise RefusedError(EXPIRED)

    def _seal(self, path: str, stamp: str) -> str:
        return hmac.new(self._secret, f"{unquote(path)}\n{stamp}".encode(), hashlib.sha256).hexdigest()


def no_credentials(ask: Ask) -> None:
    """Refuses with 400, as S3 does, a request with credentials to a signed or public link on an origin of its own."""
    if ask.origin and "authorization" in ask.headers:
        raise RefusedError(ONE_AUTH)
