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


def hold_agreed(server: Server, patch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let a server hear nothing that is agreed on from now on, before what this returns is called."""
    meta = server.replication.meta
    committed = meta.committed
    held: list[tuple[int, int, bytes]] = []
    patch.setattr(meta, "committed", lambda *entry: held.append(entry))

    def release() -> None:
        patch.undo()
        for entry in held:
            committed(*entry)

    return release


def follower(world: World) -> Server:
    """A server that leads nothing."""
    meta = world.until(world.meta_leader)
    server: Server = next(each for each in world.running if each is not meta)

    def led() -> bool:
        for name in NAMES:
            if world.leader(name) is server:
                subject = f"$JS.API.STREAM.LEADER.STEPDOWN.{name}"
                world.ask(subject, {"placement": {"preferred": meta.name}}, at=server)
        return all(world.leader(name) not in (None, server) for name in NAMES)

    world.until(led)
    return server


@pytest.mark.parametrize("seed", range(3))
def test_state_that_has_what_was_copied(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream moved into a group of which a server is fetching the state: the copy that it took for that goes."""
    with World(seed) as world:
        acked = filled(world)
        server = follower(world)
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


@pytest.mark.parametrize("seed", range(3))
def test_state_with_what_isn_t_known_yet_to_have_moved(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who fetches a state that has a stream, and has yet to hear that it is in that group, doesn't leave it out."""
    with World(seed) as world, pytest.MonkeyPatch.context() as fetches:
        acked = filled(world)
        server = follower(world)
        world.create("M", replicas=1)
        world.create("N", replicas=1)
        name = next(each for each in "MN" if world.leader(each) is not server)
        acked[name] = world.store(name, 20)
        release = hold_fetches(server, fetches)
        hear = hold_agreed(server, monkeypatch)
        update(world, name, 3)
        acked[name] += world.store(name, 10)
        release()
        world.run(2)
        hear()
        whole(world, acked)


@pytest.mark.parametrize("seed", range(3))
def test_state_with_what_was_made_again(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of one server was removed, which that has yet to hear, when another one of its name comes with a state."""
    with World(seed) as world, pytest.MonkeyPatch.context() as fetches, pytest.MonkeyPatch.context() as ahead:
        acked = filled(world)
        server = follower(world)
        for name in ("N0", "N1", "N2"):  # there are three servers
            world.create(name, replicas=1)
            if world.leader(name) is server:
                break
        world.store(name, 5)
        before = server.stream(name)
        assert before is not None
        release = hold_fetches(server, fetches)
        hear = hold_agreed(server, monkeypatch)
        leader = world.until(world.meta_leader)
        ahead.setattr(server.replication.holding, "known", lambda _index: True)
        assert world.ask(f"$JS.API.STREAM.DELETE.{name}", at=leader)["success"] is True
        body = {"name": name, "subjects": [f"{name}.>"], "num_replicas": 3}
        assert "error" not in world.ask(f"$JS.API.STREAM.CREATE.{name}", body, at=leader)
        acked[name] = [b"later"]
        assert "error" not in world.ask(f"{name}.x", b"later", at=leader)
        release()
        world.until(lambda: server.stream(name) not in (before, None), what="the state")
        world.run(1)
        assert before.closed
        hear()
        whole(world, acked)
        stream = server.stream(name)
        assert stream is not None
        assert stored(server, name) == [stream.uid]
