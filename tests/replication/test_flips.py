"""Bits and sectors of a member's store that are not what they were: the cluster heals, whatever was hit."""

from __future__ import annotations

import logging
import os
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.replication.test_rejoin import NAMES, filled, whole
from tests.replication.world import World

if TYPE_CHECKING:
    from tests.replication.world import Server

FLIPS = 3
SEEDS = int(os.environ.get("STREAMD_FLIP_SEEDS", "40"))


def flipped(seed: int) -> Counter[str]:
    """Flip in the store of one server after another, while the others go on. Returns what became of it."""
    met: Counter[str] = Counter()
    with World(seed) as world:
        acked = filled(world)
        for _ in range(FLIPS):
            server: Server = world.rng.choice(list(world.servers.values()))
            aside, node = len(server.aside()), server.replication.net.node
            for name in NAMES:
                acked[name] += world.store(name, 5, world.rng.choice([10, 3000]))
            if world.rng.random() < 0.5:
                server.replication.close()
                server.jetstream.close()
            server.kill(flip=True)
            world.run(world.rng.uniform(0.1, 2))
            server.start()
            offline = sum(stream.offline is not None for stream in server.jetstream.streams.values())
            whole(world, acked)
            if len(server.aside()) > aside:
                met["set aside"] += 1
                assert server.replication.net.node != node
            elif offline or any(replica.damaged for replica in server.replication.replicas.values()):
                met["streams fetched anew"] += 1
            else:
                met["no harm, or found later"] += 1
    return met


@pytest.mark.timeout(600)
def test_flips_are_healed(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing that was acked is missing, all replicas are equal, and both ways of healing were taken."""
    met: Counter[str] = Counter()
    with caplog.at_level(logging.CRITICAL):
        for seed in range(SEEDS):
            met += flipped(seed)
    assert met["set aside"]
    assert met["streams fetched anew"]
