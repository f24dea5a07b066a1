"""Many channels, each with one durable: what they cost in memory, and how soon they are back after a
restart. Guarantee: after the restart each durable goes on exactly where it was, or there is no figure."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.frames import sub, subjects
from benchmarks.server import Server, Software, Streaming
from benchmarks.stan_frames import ack_tail, guids, made_up, payload, publish
from benchmarks.stan_roles import ACKS, IN_FLIGHT, Acks
from benchmarks.stan_wire import Inboxes, Stan, first_connect
from benchmarks.wire import BenchError, connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.rig import Rig

CLIENT = "bench-durables"
CHANNELS = subjects("many", 1_000)
INBOXES = [f"_INBOX.{made_up(100 + index)}" for index in range(len(CHANNELS))]
#: In each channel, all of them delivered to its durable and acked.
MESSAGES = 5
SIZE = 128
SETTLE_SECONDS = 2


class Durables:
    """One durable in each of CHANNELS, all of one client id, online from `subscribe` to the client's `leave`."""

    def __init__(self, stan: Stan) -> None:
        self.stan = stan
        self.ack_inboxes: list[bytes] = []

    def subscribe(self, count: int) -> None:
        """Starts, or resumes, the durables of the next `count` channels."""
        for index in range(len(self.ack_inboxes), len(self.ack_inboxes) + count):
            ack_inbox = self.stan.subscribe(CHANNELS[index], INBOXES[index], IN_FLIGHT, "durable")
            self.ack_inboxes.append(ack_inbox.encode())

    def exchange(self, inboxes: Inboxes, sequence: int) -> None:
        """Publishes a message to each channel; each durable gets it with this sequence, nothing before it, and acks."""
        prefix, client, connection = self.stan.publish_prefix, self.stan.name, self.stan.connection
        pairs = zip(CHANNELS, guids(len(CHANNELS)), strict=True)
        frames = [publish(prefix, channel, client, connection, guid, SIZE, ACKS) for channel, guid in pairs]
        with connect(self.stan.port, sub(ACKS)) as sock:
            acks = Acks(sock)
            sock.sendall(b"".join(frames))
            while acks.count < len(frames):
                acks.read()
            acks.verify(len(frames))
        for _ in CHANNELS:
            index, fields = inboxes.next()
            fields.pop(5, None)
            if fields != {1: sequence, 2: CHANNELS[index].encode(), 4: payload(SIZE)}:
                raise BenchError(f"the durable of {CHANNELS[index]} got {fields}, not message {sequence}")
            inboxes.sock.sendall(b"PUB " + self.ack_inboxes[index] + ack_tail(CHANNELS[index], sequence))
        inboxes.flush()


@contextmanager
def busy(server: Server) -> Iterator[Stan]:
    """A client whose durables are online and have everything delivered and acked."""
    with first_connect(server, CLIENT) as stan, Inboxes(server.port, INBOXES) as inboxes:
        many = Durables(stan)
        many.subscribe(len(CHANNELS))
        for sequence in range(1, MESSAGES + 1):
            many.exchange(inboxes, sequence)
        yield stan


def memory(rig: Rig, software: Software) -> float:
    """MiB of resident memory with all durables online and everything acked."""
    with rig.server(software, streaming=Streaming.SYNCED) as server, busy(server):
        time.sleep(SETTLE_SECONDS)
        return server.resident_bytes() / (1 << 20)


def filled(rig: Rig, software: Software) -> Path:
    """A directory of a server that was stopped after its client had closed: all durables are offline."""

    def fill(path: Path) -> None:
        with Server(software, path, streaming=Streaming.SYNCED) as server, busy(server) as stan:
            stan.leave()

    return rig.prepare("durables", software, fill)


def restart(rig: Rig, software: Software) -> float:
    """Seconds from process start until a client is connected and has resumed one durable."""
    source = filled(rig, software)
    with rig.directory() as path:
        # Each sample starts from the same files: a server that has run leaves others.
        subprocess.run(["cp", "-a", f"{source}/store", str(path)], check=True)
        os.sync()
        server = Server(software, path, streaming=Streaming.SYNCED)
        started = server.spawn()
        try:
            with first_connect(server, CLIENT) as stan:
                many = Durables(stan)
                many.subscribe(1)
                seconds = time.monotonic() - started
                many.subscribe(len(CHANNELS) - 1)
                with Inboxes(server.port, INBOXES) as inboxes:
                    many.exchange(inboxes, MESSAGES + 1)
        finally:
            server.kill()
    return seconds
