"""A NATS Streaming client: one request at a time, and sockets for what is hot. Guarantee: what the
server refuses is an error here, with the server's words. Source: the STAN protocol."""

from __future__ import annotations

import time
from typing import Final, Self

from benchmarks.frames import PING, PONG, sub
from benchmarks.server import CLUSTER, START_SECONDS, Server
from benchmarks.stan_frames import FIRST, Fields, Values, made_up, message, parsed, words
from benchmarks.wire import SILENCE_SECONDS, BenchError, Client, NoAnswerError, connect

PING_SECONDS: Final = 5
PINGS_OUT: Final = 88
ACK_WAIT_SECONDS: Final = 30


class Stan:
    """A client id that is connected until the `with` ends; it answers no heartbeats, the first comes after 30 s.

    Errors: NoAnswerError where no streaming server listens yet, BenchError where one refuses.
    """

    def __init__(self, port: int, name: str, patience_seconds: float = SILENCE_SECONDS) -> None:
        self.port = port
        self.name = name
        self.connection = made_up(port)
        self.wire = Client(port, patience_seconds)
        request: Values = {
            1: name,
            2: f"_INBOX.{made_up(port + 1)}",
            3: 1,
            4: self.connection,
            5: PING_SECONDS,
            6: PINGS_OUT,
        }
        try:
            answer = self.wire.ask(f"_STAN.discover.{CLUSTER}", message(request))
            self.publish_prefix = words(answer, 1)
            self.subscribe_subject = words(answer, 2)
            self.close_subject = words(answer, 4)
            refuse(words(answer, 5), f"connect of {name}")
            # A layer below may answer while the one above still starts: an empty answer is no answer.
            if not self.publish_prefix or not self.subscribe_subject:
                raise NoAnswerError(f"connect of {name}: {answer!r}")
        except BaseException:
            self.wire.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wire.close()

    def subscription(self, channel: str, inbox: str, in_flight: int, durable: str = "") -> tuple[str, bytes]:
        """The subject and the body of a request to subscribe from the first message."""
        body: Values = {1: self.name, 2: channel, 4: inbox, 5: in_flight, 6: ACK_WAIT_SECONDS, 7: durable, 10: FIRST}
        return self.subscribe_subject, message(body)

    def subscribe(self, channel: str, inbox: str, in_flight: int, durable: str = "") -> str:
        """Subscribes from the first message; returns the ack inbox."""
        answer = self.wire.ask(*self.subscription(channel, inbox, in_flight, durable))
        refuse(words(answer, 3), f"subscribe to {channel}")
        return words(answer, 2)

    def leave(self) -> None:
        """Closes the client id: its durables are suspended when this returns."""
        answer = self.wire.ask(self.close_subject, message({1: self.name}))
        refuse(words(answer, 1), f"close of {self.name}")


def first_connect(server: Server, name: str) -> Stan:
    """Connects a client as soon as the server that has just been started lets it."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            return Stan(server.port, name)
        except (ConnectionError, NoAnswerError):
            server.must_live()
            time.sleep(0.002)
    raise BenchError(f"{server.software.name} let no client connect within {START_SECONDS} s")


class Inboxes:
    """A connection that is subscribed to many inboxes and reads their messages one by one; not for hot loops."""

    def __init__(self, port: int, inboxes: list[str]) -> None:
        self.sock = connect(port, *(sub(inbox, sid) for sid, inbox in enumerate(inboxes)))
        self.file = self.sock.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.sock.close()

    def next(self) -> tuple[int, Fields]:
        """Index of the inbox, and the fields of the message. Errors: BenchError after a minute of silence."""
        while True:
            line = self.line()
            if line[0] == b"MSG":
                body = self.file.read(int(line[-1]) + 2)[:-2]
                return int(line[2]), parsed(body)
            if line[0] != b"PING":
                raise BenchError(f"not a message: {b' '.join(line)!r}")

    def flush(self) -> None:
        """Returns when the server has read what was sent; no message may be on its way."""
        self.sock.sendall(PING)
        while (line := self.line())[0] != PONG.strip():
            if line[0] not in (b"PING", b"INFO"):
                raise BenchError(f"an unexpected {b' '.join(line)!r}")

    def line(self) -> list[bytes]:
        try:
            line = self.file.readline().split()
        except BlockingIOError:
            raise BenchError("a minute of silence") from None
        if not line:
            raise BenchError("connection closed by the server")
        return line


def refuse(error: str, what: str) -> None:
    if error:
        raise BenchError(f"{what}: {error}")
