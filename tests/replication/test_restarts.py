"""A replica that starts again is what the others are, whatever it did for them before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from streamd.sim.clock import SECOND
from streamd.streams import retention
from tests.replication.test_damage import settled
from tests.replication.test_disk_full import full_behind_definition
from tests.replication.test_rejoin import victim, whole
from tests.replication.world import INBOX, World

if TYPE_CHECKING:
    from tests.replication.world import Server


@pytest.mark.parametrize("seed", range(3))
def test_who_sent_its_state_reads_it_again(seed: int) -> None:
    """A follower is given the state; what is removed behind that is told relative to what the sender has stored itself."""
    with World(seed) as world:
        world.until(world.formed)
        world.create("S", max_msgs=20)
        world.store("S", 30)
        server, leader = victim(world, "neither"), world.leader("S")
        stream = server.stream("S")
        assert stream is not None
        assert leader is not None
        stream.go_offline("somebody says so")
        world.until(lambda: server.replication.transfer.fetched, what="the state to be fetched")
        kept = world.store("S", 20)
        world.run(1)  # its index is stored
        leader.kill()
        leader.start()
        sender = leader.stream("S")
        assert sender is not None
        assert sender.offline is None
        whole(world, {"S": kept})


@pytest.mark.parametrize("seed", range(3))
def test_a_limit_per_subject_that_is_new(seed: int) -> None:
    """Its definition is stored, and the disk is full before the index is that it needs: what it removes later is told relative
    to the index that is stored, which knows no sequences of subjects."""
    with World(seed) as world:
        world.until(world.formed)
        world.create("S")
        kept = world.store("S", 30)[-5:]
        server = victim(world, "neither")
        settled(server)
        server.start()
        world.until(lambda: world.formed() and world.equal("S"))
        full_behind_definition(server, "S")
        body = {"name": "S", "subjects": ["S.>"], "num_replicas": 3, "max_msgs_per_subject": 5}
        assert "error" not in world.ask("$JS.API.STREAM.UPDATE.S", body)
        world.until(lambda: server.replication.standing.full, what="the disk to be found full")
        server.disk.full = False
        whole(world, {"S": kept})
        world.run(1)
        server.kill()
        server.start()
        stream = server.stream("S")
        assert stream is not None
        assert stream.offline is None
        whole(world, {"S": kept})


def identified(world: World, ident: str) -> bool:
    """Publish with a message id; whether it was there already."""
    leader: Server = world.until(lambda: world.leader("S"))
    reply = f"{INBOX}.{ident}.{world.time.now_ns}"
    leader.core.bus.publish("S.x", b"", headers=f"NATS/1.0\r\nNats-Msg-Id: {ident}\r\n\r\n".encode(), reply=reply)
    answer: dict[str, Any] = world.until(lambda: dict(leader.answers).get(reply))
    assert "error" not in answer
    return bool(answer.get("duplicate"))


def again(world: World, server: Server) -> None:
    """It is killed and started, and has caught up; and what each has is what all have."""
    world.run(1)  # what it knows is stored
    server.kill()
    server.start()
    world.until(lambda: world.formed() and world.equal("S"), what="equal replicas")


@pytest.mark.parametrize("seed", range(3))
def test_a_message_id_that_is_used_again(seed: int) -> None:
    """Of an id that is stored twice, as its window was over, the later counts, also for who starts again."""
    with World(seed) as world:
        world.until(world.formed)
        world.create("S", duplicate_window=20 * SECOND)
        server = victim(world, "neither")
        assert not identified(world, "X")
        world.run(25)
        world.store("S", 1)
        again(world, server)
        assert not identified(world, "X")
        again(world, server)
        assert identified(world, "X")
        world.run(1)
        assert world.equal("S"), world.told()
        again(world, server)


@pytest.mark.parametrize("seed", range(3))
def test_a_longer_window(seed: int) -> None:
    """It takes in no ids that had left the one before, not even on a server that reads them from its store."""
    with World(seed) as world:
        world.until(world.formed)
        world.create("S", duplicate_window=2 * SECOND)
        server = victim(world, "neither")
        assert not identified(world, "X")
        world.run(5)
        world.store("S", 1)
        again(world, server)
        assert not identified(world, "Y")
        body = {"name": "S", "subjects": ["S.>"], "num_replicas": 3, "duplicate_window": 60 * SECOND}
        assert "error" not in world.ask("$JS.API.STREAM.UPDATE.S", body)
        again(world, server)
        assert not identified(world, "X")
        world.run(1)
        assert world.equal("S"), world.told()
        again(world, server)
        assert identified(world, "X")
        assert identified(world, "Y")
        world.run(1)
        assert world.equal("S"), world.told()
        again(world, server)


def test_the_time_of_entries_goes_on() -> None:
    """A server that starts again knows how late it was, whatever its clock says."""
    with World(1) as world:
        world.until(world.formed)
        world.create("S")
        world.store("S", 3)
        for server in world.running:
            again(world, server)
            stream = server.stream("S")
            assert stream is not None
            assert server.replication.replicas[stream.group].time_ns >= stream.state.last_ts_ns > 0


@pytest.mark.parametrize("seed", range(3))
def test_what_one_admission_removes(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """As much as one may, and no more, also where removals before it aren't stored yet: the next one may ask what is left."""
    monkeypatch.setattr(retention, "REMOVE_RECORDS_MAX", 300)
    with World(seed) as world:
        world.until(world.formed)
        world.create("S", max_bytes=60_000, max_msgs_per_subject=1)
        server, leader = victim(world, "neither"), world.leader("S")
        assert leader is not None
        for number in range(1000):
            leader.core.bus.publish(f"S.{number}", b"small")
        world.run(1)
        again(world, server)
        world.until(lambda: world.leader("S") is leader)
        server.kill()
        for number in range(5, 200, 10):
            leader.core.bus.publish(f"S.{number}", b"later")
        world.run(1)
        leader.core.bus.publish("S.big", b"." * 50_000)
        world.run(1)
        server.start()
        world.until(lambda: world.formed() and world.equal("S"), what="equal replicas")
        stream = server.stream("S")
        assert stream is not None
        assert (stream.state.messages, stream.state.over()) == (701, True)
        world.store("S", 5)
        world.until(lambda: world.equal("S"), what="equal replicas")
        assert not stream.state.over()
