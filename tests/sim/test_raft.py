"""Groups of Raft under simulated faults: no promise breaks, everything that should happen happens, planted bugs are caught."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from typing import Final

import pytest

from streamd.errors import StoreError
from streamd.sim.clock import SECOND
from streamd.sim.network import Weather
from streamd.sim.planted import PLANTED, table
from streamd.sim.raft_world import MUST_HAPPEN, RaftWorld
from streamd.sim.seeds import run

#: The first seed that catches each bug, when this was written; another one soon after it does otherwise.
CATCHING: Final = {
    "ack-before-quorum": 1,
    "vote-not-persisted": 17,
    "truncation-not-atomic": 1,
    "no-barrier": 1,
    "no-clip": 81,
    "no-term": 33,
    "no-guard": 1,
    "no-dedupe-no-sticky": 2,
    "no-one-at-a-time": 7,
}
TRIES: Final = 60


class Drowsy(random.Random):
    """Whoever waits by this waits for ten times the mean."""

    def expovariate(self, lambd: float = 1.0) -> float:
        return 10 / lambd


@pytest.mark.timeout(600)
def test_no_seed_breaks_a_promise() -> None:
    """100 seeds, and nothing that faults are for is missing."""
    summary = run(RaftWorld, range(1, 101))

    assert summary.failures == {}
    assert summary.missing(MUST_HAPPEN) == []


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_no_seed_of_very_many_breaks_a_promise() -> None:
    """Half of STREAMD_SIM_SEEDS, 20,000 unless told otherwise, from STREAMD_SIM_FIRST on; whole servers have the others."""
    first = int(os.environ.get("STREAMD_SIM_FIRST", "1001"))
    summary = run(RaftWorld, range(first, first + int(os.environ.get("STREAMD_SIM_SEEDS", "20000")) // 2))

    assert summary.failures == {}
    assert summary.missing(MUST_HAPPEN) == []


@pytest.mark.parametrize("name", CATCHING)
def test_planted_bug_is_caught(name: str) -> None:
    """The checker can fail: a world with this bug breaks a promise."""
    first = CATCHING[name]
    summary = run(PLANTED[name].make, range(first, first + TRIES), jobs=1, first_only=True)

    assert len(summary.failures) == 1


@pytest.mark.soak
@pytest.mark.timeout(3 * 3600)
def test_every_planted_bug_is_caught_by_some_seed() -> None:
    """The whole table, as far as a bug has an effect."""
    missed = []
    for name, line, fine in table(range(1, 1 + int(os.environ.get("STREAMD_SIM_PLANTED_SEEDS", "300")))):
        print(line)  # noqa: T201
        missed += [] if fine else [name]

    assert missed == []


def test_a_wait_from_before_everything_healed_keeps_no_place_empty() -> None:
    """A store is lost, and the operator has just begun to wait: by what it drew for longer than the world lasts."""
    with RaftWorld(3) as world:
        world.network.weather = Weather(loss=0, duplicates=0, late=0)
        for machine in world.machines:
            machine.start()
        world.time.run(world.START_NS)
        lost = next(machine for machine in world.machines[: world.size] if machine not in world.leaders())
        lost.disk.flipped = True
        lost.damaged(StoreError("flipped"))
        world.rng = Drowsy(1)
        until_ns = world.time.now_ns + SECOND
        world.load(until_ns)
        world.time.run(until_ns + world.HEALED_NS)

        world.healed()
        assert world.counts["members removed"] == len(world.groups)


@pytest.mark.parametrize("kind", [["--raft"], []], ids=["groups", "servers"])
def test_a_seed_is_one_history(kind: list[str]) -> None:
    """In every process, whatever Python hashes by; or a failure could not be seen again."""
    command = [sys.executable, "-m", "streamd", "sim", "--seed", "6", *kind]
    runs = [
        subprocess.run(
            command, env=os.environ | {"PYTHONHASHSEED": str(number)}, capture_output=True, text=True, check=False
        )
        for number in (1, 2)
    ]

    assert [run.returncode for run in runs] == [0, 0]
    assert runs[0].stdout == runs[1].stdout
    assert "elections" in runs[0].stdout
