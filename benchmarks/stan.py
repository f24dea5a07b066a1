"""Rows of NATS Streaming beside nats-streaming-server with its file store: publishes with acks, a
subscription that acks, many channels with a durable each."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import limit
from benchmarks.rig import Rig, alone
from benchmarks.row import Goal, Rival, Row, Unit
from benchmarks.server import Server, Software, Streaming
from benchmarks.stan_many import memory, restart
from benchmarks.stan_roles import WINDOW, publish_singly, publish_window, subscribe_all
from benchmarks.stan_wire import first_connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHANNEL = "bench"
SIZE = 128


@contextmanager
def started(rig: Rig, software: Software, streaming: Streaming) -> Iterator[Server]:
    """A server that clients can connect to: it is up before its streaming part is."""
    with rig.server(software, streaming=streaming) as server:
        with first_connect(server, "bench-first") as stan:
            stan.leave()
        yield server


def window(rig: Rig, software: Software, size: int) -> float:
    """Acked messages a second with a window of publishes outstanding."""
    with started(rig, software, Streaming.SYNCED) as server:
        return alone(partial(publish_window, port=server.port, channel=CHANNEL, size=size, seconds=rig.seconds))


def singly(rig: Rig, software: Software, streaming: Streaming) -> float:
    with started(rig, software, streaming) as server:
        return alone(partial(publish_singly, port=server.port, channel=CHANNEL, size=SIZE, seconds=rig.seconds))


def subscribed(rig: Rig, software: Software) -> float:
    """Messages a second of a subscription to a channel that the same process has just stored."""
    with started(rig, software, Streaming.SYNCED) as server:
        alone(partial(publish_window, port=server.port, channel=CHANNEL, size=SIZE, count=rig.consumed))
        return alone(partial(subscribe_all, port=server.port, channel=CHANNEL, size=SIZE, count=rig.consumed))


def row(
    name: str,
    target: float,
    sample: Callable[[Rig, Software], float],
    unit: Unit = Unit.RATE,
    goal: Goal = Goal.RATIO_AT_LEAST,
    **more: Any,
) -> Row:
    return Row("streaming", name, unit, goal, target, sample, rival=Rival.STREAMING, **more)


#: What one group commit can hold when the publisher fills the other half of the window.
BATCH = WINDOW // 2
ROWS = [
    row(
        "window of 2,000, 128 B, both synced",
        2.5,
        partial(window, size=SIZE),
        limit=partial(limit.disk, record_bytes=SIZE, batch=BATCH),
    ),
    row(
        "window of 2,000, 1 KiB, both synced",
        1.5,
        partial(window, size=1024),
        limit=partial(limit.disk, record_bytes=1024, batch=BATCH),
    ),
    row(
        "one at a time, 128 B, both synced",
        1,
        partial(singly, streaming=Streaming.SYNCED),
        limit=partial(limit.disk, record_bytes=SIZE, batch=1),
    ),
    row("one at a time, 128 B, both relaxed", 1, partial(singly, streaming=Streaming.RELAXED)),
    row("subscribe from the first, every ack", 1.5, subscribed),
    row("1,000 durables: memory", 1, memory, Unit.MIB, Goal.RATIO_AT_MOST, slow=True),
    row("1,000 durables: restart", 2, restart, Unit.SECONDS, Goal.VALUE_AT_MOST, slow=True),
]
