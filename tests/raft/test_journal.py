"""The journal against a naive model, on a disk that fails and a node that crashes; and on the real store."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamd.raft import Config, Fixes, JournalDamaged, Options, Storage, define
from streamd.raft.envelope import CONFIG
from streamd.raft.journal import Journal
from streamd.raft.storage import BASE
from streamd.store import Environment, Outcome, StreamLog, Sync, TailCache, Work, Writer, recover
from tests.raft.doubles import FULL, MS, Disk, NodeClock, World

if TYPE_CHECKING:
    from pathlib import Path

    from streamd.raft.storage import Job

_CONFIG = bytes((CONFIG,))


class Place:
    """A journal on a simulated disk."""

    def __init__(self, options: Options | None = None, seed: int = 1) -> None:
        self.world = World(seed)
        self.disk = Disk(self.world, {})
        self.options = options or Options()
        self.changes = 0
        self.open()

    def open(self) -> None:
        self.clock = NodeClock(self.world, 0)
        self.disk.clock = self.clock
        self.journal = Journal("g", self.disk.storage("g"), self.disk.at_rest, self.clock, self.options, self.changed)

    def changed(self) -> None:
        self.changes += 1

    def crash(self, *, lucky: bool | None = None) -> None:
        self.clock.alive = False
        self.journal.close()
        self.disk.crash(lucky=lucky)
        self.open()


def contents(journal: Journal) -> list[tuple[int, int, bytes]]:
    """Everything above the base."""
    terms = journal.terms
    found: list[tuple[int, int, bytes]] = []
    index = terms.base + 1
    while index <= terms.last:
        for term, command in journal.entries(index, 50):
            found.append((index, term, command))
            index += 1
    return found


def everything(journal: Journal) -> tuple[object, ...]:
    """All that a restart must bring back."""
    return contents(journal), journal.terms.base, journal.config, journal.term, journal.vote, journal.bytes


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 4), st.integers(0, 30)),
        st.tuples(st.just("config"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("cut"), st.integers(1, 5), st.just(0)),
        st.tuples(st.just("trim"), st.integers(0, 20), st.just(0)),
        st.tuples(st.just("rebase"), st.integers(1, 9), st.just(0)),
        st.tuples(st.just("term"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("run"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("fail"), st.integers(0, 1), st.just(0)),
        st.tuples(st.just("crash"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=150)
@given(_steps, st.integers(0, 3))
def test_memory_store_and_model_agree(steps: list[tuple[str, int, int]], seed: int) -> None:
    """Whatever is done in whatever order; after a crash it is what was durable, or what was under way on top of it."""
    place = Place(Options(recent_bytes=40, tail_bytes=60), seed)
    model: list[tuple[int, int, bytes]] = []
    term = base = 0
    number = 0
    for what, first, second in steps:
        journal = place.journal
        last = model[-1][0] if model else base
        if what == "add":
            for _ in range(first):
                number += 1
                last = journal.add(b"\0" + b"%d" % number + b"x" * second, term)
                model = [*model, (last, term, b"\0" + b"%d" % number + b"x" * second)]
        elif what == "config":
            command = _CONFIG + Config(("a", "b")[:first]).encode()
            model = [*model, (journal.add(command, term), term, command)]
        elif what == "cut" and last - first + 1 > base:
            journal.truncate(last - first + 1)
            model = model[:-first]
        elif what == "trim":
            journal.trim(base + first)
            assert journal.terms.base <= max(base, min(base + first, journal.synced_index))
            base = journal.terms.base
            model = [entry for entry in model if entry[0] > base]
        elif what == "rebase":
            journal.rebase(last + first, term, Config(("a",), ("b",)))
            base, model = last + first, []
        elif what == "term":
            term += first
            journal.set_term(term, "a" if first else None)
        elif what == "run":
            place.world.run(first * MS)
        elif what == "fail":
            place.disk.failing = FULL if first else None
        elif what == "crash":
            durable = journal.synced_index
            before = [entry for entry in contents(journal) if entry[0] <= durable]
            place.crash()
            journal = place.journal
            if journal.terms.base <= durable:
                # What was under way may have trimmed, or not; it can't have changed what was durable as it stood.
                low = max(base, journal.terms.base)
                after = [entry for entry in contents(journal) if entry[0] <= durable]
                assert [entry for entry in before if entry[0] > low] == [entry for entry in after if entry[0] > low]
            base, model, term = journal.terms.base, contents(journal), max(journal.term, journal.terms.last_term)
        assert contents(journal) == model
        assert journal.bytes == sum(len(command) for _, _, command in model)
        configs = [Config.decode(command[1:]) for _, _, command in model if command[:1] == _CONFIG]
        assert not configs or journal.config == configs[-1]
    place.disk.failing = None
    place.world.run(5_000 * MS)
    journal = place.journal

    assert journal.synced_seq == journal.seq
    assert journal.synced_index == journal.terms.last
    assert not journal.failing

    model, base, config = contents(journal), journal.terms.base, journal.config
    term, vote = journal.term, journal.vote
    # A trim alone isn't written: bring one more write.
    journal.set_term(term, vote)
    place.world.run(5 * MS)
    place.crash()
    journal = place.journal

    assert (contents(journal), journal.terms.base, journal.config) == (model, base, config)
    assert (journal.term, journal.vote) == (max(term, journal.terms.last_term), vote)


def test_writes_between_two_commits_share_one() -> None:
    place = Place()
    journal = place.journal
    journal.set_term(3, "a")
    for number in range(5):
        journal.add(b"\0%d" % number, 3)
    journal.truncate(4)
    journal.add(b"\0other", 3)
    place.world.run(10 * MS)

    assert len(place.disk.works) == 1
    assert sorted(place.disk.stream("g").records) == [1, 2, 3, 4]


def test_truncation_and_what_replaces_it_are_one_work() -> None:
    place = Place()
    journal = place.journal
    for number in range(5):
        journal.add(b"\0%d" % number, 1)
    place.world.run(10 * MS)
    journal.truncate(3)
    journal.add(b"\0other", 2)
    place.world.run(10 * MS)
    (part,) = place.disk.works[-1].logs.values()

    assert part.truncate_from == 3
    assert [len(records) for records in part.appends] == [1]


def test_commit_hint_costs_no_commit() -> None:
    place = Place()
    journal = place.journal
    journal.add(b"\0", 1)
    place.world.run(10 * MS)
    journal.commit = 1
    place.world.run(10 * MS)
    assert len(place.disk.works) == 1
    journal.add(b"\0", 1)
    place.world.run(10 * MS)
    place.crash()

    assert place.journal.commit == 1


def test_failed_commit_is_tried_again_with_pauses() -> None:
    place = Place()
    place.disk.failing = FULL
    place.journal.add(b"\0", 1)
    place.world.run(5 * MS)
    assert (place.journal.failing, place.changes) == (True, 1)
    place.world.run(1_000 * MS)
    assert place.changes == 4  # after 100, 200 and 400 ms
    place.journal.add(b"\0", 1)
    place.disk.failing = None
    place.world.run(1_000 * MS)

    assert (place.journal.failing, place.journal.synced_index) == (False, 2)


def test_without_the_transaction_a_log_is_left_that_never_was() -> None:
    """What `atomic_truncation` is for: a crash in between leaves the old tail behind the new entries."""
    place = Place(Options(fixes=Fixes(atomic_truncation=False)))
    journal = place.journal
    for number in range(5):
        journal.add(b"\0%d" % number, 1)
    place.world.run(10 * MS)
    journal.truncate(2)
    journal.add(b"\0other", 2)
    place.world.run(10 * MS, lambda: len(place.disk.works) == 2)
    with pytest.raises(JournalDamaged, match="entry 3 of term 1 behind term 2"):
        place.crash(lucky=False)


def test_base_without_its_entry_is_damage() -> None:
    place = Place()
    place.journal.rebase(7, 2, Config(("a",)))
    place.world.run(10 * MS)
    storage = place.disk.storage("g")
    assert BASE in storage.states
    place.disk.stream("g").records.clear()

    with pytest.raises(JournalDamaged, match="entry 7 is missing"):
        place.crash()


# --- the real store


class Real:
    """A journal in LMDB."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.options = Options(recent_bytes=2_000, tail_bytes=20_000)
        self.open()

    def open(self) -> None:
        self.environment = Environment.open(self.directory, sync=Sync("always"), map_bytes=1 << 28)
        self.writer = Writer(self.environment)  # in line
        self.jobs: list[Job] = []
        stored = {found.stream: found for found in recover(self.environment)}
        log = StreamLog(self.environment, TailCache(), 7)
        if 7 not in stored:
            work = Work()
            define(work, 7, "g", uid="x")
            self.submit(work)
            storage = Storage(log)
        else:
            assert stored[7].damage is None
            assert stored[7].name == "g"
            storage = Storage.found(log, stored[7])
        clock = NodeClock(World(1), 0)
        self.journal = Journal("g", storage, self.jobs.append, clock, self.options, lambda: None)

    def submit(self, work: Work) -> Outcome:
        outcomes: list[Outcome] = []
        self.writer.submit(work, outcomes.append)
        assert outcomes[0].error is None
        return outcomes[0]

    def commit(self) -> Outcome:
        jobs, self.jobs[:] = list(self.jobs), []
        work = Work()
        after = [call for job in jobs if (call := job(work)) is not None]
        outcome = self.submit(work)
        for call in after:
            call(outcome)
        return outcome

    def kill(self) -> None:
        """Nothing is closed that a process would close."""
        self.environment.close()
        self.open()


def test_journal_in_the_store_survives_kills(tmp_path: Path) -> None:
    """Appends, cuts, trims and states installed, with commits to LMDB and to the store's small journal, and kills between."""
    rng = random.Random(3)
    real = Real(tmp_path / "store")
    term, kinds = 1, set()
    real.journal.set_term(term, None)
    for step in range(400):
        journal = real.journal
        chance = rng.random()
        last, base = journal.terms.last, journal.terms.base
        if chance < 0.7:
            for _ in range(rng.randint(1, 3)):
                journal.add(b"\0" + rng.randbytes(rng.choice((10, 200, 3_000))), term)
        elif chance < 0.8 and last - base > 3:
            term += 1
            journal.set_term(term, "b")
            journal.truncate(last - rng.randint(0, 2))
            journal.add(b"\0" + b"y" * 20, term)
        elif chance < 0.9:
            journal.trim(last - 1)
        elif chance < 0.92:
            journal.rebase(last + 5, term, Config(("a", "b", f"n{step}")))
        kinds.add(real.commit().commit == 0)
        if rng.random() < 0.2:
            # A trim alone isn't written.
            journal.set_term(term, "b")
            real.commit()
            expected = everything(journal)
            real.kill()

            assert everything(real.journal) == expected
    assert kinds == {True, False}
    real.writer.close()
    real.environment.close()
