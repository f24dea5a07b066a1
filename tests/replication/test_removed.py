"""Streams that the cluster has removed leave every server's store, also one that has no room when it hears of that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from streamd.errors import NameTaken
from streamd.store import recover
from tests.replication.test_rejoin import filled, victim, whole
from tests.replication.world import World

if TYPE_CHECKING:
    from streamd.streams.stream import Stream
    from tests.replication.world import Server


def stored(server: Server, name: str) -> list[int]:
    """The uids of the streams of a name that a server's store holds."""
    definitions = [json.loads(found.definition) for found in recover(server.jetstream.environment)]
    return [definition["uid"] for definition in definitions if definition["name"] == name]


def delete(world: World, name: str) -> None:
    answer = world.ask(f"$JS.API.STREAM.DELETE.{name}")
    assert answer is not None
    assert answer["success"] is True


def full_at_removal(server: Server) -> None:
    """The disk has no room when a stream is to be removed."""
    assigned = server.replication.assigned
    remove = assigned.remove

    def removed(stream: Stream) -> None:
        server.disk.full = True
        remove(stream)

    assigned.remove = removed  # type: ignore[method-assign]


@pytest.mark.parametrize("name", ["S", "ALONE"])
@pytest.mark.parametrize("seed", range(2))
def test_removed_while_the_disk_is_full(seed: int, name: str) -> None:
    """Nothing is left once there is room, be it a group's stream or that server's alone."""
    with World(seed) as world:
        filled(world)
        world.create("ALONE", replicas=1)
        server = world.leader("ALONE")
        assert server is not None
        full_at_removal(server)
        delete(world, name)
        world.until(lambda: server.disk.full, what="the stream to go")
        world.run(2)
        assert stored(server, name)
        server.disk.full = False
        world.until(lambda: not stored(server, name), what="it to be dropped")


@pytest.mark.parametrize("seed", range(2))
def test_of_two_of_one_name_the_later_is_served(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ended before it could drop the first one drops it at its next start."""
    with World(seed) as world:
        acked = filled(world)
        server = victim(world, "neither")
        with monkeypatch.context() as patched:
            patched.setattr("streamd.streams.replication.holding.drop", lambda _services, _owner, _done: None)
            delete(world, "S")
            world.until(lambda: not any(each.stream("S") for each in world.running), what="the stream to go")
            world.create("S")
            acked["S"] = world.store("S", 7)
            world.until(lambda: world.equal("S"), what="equal replicas")
            before, now = sorted(stored(server, "S"))
            server.kill()
        server.start()
        found = server.stream("S")
        assert found is not None
        assert found.uid == now
        world.until(lambda: stored(server, "S") == [now], what="the first one to be dropped")
        assert before < now
        acked["S"] += world.store("S", 3)
        whole(world, acked)


def test_neither_a_channel_nor_a_stream_goes_for_the_other() -> None:
    """Two servers may make them at once; an older stream goes for a later one, and not the other way round."""
    with World(1) as world:
        acked = filled(world)
        server = world.running[0]
        stream = server.stream("S")
        assert stream is not None
        holding = server.replication.holding
        definition = {"name": "S", "config": stream.config.wire(), "created": 0, "group": "STAN", "uid": 1 << 62}
        told: list[object] = []
        holding.open(1 << 62, {**definition, "channel": "s"}, lambda _owner, error: told.append(error))
        assert isinstance(told[0], NameTaken)
        assert holding.outlived(stream.uid - 1, "S")
        assert not holding.outlived(stream.uid + 1, "S")
        world.run(1)
        assert server.stream("S") is stream
        whole(world, acked)


@pytest.mark.parametrize("known", [False, True])
def test_moved_away_while_the_server_was_off(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has goes also if it doesn't hear of the move by itself: that came with a whole meta state, or the server ended
    behind that and before it could drop anything."""
    with World(1, "abcd", tail_bytes=1000) as world:
        world.until(world.formed)
        world.create("M")
        acked = world.store("M", 20)
        leader = world.until(lambda: world.leader("M"))
        server = next(each for each in world.running if each not in (leader, world.meta_leader()) and each.stream("M"))
        if known:
            monkeypatch.setattr("streamd.streams.replication.assigned.Assigned.remove", lambda _self, _stream: None)
        else:
            gone = server.replication.net.node
            server.kill()
            world.until(lambda: not any(gone in other.replication.net.linked() for other in world.running))
        assert world.ask("$JS.API.STREAM.PEER.REMOVE.M", {"peer": server.name}, seconds=20)["success"] is True
        others = [each for each in world.running if each is not server]
        world.until(lambda: all(server.name not in each.replication.meta.state.streams["M"].names for each in others))
        for number in range(10):
            world.create(f"N{number}", replicas=1)
        for each in world.running:
            each.replication.meta.store(lambda _error: None)  # their logs begin behind the move
        world.run(1)
        if known:
            server.kill()
            monkeypatch.undo()
        server.start()
        assert stored(server, "M")
        world.until(lambda: not stored(server, "M"), what="it to be dropped")
        acked += world.store("M", 5)
        world.until(lambda: world.equal("M"), what="equal replicas")
        assert world.payloads(world.until(lambda: world.leader("M")), "M") == acked
