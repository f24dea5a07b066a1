"""The stored form of the meta group's state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streamd.state.meta import MetaState
from streamd.streams.replication.metagroup import STATE_ROW
from streamd.streams.replication.replica import APPLIED, APPLIED_ROW
from tests.replication.test_rejoin import filled, whole
from tests.replication.world import World

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamd.store import Work


@pytest.mark.parametrize("first", ["state", "try"])
def test_a_try_leaves_the_state_that_is_being_stored(first: str) -> None:
    """How far the state is that is stored stands beside it, whatever shares its commit."""
    with World(1) as world:
        acked = filled(world)
        server = world.meta_leader()
        assert server is not None
        meta = server.replication.meta
        assert meta._stored < meta.applied
        stored: list[tuple[dict[str, object], int]] = []

        def written(works: Iterable[Work]) -> None:
            for work in works:
                part = work.logs.get(meta.journal_id)
                if part is not None and STATE_ROW in part.consumers:
                    state = MetaState.decode(part.consumers[STATE_ROW])
                    stored.append((dict(state.streams), *APPLIED.unpack(part.consumer_states[APPLIED_ROW])))

        server.disk.written = written
        calls = [meta.store, meta.try_to_store]
        for call in calls if first == "state" else reversed(calls):
            call(lambda error: None)
        applied = meta.applied
        world.until(lambda: stored, what="the state")
        assert stored == [(meta.state.streams, applied)]
        server.kill()
        server.start()
        assert server.replication.meta.applied >= applied
        whole(world, acked)


def test_a_try_is_answered_once_nothing_else_is_stored() -> None:
    """Else whoever asked tries again later."""
    with World(1) as world:
        filled(world)
        server = world.meta_leader()
        assert server is not None
        heard: list[Exception | None] = []
        server.replication.meta.try_to_store(heard.append)
        world.until(lambda: heard, what="an answer")
        assert heard == [None]
