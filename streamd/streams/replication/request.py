"""A client's request on its way from one server to another."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Self

from streamd.core.access import DEFAULT_ACCOUNT


@dataclass(frozen=True, slots=True)
class Request:
    """Reads like the message that it came as. The subject may hold undecodable bytes as surrogates."""

    subject: str
    reply: str
    headers: bytes
    payload: bytes
    account: str = DEFAULT_ACCOUNT

    def encode(self) -> bytes:
        """As bytes."""
        head = [self.subject, self.reply, self.headers.decode("latin-1"), self.account]
        return json.dumps(head).encode() + b"\0" + self.payload

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """What `encode` made of it."""
        head, _, payload = data.partition(b"\0")
        subject, reply, headers, account = json.loads(head)
        return cls(subject, reply, headers.encode("latin-1"), payload, account)
