"""Power cuts under load: the store lies on a file system that forgets what was not fsynced."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from tests.faults.checker import Checker
from tests.faults.load import Load
from tests.process import ServerProcess
from tests.store.forgetful import Forgetful

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("fuse_mounts")]


async def cut_and_check(
    directory: Path, sync: str, survivors: list[str], seed: int, *, lone: bool = False
) -> list[str]:
    """Cut the power once for each entry of `survivors`, on one store. Returns the first faults that are seen."""
    chance = random.Random(seed)
    load = Load(seed, lone=lone)
    checker = Checker(load.ledger)
    config = f'jetstream {{ sync_interval: "{sync}" }}'
    with Forgetful(directory / "disk", directory / "mount") as disk:
        server = ServerProcess(directory, store=disk.mount / "store", config=config)
        with server:
            await load.set_up(server.port)
            for survivor in survivors:
                async with load.running(server):
                    await load.acks(1000)
                    await asyncio.sleep(chance.random() / 4)
                    disk.cut(survivor, chance.randrange(1000))
                    server.kill()
                disk.start()
                try:
                    server.start()
                except RuntimeError as error:
                    return [str(error)]
                if faults := await checker.check(server.port):
                    return faults
            await load.finish(server.url)
            return await checker.check(server.port, whole=True) + checker.consumed()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("cuts", [5, pytest.param(50, marks=pytest.mark.soak)])
async def test_power_cut_loses_nothing_acked(tmp_path: Path, cuts: int) -> None:
    """Whether all that was not fsynced is gone, or a random part of its pages arrived."""
    survivors = [("none", "some")[number % 2] for number in range(cuts)]

    assert await cut_and_check(tmp_path, "always", survivors, seed=cuts) == []


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("cuts", [2, pytest.param(20, marks=pytest.mark.soak)])
async def test_power_cut_loses_nothing_of_lone_publishers(tmp_path: Path, cuts: int) -> None:
    """Their commits are in the journal until LMDB takes over."""
    survivors = [("none", "some")[number % 2] for number in range(cuts)]

    assert await cut_and_check(tmp_path, "always", survivors, seed=cuts, lone=True) == []


@pytest.mark.parametrize("survivor", ["none", "some"])
async def test_power_cut_costs_something_without_fsync(tmp_path: Path, survivor: str) -> None:
    """Else the test above would prove nothing; and whatever is left, the server says what is wrong with it."""
    faults = await cut_and_check(tmp_path, "never", [survivor], seed=1)

    assert faults != []
    assert "Traceback" not in str(faults)
