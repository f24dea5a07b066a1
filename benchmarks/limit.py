"""The limit: a process that only moves the bytes from one socket to the others, with the same
generator around it. Nothing that speaks a protocol in between can be faster on the same machine.
Guarantee: it looks at no byte but the first."""

from __future__ import annotations

import os
import socket
import time
from functools import partial

from benchmarks import crew
from benchmarks.crew import FORK, Gate
from benchmarks.frames import flood_chunk, pub
from benchmarks.rig import Rig, rate
from benchmarks.roles import ASK_BYTES, Span, bare_connect, flood, sink

MOVE_BYTES = 256 * 1024


def move(gate: Gate, listener: socket.socket, sinks: int) -> None:
    """Moves what comes from the publisher to every sink, until the publisher has ended."""
    takers: list[socket.socket] = []
    giver: socket.socket | None = None
    while giver is None or len(takers) < sinks:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        role = sock.recv(1)
        sock.sendall(role)
        if role == b"P":
            giver = sock
        else:
            takers.append(sock)
    buffer = memoryview(bytearray(MOVE_BYTES))
    gate()
    while count := giver.recv_into(buffer):
        for sock in takers:
            sock.sendall(buffer[:count])
    giver.close()
    time.sleep(60)  # the sinks are still reading; the crew ends this process


def flooded(rig: Rig, size: int, names: list[str], sinks: int) -> float:
    """Messages a second (delivered ones, if there are sinks) through the mover."""
    chunk, per_chunk = flood_chunk(names, size)
    total = FORK.Value("q", 0, lock=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        mover = partial(move, listener=listener, sinks=sinks)
        giving = partial(
            flood, port=port, chunk=chunk, per_chunk=per_chunk, seconds=rig.seconds, total=total, bare=True
        )
        if not sinks:
            (span,) = crew.run(giving, helpers=[mover])
            return rate(span)
        frame_bytes = len(chunk) // per_chunk
        taking = partial(sink, port=port, subject="", sockets=sinks, frame_bytes=frame_bytes, total=total, bare=True)
        given, taken = crew.run(giving, taking, helpers=[mover])
    return rate(Span(taken.count, given.start, taken.end))


def echo(rig: Rig) -> float:
    """Round trips a second: asker, mover, responder, mover, asker."""
    frame = pub("svc", ASK_BYTES, "_R.000")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        (span,) = crew.run(
            partial(_echo_ask, port=port, frame=frame, seconds=rig.seconds),
            helpers=[partial(_echo_answer, port=port), partial(_echo_move, listener=listener)],
        )
    return rate(span)


def _echo_ask(gate: Gate, port: int, frame: bytes, seconds: float) -> Span:
    sock = bare_connect(port, b"P")
    gate()
    count = 0
    start = time.monotonic()
    while time.monotonic() < start + seconds:
        sock.sendall(frame)
        sock.recv(65536)
        count += 1
    return Span(count, start, time.monotonic())


def _echo_answer(gate: Gate, port: int) -> None:
    sock = bare_connect(port, b"S")
    gate()
    while data := sock.recv(65536):
        sock.sendall(data)


def _echo_move(gate: Gate, listener: socket.socket) -> None:
    sides: dict[bytes, socket.socket] = {}
    while len(sides) < 2:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        role = sock.recv(1)
        sock.sendall(role)
        sides[role] = sock
    gate()
    while True:
        sides[b"S"].sendall(sides[b"P"].recv(65536))
        sides[b"P"].sendall(sides[b"S"].recv(65536))


def disk(rig: Rig, record_bytes: int, batch: int) -> float:
    """Records a second that one process appends to one file with a fdatasync after each `batch` of them."""
    data = b"x" * (record_bytes * batch)
    with rig.directory() as path:
        fd = os.open(path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            count = 0
            start = time.monotonic()
            while time.monotonic() < start + rig.seconds:
                os.write(fd, data)
                os.fdatasync(fd)
                count += batch
            return count / (time.monotonic() - start)
        finally:
            os.close(fd)
