"""A quorum is gone for good: one store that is left becomes the cluster again."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import pytest

from streamd.errors import StoreError
from streamd.streams.replication.survivor import Survivor
from tests.replication.test_damage import settled, spoil_page
from tests.replication.test_rejoin import NAMES, filled, whole
from tests.replication.world import World

if TYPE_CHECKING:
    from tests.replication.world import Server


def recovered(server: Server) -> str | None:
    """What `streamd recover --apply` does."""
    with Survivor(server.disk.directory) as survivor:
        return survivor.apply()


@pytest.mark.parametrize("seed", range(6))
def test_two_of_three_are_gone(seed: int) -> None:
    """The survivor serves all that it has; empty servers of the old names join it, and all are equal."""
    with World(seed) as world:
        acked = filled(world)
        world.until(lambda: all(world.equal(name) for name in NAMES))
        survivor, *gone = world.rng.sample(list(world.servers.values()), 3)
        for server in gone:
            server.wipe()
        survivor.kill()
        before = survivor.replication.net.node
        node = recovered(survivor)
        assert node is not None
        assert node != before
        assert recovered(survivor) is None
        survivor.start()
        assert survivor.replication.net.node == node
        for name in NAMES:
            acked[name] += world.store(name, 5)
            assert world.payloads(survivor, name) == acked[name]
        for server in gone:
            server.start()
            world.run(world.rng.uniform(0, 2))
        for name in NAMES:
            acked[name] += world.store(name, 5)
        whole(world, acked)
        world.create("NEW")
        world.store("NEW", 3)
        survivor.kill()
        acked["S"] += world.store("S", 3)
        survivor.start()
        whole(world, acked)


def test_servers_that_were_given_up_are_told() -> None:
    """They come back with their stores: they can't join, and don't go on without the survivor either."""
    with World(3) as world:
        acked = filled(world)
        world.until(lambda: all(world.equal(name) for name in NAMES))
        survivor, *gone = world.servers.values()
        for server in world.servers.values():
            server.kill()
        assert recovered(survivor) is not None
        survivor.start()
        world.until(lambda: survivor.meta)
        for server in gone:
            server.start()
        world.until(lambda: all(server.ended for server in gone))
        for server in gone:
            assert "move that directory away" in server.ended[0]
            server.kill()
        world.run(1.1)
        for server in gone:
            server.wipe()
            server.start()
        whole(world, acked)


def test_report() -> None:
    """All that is needed to choose the most advanced survivor, and nothing is changed by it."""
    with World(4) as world:
        filled(world)
        world.create("ALONE", replicas=1)
        home = world.leader("ALONE")
        assert home is not None
        other = next(server for server in world.running if server is not home)
        world.until(lambda: all(world.equal(name) for name in NAMES))
        world.run(2)  # all that is applied is stored
        for server in world.servers.values():
            server.kill()
        with Survivor(other.disk.directory) as survivor:
            found = survivor.found()
        assert json.dumps(asdict(found))
        assert found.node == other.replication.net.node
        assert not found.alone
        assert {group.name for group in found.groups} >= {"META", "G.a.b.c"}
        for group in found.groups:
            assert len(group.voters) == 3
            assert group.last_index >= group.committed >= group.applied
            assert group.committed
        assert {(each.name, each.last_seq) for each in found.streams} == {(name, 20) for name in NAMES}
        assert found.elsewhere == ["ALONE"]
        assert len(found.servers) == 2
        with Survivor(other.disk.directory) as survivor:
            assert survivor.found() == found


def test_five_servers() -> None:
    """Groups of which the survivor has nothing are given up, and others of the same servers can be made."""
    with World(5, "abcde") as world:
        world.until(world.formed)
        for number in range(6):
            world.create(f"T{number}", replicas=3)
        world.create("S", replicas=5)
        acked = {"S": world.store("S", 10)}
        world.until(lambda: world.equal("S"))
        survivor, *gone = world.servers.values()
        here = {name for name, stream in survivor.jetstream.streams.items() if stream.group}
        for server in gone:
            server.wipe()
        survivor.kill()
        with Survivor(survivor.disk.directory) as store:
            lost = {name for name in store.found().elsewhere if name.startswith("T")}
            store.apply()
        survivor.start()
        for server in gone:
            server.start()
        whole(world, acked)
        assert lost
        state = survivor.replication.meta.state
        assert not lost & state.streams.keys()
        assert here <= state.streams.keys()
        for name in sorted(here):
            world.until(partial(world.equal, name))
        for number in range(6):
            world.create(f"N{number}", replicas=3)
            world.store(f"N{number}", 2)


def test_refusals() -> None:
    """A store in use, one that is no member's, and one that isn't whole."""
    with World(6) as world:
        filled(world)
        server = next(iter(world.servers.values()))
        with pytest.raises(StoreError, match="in use"):
            Survivor(server.disk.directory)
        stream = server.stream("S")
        assert stream is not None
        record = stream.log.get(7)
        assert record is not None
        settled(server)
        spoil_page(server, record)
        with Survivor(server.disk.directory) as survivor, pytest.raises(StoreError, match="stream S: damaged"):
            survivor.apply()
        with pytest.raises(StoreError, match="no store"):
            Survivor(server.directory / "nothing")
