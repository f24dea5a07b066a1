"""kill -9 at random moments under load."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from tests.faults.checker import Checker
from tests.faults.load import Load
from tests.process import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("lone", "sync"), [(False, "always"), (True, "always"), (True, "2m")])
@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.soak)])
async def test_kill_loses_and_doubles_nothing(tmp_path: Path, kills: int, lone: bool, sync: str) -> None:
    """Every acked message is there once, in order, at its sequence; consumers go on behind what they had confirmed."""
    chance = random.Random(kills)
    load = Load(lone=lone)
    checker = Checker(load.ledger)
    with ServerProcess(tmp_path, config=f'jetstream {{ sync_interval: "{sync}" }}') as server:
        await load.set_up(server.port)
        for _ in range(kills):
            async with load.running(server):
                await load.acks(100)
                await asyncio.sleep(chance.random() / 3)
                server.kill()
            server.start()

            assert await checker.check(server.port) == []
        await load.finish(server.url)

        assert await checker.check(server.port, whole=True) == []
        assert checker.consumed() == []
        assert load.ledger.refused == []
        assert "Traceback" not in server.log()
        assert server.stop() == 0
