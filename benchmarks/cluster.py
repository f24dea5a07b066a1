"""Rows of three nodes: stored publishes on three replicas, core messages across nodes, failover, catching up,
and what many replicated streams cost."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import crew
from benchmarks.crew import FORK
from benchmarks.failover import outages
from benchmarks.frames import flood_chunk, msg_bytes, pub_body, stored_chunks, sub
from benchmarks.rig import Rig, alone, rate
from benchmarks.roles import Span, flood, sink
from benchmarks.row import Goal, Rival, Row, Unit, median
from benchmarks.store_roles import PER_CHUNK, publish_singly, publish_window
from benchmarks.stored import RELAXED, fill
from benchmarks.trio import NAMES, Node, Trio, replicated
from benchmarks.wire import BenchError, connect

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.sharedctypes import Synchronized

    from benchmarks.crew import Gate
    from benchmarks.server import Software

SIZE = 128
SUBJECT = "s.one"
#: More than are under way at a time.
CHUNKS = 50
#: Consumers and streams are created so many at once where creating them isn't what is measured.
HANDS = 6
#: Elections, and what creating leaves to be done, are over before the idle nodes are measured.
REST_SECONDS = 5


def window(rig: Rig, software: Software, size: int) -> float:
    """Acked messages a second with a window of publishes outstanding, at the node that leads the stream."""
    with rig.trio(software) as trio:
        trio.create_stream()
        chunks = stored_chunks([SUBJECT], size, PER_CHUNK, CHUNKS)
        return alone(partial(publish_window, port=trio.led().port, chunks=chunks, seconds=rig.seconds))


def singly(rig: Rig, software: Software, sync: str | None) -> float:
    with rig.trio(software, partial(replicated, sync=sync)) as trio:
        trio.create_stream()
        port = trio.led().port
        return alone(partial(publish_singly, port=port, subject=SUBJECT, size=SIZE, seconds=rig.seconds))


def heard_across(port: int, other: int) -> None:
    """Waits until the server at `port` knows all that clients have subscribed to at the server at `other` by now.

    Interest travels in order, so the last one is asked for: a request without a responder is refused at once.
    """
    with (
        connect(other, sub("across")) as last,
        connect(port, sub("_INBOX.x")) as asker,
        asker.makefile("rb") as answers,
        last.makefile("rb") as heard,
    ):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            asker.sendall(pub_body("across", "_INBOX.x", b"") + b"PING\r\n")
            refused = False
            while (line := answers.readline()) != b"PONG\r\n":
                refused |= line.startswith(b"HMSG")
                if not line:
                    raise BenchError("connection closed by the server")
            if not refused and heard.readline():
                return
    raise BenchError("one node doesn't learn what another's clients subscribe to")


def flood_across(
    gate: Gate, port: int, other: int, chunk: bytes, per_chunk: int, seconds: float, total: Synchronized[int]
) -> Span:
    """flood(), once this node knows the subscriber at the other one."""

    def ready() -> None:
        gate()
        heard_across(port, other)

    return flood(ready, port=port, chunk=chunk, per_chunk=per_chunk, seconds=seconds, total=total)


def across(rig: Rig, software: Software) -> float:
    """Core messages a second from a publisher at one node to a subscriber at another."""
    chunk, per_chunk = flood_chunk(["foo"], SIZE)
    total = FORK.Value("q", 0, lock=False)
    with rig.trio(software) as trio:
        here, there, _ = (node.port for node in trio.nodes)
        giving = partial(
            flood_across, port=here, other=there, chunk=chunk, per_chunk=per_chunk, seconds=rig.seconds, total=total
        )
        taking = partial(sink, port=there, subject="foo", sockets=1, frame_bytes=msg_bytes("foo", SIZE), total=total)
        given, taken = crew.run(giving, taking)
    return rate(Span(taken.count, given.start, taken.end))


def caught_up(rig: Rig, software: Software) -> float:
    """Messages a second that a node takes over which was away, from the start of its process."""
    with rig.trio(software) as trio:
        trio.create_stream()
        leader = trio.led()
        away = trio.others(leader)[0]
        away.stop()
        fill(leader.port, [SUBJECT], rig.missed, SIZE)
        started = away.spawn()
        away.wait_ready()
        trio.until("node that has caught up", trio.caught_up)
        return rig.missed / (time.monotonic() - started)


def create(node: Node, number: int) -> bool:
    with node.client() as client:
        create_pair(client.create_stream, client.create_consumer, number)
    return True


def create_pair(stream: Callable[..., None], consumer: Callable[..., None], number: int) -> None:
    name = f"S{number}"
    stream(name, f"s.{number}", replicas=len(NAMES))
    consumer(name, "D", durable_name="D", ack_policy="explicit")


def created(rig: Rig, software: Software) -> float:
    """Pairs of a stream and a durable consumer a second, each asked for when the one before is there."""
    with rig.trio(software) as trio, trio.nodes[0].client() as client:
        start = time.monotonic()
        for number in range(rig.pairs):
            create_pair(client.create_stream, client.create_consumer, number)
        return rig.pairs / (time.monotonic() - start)


def idle(rig: Rig, software: Software) -> list[float]:
    """Cores in use and MiB resident of all three nodes together, with many streams where nothing happens."""

    def measure() -> list[float]:
        with rig.trio(software) as trio:
            with ThreadPoolExecutor(HANDS) as pool:
                list(pool.map(lambda number: insist(trio, number), range(rig.idle_streams)))
            time.sleep(REST_SECONDS)
            before = sum(node.cpu_seconds() for node in trio.nodes)
            start = time.monotonic()
            time.sleep(rig.idle_seconds)
            worked = sum(node.cpu_seconds() for node in trio.nodes) - before
            resident = sum(node.resident_bytes() for node in trio.nodes)
            return [worked / (time.monotonic() - start), resident / 2**20]

    return rig.once("idle", software, measure)


def insist(trio: Trio, number: int) -> None:
    """Asks again where a busy node gave no answer in time; what is there already is made again as it is."""
    node = trio.nodes[number % len(trio.nodes)]
    trio.until(f"stream {number}", lambda: create(node, number))


def row(
    name: str,
    target: float,
    sample: Callable[[Rig, Software], float],
    unit: Unit = Unit.RATE,
    goal: Goal = Goal.RATIO_AT_LEAST,
    *,
    rival: Rival = Rival.NATS,
    slow: bool = False,
    once: bool = False,
) -> Row:
    return Row("cluster", name, unit, goal, target, sample, rival=rival, slow=slow, once=once)


def struck(
    name: str,
    target: float,
    figure: Callable[[list[float]], float],
    number: signal.Signals = signal.SIGKILL,
    *,
    streaming: bool = False,
) -> Row:
    """A row of how long nothing is acked when the leader goes."""

    def sample(rig: Rig, software: Software) -> float:
        return figure(outages(rig, software, number, streaming=streaming))

    rival = Rival.STREAMING if streaming else Rival.NATS
    return row(name, target, sample, Unit.SECONDS, Goal.VALUE_AT_MOST, rival=rival, once=True)


def middle(values: list[float]) -> float:
    return median(tuple(values))


KILLED = "leader killed to next ack"
ROWS = [
    row("R3 window, 128 B, defaults", 1.5, partial(window, size=SIZE)),
    row("R3 window, 1 KiB, defaults", 1.2, partial(window, size=1024)),
    row("R3 one at a time, 128 B, both relaxed", 1, partial(singly, sync=RELAXED)),
    row("R3 one at a time, 128 B, defaults", 0.5, partial(singly, sync=None)),
    row("core, one node to another, 128 B", 2, across),
    struck(f"{KILLED}, median", 0.5, middle),
    struck(f"{KILLED}, worst", 2, max),
    struck("leader stopped to next ack", 0.05, middle, signal.SIGTERM),
    struck(f"STAN: {KILLED}, median", 1, middle, streaming=True),
    struck(f"STAN: {KILLED}, worst", 3, max, streaming=True),
    row("a node back, until caught up", 2, caught_up, slow=True),
    row("R3 stream and durable, one after another", 10, created, Unit.PAIRS, slow=True),
    row(
        "500 idle R3 streams and consumers: CPU",
        0.1,
        lambda r, s: idle(r, s)[0],
        Unit.CORES,
        Goal.RATIO_AT_MOST,
        once=True,
    ),
    row(
        "500 idle R3 streams and consumers: RSS",
        0.5,
        lambda r, s: idle(r, s)[1],
        Unit.MIB,
        Goal.RATIO_AT_MOST,
        once=True,
    ),
]
