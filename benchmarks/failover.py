"""How long a cluster takes no publishes when its leader goes, and how fast a node that comes back has caught up.
Guarantee: only publishes count that were sent after the leader was struck, each with an ack without error."""

from __future__ import annotations

import re
import select
import time
from typing import TYPE_CHECKING

from benchmarks.frames import pub, sub
from benchmarks.stan_frames import made_up, parsed, publish
from benchmarks.stan_wire import Stan
from benchmarks.trio import ANSWER_SECONDS, PATIENCE_SECONDS, replicated, streamed
from benchmarks.wire import BUFFER_BYTES, BenchError, connect

if TYPE_CHECKING:
    import signal
    import socket
    from collections.abc import Callable

    from benchmarks.rig import Rig
    from benchmarks.server import Software
    from benchmarks.trio import Node, Trio

#: A publish goes out this often, whether or not the ones before are acked: it is how exact the figure is.
EVERY_SECONDS = 0.002
SIZE = 128
INBOX = "_INBOX.f"
CHANNEL = "bench"
MSG_LINE = re.compile(rb"(?<!H)MSG _INBOX\.f\.(\d+) 1 (\d+)\r\n")


class Prober:
    """Publishes numbered messages at one node and tells which of them are acked."""

    def __init__(self, sock: socket.socket, frame: Callable[[str], bytes], refused: Callable[[bytes], bool]) -> None:
        self.sock = sock
        self.frame = frame
        self.refused = refused
        self.sent = 0
        self.rest = b""

    def step(self) -> list[int]:
        """Publishes one message, then listens for EVERY_SECONDS. Returns the numbers acked meanwhile."""
        self.sock.sendall(self.frame(f"{INBOX}.{self.sent}"))
        self.sent += 1
        acked: list[int] = []
        deadline = time.monotonic() + EVERY_SECONDS
        while (left := deadline - time.monotonic()) > 0 and select.select([self.sock], [], [], left)[0]:
            data = self.sock.recv(BUFFER_BYTES)
            if not data:
                raise BenchError("connection closed by the server")
            acked += self.taken(self.rest + data)
        return acked

    def taken(self, data: bytes) -> list[int]:
        numbers = []
        at = 0
        while match := MSG_LINE.search(data, at):
            end = match.end() + int(match[2])
            if end > len(data):
                break
            if not self.refused(data[match.end() : end]):
                numbers.append(int(match[1]))
            at = end
        # What is cut by the end of the read is looked at again: a message, or a line.
        self.rest = data[match.start() :] if match else data[max(at, data.rfind(b"\n") + 1) :]
        return numbers


def silence(prober: Prober, strike: Callable[[], None], ended: Callable[[], bool]) -> float:
    """The longest time without an ack, from the strike until an ack that comes after its target has ended.

    Errors: BenchError where none comes.
    """
    while not prober.step():
        pass
    strike()
    last = time.monotonic()
    deadline = last + PATIENCE_SECONDS
    first = prober.sent
    longest = 0.0
    while (now := time.monotonic()) < deadline:
        over = ended()
        if any(number >= first for number in prober.step()):
            now = time.monotonic()
            longest, last = max(longest, now - last), now
            if over:
                return longest
    raise BenchError(f"no ack within {PATIENCE_SECONDS} s")


def jetstream_prober(node: Node) -> Prober:
    sock = connect(node.port, sub(f"{INBOX}.*"))
    return Prober(sock, lambda reply: pub("s.one", SIZE, reply), lambda answer: b'"error"' in answer)


def streaming_prober(trio: Trio, node: Node) -> Prober:
    """The client id stays registered: whoever leads next knows it."""
    name = f"probe-{made_up(time.monotonic_ns())}"
    with trio.until("connect", lambda: Stan(node.port, name, ANSWER_SECONDS)) as stan:
        prefix, connection = stan.publish_prefix, stan.connection
    sock = connect(node.port, sub(f"{INBOX}.*"))

    def frame(reply: str) -> bytes:
        return publish(prefix, CHANNEL, name, connection, reply, SIZE, reply)

    return Prober(sock, frame, lambda answer: 2 in parsed(answer))


def outage(trio: Trio, number: signal.Signals) -> float:
    """Strikes the leader with a signal, seen by a publisher at another node. Afterwards all three are there again."""
    leader = trio.led()
    witness = trio.others(leader)[0]
    prober = streaming_prober(trio, witness) if trio.streaming else jetstream_prober(witness)
    try:
        seconds = silence(prober, lambda: leader.send(number), lambda: not leader.runs)
    finally:
        prober.sock.close()
    leader.kill()
    leader.spawn()
    leader.wait_ready()
    trio.until("node that has caught up", trio.caught_up)
    return seconds


def outages(rig: Rig, software: Software, number: signal.Signals, *, streaming: bool) -> list[float]:
    """`rig.kills` of them, one after the other on one cluster, each of the leader of the moment."""

    def measure() -> list[float]:
        with rig.trio(software, streamed if streaming else replicated, streaming=streaming) as trio:
            if not streaming:
                trio.create_stream()
            return [outage(trio, number) for _ in range(rig.kills)]

    return rig.once(f"outages by {number.name}, streaming {streaming}", software, measure)
