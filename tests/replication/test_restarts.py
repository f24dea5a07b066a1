"""A replica that starts again is what the others are, whatever it did for them before."""

from __future__ import annotations

import pytest

from tests.replication.test_damage import settled
from tests.replication.test_disk_full import full_behind_definition
from tests.replication.test_rejoin import victim, whole
from tests.replication.world import World


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
