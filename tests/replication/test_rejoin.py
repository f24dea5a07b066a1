"""A server whose store is gone comes back as a new incarnation of its name, and has all that the others have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.replication.world import World

if TYPE_CHECKING:
    from tests.replication.world import Server

NAMES = ("S", "T", "U")


def filled(world: World) -> dict[str, list[bytes]]:
    """What is acked of three streams, whose groups have different leaders."""
    world.until(world.formed)
    for name in NAMES:
        world.create(name, allow_direct=True)
    return {name: world.store(name, 20) for name in NAMES}


def whole(world: World, acked: dict[str, list[bytes]]) -> None:
    """All servers have the same, nothing that was acked is missing, and the old incarnations are gone."""

    def settled() -> bool:
        leader = world.meta_leader()
        moving = leader is None or any(each.moving for each in leader.replication.meta.state.streams.values())
        return world.formed() and not moving and all(world.leader(name) and world.equal(name) for name in acked)

    world.until(settled, what="the cluster to be whole")
    for server in world.running:
        for name, payloads in acked.items():
            found = world.payloads(server, name)
            assert [one for one in found if one in payloads] == payloads, (server.name, name)


def victim(world: World, role: str) -> Server:
    """Who is to be hit."""
    world.until(lambda: world.meta_leader() and world.leader("S"))
    return next(
        each
        for each in world.running
        if {"meta leader": each.meta, "group leader": each is world.leader("S")}.get(
            role, not each.meta and each is not world.leader("S")
        )
    )


@pytest.mark.parametrize("role", ["meta leader", "group leader", "neither"])
@pytest.mark.parametrize("seed", range(5))
def test_wiped_server_rejoins(seed: int, role: str) -> None:
    """A learner first, then a voter; its old incarnation is forgotten."""
    with World(seed) as world:
        acked = filled(world)
        server = victim(world, role)
        before = server.replication.net.node
        server.wipe()
        world.run(world.rng.uniform(0, 3))
        server.start()
        for name in NAMES:
            acked[name] += world.store(name, 5)
        whole(world, acked)
        assert server.replication.net.node != before
        assert not server.replication.jetstream.must_join


@pytest.mark.parametrize("seed", range(4))
def test_two_of_five_wiped_one_after_another(seed: int) -> None:
    """The second one while the first has just come back. (With three replicas that would be too soon.)"""
    with World(seed, "abcde") as world:
        world.until(world.formed)
        world.create("S", replicas=5)
        acked = {"S": world.store("S", 20)}
        first, second = world.rng.sample(list(world.servers.values()), 2)
        first.wipe()
        first.start()
        world.run(world.rng.uniform(0, 1.5))
        second.wipe()
        second.start()
        for name in acked:
            acked[name] += world.store(name, 10)
        world.until(lambda: world.formed() and all(world.equal(name) for name in acked), 60)
        for server in world.running:
            if server.stream("S"):
                assert [one for one in world.payloads(server, "S") if one in acked["S"]] == acked["S"]


@pytest.mark.parametrize("seed", range(4))
def test_wiped_again_while_it_catches_up(seed: int) -> None:
    """Whatever it had fetched is of no use to the next incarnation."""
    with World(seed) as world:
        acked = filled(world)
        acked["S"] += world.store("S", 200, 50_000)
        server = victim(world, "neither")
        for _ in range(3):
            server.wipe()
            server.start()
            world.run(world.rng.uniform(0, 0.6))
        whole(world, acked)


@pytest.mark.parametrize("seed", range(4))
def test_killed_while_it_fetches(seed: int) -> None:
    """A state that came in part is gone on with, and entries that it holds already aren't applied to it."""
    with World(seed, tail_bytes=1 << 20) as world:
        acked = filled(world)
        server = victim(world, "neither")
        server.kill()
        for _ in range(3):
            acked["S"] += world.store("S", 300, 50_000)
        server.start()
        fetched = False
        for _ in range(60):
            world.run(world.rng.uniform(0.01, 0.2))
            fetched = fetched or any(stream.fetching for stream in server.jetstream.streams.values())
            if world.rng.random() < 0.3:
                server.kill()
                server.start()
        assert fetched
        whole(world, acked)


def test_everybody_wiped_founds_anew() -> None:
    """There is nothing left that could be joined."""
    with World(1) as world:
        filled(world)
        for server in world.servers.values():
            server.wipe()
        for server in world.servers.values():
            server.start()
        world.until(world.formed)
        assert all(not server.jetstream.streams for server in world.running)
        world.create("S")
        world.store("S", 3)


def test_two_of_three_wiped_don_t_found_without_the_third() -> None:
    """The one that has everything is not outvoted by two that have nothing."""
    with World(1) as world:
        acked = filled(world)
        one, two, survivor = world.servers.values()
        survivor.kill()
        for server in (one, two):
            server.wipe()
            server.start()
        world.run(20)
        assert not one.replication.joined
        survivor.start()
        world.run(20)
        assert world.meta_leader() is None
        assert world.payloads(survivor, "S") == acked["S"]
        answer = world.ask("$JS.API.STREAM.NAMES", at=survivor)
        assert "1 of 3 servers of the cluster can be reached" in answer["error"]["description"]
