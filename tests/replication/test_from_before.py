"""A stream that a server had before it joined, and one of its name that the cluster gives it before it could bring its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streamd.streams.jetstream import JetStream
from tests.replication.world import World

if TYPE_CHECKING:
    from streamd.api.errors import ApiError
    from streamd.api.stream import StreamConfig
    from streamd.streams.stream import Stream


def config(name: str, subject: str, replicas: int = 1) -> StreamConfig:
    """One without limits."""
    limits = dict.fromkeys(("max_msgs", "max_bytes", "max_consumers", "max_msg_size", "max_msgs_per_subject"), -1)
    fields = {"name": name, "subjects": [subject], "num_replicas": replicas, **limits}
    return JetStream.config_of(fields | {"retention": "limits", "storage": "file", "discard": "old"})


def had_before(world: World, jetstream: JetStream, name: str) -> Stream:
    """Make a stream as a server alone does."""
    made: list[Stream] = []

    def done(stream: Stream, error: ApiError | None) -> None:
        assert error is None
        made.append(stream)

    jetstream.create_stream(config(name, f"before.{name}"), done)
    world.until(lambda: made, what="the stream")
    return made[0]


@pytest.mark.parametrize("replicas", [1, 3])
def test_nothing_from_before_is_deleted(replicas: int) -> None:
    """It is laid aside, and so is nothing else."""
    with World(1) as world:
        world.until(world.formed)
        server, leader = world.servers["a"], world.meta_leader()
        assert leader is not None
        server.replication.bringing.look = lambda: None  # type: ignore[method-assign]
        mine, other = [had_before(world, server.jetstream, name) for name in ("X", "Y")]
        assert world.ask("before.X", b"mine", at=server)["seq"] == 1
        replication, names = leader.replication, ("a", "b", "c")[:replicas]
        replication.meta.serially(
            lambda: replication.assign(config("X", "X.>", replicas), names, "", lambda _error: None)
        )
        world.until(lambda: (found := server.stream("X")) is not None and found.uid, what="the cluster's stream")
        assert server.jetstream.aside["X"] is mine
        assert not mine.closed
        assert len(mine.log.read(1, 10, 1 << 20)) == 1
        assert server.stream("Y") is other
        assert not other.closed
        world.until(lambda: world.leader("X"), what="a leader")
        acked = world.store("X", 3)
        world.until(lambda: world.equal("X"), what="equal replicas")
        assert world.payloads(server, "X") == acked
