"""Rows of core messages: publish, fan-out, many subjects, request/reply, idle connections."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import crew, limit
from benchmarks.crew import FORK
from benchmarks.frames import flood_chunk, msg_bytes, sub, subjects
from benchmarks.rig import Rig, alone, rate
from benchmarks.roles import Span, ask, flood, respond, sink
from benchmarks.row import Goal, Row, Unit
from benchmarks.wire import connect

if TYPE_CHECKING:
    from benchmarks.server import Software

ONE = ["foo"]
THOUSAND = subjects("foo", 1000)


def publish_only(rig: Rig, software: Software, size: int) -> float:
    chunk, per_chunk = flood_chunk(ONE, size)
    total = FORK.Value("q", 0, lock=False)
    with rig.server(software, jetstream=False) as server:
        return alone(
            partial(flood, port=server.port, chunk=chunk, per_chunk=per_chunk, seconds=rig.seconds, total=total)
        )


def delivered(rig: Rig, software: Software, size: int, names: list[str], interest: str, subscribers: int) -> float:
    """Delivered messages a second, from the first publish to the last delivery."""
    chunk, per_chunk = flood_chunk(names, size)
    total = FORK.Value("q", 0, lock=False)
    frame_bytes = msg_bytes(names[0], size)
    with rig.server(software, jetstream=False) as server:
        given, taken = crew.run(
            partial(flood, port=server.port, chunk=chunk, per_chunk=per_chunk, seconds=rig.seconds, total=total),
            partial(
                sink,
                port=server.port,
                subject=interest,
                sockets=subscribers,
                frame_bytes=frame_bytes,
                total=total,
            ),
        )
    return rate(Span(taken.count, given.start, taken.end))


def asked(rig: Rig, software: Software, clients: int) -> tuple[Span, list[int]]:
    with rig.server(software, jetstream=False) as server:
        ((span, latencies),) = crew.run(
            partial(ask, port=server.port, clients=clients, seconds=rig.seconds),
            helpers=[partial(respond, port=server.port)],
        )
    return span, latencies


def requests(rig: Rig, software: Software, clients: int) -> float:
    return rate(asked(rig, software, clients)[0])


def request_p99(rig: Rig, software: Software, clients: int) -> float:
    latencies = sorted(asked(rig, software, clients)[1])
    return latencies[len(latencies) * 99 // 100] / 1000


def idle_memory(rig: Rig, software: Software) -> float:
    """KiB of resident memory for each connection with one subscription, beyond the first hundred."""
    with rig.server(software, jetstream=False) as server:
        socks = [connect(server.port, sub(f"idle.{n}")) for n in range(100)]
        time.sleep(1)
        before = server.resident_bytes()
        socks += [connect(server.port, sub(f"idle.{100 + n}")) for n in range(rig.idle_connections)]
        time.sleep(1)
        after = server.resident_bytes()
        for sock in socks:
            sock.close()
    return (after - before) / 1024 / rig.idle_connections


def pair(size: int, target: float) -> Row:
    label = f"{size} B" if size < 1024 else f"{size // 1024} KiB"
    return Row(
        "core",
        f"1 to 1, {label}",
        Unit.RATE,
        Goal.RATIO_AT_LEAST,
        target,
        partial(delivered, size=size, names=ONE, interest="foo", subscribers=1),
        partial(limit.flooded, size=size, names=ONE, sinks=1),
    )


ROWS = [
    Row(
        "core",
        "publish only, 128 B",
        Unit.RATE,
        Goal.RATIO_AT_LEAST,
        2,
        partial(publish_only, size=128),
        partial(limit.flooded, size=128, names=ONE, sinks=0),
    ),
    pair(16, 4),
    pair(128, 3),
    pair(1024, 1.5),
    pair(16384, 1.1),
    Row(
        "core",
        "1 to 4, 128 B",
        Unit.RATE,
        Goal.RATIO_AT_LEAST,
        2.5,
        partial(delivered, size=128, names=ONE, interest="foo", subscribers=4),
        partial(limit.flooded, size=128, names=ONE, sinks=4),
    ),
    Row(
        "core",
        "1 to 1, 1,000 subjects, 128 B",
        Unit.RATE,
        Goal.RATIO_AT_LEAST,
        2.5,
        partial(delivered, size=128, names=THOUSAND, interest="foo.>", subscribers=1),
        partial(limit.flooded, size=128, names=THOUSAND, sinks=1),
    ),
    Row(
        "request",
        "request/reply, 1 client",
        Unit.RATE,
        Goal.RATIO_AT_LEAST,
        1,
        partial(requests, clients=1),
        limit.echo,
    ),
    Row(
        "request",
        "request/reply, 10 clients",
        Unit.RATE,
        Goal.RATIO_AT_LEAST,
        1,
        partial(requests, clients=10),
    ),
    Row(
        "request",
        "request/reply, 100 clients",
        Unit.RATE,
        Goal.RATIO_AT_LEAST,
        1,
        partial(requests, clients=100),
    ),
    Row(
        "request",
        "request/reply, 100 clients, p99",
        Unit.MICROSECONDS,
        Goal.RATIO_AT_MOST,
        1,
        partial(request_p99, clients=100),
    ),
    Row("idle", "memory per idle connection", Unit.KIB, Goal.RATIO_AT_MOST, 0.25, idle_memory),
]
