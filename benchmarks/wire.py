"""Blocking sockets that speak just enough of the client protocol. Guarantee: after `connect`
nothing unread is left from the handshake. Not here: hot loops (roles.py)."""

from __future__ import annotations

import itertools
import json
import os
import socket
import struct
from typing import Any, Self

from benchmarks.frames import CONNECT, PING, PONG, pub_body, sub

LOOPBACK = "127.0.0.1"
SILENCE_SECONDS = 60
BUFFER_BYTES = 1 << 20
NUMBERS = itertools.count()


class BenchError(Exception):
    """What was measured is no measurement: the server refused, cut or forgot something."""


class NoAnswerError(BenchError):
    """Nobody is there yet to answer a request."""


def plain(port: int, patience_seconds: float = SILENCE_SECONDS, host: str = LOOPBACK) -> socket.socket:
    """A connected socket with big buffers which fails (BlockingIOError) after so much silence.

    A socket option and not settimeout(): that one would put a poll() before every read.
    """
    sock = socket.create_connection((host, port), patience_seconds)
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval(patience_seconds))
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES * 4)
    return sock


def timeval(seconds: float) -> bytes:
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))


def receive_until(sock: socket.socket, ending: bytes, times: int = 1) -> bytes:
    data = b""
    while data.count(ending) < times:
        more = sock.recv(65536)
        if not more:
            raise BenchError(f"connection closed by the server: {data[-200:]!r}")
        data += more
    if b"-ERR" in data:
        raise BenchError(f"error from the server: {data[-200:]!r}")
    return data


def connect(
    port: int, *subscriptions: bytes, patience_seconds: float = SILENCE_SECONDS, host: str = LOOPBACK
) -> socket.socket:
    """Logs in, subscribes, and returns once the server has said that it knows.

    Two PINGs: the server may push a second INFO behind the first PONG.
    """
    sock = plain(port, patience_seconds, host)
    sock.sendall(CONNECT + PING)
    receive_until(sock, PONG)
    sock.sendall(b"".join(subscriptions) + PING)
    receive_until(sock, PONG)
    return sock


class Client:
    """One request at a time over its own connection.

    Errors: BlockingIOError where an answer takes longer than `patience_seconds`.
    """

    def __init__(self, port: int, patience_seconds: float = SILENCE_SECONDS, host: str = LOOPBACK) -> None:
        # An inbox of its own: in a cluster all nodes share one subject space.
        self.inbox = f"_INBOX.c.{os.getpid()}.{next(NUMBERS)}"
        self.sock = connect(port, sub(self.inbox), patience_seconds=patience_seconds, host=host)
        self.file = self.sock.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.file.close()
        self.sock.close()

    def request(self, subject: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Sends an API request and returns its decoded answer.

        Errors: NoAnswerError where nobody listens yet, BenchError for an API error.
        """
        answer = json.loads(self.ask(subject, json.dumps(body).encode() if body else b""))
        if "error" in answer:
            raise BenchError(f"{subject}: {answer['error']}")
        return dict(answer)

    def ask(self, subject: str, body: bytes) -> bytes:
        """Sends a request and returns the body of its answer. Errors: NoAnswerError where nobody listens yet."""
        self.sock.sendall(pub_body(subject, self.inbox, body))
        while True:
            words = self.file.readline().split()
            if not words:
                raise NoAnswerError("connection closed")
            if words[0] == b"HMSG":
                self.file.read(int(words[-1]) + 2)
                raise NoAnswerError(subject)
            if words[0] == b"MSG":
                return self.file.read(int(words[-1]) + 2)[:-2]
            if words[0] == b"PING":
                self.sock.sendall(PONG)

    def create_stream(self, name: str, *subjects: str, replicas: int = 1) -> None:
        config = {
            "name": name,
            "subjects": list(subjects),
            "storage": "file",
            "retention": "limits",
            "discard": "old",
            "num_replicas": replicas,
            "allow_direct": True,
        }
        self.request(f"$JS.API.STREAM.CREATE.{name}", config)

    def create_consumer(self, stream: str, name: str, **config: Any) -> None:
        body = {"stream_name": stream, "config": {"name": name, "deliver_policy": "all", **config}}
        self.request(f"$JS.API.CONSUMER.CREATE.{stream}.{name}", body)
