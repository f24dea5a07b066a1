"""A clean stop stores what the groups have agreed on, and nothing that they may never do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.replication.test_damage import settled
from tests.replication.test_rejoin import filled, whole
from tests.replication.world import World

if TYPE_CHECKING:
    from tests.replication.world import Server


def alone(world: World) -> Server:
    """The leader of S, whose last follower has just gone."""
    leader = world.leader("S")
    assert leader is not None
    for server in world.running:
        if server is not leader:
            server.kill()
    return leader


def make(world: World, leader: Server, name: str, **config: Any) -> Any:
    """A durable consumer of S; the answer, None if there is none."""
    body = {"stream_name": "S", "config": {"durable_name": name, "ack_policy": "explicit", **config}}
    return world.ask(f"$JS.API.CONSUMER.DURABLE.CREATE.S.{name}", body, at=leader, seconds=0.2)


def started(world: World) -> None:
    for server in world.servers.values():
        server.revive()
    world.until(lambda: world.formed() and world.leader("S"), what="a leader")


@pytest.mark.parametrize("seed", range(3))
def test_a_consumer_that_was_never_agreed_on(seed: int) -> None:
    """Its state isn't stored either: that would be damage."""
    with World(seed) as world:
        acked = filled(world)
        leader = alone(world)
        assert make(world, leader, "c") is None
        stream = leader.stream("S")
        assert stream is not None
        assert "c" in stream.consumers
        settled(leader)
        leader.start()
        assert [each.offline for each in leader.jetstream.streams.values()] == [None] * 3
        started(world)
        whole(world, acked)


@pytest.mark.parametrize("seed", range(3))
def test_a_deletion_that_was_never_agreed_on(seed: int) -> None:
    """The consumer is there with its own state, not that of a later one in its place."""
    with World(seed) as world:
        acked = filled(world)
        leader = world.leader("S")
        assert leader is not None
        assert make(world, leader, "old")["stream_name"] == "S"
        leader = alone(world)
        assert world.ask("$JS.API.CONSUMER.DELETE.S.old", at=leader, seconds=0.2) is None
        assert make(world, leader, "later", deliver_policy="new") is None
        stream = leader.stream("S")
        assert stream is not None
        assert [*stream.consumers] == ["later"]
        settled(leader)
        started(world)
        leader = world.leader("S")
        assert leader is not None
        stream = leader.stream("S")
        assert stream is not None
        assert {name: each.state.num_pending for name, each in stream.consumers.items()} in ({"old": 20}, {"later": 0})
        whole(world, acked)
