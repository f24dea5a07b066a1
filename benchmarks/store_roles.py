"""The generator's roles around stored messages: publishers that want acks, consumers, readers.
Guarantee: acks and messages are counted with one `bytes.count` a read; only explicit acks cost a
regular expression."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from benchmarks.frames import MARK, pub, pub_body, sub
from benchmarks.roles import Span
from benchmarks.wire import BUFFER_BYTES, BenchError, Client, connect

if TYPE_CHECKING:
    import socket

    from benchmarks.crew import Gate

#: Below nats-server's `max_buffered_msgs` (10,000), so that nothing is refused.
WINDOW = 8_000
PER_CHUNK = 1_000
PULL_BATCH = 1_000
PULL_AHEAD = 2
CLOSING = b"}"  # once in a publish ack, twice in an error
STATUS = b"NATS/1.0 "  # a message with headers has none here, a refusal its number
ACK_REPLY = re.compile(rb"(\$JS\.ACK\.[^ ]+) \d+\r\n")


def read(sock: socket.socket, buffer: bytearray, counted: bytes) -> int:
    """One read; returns how often the byte `counted` was in it."""
    size = sock.recv_into(buffer)
    if not size:
        raise BenchError("connection closed by the server")
    if buffer.find(b'"error"', 0, size) >= 0 or buffer.find(STATUS, 0, size) >= 0:
        raise BenchError(f"refused: {bytes(buffer[:300])!r}")
    return buffer.count(counted, 0, size)


def publish_window(
    gate: Gate, port: int, chunks: list[bytes], seconds: float | None = None, count: int | None = None
) -> Span:
    """Keeps WINDOW publishes outstanding, for `seconds` or until `count`, and ends with the last ack."""
    sock = connect(port, sub("_INBOX.b.*"))
    buffer = bytearray(BUFFER_BYTES)
    sent = acked = 0
    gate()
    start = time.monotonic()
    deadline = start + seconds if seconds else float("inf")
    ceiling = count or 1 << 62
    going = True
    while going or acked < sent:
        while going and sent - acked <= WINDOW - PER_CHUNK:
            sock.sendall(chunks[sent // PER_CHUNK % len(chunks)])
            sent += PER_CHUNK
            going = sent < ceiling and time.monotonic() < deadline
        acked += read(sock, buffer, CLOSING)
    return Span(acked, start, time.monotonic())


def publish_singly(gate: Gate, port: int, subject: str, size: int, seconds: float) -> Span:
    """Waits for each ack before the next publish."""
    sock = connect(port, sub("_INBOX.b"))
    buffer = bytearray(BUFFER_BYTES)
    frame = pub(subject, size, "_INBOX.b")
    acked = 0
    gate()
    start = time.monotonic()
    deadline = start + seconds
    while time.monotonic() < deadline:
        sock.sendall(frame)
        while not read(sock, buffer, CLOSING):
            pass
        acked += 1
    return Span(acked, start, time.monotonic())


def consume_push(gate: Gate, port: int, stream: str, consumer: str, count: int) -> Span:
    """Creates a push consumer that asks for no acks; from that request to the last message."""
    target = f"deliver.{consumer}"
    sock = connect(port, sub(target))
    buffer = bytearray(BUFFER_BYTES)
    with Client(port) as client:
        gate()
        start = time.monotonic()
        client.create_consumer(stream, consumer, ack_policy="none", deliver_subject=target)
        received = 0
        while received < count:
            received += read(sock, buffer, MARK)
        return finished(client, stream, consumer, received, start)


def consume_pull(gate: Gate, port: int, stream: str, consumer: str, count: int) -> Span:
    """Pulls batches, two requests ahead, without acks; from the consumer request to the last message."""
    sock = connect(port, sub("_INBOX.p"))
    buffer = bytearray(BUFFER_BYTES)
    request = pull_request(stream, consumer)
    with Client(port) as client:
        gate()
        start = time.monotonic()
        client.create_consumer(stream, consumer, ack_policy="none")
        sock.sendall(request * PULL_AHEAD)
        asked = PULL_BATCH * PULL_AHEAD
        received = 0
        while received < count:
            received += read(sock, buffer, MARK)
            if asked < count and asked - received <= PULL_BATCH * (PULL_AHEAD - 1):
                sock.sendall(request)
                asked += PULL_BATCH
        return finished(client, stream, consumer, received, start)


def consume_pull_explicit(gate: Gate, port: int, stream: str, consumer: str, count: int) -> Span:
    """Pulls and acks each message; ends when the server says that nothing is pending any more."""
    sock = connect(port, sub("_INBOX.p"))
    request = pull_request(stream, consumer)
    info = f"$JS.API.CONSUMER.INFO.{stream}.{consumer}"
    with Client(port) as client:
        gate()
        start = time.monotonic()
        client.create_consumer(stream, consumer, ack_policy="explicit", max_ack_pending=10_000)
        sock.sendall(request * PULL_AHEAD)
        asked = PULL_BATCH * PULL_AHEAD
        received = 0
        rest = b""
        while received < count:
            data = rest + sock.recv(BUFFER_BYTES)
            if len(data) == len(rest):
                raise BenchError("connection closed by the server")
            if STATUS in data:
                raise BenchError(f"refused: {data[-300:]!r}")
            # A control line cut by the end of the read stays in the rest and is matched with the next one.
            replies = ACK_REPLY.findall(data)
            rest = data[max(0, data.rfind(b"\r\n")) :]
            if not replies:
                continue
            received += len(replies)
            sock.sendall(b"PUB " + b" 0\r\n\r\nPUB ".join(replies) + b" 0\r\n\r\n")
            if asked < count and asked - received <= PULL_BATCH * (PULL_AHEAD - 1):
                sock.sendall(request)
                asked += PULL_BATCH
        while client.request(info)["num_ack_pending"]:
            time.sleep(0.001)
        return finished(client, stream, consumer, received, start)


def finished(client: Client, stream: str, consumer: str, received: int, start: float) -> Span:
    """Takes the time, then removes the consumer: the next sample must find none that still delivers."""
    span = Span(received, start, time.monotonic())
    client.request(f"$JS.API.CONSUMER.DELETE.{stream}.{consumer}")
    return span


def pull_request(stream: str, consumer: str) -> bytes:
    body = b'{"batch":%d,"expires":60000000000}' % PULL_BATCH
    return pub_body(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}", "_INBOX.p", body)


def get_direct(gate: Gate, port: int, stream: str, stored: int, ahead: int, seconds: float) -> Span:
    """Reads single messages by sequence with `ahead` requests under way."""
    sock = connect(port, sub("_INBOX.g"))
    buffer = bytearray(BUFFER_BYTES)
    step = max(1, stored // 1000)
    subject = f"$JS.API.DIRECT.GET.{stream}"
    # Spread over the whole stream, so that no one block answers all.
    frames = [pub_body(subject, "_INBOX.g", b'{"seq":%d}' % (1 + n * 617 % 1000 * step)) for n in range(1000)]
    sent = answered = 0
    gate()
    start = time.monotonic()
    deadline = start + seconds
    while time.monotonic() < deadline or answered < sent:
        room = ahead - (sent - answered)
        if room > 0 and time.monotonic() < deadline:
            at = sent % 1000
            batch = frames[at : at + room]
            sock.sendall(b"".join(batch))
            sent += len(batch)
        answered += read(sock, buffer, MARK)
    return Span(answered, start, time.monotonic())
