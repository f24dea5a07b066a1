"""Streams that move: they stand still for a moment only, nothing that was confirmed is lost on the way, and a move can end."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from streamd._engine import ConsumerState
from streamd.streams import retention
from tests.replication.test_answering import answered, consumer, everywhere
from tests.replication.test_full_moves import has_moved, update
from tests.replication.test_rejoin import whole
from tests.replication.world import INBOX, World

if TYPE_CHECKING:
    from streamd.streams.stream import Stream
    from tests.replication.world import Server


def alone(world: World, name: str) -> tuple[Server, Stream]:
    """A stream without other replicas, and its server."""
    world.until(world.formed)
    world.create(name, replicas=1)
    server = world.leader(name)
    assert server is not None
    stream = server.stream(name)
    assert stream is not None
    return server, stream


def forget(leader: Server, gone: Server) -> None:
    """A server is taken out of the cluster."""
    meta = leader.replication.meta
    meta.serially(lambda: meta.propose({"do": "forget", "name": gone.name}, lambda _change: None))


@pytest.mark.parametrize("size", [20, 50_000])
def test_publishes_go_on_until_the_new_servers_can_take_it(size: int) -> None:
    """One of them has no room, or is down: the stream stays where it is."""
    with World(1) as world:
        source, stream = alone(world, "M")
        acked = world.store("M", 200, size)
        target = next(server for server in world.running if server is not source)
        target.disk.full = True
        update(world, "M", 3)
        assert not stream.frozen
        acked += world.store("M", 5)
        target.kill()
        world.run(6)
        acked += world.store("M", 5)
        assert not stream.frozen
        target.start()
        target.disk.full = False
        world.until(lambda: has_moved(world, "M"), what="the move")
        whole(world, {"M": acked})


def test_most_is_copied_before_it_stands_still() -> None:
    with World(2) as world:
        _source, stream = alone(world, "M")
        acked = world.store("M", 300, 50_000)
        standing: list[int] = []
        everywhere(world, "STREAM.UPDATE.M", {"name": "M", "subjects": ["M.>"], "num_replicas": 3}, "update")
        while not has_moved(world, "M"):
            world.run(0.001)
            if stream.frozen and not standing:
                standing = [held.state.messages for each in world.running if (held := each.stream("M")) is not None]
        assert len(standing) == 3
        assert min(standing) > 200
        acked += world.store("M", 5)
        whole(world, {"M": acked})


def test_a_server_that_is_removed_ends_the_move() -> None:
    """It was to have a copy and died for good, when the stream stood still already: that goes on where it was."""
    with World(3, "abcd") as world:
        source, stream = alone(world, "M")
        acked = world.store("M", 100, 50_000)
        everywhere(world, "STREAM.UPDATE.M", {"name": "M", "subjects": ["M.>"], "num_replicas": 3}, "update")
        world.until(lambda: stream.frozen)
        leader = world.meta_leader()
        assert leader is not None
        moving = leader.replication.meta.state.streams["M"].moving_names
        target = next(server for server in world.running if server.name in moving and server not in (source, leader))
        target.kill()
        world.run(10)
        assert stream.frozen
        leader = world.meta_leader()
        assert leader is not None
        forget(leader, target)
        world.until(lambda: world.leader("M") is source, what="the stream to be served")
        acked += world.store("M", 5)
        assert world.payloads(source, "M") == acked
        world.until(lambda: [each for each in world.running if each.stream("M") is not None] == [source])


def test_what_was_confirmed_when_it_stood_still_is_stored() -> None:
    with World(4) as world:
        server, stream = alone(world, "M")
        for number in range(3):
            world.publish("M", b"%d" % number)
        world.ask("$JS.API.CONSUMER.CREATE.M.worker", consumer("M", "worker"))
        world.ask("$JS.API.CONSUMER.MSG.NEXT.M.worker", b"1", at=server)
        world.run(1)
        done: list[Any] = []
        server.core.bus.bind(["confirmed"], done.append)
        server.core.bus.publish("$JS.ACK.M.worker.1.1.1.1.0", b"", reply="confirmed")
        server.core.flush_soon()
        server.replication.holding.freeze(stream, 1, lambda _stream, _error: None)
        world.until(lambda: done)
        server.kill()
        server.start()
        again = server.stream("M")
        assert again is not None
        ((_definition, state),) = again.rows.values() or [(b"", None)]
        assert state is not None
        worker = ConsumerState("M", "worker", ack_policy="explicit")
        worker.decode(state)
        assert worker.ack_floor_stream_seq == 1


def test_a_purge_of_many_commits_is_through_before_it_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "REMOVE_RECORDS_MAX", 10)
    monkeypatch.setattr(retention, "SCAN_RECORDS", 10)
    with World(5) as world:
        server, stream = alone(world, "M")
        for number in range(200):
            world.publish("M", b"%d" % number)
        server.request("$JS.API.STREAM.PURGE.M", {"filter": "M.x", "keep": 3}, f"{INBOX}.purge")
        server.core.turn(server.core.engine.flush())
        done: list[int] = []
        server.replication.holding.freeze(stream, 1, lambda *_result: done.append(stream.state.messages))
        for _ in itertools.takewhile(lambda _: not done, range(10_000)):
            world.run(0.001)
        assert done == [3]
        assert answered(world)["purge"][0]["purged"] == 197


@pytest.mark.parametrize("storage", ["file", "memory"])
@pytest.mark.parametrize("standing", [False, True])
def test_a_move_that_ends_leaves_the_stream_as_it_was(storage: str, standing: bool) -> None:
    """Whether it stood still already or not: it says what it has, and its consumers are there once."""
    with World(6, "abcd") as world:
        world.until(world.formed)
        world.create("M", replicas=1, storage=storage)
        source = world.leader("M")
        assert source is not None
        stream = source.stream("M")
        assert stream is not None
        acked = world.store("M", 200, 50_000)
        world.ask("$JS.API.CONSUMER.CREATE.M.worker", consumer("M", "worker"))
        bindings = len(stream.consumers["worker"].bindings)
        leader = world.meta_leader()
        assert leader is not None
        targets = [server for server in world.running if server not in (source, leader)]
        body = {"name": "M", "subjects": ["M.>"], "num_replicas": 4, "storage": storage}
        everywhere(world, "STREAM.UPDATE.M", body, "update")
        state = leader.replication.meta.state
        world.until(lambda: stream.frozen if standing else state.streams["M"].moving)
        targets[0].kill()
        world.run(6)
        assert stream.frozen == standing
        assert state.streams["M"].moving
        leader = world.meta_leader()
        assert leader is not None
        forget(leader, targets[0])
        world.until(lambda: not leader.replication.meta.state.streams["M"].moving)
        world.until(lambda: world.leader("M") is source and stream.serves, what="the stream to be served")
        world.run(1)
        assert len(stream.consumers["worker"].bindings) == bindings
        assert world.ask("$JS.API.STREAM.INFO.M")["config"]["num_replicas"] == 1
        assert world.payloads(source, "M") == acked


@pytest.mark.parametrize("replicas", [1, 3])
def test_a_pull_that_comes_while_a_stream_stands_still(replicas: int) -> None:
    """It is served or told of the change, one of the two, and once."""
    with World(7, "abcd") as world:
        world.until(world.formed)
        world.create("M", replicas=replicas)
        world.ask("$JS.API.CONSUMER.CREATE.M.worker", consumer("M", "worker"))
        body = {"name": "M", "subjects": ["M.>"], "num_replicas": 4 - replicas}
        leader = world.leader("M")
        assert leader is not None
        stream = leader.stream("M")
        assert stream is not None
        everywhere(world, "STREAM.UPDATE.M", body, "update")
        world.until(lambda: stream.frozen)
        everywhere(world, "CONSUMER.MSG.NEXT.M.worker", b'{"batch": 1, "expires": 60000000000}', "pull")
        world.until(lambda: world.leader("M"))
        world.run(2)
        told = answered(world)["pull"]
        leader = world.leader("M")
        assert leader is not None
        leader.request("M.x", {"number": 1}, f"{INBOX}.stored")
        world.run(2)
        served = answered(world)["x"]
        assert len(told) + len(served) == 1


def test_an_update_that_failed_holds_up_no_move() -> None:
    with World(8) as world:
        source, stream = alone(world, "M")
        source.disk.full = True
        world.ask("$JS.API.STREAM.UPDATE.M", {"name": "M", "subjects": ["M.>"], "max_msgs": 5}, seconds=1)
        source.disk.full = False
        world.run(3)
        assert not stream.retention.under_way
        acked = world.store("M", 3)
        update(world, "M", 3)
        world.until(lambda: has_moved(world, "M"), what="the move")
        whole(world, {"M": acked})
