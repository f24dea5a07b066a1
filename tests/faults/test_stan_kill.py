"""kill -9 and power cuts at random moments under a load of NATS Streaming's clients."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from tests.faults.stan_checker import StanChecker
from tests.faults.stan_load import STREAMING, StanLoad, Watched
from tests.store.forgetful import Forgetful

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.mark.timeout(900)
@pytest.mark.parametrize("lone", [False, True])
@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=pytest.mark.soak)])
async def test_kill_loses_nothing(tmp_path: Path, kills: int, lone: bool) -> None:
    """Every acked publish is there once, in order; who subscribes hears all of it, and nothing that was stored as acked.

    What was heard or acked within the last two commits before a kill may come again, as new: stan_load says why no more.
    """
    chance = random.Random(kills)
    load = StanLoad(lone=lone)
    checker = StanChecker(load)
    with Watched(tmp_path, STREAMING) as server:
        await load.set_up(server.port)
        for _ in range(kills):
            async with load.running(server):
                await load.acks(100)
                await asyncio.sleep(chance.random() / 3)
                server.kill()
            server.start()

            assert await checker.check(server.port) == []
        assert await load.finish(server, checker.stored) == []
        assert await checker.check(server.port, whole=True) == []
        assert load.ledger.refused == []
        assert all(group.sent and group.confirmed for group in load.groups)
        assert "Traceback" not in server.log()
        assert server.stop() == 0


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("fuse_mounts")
@pytest.mark.parametrize("cuts", [2, pytest.param(30, marks=pytest.mark.soak)])
async def test_power_cut_loses_nothing(tmp_path: Path, cuts: int) -> None:
    """The same where all that was not fsynced is gone, or a random part of it arrived."""
    chance = random.Random(cuts)
    load = StanLoad()
    checker = StanChecker(load)
    with Forgetful(tmp_path / "disk", tmp_path / "mount") as disk:
        streaming = f'store: file\ndir: "{disk.mount / "stan"}"\n{STREAMING}'
        with Watched(tmp_path, streaming) as server:
            await load.set_up(server.port)
            for number in range(cuts):
                async with load.running(server):
                    await load.acks(500)
                    await asyncio.sleep(chance.random() / 4)
                    disk.cut(("none", "some")[number % 2], chance.randrange(1000))
                    server.kill()
                disk.start()
                server.start()

                assert await checker.check(server.port) == []
            assert await load.finish(server, checker.stored) == []
            assert await checker.check(server.port, whole=True) == []
            assert server.stop() == 0
