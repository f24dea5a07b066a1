"""Time, network and disk of the simulator: what a world may rely on."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import pytest

from streamd._engine import CorruptRecord, Records, record_decode, record_encode
from streamd.errors import StoreError, StoreFull
from streamd.raft.journal import term_and_vote
from streamd.raft.storage import TERM_AND_VOTE
from streamd.sim.clock import MS, SECOND, Life, NodeClock, Time
from streamd.sim.disk import Disk
from streamd.sim.ledger import Ledger
from streamd.sim.network import CHAOS, ORDERED, Network, Weather
from streamd.sim.violation import Violation
from streamd.sim.watched import WatchedHost
from streamd.store import LogWork, Outcome, StreamLog, TailCache, Work, recover
from tests.raft.lab import Lab, no_op, regular

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamd.sim.network import SimNet
    from streamd.store import Environment

CALM = Weather(loss=0, duplicates=0, late=0)


def entries(*pairs: tuple[int, int], text: bytes = b"x") -> Records:
    """Entries of a journal as (index, term)."""
    return Records([(index.to_bytes(8, "big"), record_encode(index, term, "", b"", text)) for index, term in pairs])


# time


def test_calls_come_by_time_and_then_by_order() -> None:
    """A history is the same each time it is lived through."""
    time, seen = Time(), list[str]()
    clock = NodeClock(time, Life())
    clock.call_later(2 * MS, lambda: seen.append("c"))
    clock.call_later(MS, lambda: seen.append("a"))
    clock.call_later(MS, lambda: seen.append("b"))
    clock.call_later(MS, lambda: seen.append("never")).cancel()
    time.run(SECOND)

    assert seen == ["a", "b", "c"]
    assert time.now_ns == SECOND


def test_a_life_that_is_over_does_nothing_and_a_paused_one_does_it_later() -> None:
    """A killed process says nothing more; a stopped one wakes up with everything still to do."""
    time, seen = Time(), list[tuple[str, int]]()
    dead, paused = Life(), Life()
    NodeClock(time, dead).call_later(MS, lambda: seen.append(("dead", time.now_ns)))
    NodeClock(time, paused).call_later(MS, lambda: seen.append(("paused", time.now_ns)))
    dead.over = True
    paused.paused_until_ns = 5 * MS
    time.run(SECOND)

    assert seen == [("paused", 5 * MS)]


@pytest.mark.parametrize("resumed", [False, True], ids=["prolonged", "resumed"])
def test_what_a_pause_held_back_keeps_its_order(resumed: bool) -> None:
    """However long the pause becomes; and it comes before anything that happens once the process goes on."""
    time, seen = Time(), list[str]()
    life = Life()
    life.paused_until_ns = 5 * MS
    time.at(2 * MS, lambda: seen.append("second"), life)
    time.at(MS, lambda: seen.append("first"), life)
    time.run(3 * MS)
    ends_ns = 4 * MS if resumed else 7 * MS
    time.at(ends_ns, lambda: seen.append("third"), life)
    if resumed:
        time.run(ends_ns)
        assert seen == []
        time.resume(life)
    else:
        life.paused_until_ns = ends_ns
    time.run(ends_ns)

    assert seen == ["first", "second", "third"]


def test_a_clock_that_jumps_moves_no_timer() -> None:
    """Only the wall's time jumps."""
    time, seen = Time(), list[int]()
    clock = NodeClock(time, Life(), offset_ns=SECOND)
    before = clock.now_ns()
    clock.call_later(MS, lambda: seen.append(time.now_ns))
    clock.offset_ns = -SECOND
    time.run(2 * MS)

    assert clock.now_ns() - before == -2 * SECOND + 2 * MS
    assert clock.monotonic_ns() == 2 * MS
    assert seen == [MS]


# network


def joined(weather: Weather, *nodes: str) -> tuple[Time, Network, list[SimNet]]:
    time = Time()
    network = Network(time, random.Random(1), weather, Counter())
    nets = []
    for node in nodes:
        life = Life()
        nets.append(network.join(node, NodeClock(time, life), life))
    time.run(100 * MS)
    return time, network, nets


def test_frames_and_calls_arrive() -> None:
    """And the answer comes back; a call that nobody serves ends with its time."""
    time, _, (a, b) = joined(CALM, "a#1", "b#1")
    frames, answers = list[bytes](), list[bytes | None]()
    b.on_frame(frames.append)
    b.serve("echo", lambda asker, payload, answer: answer(asker.encode() + payload))
    a.send("b#1", b"hello")
    a.call("b#1", "echo", b"!", answers.append, timeout_ns=SECOND)
    a.call("b#1", "nothing", b"", answers.append, timeout_ns=SECOND)
    time.run(2 * SECOND)

    assert frames == [b"hello"]
    assert answers == [b"a#1!", None]


def test_an_answer_to_a_process_that_ended_is_none_to_the_next() -> None:
    """Chaos brings it to the node, which lives again and has asked somebody else meanwhile, as often as before."""
    time, network, (a, b, _) = joined(CALM, "a#1", "b#1", "c#1")
    waiting: list[Callable[[bytes], None]] = []
    answers = list[bytes | None]()
    b.serve("late", lambda _asker, _payload, answer: waiting.append(answer))
    a.call("b#1", "late", b"", answers.append, timeout_ns=SECOND)
    time.run(time.now_ns + 10 * MS)
    a.life.over = True
    network.leave("a#1")
    life = Life()
    a = network.join("a#1", NodeClock(time, life), life)
    time.run(time.now_ns + 100 * MS)
    assert "a#1" in b.linked()
    a.call("c#1", "silence", b"", answers.append, timeout_ns=SECOND)
    (answer,) = waiting
    answer(b"of b")
    time.run(time.now_ns + 2 * SECOND)

    assert answers == [None]


def test_nothing_passes_a_cut_way_and_the_other_way_stays_open() -> None:
    """One-way partitions are real."""
    time, network, (a, b) = joined(CALM, "a#1", "b#1")
    seen = list[bytes]()
    a.on_frame(seen.append)
    b.on_frame(seen.append)
    network.cut([("a", "b")], breaks=False)
    a.send("b#1", b"to b")
    b.send("a#1", b"to a")
    time.run(SECOND)
    network.heal()
    a.send("b#1", b"to b again")
    time.run(2 * SECOND)

    assert seen == [b"to a", b"to b again"]


def test_links_of_a_process_that_ended_come_back_with_the_next() -> None:
    """Whether or not the other side ever heard that it had gone."""
    time, network, (a, _) = joined(CALM, "a#1", "b#1")
    network.leave("b#1")
    time.run(10 * SECOND)
    life = Life()
    b = network.join("b#1", NodeClock(time, life), life)
    time.run(11 * SECOND)

    assert a.linked() == {"b#1"}
    assert b.linked() == {"a#1"}


def test_ordered_weather_keeps_the_order_and_chaos_does_not() -> None:
    """Raft over streams, and over anything."""
    orders = []
    for weather in (ORDERED, CHAOS):
        time, _, (a, b) = joined(weather, "a#1", "b#1")
        seen = list[bytes]()
        b.on_frame(seen.append)
        for number in range(200):
            a.send("b#1", b"%3d" % number)
        time.run(2 * SECOND)
        orders.append(seen)

    assert orders[0] == [b"%3d" % number for number in range(200)]
    assert orders[1] != sorted(orders[1])
    assert len(set(orders[1])) < 200
    assert len(orders[1]) > len(set(orders[1]))


@pytest.mark.parametrize("resumed", [False, True], ids=["prolonged", "resumed"])
def test_a_paused_process_hears_of_a_connection_before_what_comes_on_it(resumed: bool) -> None:
    """A stream has no holes, whatever becomes of a pause: interest that is lost is never told again."""
    time, network, (a,) = joined(CALM, "a#1")
    seen = list[int | bytes | None]()
    numbers = list[int | None]()
    a.on_stream(lambda _node, number: numbers.append(number), lambda _node, _number, _data: None)
    life = Life()
    life.paused_until_ns = time.now_ns + 200 * MS
    b = network.join("b#1", NodeClock(time, life), life)
    b.on_stream(lambda _node, number: seen.append(number), lambda _node, _number, data: seen.append(data))

    time.run(time.now_ns + 100 * MS)
    number = numbers[-1]
    assert number is not None
    a.stream("b#1", number, b"first")
    time.run(time.now_ns + 50 * MS)
    if resumed:
        time.resume(life)
    else:
        life.paused_until_ns += 100 * MS
    a.stream("b#1", number, b"second")
    time.run(time.now_ns + SECOND)

    assert seen == [number, b"first", b"second"]


# disk


class Stored:
    """A disk with a log on it."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.time = Time()
        self.disk = Disk(directory, random.Random(seed), Counter())
        self.written = 0
        self.disk.written = self.note
        self.outcomes: list[Outcome] = []
        self.begin()

    def begin(self) -> None:
        environment, self.writer = self.disk.start(NodeClock(self.time, Life()))
        self.log = StreamLog(environment, TailCache(), 1)
        self.environment: Environment = environment

    def note(self, works: list[Work]) -> None:
        self.written += sum(1 for work in works for part in work.logs.values() if part.appends)

    def define(self) -> None:
        work = Work()
        self.log.of(work).definition = b'{"name": "A"}'
        self.writer.submit(work, self.outcomes.append)
        self.writer.settle()

    def append(self, index: int) -> None:
        work = Work()
        self.log.append(work, entries((index, 1)))
        self.writer.submit(work, self.outcomes.append)


def test_a_crash_keeps_what_was_done_and_a_beginning_of_the_rest(ram: Path) -> None:
    """Commits are told after their fsync, and those under way may or may not be there."""
    kept = set()
    for seed in range(20):
        life = Stored(ram / str(seed), seed)
        life.define()
        for index in range(1, 4):
            life.append(index)
        life.time.run(SECOND)
        assert [outcome.error for outcome in life.outcomes] == [None] * 4
        for index in range(4, 9):
            life.append(index)
        life.disk.stop()
        life.begin()
        found = [int.from_bytes(value[5:13], "little") for value in life.log.read(1)]
        life.disk.stop()

        assert found == list(range(1, len(found) + 1))
        assert 3 <= len(life.outcomes) - 1 <= len(found) == life.written
        kept.add(len(found))

    assert len(kept) > 3


def test_a_full_disk_refuses_and_recovers(ram: Path) -> None:
    """Nothing of a refused work is there, and what follows it goes on."""
    life = Stored(ram / "disk", 1)
    life.define()
    life.disk.full = True
    life.append(1)
    life.time.run(SECOND)
    life.disk.full = False
    life.append(1)
    life.time.run(2 * SECOND)
    life.disk.stop()

    assert [type(outcome.error) for outcome in life.outcomes] == [type(None), StoreFull, type(None)]
    assert life.written == 1


def test_flipped_bits_are_found_or_harm_nothing(ram: Path) -> None:
    """The store never hands out what wasn't written. Only the end of the journal can't be told from what was cut short."""
    found = 0
    for seed in range(60):
        life = Stored(ram / str(seed), seed)
        life.define()
        for index in range(1, 30):
            life.append(index)
            life.time.run(life.time.now_ns + 100 * MS)
        journaled = life.writer.journaled.logs
        taken_over = 29 - (len(journaled[1].appends[0]) if journaled else 0)
        life.disk.stop(flip=True)
        try:
            life.begin()
            damages = [stored.damage for stored in recover(life.environment) if stored.damage is not None]
            found += 1 if damages else damaged(life.log.read(1), taken_over)
        except (StoreError, CorruptRecord):
            found += 1
        life.disk.stop()

    assert 5 < found < 60


def damaged(values: list[bytes], at_least: int) -> bool:
    """Whether the log of that test is not what was written, and the checksums say so."""
    try:
        records = [record_decode(value) for value in values]
    except CorruptRecord:
        return True
    assert at_least <= len(records) <= 29
    assert [(record.sequence, record.payload) for record in records] == [
        (at, b"x") for at in range(1, len(records) + 1)
    ]
    return False


# ledger


def wrote(ledger: Ledger, node: str, *pairs: tuple[int, int], text: bytes = b"x", truncate_from: int = 0) -> None:
    part = LogWork(1, truncate_from=truncate_from)
    part.appends.append(entries(*pairs, text=text))
    ledger.wrote(node, part)


def test_ledger_sees_logs_that_do_not_match() -> None:
    """Equal index and term, another entry, or another one before."""
    ledger = Ledger("A", Counter())
    wrote(ledger, "a", (1, 1), (2, 1), (3, 2))
    wrote(ledger, "b", (1, 1), (2, 1))
    with pytest.raises(Violation, match="another entry 3 of term 2"):
        wrote(ledger, "b", (3, 2), text=b"y")
    wrote(ledger, "c", (1, 1), (2, 2))
    with pytest.raises(Violation, match="term 2 before entry 3"):
        wrote(ledger, "c", (3, 2))
    with pytest.raises(Violation, match="behind one of term 2"):
        wrote(ledger, "c", (2, 2), (3, 1), truncate_from=2)


def test_ledger_sees_commits_that_change_or_have_no_majority() -> None:
    """Committed once is committed for ever, and by most disks."""
    ledger = Ledger("A", Counter())
    wrote(ledger, "a", (1, 1), (2, 1))
    wrote(ledger, "b", (1, 1))
    ledger.commit("a", 1, 1, b"", "abc", 1)
    with pytest.raises(Violation, match="on the disks of \\['a'\\]"):
        ledger.commit("a", 2, 1, b"", "abc", 1)
    with pytest.raises(Violation, match="which is committed"):
        wrote(ledger, "b", (1, 2), truncate_from=1)
    with pytest.raises(Violation, match="was committed"):
        ledger.commit("b", 1, 2, b"", "abc", 2)


def test_ledger_lets_only_who_had_no_part_cut_what_was_committed_for_a_leader_of_before() -> None:
    """Term 5 commits an entry of term 3 with one of its own; a leader of term 4 never had it."""
    ledger = Ledger("A", Counter())
    for node in "abcde":
        wrote(ledger, node, (1, 1), (2, 3))
    for node in "ab":
        wrote(ledger, node, (3, 5))
    ledger.commit("a", 2, 3, b"", "abc", 5)
    ledger.cuts("c", [(2, 3)], 4)
    wrote(ledger, "c", (2, 4), truncate_from=2)
    for node, leader_term in (("b", 4), ("d", 5), ("e", 6)):
        ledger.cuts(node, [(2, 3)], leader_term)
        with pytest.raises(Violation, match=f"{node} cuts entry 2 of term 3, which is committed since term 5"):
            wrote(ledger, node, (2, 4), truncate_from=2)


def test_ledger_hears_for_which_leader_a_log_was_cut() -> None:
    """Another leader may be followed before the cut is on the disk: what is written then tells only of that one."""
    ledger = Ledger("g", Counter())
    lab = Lab(host=partial(WatchedHost, ledger=lambda name: ledger, failed=lambda error: None))
    old, late, new = regular(3), no_op(4), no_op(5)
    lab.append("b", 3, 1, 0, old)
    lab.run()
    store(ledger, lab, "a", "b", "c")
    for node in "bc":
        wrote(ledger, node, (3, 5), text=new[1])
    ledger.commit("b", 2, 3, old[1][1:], "abc", 5)
    # While this one is written, what comes behind it waits.
    lab.append("b", 3, 2, 3, regular(3))
    lab.append("c", 4, 1, 0, late)
    lab.append("b", 5, 3, 5)
    lab.run()
    (cut,) = lab.disk.works[-1].logs.values()
    store(ledger, lab, "a")

    assert (cut.truncate_from, cut.consumer_states[TERM_AND_VOTE]) == (2, term_and_vote(5, None))
    assert ledger.disks["a"].entries[2][0] == 4
    lab.append("b", 5, 1, 0, old, new, commit=3)
    lab.run()
    store(ledger, lab, "a")
    assert lab.log() == [0, 0, 3, 5]
    assert [entry[:2] for entry in lab.machine.entries] == [(2, 3)]


def store(ledger: Ledger, lab: Lab, *nodes: str) -> None:
    """What has reached the node's disk since, there and on others."""
    for work in lab.disk.works:
        for part in work.logs.values():
            for node in nodes:
                ledger.wrote(node, part)
    lab.disk.works.clear()


def test_ledger_sees_wrong_leaders() -> None:
    """One a term, and with all that was committed before."""
    ledger = Ledger("A", Counter())
    wrote(ledger, "a", (1, 1))
    wrote(ledger, "b", (1, 1))
    ledger.commit("a", 1, 1, b"", "abc", 1)
    ledger.leads("a", 1)
    ledger.leads("b", 2)
    with pytest.raises(Violation, match="both lead"):
        ledger.leads("c", 2)
    with pytest.raises(Violation, match="without entry 1"):
        ledger.leads("c", 3)
    ledger.term("a", 3)
    with pytest.raises(Violation, match="goes back"):
        ledger.term("a", 2)
