"""A webhook: one JSON document by POST, `archiver.alert/v1`. Any 2xx answer means that the message was taken.

`text` at the top is for Slack, Mattermost and similar services, which show it; it contains nothing that they take for
markup. Programs read `alerts`. The header `Idempotency-Key` is the message's id, which is the same for the same news: a
receiver can drop a message that comes twice because its first answer was lost.
"""

from __future__ import annotations

import html
import json

from archiver.alerts.message import Message, inert
from archiver.alerts.post import Post


class Webhook:
    """POSTs to one URL."""

    def __init__(self, id_: str, post: Post) -> None:
        self.id = id_
        self._post = post

    async def send(self, message: Message) -> str:
        text = html.escape(inert(str(message.body["text"])), quote=False)  # the three that Slack asks for
        body = json.dumps(message.body | {"text": text}, ensure_ascii=False, sort_keys=True).encode()
        headers = {"Content-Type": "application/json; charset=utf-8", "Idempotency-Key": message.id}
        await self._post.send("POST", body, headers)
        return ""

    async def aclose(self) -> None:
        await self._post.aclose()
