"""Rows of stored messages: publishes with acks, consume after a restart, direct get."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import limit
from benchmarks.frames import stored_chunks, subjects
from benchmarks.rig import Rig, alone
from benchmarks.row import Goal, Row, Unit
from benchmarks.server import Server, Software
from benchmarks.store_roles import (
    PER_CHUNK,
    consume_pull,
    consume_pull_explicit,
    consume_push,
    get_direct,
    publish_singly,
    publish_window,
)
from benchmarks.wire import Client

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIZE = 128
#: Relaxed by name: what nats-server does by default, asked of both.
RELAXED = "2m"
ALWAYS = "always"


def fill(port: int, names: list[str], count: int, size: int) -> None:
    alone(partial(publish_window, port=port, chunks=stored_chunks(names, size, PER_CHUNK), count=count))


def window(
    rig: Rig,
    software: Software,
    size: int,
    subjects_count: int = 1,
    streams: int = 1,
    sync: str | None = None,
) -> float:
    """Acked messages a second with a window of publishes outstanding."""
    names = subjects("s", max(subjects_count, streams)) if subjects_count * streams > 1 else ["s.one"]
    chunks = stored_chunks(names, size, PER_CHUNK)
    with rig.server(software, jetstream=True, sync=sync) as server:
        with Client(server.port) as client:
            if streams == 1:
                client.create_stream("S", "s.>")
            else:
                for number, name in enumerate(names):
                    client.create_stream(f"S{number}", name)
        return alone(partial(publish_window, port=server.port, chunks=chunks, seconds=rig.seconds))


def singly(rig: Rig, software: Software, sync: str) -> float:
    with rig.server(software, jetstream=True, sync=sync) as server:
        with Client(server.port) as client:
            client.create_stream("S", "s.>")
        return alone(partial(publish_singly, port=server.port, subject="s.one", size=SIZE, seconds=rig.seconds))


def filled(rig: Rig, software: Software) -> Path:
    """A directory with a stopped server's stream of the messages to consume."""

    def fill_it(path: Path) -> None:
        with Server(software, path, jetstream=True) as server:
            with Client(server.port) as client:
                client.create_stream("S", "s.>")
            fill(server.port, ["s.one"], rig.consumed, SIZE)

    return rig.prepare("consume", software, fill_it)


def consumed(rig: Rig, software: Software, role: Callable[..., Any]) -> float:
    """Messages a second that a consumer gets from a server that has just been started again."""
    path = filled(rig, software)
    rig.serial += 1
    with Server(software, path, jetstream=True) as server:
        return alone(partial(role, port=server.port, stream="S", consumer=f"c{rig.serial}", count=rig.consumed))


def direct(rig: Rig, software: Software, ahead: int) -> float:
    with Server(software, filled(rig, software), jetstream=True) as server:
        return alone(
            partial(
                get_direct,
                port=server.port,
                stream="S",
                stored=rig.consumed,
                ahead=ahead,
                seconds=rig.seconds,
            )
        )


def row(group: str, name: str, target: float, sample: Callable[[Rig, Software], float], **more: Any) -> Row:
    return Row(group, name, Unit.RATE, Goal.RATIO_AT_LEAST, target, sample, **more)


#: Half a window: what one group commit can hold when the publisher fills the other half.
BATCH = 4_000
THOUSAND = 1000
HUNDRED = 100
ROWS = [
    row(
        "stored",
        "window, 128 B, defaults",
        2.5,
        partial(window, size=SIZE),
        limit=partial(limit.disk, record_bytes=SIZE, batch=BATCH),
    ),
    row(
        "stored",
        "window, 1 KiB, defaults",
        2,
        partial(window, size=1024),
        limit=partial(limit.disk, record_bytes=1024, batch=BATCH),
    ),
    row(
        "stored",
        "window, 1,000 subjects, 128 B, defaults",
        2,
        partial(window, size=SIZE, subjects_count=THOUSAND),
    ),
    row("stored", "window, 100 streams, 128 B, defaults", 1.5, partial(window, size=SIZE, streams=HUNDRED)),
    row(
        "stored",
        "window, 128 B, both always",
        50,
        partial(window, size=SIZE, sync=ALWAYS),
        limit=partial(limit.disk, record_bytes=SIZE, batch=BATCH),
    ),
    row("stored", "one at a time, 128 B, both relaxed", 0.8, partial(singly, sync=RELAXED)),
    row(
        "stored",
        "one at a time, 128 B, both always",
        1,
        partial(singly, sync=ALWAYS),
        limit=partial(limit.disk, record_bytes=SIZE, batch=1),
    ),
    row("consume", "push, ack none, cold", 1.2, partial(consumed, role=consume_push)),
    row("consume", "pull, ack none, cold", 1.2, partial(consumed, role=consume_pull)),
    row("consume", "pull, explicit acks, cold", 1.2, partial(consumed, role=consume_pull_explicit)),
    row("consume", "direct get, 100 ahead", 1, partial(direct, ahead=100)),
    row("consume", "direct get, one at a time", 1, partial(direct, ahead=1)),
]
