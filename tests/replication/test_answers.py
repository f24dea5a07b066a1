"""Who answers what was asked of the meta leader, when the leader of a stream changes."""

from __future__ import annotations

from tests.replication.test_rejoin import filled
from tests.replication.world import World

SECOND = 1_000_000_000


def test_a_new_leader_answers_nothing_again() -> None:
    """It knows all questions, as the one before may be lost before it comes to answer; but that was asked long ago."""
    with World(1) as world:
        filled(world)
        world.time.run(world.time.now_ns + 2 * SECOND)
        before = world.leader("S")
        answer = world.ask("$JS.API.STREAM.LEADER.STEPDOWN.S")
        assert answer is not None
        assert answer["success"]
        world.until(lambda: world.leader("S") not in (None, before), what="another leader")
        world.time.run(world.time.now_ns + SECOND)

        told = [answer["type"].rpartition(".")[2] for server in world.running for _, answer in server.answers]
        assert told == ["stream_leader_stepdown_response"]
