"""The generator's roles around NATS Streaming: publishers that want acks, a subscriber that gives
them. Guarantee: the hot loops move prebuilt bytes and count marks; what came is looked at afterwards,
all of it."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from benchmarks.frames import MARK, PING, PONG, pub_body, sub
from benchmarks.roles import PINGS_MAX, Span
from benchmarks.stan_frames import ID_CHARS, TILDES, ack_tail, guids, made_up, message, parsed, payload, publish, words
from benchmarks.stan_wire import Stan, refuse
from benchmarks.wire import BUFFER_BYTES, BenchError, connect

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from benchmarks.crew import Gate

WINDOW = 2_000
IN_FLIGHT = 5_000
#: Publishes with ids of their own; then the ids come again. Many windows, so none is outstanding twice.
RING = 20_000
ACKS = f"_STAN.acks.{made_up(1)}"
INBOX = f"_INBOX.{made_up(2)}"
ANSWERS = f"_INBOX.{made_up(3)}"
#: Tag of PubAck.error: in no id and in no control line.
ERROR_TAG = b"\x12"
MSG_LINE = re.compile(rb"MSG (\S+) \d+ (\d+)\r\n|PING\r\n")


class Acks:
    """Counts the acks that come to the socket of one publisher."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = bytearray(BUFFER_BYTES)
        self.count = 0
        self.received = 0
        self.size = 0

    def read(self) -> int:
        """One read; returns how many acks came. Errors: BenchError for an ack with an error."""
        size = self.sock.recv_into(self.buffer)
        if not size:
            raise BenchError("connection closed by the server")
        if self.buffer.find(ERROR_TAG, 0, size) >= 0 or self.buffer.find(b"-ERR", 0, size) >= 0:
            raise BenchError(f"refused: {bytes(self.buffer[:300])!r}")
        acks = self.buffer.count(MARK, 0, size)
        self.count += acks
        self.received += size
        self.size = size
        return acks

    def verify(self, sent: int) -> None:
        """Each publish has one ack of the right length, and nothing else came."""
        self.sock.sendall(PING)
        while not self.buffer[: self.size].endswith(PONG):
            self.read()
        body = message({1: "x" * ID_CHARS})
        frame_bytes = len(f"MSG {ACKS} 1 {len(body)}\r\n") + len(body) + len("\r\n")
        excess = self.received - len(PONG) - sent * frame_bytes
        if self.count != sent or excess not in range(0, len(PING) * PINGS_MAX + 1, len(PING)):
            raise BenchError(f"{self.count} acks in {self.received} bytes for {sent} publishes")


def ring(stan: Stan, channel: str, size: int, count: int) -> list[bytes]:
    """`count` publishes of `size` bytes of data to one channel."""
    return [
        publish(stan.publish_prefix, channel, stan.name, stan.connection, guid, size, ACKS) for guid in guids(count)
    ]


def publish_window(
    gate: Gate, port: int, channel: str, size: int, seconds: float | None = None, count: int | None = None
) -> Span:
    """Keeps WINDOW publishes outstanding, for `seconds` or until `count`, and ends with the last ack."""
    with Stan(port, "bench-publisher") as stan:
        frames = ring(stan, channel, size, RING)
        frame_bytes = len(frames[0])
        data = memoryview(b"".join(frames))
        sock = connect(port, sub(ACKS))
        acks = Acks(sock)
        ceiling = count or 1 << 62
        sent = 0
        gate()
        start = time.monotonic()
        deadline = start + seconds if seconds else float("inf")
        going = True
        while going or acks.count < sent:
            while going and (room := min(WINDOW + acks.count, ceiling) - sent):
                first = sent % RING
                last = min(first + room, RING)
                sock.sendall(data[first * frame_bytes : last * frame_bytes])
                sent += last - first
                going = sent < ceiling and time.monotonic() < deadline
            acks.read()
        end = time.monotonic()
        acks.verify(sent)
        return Span(sent, start, end)


def publish_singly(gate: Gate, port: int, channel: str, size: int, seconds: float) -> Span:
    """Waits for each ack before the next publish."""
    with Stan(port, "bench-publisher") as stan:
        frames = ring(stan, channel, size, RING)
        sock = connect(port, sub(ACKS))
        acks = Acks(sock)
        sent = 0
        gate()
        start = time.monotonic()
        deadline = start + seconds
        while time.monotonic() < deadline:
            sock.sendall(frames[sent % RING])
            sent += 1
            while acks.count < sent:
                acks.read()
        end = time.monotonic()
        acks.verify(sent)
        return Span(sent, start, end)


class Taken:
    """What came to the socket of a subscriber: counted at once by the mark in each payload, kept for later."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        #: The end of the last read stands before the next one, so that a mark that was cut is found.
        self.overlap = len(TILDES) - 1
        self.buffer = bytearray(self.overlap + BUFFER_BYTES)
        self.room = memoryview(self.buffer)[self.overlap :]
        self.pieces: list[bytes] = []

    def read(self) -> int:
        """One read; returns how many messages came."""
        size = self.sock.recv_into(self.room)
        if not size:
            raise BenchError("connection closed by the server")
        count = self.buffer.count(TILDES, 0, self.overlap + size)
        self.pieces.append(bytes(self.room[:size]))
        self.buffer[: self.overlap] = self.buffer[size : size + self.overlap]
        return count

    def frames(self) -> Iterator[tuple[bytes, bytes]]:
        """Subject and body of each whole message that has come so far. Errors: BenchError for what is none."""
        data = b"".join(self.pieces)
        at = 0
        while at < len(data) and (line := MSG_LINE.match(data, at)):
            at = line.end()
            if line[1]:
                body = data[at : at + int(line[2])]
                at += len(body) + len(b"\r\n")
                if at > len(data):
                    return
                yield line[1], body
        if b"\r\n" in data[at:]:
            raise BenchError(f"refused: {data[at : at + 300]!r}")


def subscribe_all(gate: Gate, port: int, channel: str, count: int, size: int) -> Span:
    """Subscribes from the first message and acks each one; from that request to the last message and its ack."""
    with Stan(port, "bench-subscriber") as stan:
        tails = [ack_tail(channel, sequence) for sequence in range(1, count + 1)]
        sock = connect(port, sub(INBOX), sub(ANSWERS, 2))
        taken = Taken(sock)
        subject, body = stan.subscription(channel, INBOX, IN_FLIGHT)
        request = pub_body(subject, ANSWERS, body)
        head = b""
        received = acked = 0
        gate()
        start = time.monotonic()
        sock.sendall(request)
        while received < count:
            received += taken.read()
            if not head and (answer := next(taken.frames(), None)):
                head = b"PUB " + ack_inbox(answer).encode()
            if received - acked > IN_FLIGHT:
                raise BenchError(f"{received - acked} messages in flight, not {IN_FLIGHT}")
            if head and received > acked:
                sock.sendall(head + head.join(tails[acked:received]))
                acked = received
        end = time.monotonic()
        verify(taken, channel, count, size)
        return Span(received, start, end)


def ack_inbox(answer: tuple[bytes, bytes]) -> str:
    """Errors: BenchError where a message stands before the answer, or the server refuses."""
    subject, body = answer
    if subject != ANSWERS.encode():
        raise BenchError(f"a message came to {subject!r} before the answer to the subscription")
    refuse(words(body, 3), "subscribe")
    return words(body, 2)


def verify(taken: Taken, channel: str, count: int, size: int) -> None:
    """Every message came once, in order, as it was published."""
    while len(messages := list(taken.frames())) <= count:
        taken.read()
    wanted = {2: channel.encode(), 4: payload(size)}
    for sequence, (subject, body) in enumerate(messages[1:], 1):
        fields = parsed(body)
        fields.pop(5, None)
        if subject != INBOX.encode() or fields != {1: sequence, **wanted}:
            raise BenchError(f"not message {sequence}: {subject!r} {body!r}")
