"""Logs against a naive model, on disk and in memory."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamd._engine import Records
from streamd.store import MemoryLog, Outcome, Sync, Work, checkpoint_due
from tests.store.conftest import Store
from tests.store.records import pair, records, sequence

# Steps: append some records behind a gap, delete, delete a range, keep from, commit.
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 40), st.integers(0, 2)),
        st.tuples(st.just("delete"), st.lists(st.integers(1, 200), max_size=20, unique=True), st.just(0)),
        st.tuples(st.just("range"), st.integers(1, 200), st.integers(0, 60)),
        st.tuples(st.just("keep"), st.integers(1, 200), st.just(0)),
        st.tuples(st.just("commit"), st.just(0), st.just(0)),
    ),
    max_size=25,
)


@settings(deadline=None, max_examples=60)
@given(steps=_steps, cache=st.sampled_from([0, 3000, 1 << 20]), size=st.sampled_from([0, 300, 3000, 9000]))
def test_log_holds_what_the_model_holds(steps: list[tuple[str, object, int]], cache: int, size: int) -> None:
    """Appends, deletes, ranges and trims in any order, in any grouping, with a cache and packs of any size."""
    with tempfile.TemporaryDirectory() as directory:
        store = Store(Path(directory), sync=Sync("never"), cache=cache)
        log, memory = store.create(1), MemoryLog(1)
        model: dict[int, bytes] = {}
        committed: dict[int, bytes] = {}
        last = 0
        work = Work()
        for kind, first, second in [*steps, ("commit", 0, 0)]:
            if kind == "append":
                assert isinstance(first, int)
                new = records(last + 1 + second, last + 1 + second + first, b"x" * size)
                last += first + second
                log.append(work, new)
                memory.append(work, new)
                model.update({sequence(value): value for _, value in new})
            elif kind == "delete":
                assert isinstance(first, list)
                keys = [number.to_bytes(8, "big") for number in sorted(first) if number <= last]
                log.delete(work, keys)
                memory.delete(work, keys)
                for number in first:
                    model.pop(number, None)
            elif kind in ("range", "keep"):
                assert isinstance(first, int)
                low, high = (0, min(first, last + 1)) if kind == "keep" else (first, min(first + second, last + 1))
                if kind == "keep":
                    log.keep_from(work, high)
                    memory.keep_from(work, high)
                else:
                    log.delete_range(work, low, high)
                    memory.delete_range(work, low, high)
                model = {number: value for number, value in model.items() if not low <= number < high}
            else:
                store.commit(work)
                work = Work()
                committed = dict(model)
            expected = [committed[number] for number in sorted(committed)]
            # What is staged to go isn't read any more, what is staged to come not yet.
            readable = [committed[number] for number in sorted(committed) if number in model]

            assert log.read(0) == readable
            assert memory.read(0) == [model[number] for number in sorted(model)]
            for start in (1, last // 2, last):
                seen = log.read(start, 7)
                rest = [value for value in readable if sequence(value) >= start]
                assert seen == rest[: len(seen)]
                assert bool(seen) == bool(rest)
                if kind == "commit":
                    assert len(seen) == min(7, len(rest))
                assert log.get(start) == committed.get(start)
                assert memory.get(start) == model.get(start)
            assert log.get_many([last, 1, 3]) == [committed.get(last), committed.get(1), committed.get(3)]
            assert log.count() == len(expected)
        store.close()


def test_read_keeps_to_its_byte_limit(store: Store) -> None:
    """A consumer asks for what it can send; one record always comes, else nothing ever would."""
    log = store.create(1)
    stored = list(records(1, 1000, b"x" * 100))
    work = Work()
    log.append(work, Records(stored))
    store.commit(work)
    size = len(stored[0][1])
    for _ in range(2):
        assert [value for _, value in stored[:10]] == log.read(1, 1000, 10 * size + 5)
        assert [stored[4][1]] == log.read(5, 1000, 1)
        assert [value for _, value in stored[99:]] == log.read(100, 5000)
        store.cache.forget(1)


def test_works_of_one_group_apply_in_order(store: Store) -> None:
    """What one work appends, the next may delete; both may share a commit."""
    log = store.create(1)
    order: list[int] = []
    first, second = Work(), Work()
    log.append(first, records(1, 11))
    log.delete(second, [pair(3)[0]])
    log.keep_from(second, 3)

    def submit_more(outcome: Outcome) -> None:
        order.append(0)
        store.writer.submit(first, lambda outcome: order.append(1))
        store.writer.submit(second, lambda outcome: order.append(2))
        assert order == [0]

    store.writer.submit(Work(), submit_more)

    assert order == [0, 1, 2]
    assert [sequence(value) for value in log.read(1)] == [4, 5, 6, 7, 8, 9, 10]


def test_dropped_stream_leaves_nothing(store: Store) -> None:
    """Its number may be used again."""
    log, other = store.create(1), store.create(11)
    for one in (log, other):
        work = Work()
        one.append(work, records(1, 100))
        part = one.of(work)
        part.totals, part.ids, part.checkpoint = b"t", [b"i"], b"c"
        part.consumers[7], part.consumer_states[7] = b"{}", b"s"
        store.commit(work)
    store.change(log, lambda part: setattr(part, "drop", True))
    work = Work()
    work.of(1).consumer_states[7] = b"late"
    store.commit(work)

    assert list(store.environment.databases) == [11]
    with store.environment.read() as txn:
        assert txn.stat(store.environment.meta)["entries"] == 6 + 3
    again = store.create(1)

    assert again.read(1) == []
    assert other.count() == 99


@pytest.mark.parametrize(
    ("changes", "subjects", "due"), [(249_999, 1, False), (250_000, 1, True), (300_000, 200_000, False)]
)
def test_checkpoints_come_in_proportion(changes: int, subjects: int, due: bool) -> None:
    """A checkpoint costs as much as there are subjects."""
    assert due == checkpoint_due(changes, subjects)
