"""A disk that is full, at a follower, at the leader, at a quorum: what was acked stays, and it goes on by itself."""

from __future__ import annotations

import pytest

from tests.replication.test_rejoin import NAMES, filled, victim, whole
from tests.replication.world import World


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
