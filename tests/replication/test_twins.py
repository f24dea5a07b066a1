"""A server that has a stream twice for a while: what isn't of use any more leaves its store, and the other one is served."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.replication.test_damage import settled
from tests.replication.test_full_moves import update
from tests.replication.test_interrupted import COUNT, at_part, number_of
from tests.replication.test_rejoin import NAMES, filled, victim, whole
from tests.replication.test_removed import stored
from tests.replication.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.raft.net import NodeId
    from streamd.store import Work
    from streamd.streams.replication.replica import Replica
    from tests.replication.world import Server


def hold_fetches(server: Server, patch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Begin to fetch the states of all groups; nothing of them comes before what this returns is called."""
    transfer = server.replication.transfer
    ask = transfer._ask
    held: list[tuple[Replica, NodeId]] = []
    patch.setattr(transfer, "_ask", lambda *given: held.append(given))
    for replica in server.replication.replicas.values():
        leader = replica.group.leader
        assert leader is not None
        transfer.fetch(replica, leader)

    def release() -> None:
        patch.undo()
        for replica, leader in held:
            server.replication.services.commits.at_rest(partial(_asked, ask, replica, leader))

    return release


def _asked(ask: Callable[[Replica, NodeId], None], replica: Replica, leader: NodeId, _work: Work) -> None:
    ask(replica, leader)


def followed(world: World) -> Server:
    """A server that leads none of the streams."""
    world.until(lambda: world.meta_leader() and all(world.leader(name) for name in NAMES))
    for name in NAMES:
        leader = world.leader(name)
        if leader is world.servers["c"]:
            answer = world.ask(f"$JS.API.STREAM.LEADER.STEPDOWN.{name}", {"placement": {"preferred": "a"}}, at=leader)
            assert answer["success"] is True
    world.until(lambda: all(world.leader(name) not in (None, world.servers["c"]) for name in NAMES))
    return world.servers["c"]


@pytest.mark.parametrize("seed", range(3))
def test_state_that_has_what_was_copied(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream moved into a group of which a server is fetching the state: the copy that it took for that goes."""
    with World(seed) as world:
        acked = filled(world)
        server = followed(world)
        world.create("M", replicas=1)
        world.create("N", replicas=1)
        name = next(each for each in "MN" if world.leader(each) is not server)
        acked[name] = world.store(name, 20)
        release = hold_fetches(server, monkeypatch)
        update(world, name, 3)
        world.until(lambda: (stream := server.stream(name)) is not None and not stream.partial, what="the copy")
        copy = server.stream(name)
        assert copy is not None
        acked[name] += world.store(name, 10)
        assert copy.frozen
        release()
        whole(world, acked)
        assert server.stream(name) is not copy
        assert len(stored(server, name)) == 1
        server.kill()
        server.start()
        acked[name] += world.store(name, 5)
        whole(world, acked)
        assert server.replication.transfer.fetched == 0


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_damaged_again_while_it_is_fetched(seed: int, restarts: bool) -> None:
    """However many there are of it, they all go once one is whole."""
    with World(seed) as world:
        acked = filled(world)
        server = victim(world, "neither")
        acked["S"] += world.store("S", COUNT, 50_000)
        numbers = [number_of(server, "S")]

        def damage() -> None:
            stream = server.stream("S")
            assert stream is not None
            stream.go_offline("somebody says so")

        damage()
        at_part(server, "S", 1, damage)
        for _ in range(2):
            world.until(lambda: number_of(server, "S") not in numbers, what="another one")
            numbers.append(number_of(server, "S"))
        if restarts:
            at_part(server, "S", 1, lambda: world.time.after(0, server.kill))
            world.until(lambda: not server.runs, what="a part of the last one")
            server.start()
            assert number_of(server, "S") == numbers[-1]
        whole(world, acked)
        assert len(stored(server, "S")) == 1
        server.kill()
        server.start()
        acked["S"] += world.store("S", 5)
        whole(world, acked)
        assert server.replication.transfer.fetched == 0


def test_two_whole_ones_of_a_stream() -> None:
    """As earlier versions may have left them: the later is served, the other one goes."""
    with World(2) as world:
        acked = filled(world)
        server = victim(world, "neither")
        acked["S"] += world.store("S", COUNT, 50_000)
        damaged = server.stream("S")
        assert damaged is not None
        damaged.go_offline("somebody says so")
        world.until(lambda: number_of(server, "S") != damaged.stream_id, what="the one that takes its place")
        fetched = server.stream("S")
        assert fetched is not None
        fetched.replaces.clear()
        whole(world, acked)
        assert len(stored(server, "S")) == 2
        settled(server)
        server.start()
        assert number_of(server, "S") == fetched.stream_id
        acked["S"] += world.store("S", 5)
        whole(world, acked)
        world.until(lambda: len(stored(server, "S")) == 1, what="the other one to go")
        assert server.replication.transfer.fetched == 0
