"""The generator's roles around core messages: publishers that flood, sinks that count bytes, askers
and a responder. Guarantee: the hot loops only move prebuilt bytes. A `bare` role speaks to the byte
mover of limit.py instead of a server."""

from __future__ import annotations

import select
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.frames import PING, PONG, msg_bytes, pub, sub, subjects
from benchmarks.wire import BUFFER_BYTES, BenchError, connect, plain, receive_until

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

    from benchmarks.crew import Gate

ASK_BYTES = 16
#: Servers PING a young connection once, two seconds after its login; those bytes are no messages.
PINGS_MAX = 2


@dataclass(frozen=True)
class Span:
    """How many messages went between two moments of the monotonic clock."""

    count: int
    start: float
    end: float


def bare_connect(port: int, role: bytes) -> socket.socket:
    """Connects to the mover and tells it which side this is: `P` gives bytes, `S` takes them."""
    sock = plain(port)
    sock.sendall(role)
    receive_until(sock, role)
    return sock


def flood(
    gate: Gate,
    port: int,
    chunk: bytes,
    per_chunk: int,
    seconds: float,
    total: Synchronized[int],
    bare: bool = False,
) -> Span:
    """Publishes as fast as the socket takes it, for `seconds`, and ends when the server has taken all of it.

    `total` is set before the last write, so a sink that has everything always knows that it has.
    """
    sock = bare_connect(port, b"P") if bare else connect(port)
    gate()
    sent = 0
    start = time.monotonic()
    deadline = start + seconds
    while time.monotonic() < deadline:
        sock.sendall(chunk)
        sent += per_chunk
    total.value = sent + per_chunk
    sock.sendall(chunk)
    if bare:
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass
    else:
        sock.sendall(PING)
        receive_until(sock, PONG)
    return Span(sent + per_chunk, start, time.monotonic())


def sink(
    gate: Gate,
    port: int,
    subject: str,
    sockets: int,
    frame_bytes: int,
    total: Synchronized[int],
    bare: bool = False,
) -> Span:
    """Subscribes `sockets` times and counts bytes until each published message has come to each socket."""
    socks = [bare_connect(port, b"S") if bare else connect(port, sub(subject)) for _ in range(sockets)]
    by_fd = {sock.fileno(): sock for sock in socks}
    buffer = bytearray(BUFFER_BYTES)
    poll = select.poll()
    for sock in socks:
        poll.register(sock, select.POLLIN)
    alone = socks[0] if sockets == 1 else None
    received = 0
    start = 0.0
    gate()
    while not total.value or received < total.value * frame_bytes * sockets:
        ready = [alone] if alone else [by_fd[fd] for fd, _ in poll.poll(60_000)]
        if not ready:
            raise BenchError("a minute of silence")
        for sock in ready:
            count = sock.recv_into(buffer)
            if not count:
                raise BenchError("the server cut a subscriber")
            start = start or time.monotonic()
            received += count
    excess = received - total.value * frame_bytes * sockets
    if excess % len(PING) or excess > len(PING) * PINGS_MAX * sockets:
        raise BenchError(f"{excess} bytes more than {total.value} messages for {sockets} subscribers")
    return Span(total.value * sockets, start, time.monotonic())


def ask(gate: Gate, port: int, clients: int, seconds: float) -> tuple[Span, list[int]]:
    """`clients` connections with one request under way each; latencies are in nanoseconds."""
    names = subjects("_R", 1000)[:clients]
    socks = {}
    requests = {}
    poll = select.epoll()
    for name in names:
        sock = connect(port, sub(name))
        socks[sock.fileno()] = sock
        requests[sock.fileno()] = pub("svc", ASK_BYTES, name)
        poll.register(sock.fileno(), select.EPOLLIN)
    frame_bytes = msg_bytes(names[0], ASK_BYTES)
    latencies: list[int] = []
    sent: dict[int, int] = {}
    clock = time.monotonic_ns
    gate()
    start = clock()
    deadline = start + int(seconds * 1e9)
    for fd, sock in socks.items():
        sent[fd] = clock()
        sock.sendall(requests[fd])
    while sent:
        for fd, _ in poll.poll(60):
            sock = socks[fd]
            data = sock.recv(65536)
            if len(data) != frame_bytes:
                data = data.replace(PING, b"")
                if data == b"":
                    continue
                if len(data) != frame_bytes:
                    raise BenchError(f"an answer came in pieces, or isn't one: {data[:200]!r}")
            now = clock()
            latencies.append(now - sent[fd])
            if now < deadline:
                sent[fd] = now
                sock.sendall(requests[fd])
            else:
                del sent[fd]
    return Span(len(latencies), start / 1e9, clock() / 1e9), latencies


def respond(gate: Gate, port: int) -> None:
    """Answers requests to `svc`; frames have one length, so reply subjects stand at known places."""
    names = subjects("_R", 1000)
    answers = {name.encode(): pub(name, ASK_BYTES) for name in names}
    frame_bytes = msg_bytes("svc", ASK_BYTES, names[0])
    at = len("MSG svc 1 ")
    width = len(names[0])
    sock = connect(port, sub("svc"))
    gate()
    rest = b""
    while True:
        data = rest + sock.recv(BUFFER_BYTES) if rest else sock.recv(BUFFER_BYTES)
        if PING in data:
            data = data.replace(PING, b"")
        whole = len(data) - len(data) % frame_bytes
        if whole:
            sock.sendall(b"".join([answers[data[n : n + width]] for n in range(at, whole, frame_bytes)]))
        rest = data[whole:]
