"""A disk that is full, at a follower, at the leader, at a quorum: what was acked stays, and it goes on by itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from streamd.streams.replication import ops
from tests.replication.test_rejoin import NAMES, filled, victim, whole
from tests.replication.world import World

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamd.store import Work
    from tests.replication.world import Server


@pytest.mark.parametrize("role", ["group leader", "meta leader", "neither"])
@pytest.mark.parametrize("seed", range(3))
def test_one_full_disk_stops_nothing(seed: int, role: str) -> None:
    """Whoever has the full disk doesn't lead; when it has room again it catches up."""
    with World(seed) as world:
        acked = filled(world)
        server = victim(world, role)
        server.disk.full = True
        for name in NAMES:
            acked[name] += world.store(name, 10)
        world.run(5)
        assert not server.meta
        assert not any(stream.leads for stream in server.jetstream.streams.values())
        for name in NAMES:
            acked[name] += world.store(name, 10)
        server.disk.full = False
        whole(world, acked)


@pytest.mark.parametrize("seed", range(3))
def test_killed_with_a_full_disk(seed: int) -> None:
    """What it had is there, and nothing of what it refused."""
    with World(seed) as world:
        acked = filled(world)
        server = victim(world, "group leader")
        server.disk.full = True
        acked["S"] += world.store("S", 10)
        server.kill()
        server.start()
        acked["S"] += world.store("S", 10)
        server.disk.full = False
        whole(world, acked)


@pytest.mark.parametrize("seed", range(3))
def test_full_disks_of_a_quorum_refuse(seed: int) -> None:
    """Publishes are answered with an error or not at all, and are acked again once there is room."""
    with World(seed) as world:
        acked = filled(world)
        leader = victim(world, "group leader")
        others = [server for server in world.running if server is not leader]
        for server in others:
            server.disk.full = True
        for number in range(5):
            answer = world.ask("S.x", b"full %d" % number, at=leader, seconds=4)
            assert answer is None or "error" in answer
        for server in others:
            server.disk.full = False
        acked["S"] += world.store("S", 5)
        whole(world, acked)


@pytest.mark.parametrize("seed", range(3))
def test_full_while_a_state_is_fetched(seed: int) -> None:
    """A replica that heals, and has no room for that now."""
    with World(seed) as world:
        acked = filled(world)
        server = victim(world, "neither")
        acked["S"] += world.store("S", 100, 50_000)
        stream = server.stream("S")
        assert stream is not None
        stream.go_offline("somebody says so")
        for _ in range(6):
            server.disk.full = not server.disk.full
            world.run(world.rng.uniform(0.05, 0.5))
        server.disk.full = True
        world.run(3)
        healing = server.stream("S")
        assert healing is not None
        server.disk.full = False
        acked["S"] += world.store("S", 5)
        whole(world, acked)


@pytest.mark.parametrize("seed", range(3))
def test_full_while_the_meta_state_is_fetched(seed: int) -> None:
    """It is taken once it can be stored, also if nothing else happens in the cluster meanwhile."""
    with World(seed, tail_bytes=1000) as world:
        acked = filled(world)
        server = victim(world, "neither")
        gone = server.replication.net.node
        server.kill()
        world.until(lambda: not any(gone in other.replication.net.linked() for other in world.running))
        for number in range(10):
            world.create(f"N{number}", replicas=1)
        for other in world.running:
            other.replication.meta.store(lambda _error: None)  # their logs begin behind what that server has
        world.run(1)
        server.disk.full = True
        server.start()
        world.run(3)
        meta = server.replication.meta
        assert meta.group.replica.behind
        server.disk.full = False
        world.until(lambda: "N9" in meta.state.streams and not meta.group.replica.behind, what="the state")
        whole(world, acked)


def full_behind_definition(server: Server, name: str) -> None:
    """The disk has room for a stream's definition, and for nothing more."""

    def written(works: Iterable[Work]) -> None:
        definitions = [part.definition for work in works for part in work.logs.values() if part.definition is not None]
        if name in [json.loads(definition)["name"] for definition in definitions]:
            server.disk.full = True
            server.disk.written = lambda works: None

    server.disk.written = written


def full_at_operation(server: Server, group: str) -> None:
    """A group's entries are held back until an operation comes that stands alone; then all come at once, and the disk has room
    for what the first of them do no more."""
    replica = server.replication.replicas[group]
    committed, held = replica.committed, list[tuple[int, int, bytes]]()

    def hold_back(index: int, term: int, command: bytes) -> None:
        held.append((index, term, command))
        if ops.decode(command)[1][0].kind in ops.ALONE:
            replica.committed = committed  # type: ignore[method-assign]
            for entry in held:
                committed(*entry)
            server.disk.full = True

    replica.committed = hold_back  # type: ignore[method-assign]


@pytest.mark.parametrize("seed", range(3))
def test_full_before_an_operation_counts_as_applied(seed: int) -> None:
    """What it did is stored, and that it did it isn't: a server that leads later, without another entry between, serves."""
    with World(seed) as world:
        acked = filled(world)
        server = victim(world, "neither")
        full_behind_definition(server, "V")
        world.create("V")
        world.until(lambda: server.replication.standing.full, what="the disk to be found full")
        server.disk.full = False
        world.until(lambda: not server.replication.standing.full, what="room to be found")
        leader = world.leader("V")
        if leader is not server:
            body = {"placement": {"preferred": server.name}}
            assert world.ask("$JS.API.STREAM.LEADER.STEPDOWN.V", body, at=leader)["success"] is True
        world.until(lambda: world.leader("V") is server, what="the leader that was asked for")
        stream = server.stream("V")
        assert stream is not None
        replica = server.replication.replicas[stream.group]
        world.until(lambda: replica.idle, what="everything to be stored as applied")
        acked["V"] = world.store("V", 5)
        whole(world, acked)


@pytest.mark.parametrize("seed", range(3))
def test_full_between_publishes_and_an_operation(seed: int) -> None:
    """What couldn't be stored is applied again before the operation that comes behind it, not after."""
    with World(seed) as world:
        filled(world)
        leader, server = world.leader("S"), victim(world, "neither")
        assert leader is not None
        stream = leader.stream("S")
        assert stream is not None
        full_at_operation(server, stream.group)
        world.store("S", 5)
        assert world.ask("$JS.API.STREAM.PURGE.S", at=leader)["success"] is True
        world.run(1)
        server.disk.full = False
        world.until(lambda: world.equal("S"), what="equal replicas")
        assert world.payloads(server, "S") == []
        whole(world, {"S": world.store("S", 5)})
