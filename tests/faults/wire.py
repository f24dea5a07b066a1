"""A raw connection to a server: nothing between the test and the bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import Any, Self

CONNECT = b'CONNECT {"verbose":false,"protocol":1,"headers":true,"no_responders":true,"echo":true}\r\n'


@dataclass(frozen=True, slots=True)
class Message:
    """MSG or HMSG."""

    subject: str
    reply: str
    headers: bytes
    payload: bytes


class Wire:
    """One client. What the server says beside messages is kept: PING is answered, -ERR lines are in `errors`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.errors: list[str] = []
        self.pongs = 0
        self._sids = 0

    @classmethod
    async def connect(cls, port: int, connect: bytes = CONNECT) -> Self:
        """Errors: OSError if nobody listens."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        wire = cls(reader, writer)
        assert (await reader.readline()).startswith(b"INFO {")
        writer.write(connect)
        return wire

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def send(self, data: bytes) -> None:
        """Write without waiting; into the void when the connection has ended."""
        if not self.writer.transport.is_closing():
            self.writer.write(data)

    def subscribe(self, subject: str) -> None:
        """Under a sid of its own."""
        self._sids += 1
        self.send(f"SUB {subject} {self._sids}\r\n".encode())

    def publish(self, subject: str, payload: bytes, reply: str = "", headers: bytes = b"") -> None:
        """A header block includes its end."""
        if headers:
            sizes = f"{len(headers)} {len(headers) + len(payload)}"
            self.send(f"HPUB {subject} {reply} {sizes}\r\n".encode() + headers + payload + b"\r\n")
        else:
            self.send(f"PUB {subject} {reply} {len(payload)}\r\n".encode() + payload + b"\r\n")

    async def next(self) -> Message | None:
        """The next message; None when the connection has ended."""
        try:
            while line := await self.reader.readline():
                if line.startswith((b"MSG ", b"HMSG ")):
                    return await self._message(line.decode().split())
                if line.startswith(b"PING"):
                    self.send(b"PONG\r\n")
                elif line.startswith(b"PONG"):
                    self.pongs += 1
                elif line.startswith(b"-ERR"):
                    self.errors.append(line.decode().strip())
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        return None

    async def _message(self, words: list[str]) -> Message:
        header_bytes = int(words[-2]) if words[0] == "HMSG" else 0
        total = int(words[-1])
        named = 5 if words[0] == "HMSG" else 4
        body = await self.reader.readexactly(total + 2)
        reply = words[3] if len(words) > named else ""
        return Message(words[1], reply, body[:header_bytes], body[header_bytes:total])

    async def request(self, subject: str, payload: bytes = b"", timeout_seconds: float = 10) -> Message:
        """The first answer; other messages must not be expected on this connection."""
        inbox = f"_INBOX.wire.{id(self)}"
        if not self._sids:
            self.subscribe(f"{inbox}")
        self.publish(subject, payload, inbox)
        async with asyncio.timeout(timeout_seconds):
            answer = await self.next()
        assert answer is not None, self.errors
        return answer

    async def api(self, subject: str, **fields: Any) -> dict[str, Any]:
        """A JetStream API call."""
        payload = json.dumps(fields).encode() if fields else b""
        answer: dict[str, Any] = json.loads((await self.request(f"$JS.API.{subject}", payload)).payload)
        return answer

    async def alive(self, timeout_seconds: float = 10) -> bool:
        """Whether a PING comes back."""
        wanted = self.pongs + 1
        self.send(b"PING\r\n")
        async with asyncio.timeout(timeout_seconds):
            while self.pongs < wanted:
                line = await self.reader.readline()
                if not line:
                    return False
                if line.startswith(b"PING"):
                    self.send(b"PONG\r\n")
                self.pongs += line.startswith(b"PONG")
        return True

    async def next_error(self, count: int) -> None:
        """Wait until so many -ERR lines have come."""
        async with asyncio.timeout(10):
            while len(self.errors) < count:
                line = await self.reader.readline()
                assert line, self.errors
                if line.startswith(b"-ERR"):
                    self.errors.append(line.decode().strip())

    def stop_reading(self) -> None:
        """Leave what comes where it is."""
        transport = self.writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()

    async def close(self) -> None:
        """Close at once."""
        self.writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()
