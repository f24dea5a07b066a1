"""The store and the real index together: what was admitted is there after a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from streamd import _engine
from streamd.store import StreamLog, Sync, Work, recover, restore_state
from tests.store.conftest import Store

if TYPE_CHECKING:
    from pathlib import Path

    from streamd._engine import StreamState

pytestmark = pytest.mark.skipif(not hasattr(_engine.Engine, "tap"), reason="the engine has no taps yet")


class Publisher:
    """Publishes into a stream's index and log as `streams/` does."""

    def __init__(self, store: Store, log: StreamLog, state: StreamState) -> None:
        self.engine = _engine.Engine()
        self.tap = self.engine.tap("A")
        self.engine.tap_add(self.tap, "x.>")
        self.store, self.log, self.state = store, log, state

    def publish(self, count: int, *, checkpoint: bool = False) -> None:
        for number in range(count):
            self.engine.publish("A", f"x.{number % 10}", b"payload %d" % number)
        self.engine.flush()
        batch = self.engine.take(self.tap)
        assert batch is not None
        admission = self.state.admit(batch, 1_000)
        work = Work()
        self.log.append(work, admission.records)
        self.log.delete(work, admission.deletes)
        while self.state.over():
            first = self.state.first_seq
            self.state.trim(self.log.read(first) or admission.records.read(first, count), 1_000)
            self.log.keep_from(work, self.state.first_seq)
        part = self.log.of(work)
        part.delta(*self.state.delta())
        part.ids += [admission.ids] if admission.ids else []
        if checkpoint:
            part.checkpoint = self.state.checkpoint()
        self.store.commit(work)


@pytest.mark.parametrize("options", [{}, {"max_msgs": 70}, {"max_msgs_per_subject": 4}])
def test_state_comes_back_as_it_was(tmp_path: Path, options: dict[str, Any]) -> None:
    """Counts, bounds and holes, with and without limits, over two restarts of which one is unclean."""
    store = Store(tmp_path, sync=Sync("never"))
    publisher = Publisher(store, store.create(1), _engine.StreamState("S", **options))
    for step in range(6):
        publisher.publish(30, checkpoint=step == 2)
    for clean in (False, True):
        before = publisher.state
        log = StreamLog(store.environment, store.cache, 1)
        gone = log.get(before.last_seq - 1)
        assert gone is not None
        before.remove([gone])
        work = Work()
        log.delete(work, [_engine.record_key(before.last_seq - 1)])
        log.of(work).delta(*before.delta())
        store.commit(work)
        if clean:
            store.writer.close()
        store.environment.close()
        store = Store(tmp_path, sync=Sync("never"))
        (stored,) = recover(store.environment)
        log = StreamLog(store.environment, store.cache, 1)
        after = restore_state(store.environment, stored, log, **options)

        for name in (
            "messages",
            "bytes",
            "first_seq",
            "last_seq",
            "num_subjects",
            "num_deleted",
            "last_ts_ns",
        ):
            assert getattr(after, name) == getattr(before, name), name
        assert after.subjects(">", 0, 100) == before.subjects(">", 0, 100)
        assert log.count() == after.messages
        publisher = Publisher(store, log, after)
        publisher.publish(40)
    store.close()
