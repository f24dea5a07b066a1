"""Publishes while the leader changes twice in a row: what the first one passes on comes as the second one leaves."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.replication.world import INBOX, World

if TYPE_CHECKING:
    from tests.replication.world import Server


class Clients:
    """They publish two messages a millisecond, of which every server hears."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sent = 0

    def publish(self, count: int = 1) -> None:
        for _ in range(count):
            for server in self.world.running:
                server.request("S.x", b"%d" % self.sent, f"{INBOX}.{self.sent}")
            self.sent += 1
            self.world.run(0.0005)

    def move(self) -> None:
        """Have another server lead."""
        before = self.world.leader("S")
        for server in self.world.running:
            server.request("$JS.API.STREAM.LEADER.STEPDOWN.S", b"", f"{INBOX}.down{self.sent}")
        for _ in range(2000):
            self.publish()
            if self.world.leader("S") not in (None, before):
                return
        raise AssertionError(self.world.told())


@pytest.mark.parametrize("seed", [3, 13, 16, 17, 27, 28, 29, 31, 111])
def test_two_changes_in_a_row(seed: int) -> None:
    """Nobody is left without an answer, and everything is stored once."""
    with World(seed) as world:
        world.until(world.formed)
        world.create("S")
        world.run(1)
        clients = Clients(world)
        for _ in range(3):
            clients.publish(10)
            clients.move()
            world.run(0.005)
            clients.move()
            clients.publish(100)
            world.run(2)
        leader = world.leader("S")
        assert leader is not None
        assert unanswered(list(world.servers.values()), clients.sent) == []
        assert Counter(world.payloads(leader, "S")) == Counter(b"%d" % number for number in range(clients.sent))


def unanswered(servers: list[Server], count: int) -> list[int]:
    """Messages without an ack."""
    acks = {reply for server in servers for reply, answer in server.answers if "seq" in answer}
    return [number for number in range(count) if f"{INBOX}.{number}" not in acks]
