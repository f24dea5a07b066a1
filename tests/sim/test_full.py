"""Whole servers under simulated faults: what their clients were promised holds, and everything that should happen happens."""

from __future__ import annotations

import os

import pytest

from streamd.sim.clock import MS, SECOND
from streamd.sim.full_world import MUST_HAPPEN, FullWorld
from streamd.sim.network import Weather
from streamd.sim.seeds import run


@pytest.mark.timeout(900)
def test_no_seed_breaks_a_promise() -> None:
    """100 seeds, and nothing that faults are for is missing."""
    summary = run(FullWorld, range(1, 101))

    assert summary.failures == {}
    assert summary.missing(MUST_HAPPEN) == []


@pytest.mark.soak
@pytest.mark.timeout(8 * 3600)
def test_no_seed_of_very_many_breaks_a_promise() -> None:
    """Half of STREAMD_SIM_SEEDS, 20,000 unless told otherwise, from STREAMD_SIM_FIRST on; groups alone have the others."""
    first = int(os.environ.get("STREAMD_SIM_FIRST", "1001"))
    summary = run(FullWorld, range(first, first + int(os.environ.get("STREAMD_SIM_SEEDS", "20000")) // 2))

    assert summary.failures == {}
    assert summary.missing(MUST_HAPPEN) == []


def test_no_store_is_lost_before_the_one_that_was_lost_before_is_replaced_for_good() -> None:
    """A leader that is cut off takes a voter in, and nobody hears of that: without that leader it hasn't happened."""
    with FullWorld(3) as world:
        world.network.weather = Weather(loss=0, duplicates=0, late=0)
        for machine in world.machines:
            machine.start()
        world.begin()
        world.works_until_ns = 0  # the operator moves no leader away from here
        world.time.run(2 * world.START_NS + 5 * SECOND)  # nor is one given back any more
        assert world.may_flip()
        leader = next(node for node in world.nodes() if node.jetstream.streams["ORDERS"].leads)
        group = leader.replication.replicas[leader.jetstream.streams["ORDERS"].group].group
        voters = {*group.config.voters}
        other, third = sorted(voters - {group.node})
        group.remove(other)
        while other not in group.config.learners or group.at(group.commit_index)[1] != group.config:
            world.time.run(world.time.now_ns + MS)
        name = leader.machine.name
        cut = [(name, node.partition("#")[0]) for node in (other, third)]
        world.network.cut([*cut, *((b, a) for a, b in cut)], breaks=False)
        group.promote(other, 1 << 20)
        assert {*group.config.voters} == voters

        assert not world.may_flip()
