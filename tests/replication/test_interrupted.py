"""Copies and fetches that are cut short: what came of a stream is gone on with, also where messages inside were deleted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from streamd.api.stream import StreamConfig
from streamd.streams.replication.channels import GroupStreams
from streamd.streams.replication.replica import APPLIED_ROW
from tests.replication.test_damage import settled, spoil
from tests.replication.test_full_moves import update
from tests.replication.test_rejoin import filled, victim, whole
from tests.replication.test_removed import stored
from tests.replication.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streamd.store import Work
    from streamd.streams.replication.replica import Replica
    from streamd.streams.stream import Stream
    from tests.replication.world import Server

#: Several answers with records.
COUNT, BIG = 300, 50_000


def delete_some(world: World, name: str, acked: list[bytes]) -> list[bytes]:
    """Of the messages of a stream every tenth goes; returns the others."""
    for number in range(5, len(acked), 10):
        answer = world.ask(f"$JS.API.STREAM.MSG.DELETE.{name}", {"seq": number + 1}, at=world.leader(name))
        assert answer["success"] is True
    return [each for number, each in enumerate(acked) if number % 10 != 5]


def at_part(server: Server, name: str, number: int, call: Callable[[], object]) -> None:
    """Call when so many parts of a stream, whose rest is still to come, were stored."""
    count = 0

    def written(works: Iterable[Work]) -> None:
        nonlocal count
        for part in [part for work in works for part in work.logs.values() if part.definition is not None]:
            definition = json.loads(part.definition or b"")
            if definition["name"] == name and ("partial" in definition or "fetching" in definition):
                count += 1
                if count == number:
                    server.disk.written = lambda works: None
                    call()

    server.disk.written = written


def moved_in_part(world: World) -> tuple[Server, dict[str, list[bytes]]]:
    """A stream moves from one server to three, and one of these is off after the first part of its copy."""
    world.until(world.formed)
    world.create("M", replicas=1, allow_direct=True)
    acked = {"M": delete_some(world, "M", world.store("M", COUNT, BIG))}
    source = world.leader("M")
    target = next(server for server in world.running if server is not source)
    at_part(target, "M", 1, lambda: world.time.after(0, target.kill))
    update(world, "M", 3, allow_direct=True)
    world.until(lambda: not target.runs, what="the first part of the copy")
    return target, acked


def fetched_in_part(world: World) -> tuple[Server, dict[str, list[bytes]]]:
    """A replica that was away fetches what it lacks of a stream, and is off after the first part."""
    acked = filled(world)
    server = victim(world, "neither")
    server.kill()
    more = world.store("S", COUNT, BIG)
    acked["S"] = delete_some(world, "S", acked["S"] + more)
    server.start()
    at_part(server, "S", 1, lambda: world.time.after(0, server.kill))
    world.until(lambda: not server.runs, what="the first part of the state")
    return server, acked


def moved(world: World) -> None:
    """The stream has the place that was asked for."""

    def done() -> bool:
        leader = world.meta_leader()
        wanted = None if leader is None else leader.replication.meta.state.streams["M"]
        return wanted is not None and len(wanted.names) == 3 and not wanted.moving

    world.until(done, what="the end of the move")


def number_of(server: Server, name: str) -> int:
    """The store's number of a stream."""
    stream = server.stream(name)
    assert stream is not None
    return stream.stream_id


@pytest.mark.parametrize("seed", range(2))
def test_copy_is_gone_on_with_after_a_restart(seed: int) -> None:
    """It isn't taken for a damaged stream, nor begun again."""
    with World(seed) as world:
        target, acked = moved_in_part(world)
        target.start()
        copy = target.stream("M")
        assert copy is not None
        assert copy.partial
        assert copy.offline is None
        assert 0 < copy.state.last_seq < COUNT
        moved(world)
        whole(world, acked)
        assert number_of(target, "M") == copy.stream_id
        assert not target.ended
        assert not target.replication.transfer.fetched  # nothing had to be healed
        target.kill()
        target.start()
        acked["M"] += world.store("M", 5)
        whole(world, acked)


@pytest.mark.parametrize("seed", range(2))
def test_copy_lacks_no_part_that_found_the_disk_full(seed: int) -> None:
    """What is in memory of it goes back to what is stored."""
    with World(seed) as world:
        world.until(world.formed)
        world.create("M", replicas=1)
        acked = {"M": delete_some(world, "M", world.store("M", COUNT, BIG))}
        source = world.leader("M")
        target = next(server for server in world.running if server is not source)
        at_part(target, "M", 1, lambda: setattr(target.disk, "full", True))
        update(world, "M", 3)
        world.until(lambda: target.disk.full, what="the first part of the copy")
        world.run(1)
        copy = target.stream("M")
        assert copy is not None
        assert copy.offline is None
        target.disk.full = False
        moved(world)
        whole(world, acked)
        assert number_of(target, "M") == copy.stream_id
        assert not target.replication.transfer.fetched


@pytest.mark.parametrize("seed", range(2))
def test_damaged_copy_is_begun_anew(seed: int) -> None:
    """What can't be read of it is in the store already."""
    with World(seed) as world:
        target, acked = moved_in_part(world)
        target.start()
        copy = target.stream("M")
        assert copy is not None
        record = copy.log.get(3)
        assert record is not None
        target.kill()
        spoil(target, record)
        target.start()
        damaged = target.stream("M")
        assert damaged is not None
        assert damaged.offline is not None
        moved(world)
        whole(world, acked)
        assert len(stored(target, "M")) == 1
        assert number_of(target, "M") != copy.stream_id
        assert not target.ended
        assert not target.replication.transfer.fetched


@pytest.mark.parametrize("seed", range(2))
def test_fetch_is_gone_on_with_after_a_restart(seed: int) -> None:
    """A part of a state isn't damage either."""
    with World(seed, tail_bytes=1 << 20) as world:
        server, acked = fetched_in_part(world)
        server.start()
        part = server.stream("S")
        assert part is not None
        assert part.fetching
        assert 0 < part.state.last_seq < COUNT
        whole(world, acked)
        assert number_of(server, "S") == part.stream_id
        server.kill()
        server.start()
        acked["S"] += world.store("S", 5)
        whole(world, acked)


@pytest.mark.parametrize("seed", range(2))
def test_damage_of_what_is_being_fetched(seed: int) -> None:
    """It is fetched from its beginning, and not gone on with."""
    with World(seed, tail_bytes=1 << 20) as world:
        server, acked = fetched_in_part(world)
        server.start()
        part = server.stream("S")
        assert part is not None
        assert part.fetching
        at_part(server, "S", 1, lambda: part.go_offline("somebody says so"))
        whole(world, acked)
        assert number_of(server, "S") != part.stream_id
        assert len(stored(server, "S")) == 1


def test_full_at_the_end_of_a_fetch() -> None:
    """The ids of messages that count as stored are those that are."""
    with World(1, tail_bytes=1 << 20) as world:
        server, acked = fetched_in_part(world)
        leader = world.leader("S")
        assert leader is not None
        leader.core.bus.publish("S.x", b"with an id", headers=b"NATS/1.0\r\nNats-Msg-Id: one\r\n\r\n")
        world.run(1)
        server.start()
        transfer = server.replication.transfer
        install = transfer._install

        def installed(*given: Any) -> None:
            server.disk.full = True
            install(*given)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(transfer, "_install", installed)
            world.until(lambda: server.disk.full, what="the end of the state")
            world.run(1)
        server.disk.full = False
        whole(world, acked)
        stream = server.stream("S")
        assert stream is not None
        assert stream.state.ids()
        settled(server)
        server.start()
        again = server.stream("S")
        assert again is not None
        assert again.state.ids()


def full_behind_state(server: Server, patch: pytest.MonkeyPatch) -> None:
    """The disk has room for the commit that makes a fetched state a group's, and for nothing more."""
    transfer = server.replication.transfer
    install = transfer._install

    def written(works: Iterable[Work]) -> None:
        journals = [replica.journal_id for replica in server.replication.replicas.values()]
        parts = [work.logs[number] for work in works for number in journals if number in work.logs]
        if any(APPLIED_ROW in part.consumer_states for part in parts):
            server.disk.full = True

    def installed(*given: Any) -> None:
        server.disk.written = written
        install(*given)

    patch.setattr(transfer, "_install", installed)


def test_killed_behind_a_state_without_a_channel() -> None:
    """What a state has no longer goes in its commit: nobody would say again that it has gone."""
    with World(1, streaming=True, tail_bytes=1000) as world:
        world.until(world.formed)

        def replicas() -> list[Replica]:
            found = [server.replication.replicas.get("STAN") for server in world.running]
            return [each for each in found if each is not None]

        leader = world.until(lambda: next((each for each in replicas() if each.leading), None))
        channels = GroupStreams(leader)
        made: list[Stream] = []

        def make(channel: str) -> None:
            config = StreamConfig(name=channel, subjects=[f"$STAN.{channel}"], num_replicas=3)
            channels.create_stream(config, lambda stream, _error: made.append(stream), channel=channel)

        for channel in ("GONE", "KEPT"):
            make(channel)
        world.until(lambda: all(len(each.owners) == 2 for each in replicas()), what="channels")
        gone = made[0].uid
        server = next(each for each in world.running if not each.replication.replicas["STAN"].leading)
        server.kill()
        channels.delete_stream(made[0], lambda _error: None)
        for number in range(20):
            make(f"MORE{number}")
        world.until(lambda: len(made) == 22, what="more than the log keeps")
        with pytest.MonkeyPatch.context() as patched:
            server.start()
            full_behind_state(server, patched)
            world.until(lambda: server.disk.full, what="the state")
            server.kill()
        server.disk.written = lambda works: None
        server.disk.full = False
        server.start()
        replica = server.replication.replicas["STAN"]
        assert gone not in replica.owners
        assert not stored(server, "GONE")
        world.until(lambda: replica.owners.keys() == leader.owners.keys(), what="equal replicas")
