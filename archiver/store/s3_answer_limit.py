"""Limits the answers that the SDK reads. By itself it reads each whole into memory, also one that never ends.

An object's own bytes are streamed, and limited by whoever reads them (`bounded`). All else, lists and refusals, is short.
"""

from __future__ import annotations

from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError, HTTPClientError, ReadTimeoutError
from urllib3.exceptions import HTTPError, ProtocolError
from urllib3.exceptions import ReadTimeoutError as Urllib3ReadTimeoutError

LARGEST = 16 * 1024 * 1024
"""The most bytes of one answer. A list of 1,000 keys, each as long as S3 allows, has some three million."""
_PIECE = 64 * 1024


class LimitedSession:
    """Stands before the SDK's own HTTP session, and reads its answers up to the limit.

    Raises ValueError for a longer answer, as for any other that cannot be read, and what the SDK's session raises.
    """

    def __init__(self, session: Any) -> None:
        self._session = session

    def send(self, request: Any) -> AWSResponse:
        """Send one request, and return its answer: whole, or to be streamed where the SDK wants a good one streamed."""
        streamed = request.stream_output
        request.stream_output = True  # the SDK's session then leaves the body to us
        try:
            answer: AWSResponse = self._session.send(request)
        finally:
            request.stream_output = streamed
        if not streamed or answer.status_code >= 300:  # the SDK reads a refusal whole, whatever was asked
            answer._content = _whole(request, answer.raw)  # noqa: SLF001 - where `content` keeps what it has read
        return answer

    def close(self) -> None:
        """Close the SDK's session."""
        self._session.close()


def limit_answers(client: Any) -> None:
    """Have this client of the SDK read answers up to the limit only."""
    endpoint = client._endpoint  # noqa: SLF001 - the SDK has no public place for another HTTP session
    endpoint.http_session = LimitedSession(endpoint.http_session)


def _whole(request: Any, raw: Any) -> bytes:
    body = bytearray()
    try:
        for piece in raw.stream(_PIECE):
            body += piece
            if len(body) > LARGEST:
                break
    except Urllib3ReadTimeoutError as late:
        raise ReadTimeoutError(endpoint_url=request.url, error=late) from late
    except ProtocolError as ended:
        raise ConnectionClosedError(error=ended, request=request, endpoint_url=request.url) from ended
    except (HTTPError, OSError) as failed:
        raise HTTPClientError(error=failed) from failed
    if len(body) > LARGEST:
        raw.close()  # the rest would come with the next answer on this connection
        raise ValueError(f"the answer is longer than {LARGEST} bytes")
    return bytes(body)
