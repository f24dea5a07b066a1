"""What the library does wrong, as shipped and in this room: rows 1 to 9 of docs/raft.md, about messages and logs."""

from __future__ import annotations

import pytest

from tests.raft.cluster import Cluster
from tests.raft.doubles import MS
from tests.raft.lab import Kind, Lab, Message, no_op, regular
from tests.raft.quick import quick
from tests.raft.stock import Stock

OLD = (b"\0x", 3, 1)


def test_1_old_append_cuts_nothing() -> None:
    """The log loses acknowledged entries to a late duplicate, and the commit index goes back with it."""
    stock = Stock("b", "c")
    entries = [(b"\1", index, 1) for index in range(2, 8)]
    stock.get("b", "append_entries", term=1, commit_index=7, prevLogIdx=1, prevLogTerm=0, entries=entries)
    assert (stock.log[-1][1], stock.object.raftCommitIndex) == (7, 7)
    stock.get("b", "append_entries", term=1, commit_index=2, prevLogIdx=2, prevLogTerm=1, entries=[OLD])

    assert (stock.log[-1][1], stock.object.raftCommitIndex) == (3, 3)

    lab = Lab()
    fresh = [regular(1, str(number)) for number in range(6)]
    lab.append("b", 1, 1, 0, *fresh, commit=7)
    lab.run()
    assert (lab.group.last_index, lab.group.commit_index) == (7, 7)
    lab.sent()
    lab.append("b", 1, 2, 1, fresh[1], commit=2)
    lab.run()

    assert (lab.group.last_index, lab.group.commit_index) == (7, 7)
    # No more is acknowledged than what the message speaks of.
    assert [message.at for _, message in lab.sent(Kind.APPENDED)] == [3]


def test_2_ack_rewinds_nothing() -> None:
    """What is under way is sent again after each ack."""
    stock = Stock("b", "c")
    stock.lead()
    for _ in range(6):
        stock.object._applyCommand(b"x", None, 0)
    stock.tick(1.0)
    stock.tick(1.0)
    node = stock.nodes["b"]
    assert stock.private("raftNextIndex")[node] == 9
    stock.get("b", "next_node_idx", next_node_idx=4, reset=False, success=True)

    assert stock.private("raftNextIndex")[node] == 4

    lab = Lab()
    lab.lead()
    for _ in range(6):
        lab.group.propose(b"x")
    lab.run()
    sent = lab.sent(Kind.APPEND)
    lab.ack(lab.group.last_index - 4)
    lab.run()

    assert sum(len(message.entries) for _, message in sent) == 12
    assert sum(len(message.entries) for _, message in lab.sent(Kind.APPEND)) == 0


def test_3_vote_counts_once() -> None:
    stock = Stock("b", "c", "d", "e")
    stock.tick(5.0)
    for _ in range(2):
        stock.get("b", "response_vote", term=1)

    assert stock.object._isLeader()

    lab = Lab("abcde")
    assert lab.until(lambda: bool(lab.sent(Kind.PREVOTE)))
    nonce = lab.group.replica.elections._prevote._round
    for peer in ("b", "c"):
        lab.get(peer, Message(Kind.PREVOTED, "g", 0, round=nonce))
    for _ in range(3):
        lab.get("b", Message(Kind.VOTED, "g", 1))

    assert not lab.group.replica.core.leads

    lab.get("c", Message(Kind.VOTED, "g", 1))

    assert lab.group.replica.core.leads


def test_4_answer_of_an_earlier_term_counts_for_nothing() -> None:
    stock = Stock("b", "c")
    stock.lead()
    stock.tick(1.0)
    stock.get("b", "next_node_idx", next_node_idx=3, reset=False, success=True)  # whenever it was sent
    stock.tick()

    assert stock.object.raftCommitIndex == 2

    lab = Lab()
    lab.lead()
    index = lab.group.propose(b"x")
    lab.run()
    for peer in ("b", "c"):
        lab.get(peer, Message(Kind.APPENDED, "g", lab.group.term - 1, index))
    lab.run()

    assert lab.group.commit_index == index - 1


@pytest.mark.parametrize("kind", [Kind.APPEND, Kind.VOTE, Kind.PREVOTE])
def test_5_whoever_is_late_is_told(kind: Kind) -> None:
    stock = Stock("b", "c")
    stock.get("b", "append_entries", term=4, commit_index=1, prevLogIdx=1, prevLogTerm=0, entries=[])
    stock.wire.sent.clear()
    stock.get("c", "append_entries", term=3, commit_index=1, prevLogIdx=1, prevLogTerm=0, entries=[])
    stock.get("c", "request_vote", term=3, last_log_index=9, last_log_term=3)

    assert stock.wire.sent == []

    lab = Lab()
    lab.append("b", 4, 1, 0)
    lab.run()
    lab.sent()
    lab.get("c", Message(kind, "g", 3, 1, 0))

    assert [(to, message.kind, message.term) for to, message in lab.sent()] == [("c", Kind.NOTICE, 4)]


def test_5_notice_is_heeded() -> None:
    lab = Lab()
    lab.lead()
    lab.get("b", Message(Kind.NOTICE, "g", 7))
    lab.run()

    assert (lab.group.leading, lab.group.term) == (False, 7)


def test_6_entry_counts_once_the_leaders_disk_has_it() -> None:
    stock = Stock()
    stock.tick(5.0)

    assert stock.object.raftCommitIndex == 2  # in the tick of its election

    lab = Lab()
    lab.lead()
    lab.disk.latency_ns = (50 * MS, 50 * MS)
    index = lab.group.propose(b"x")
    lab.run(1)
    lab.ack(index)
    lab.run(40)
    assert lab.group.commit_index == index - 1
    lab.run(20)

    assert lab.group.commit_index == index


def test_6_alone_too() -> None:
    lab = Lab("a")
    lab.disk.latency_ns = (50 * MS, 50 * MS)
    lab.run(45)
    assert (lab.group.commit_index, lab.machine.entries, lab.group.leading) == (1, [], False)
    lab.run(200)
    assert lab.group.leading
    index = lab.group.propose(b"x")
    lab.run(45)
    assert lab.machine.entries == []
    lab.run(10)

    assert [entry[0] for entry in lab.machine.entries] == [index]


def test_7_nothing_is_said_before_it_is_on_the_disk() -> None:
    stock = Stock("b", "c")
    stock.get("b", "request_vote", term=3, last_log_index=9, last_log_term=3)

    assert [message["type"] for _, message in stock.wire.sent] == ["response_vote"]

    lab = Lab()
    lab.disk.latency_ns = (50 * MS, 50 * MS)
    lab.get("b", Message(Kind.VOTE, "g", 3, 9, 2))
    lab.run(45)
    assert lab.sent(Kind.VOTED) == []
    lab.run(10)
    assert [to for to, _ in lab.sent(Kind.VOTED)] == ["b"]
    lab.append("b", 3, 1, 0, regular(3))
    lab.run(45)
    assert lab.sent(Kind.APPENDED) == []
    lab.run(10)

    assert [message.at for _, message in lab.sent(Kind.APPENDED)] == [2]


def test_7_sign_of_life_does_not_wait_for_entries() -> None:
    """A slow disk is no reason to depose the leader: what is answered speaks of what is durable."""
    lab = Lab()
    lab.append("b", 1, 1, 0, regular(1))
    lab.run()
    lab.sent()
    lab.disk.latency_ns = (500 * MS, 500 * MS)
    lab.append("b", 1, 2, 1, regular(1))
    lab.append("b", 1, 3, 1, round_=9)

    assert [(message.at, message.round) for _, message in lab.sent(Kind.APPENDED)] == [(2, 9)]


def test_8_and_9_conflicting_tail_is_replaced_in_a_few_steps() -> None:
    """The library never gets there if the tail is longer than a batch; and goes back an entry a heartbeat."""
    options = quick(batch_bytes=100)
    cluster = Cluster(3, options=options)
    cluster.bootstrap()
    leader = cluster.elect()
    leader.propose(b"common")
    cluster.settle()
    cluster.split(leader.node)
    for number in range(300):
        leader.propose(b"lost %d" % number)
    cluster.world.run(50 * MS)
    assert leader.last_index > 300
    other = max((g for g in cluster.groups() if g.leading and g is not leader), key=lambda g: g.term, default=None)
    if other is None:
        other = cluster.elect()
        assert other is not leader
    for number in range(200):
        other.propose(b"kept %d" % number)
    cluster.world.run(50 * MS)
    began = cluster.world.now_ns
    cluster.heal()
    cluster.settle()

    assert cluster.world.now_ns - began < 200 * MS
    entries = [entry[2] for entry in cluster.nodes[leader.node].machines["g"].entries]
    assert entries == [b"common", *(b"kept %d" % number for number in range(200))]
    cluster.check()


def test_8_hint_is_where_the_conflicting_term_began() -> None:
    lab = Lab()
    lab.append("b", 1, 1, 0, no_op(1), regular(1), commit=3)
    lab.append("b", 2, 3, 1, *(regular(2) for _ in range(50)))
    lab.run()
    lab.sent()
    lab.append("c", 3, 40, 3)
    lab.append("c", 3, 99, 3)
    lab.run()

    assert [(message.at, message.commit) for _, message in lab.sent(Kind.REJECTED)] == [(40, 4), (99, 54)]


def test_9_peer_that_lost_what_it_acknowledged_is_asked_at_heartbeat_pace() -> None:
    """A disk that was wiped under an old id breaks Raft; it needn't break the network too."""
    lab = Lab()
    lab.lead()
    index = lab.group.propose(b"x")
    lab.run()
    lab.ack()
    lab.run()
    probes = 0
    for _ in range(200):
        lab.get("b", Message(Kind.REJECTED, "g", lab.group.term, index, commit=1))
        lab.ack(None, "c")
        lab.run()
        probes += sum(to == "b" for to, _ in lab.sent(Kind.APPEND))

    assert probes <= 15
