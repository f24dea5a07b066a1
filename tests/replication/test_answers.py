"""Who answers what was asked of the meta leader, when the leader of a stream changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.replication.test_rejoin import filled
from tests.replication.world import World

if TYPE_CHECKING:
    from _collections_abc import dict_values

    from streamd.streams.stream import Stream

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


def test_streams_are_looked_for_only_where_somebody_asked() -> None:
    """A new leader looks at all its streams, and each of them would be searched for among all."""

    class Streams(dict[str, "Stream"]):
        searched = False

        def values(self) -> dict_values[str, Stream]:
            self.searched = True
            return super().values()

    with World(1) as world:
        filled(world)
        server = world.leader("S")
        assert server is not None
        stream = server.stream("S")
        assert stream is not None
        streams = server.jetstream.streams = Streams(server.jetstream.streams)
        answers = server.replication.answers
        answers.made(stream.uid, None)
        answers.made_before(stream.uid, 0)
        assert not streams.searched
