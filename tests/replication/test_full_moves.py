"""A disk that is full while a stream moves: a copy counts once it is stored, and the original stays until all copies do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.replication.test_disk_full import full_behind_definition
from tests.replication.test_rejoin import whole
from tests.replication.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.streams.stream import Stream
    from tests.replication.world import Server

#: Several answers with records, and one.
BIG, SMALL = 50_000, 20


def update(world: World, name: str, replicas: int, **config: Any) -> None:
    """Ask for another number of replicas; the answer comes once the stream has moved, which may take any time."""
    body = {"name": name, "subjects": [f"{name}.>"], "num_replicas": replicas, **config}
    world.ask(f"$JS.API.STREAM.UPDATE.{name}", body, seconds=3)


def has_moved(world: World, name: str) -> bool:
    """Whether a stream has three replicas, and isn't on its way."""
    leader = world.meta_leader()
    if leader is None:
        return False
    found = leader.replication.meta.state.streams[name]
    return not found.moving and len(found.names) == 3


def definition(server: Server, stream: Stream) -> dict[str, object]:
    """What a server's store says of a stream."""
    with server.jetstream.environment.read() as txn:
        found = server.jetstream.environment.get(txn, b"S" + stream.stream_id.to_bytes(8, "big"))
    assert found is not None
    fields: dict[str, object] = json.loads(found)
    return fields


@pytest.mark.parametrize("behind_first", [False, True])
@pytest.mark.parametrize("size", [SMALL, BIG])
@pytest.mark.parametrize("seed", range(2))
def test_copy_that_was_not_stored_is_taken_again(seed: int, size: int, behind_first: bool) -> None:
    """A server of the new place has no room for its copy, or for the rest of it: the move goes on once it has."""
    with World(seed) as world:
        world.until(world.formed)
        world.create("M", replicas=1)
        acked = {"M": world.store("M", 200, size)}
        source = world.leader("M")
        target = next(server for server in world.running if server is not source)
        if behind_first:
            full_behind_definition(target, "M")
        else:
            target.disk.full = True
        update(world, "M", 3)
        world.run(8)  # the next look asks for the copies again
        assert target.disk.full or size == SMALL
        target.disk.written = lambda works: None
        target.disk.full = False
        world.until(lambda: has_moved(world, "M"), what="the move")
        whole(world, acked)
        assert not target.replication.transfer.fetched  # nothing had to be healed
        target.kill()
        target.start()
        acked["M"] += world.store("M", 5)
        whole(world, acked)


def full_at_settling(server: Server) -> None:
    """The disk has no room when a stream becomes this server's alone."""
    holding = server.replication.holding
    settle = holding.settle

    def settled(stream: Stream, done: Callable[[], None]) -> None:
        holding.settle = settle  # type: ignore[method-assign]
        server.disk.full = True
        settle(stream, done)

    holding.settle = settled  # type: ignore[method-assign]


def test_the_last_step_of_a_move_is_stored_later() -> None:
    """A stream that is one server's alone from now on isn't served before that is stored."""
    with World(1) as world:
        world.until(world.formed)
        world.create("M")
        acked = {"M": world.store("M", 20)}
        for server in world.running:
            full_at_settling(server)
        update(world, "M", 1)
        (server,) = [server for server in world.running if server.disk.full]
        stream = server.stream("M")
        assert stream is not None
        world.run(1)
        assert not stream.leads
        server.disk.full = False
        world.until(lambda: world.leader("M") is server, what="the stream to be served")
        assert not {"group", "frozen"} & definition(server, stream).keys()
        acked["M"] += world.store("M", 5)
        server.kill()
        server.start()
        world.until(lambda: world.leader("M") is server, what="the stream to be served again")
        assert world.payloads(server, "M") == acked["M"]
