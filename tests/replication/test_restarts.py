"""A replica that starts again is what the others are, whatever it did for them before."""

from __future__ import annotations

import pytest

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
