"""What the library does wrong, as shipped and in this room: rows 1 to 18 of docs/raft.md."""

from __future__ import annotations

import pytest
from pysyncobj.config import FAIL_REASON

from streamd.raft import ChangeRefused, Config, JournalDamaged, Options
from streamd.raft.journal import Journal
from streamd.raft.node import PeerNode
from tests.raft.cluster import MS, Cluster
from tests.raft.lab import Kind, Lab, Message, no_op, regular
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
    options = Options(batch_bytes=100)
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


def test_10_returning_node_disturbs_nobody() -> None:
    stock = Stock("b", "c")
    stock.lead()
    stock.get("b", "request_vote", term=9, last_log_index=0, last_log_term=0)

    assert not stock.object._isLeader()

    cluster = Cluster(3)
    cluster.bootstrap()
    leader = cluster.elect()
    term = leader.term
    follower = next(name for name in cluster.nodes if name != leader.node)
    for silent in (True, False):
        cluster.split(follower, silent=silent)
        cluster.world.run(5_000 * MS)
        cluster.heal()
        cluster.world.run(2_000 * MS)
    index = leader.propose(b"x")
    cluster.settle()

    assert (leader.leading, leader.term, leader.commit_index) == (True, term, index)


def test_11_handing_over_works_under_load() -> None:
    stock = Stock("b", "c")
    stock.lead()
    stock.tick(1.0)
    outcomes: list[int] = []
    stock.object.transferLeadership(None, lambda result, reason: outcomes.append(reason))

    assert outcomes == [FAIL_REASON.REQUEST_DENIED]

    cluster = Cluster(3)
    cluster.bootstrap()
    leader = cluster.elect()
    for _ in range(50):
        leader.propose(b"x" * 1000)
    outcome: list[bool] = []
    leader.transfer(None, outcome.append)
    cluster.world.run(200 * MS)

    assert outcome == [True]
    assert cluster.elect().node != leader.node


def test_12_one_change_at_a_time() -> None:
    stock = Stock("b", "c", dynamicMembershipChange=True)
    stock.lead()
    for name in ("b", "c"):
        stock.get(name, "next_node_idx", next_node_idx=3, reset=False, success=True)
    stock.tick()
    for name in ("d", "e", "f"):
        stock.object.addNodeToCluster(PeerNode(name))
        stock.object._checkCommandsToApply()

    assert len(stock.private("otherNodes")) == 5

    lab = Lab()
    lab.lead()
    lab.group.add_learner("d")
    with pytest.raises(ChangeRefused, match="isn't committed yet"):
        lab.group.add_learner("e")


def test_13_configuration_survives_a_restart_and_a_truncation() -> None:
    lab = Lab()
    config = Config(("a", "b", "c", "d"))
    lab.append("b", 1, 1, 0, no_op(1), (1, bytes((4,)) + config.encode()))
    lab.run()
    assert lab.group.config == config
    lab.restart()
    assert lab.group.config == config
    assert lab.group.commit_index < 3
    lab.append("c", 2, 2, 1, no_op(2))
    lab.run()

    assert lab.group.config.voters == ("a", "b", "c")


def test_14_offers_come_at_heartbeat_pace() -> None:
    """To a follower behind what is kept the library sends without a pause until its period is over."""
    lab = Lab(options=Options(tail_bytes=100))
    lab.lead()
    for _ in range(50):
        lab.group.propose(b"x" * 20)
    lab.run()
    lab.ack(None, "b")
    lab.run()
    lab.group.applied(lab.group.commit_index)
    assert lab.group.first_index > 10
    for at in (lab.group.last_index, lab.group.first_index - 1):
        lab.get("c", Message(Kind.REJECTED, "g", lab.group.term, at, commit=3))
    lab.run(110)
    lab.sent()
    lab.run(1000)

    assert len([to for to, _ in lab.sent(Kind.OFFER) if to == "c"]) == 10


def test_15_older_state_is_not_installed() -> None:
    lab = Lab()
    lab.append("b", 2, 1, 0, *(regular(2) for _ in range(9)), commit=10)
    lab.run()
    lab.group.installed(7, 2, Config(("a", "b")))
    lab.run()

    assert (lab.group.last_index, lab.group.commit_index, lab.group.first_index) == (10, 10, 1)
    assert lab.group.config.voters == ("a", "b", "c")


def test_16_entries_are_applied_after_compaction_and_restart() -> None:
    lab = Lab(options=Options(tail_bytes=50))
    lab.append("b", 2, 1, 0, *(regular(2, "x" * 20) for _ in range(20)), commit=21)
    lab.run()
    lab.group.applied(21)
    lab.append("b", 2, 21, 2, regular(2, "y"), commit=21)
    lab.run()
    base = lab.group.first_index - 1
    assert 10 < base < 21
    lab.restart(applied=21)
    lab.append("b", 2, 22, 2, regular(2, "z"), commit=23)
    lab.run()

    assert lab.group.first_index - 1 == base
    assert [(index, command) for index, _, command in lab.machine.entries] == [(22, b"y"), (23, b"z")]


def test_17_damaged_journal_is_told() -> None:
    lab = Lab()
    lab.append("b", 2, 1, 0, *(regular(2) for _ in range(3)))
    lab.run()
    records = lab.disk.stream("g").records
    flipped = bytearray(records[3])
    flipped[-1] ^= 1
    for damage in ({3: bytes(flipped)}, {3: None}, {3: records[2]}):
        before = dict(records)
        records.update({at: value for at, value in damage.items() if value is not None})
        if None in damage.values():
            del records[3]
        with pytest.raises(JournalDamaged, match="under another incarnation"):
            Journal("g", lab.disk.storage("g"), lab.disk.at_rest, lab.clock, lab.options, lambda: None)
        records.clear()
        records.update(before)


def test_18_strangers_are_not_counted() -> None:
    stock = Stock("b", "c")
    stock.lead()
    with pytest.raises(KeyError):
        stock.get("x", "next_node_idx", next_node_idx=2, reset=False, success=True)

    lab = Lab()
    lab.lead()
    lab.host.linked.add("x")
    index = lab.group.propose(b"x")
    lab.run()
    for kind in Kind:
        if kind not in (Kind.NOTICE, Kind.VOTE_FORCED, Kind.APPEND):
            lab.get("x", Message(kind, "g", lab.group.term, index))
    lab.run()

    assert (lab.group.leading, lab.group.commit_index) == (True, index - 1)


def test_18_new_voter_may_be_silent() -> None:
    """The library knows no time of its last answer, and falls over that."""
    lab = Lab()
    lab.lead()
    lab.group.add_learner("d")
    lab.peers.add("d")
    lab.host.linked.add("d")
    lab.run()
    lab.ack()
    lab.run()
    lab.group.promote("d")
    lab.run(300)
    lab.ack(None, "b", "c")
    lab.run()

    assert lab.group.leading
    assert lab.group.config.voters == ("a", "b", "c", "d")


def test_10_node_with_a_later_term_is_not_stuck() -> None:
    """Those who have nothing against its campaign answer in the term that they are in."""
    lab = Lab()
    lab.lead()
    lab.get("b", Message(Kind.NOTICE, "g", 9))
    assert lab.until(lambda: bool(lab.sent(Kind.PREVOTE)))
    nonce = lab.group.replica.elections._prevote._round
    lab.get("b", Message(Kind.PREVOTED, "g", 3, round=nonce))
    lab.run()

    assert (lab.group.term, {to for to, _ in lab.sent(Kind.VOTE)}) == (10, {"b", "c"})


def test_14_state_is_offered_only_to_who_lacks_the_base() -> None:
    """A term that began before the base and parts behind it: the hint points before the base, the logs agree there."""
    lab = Lab(options=Options(tail_bytes=100))
    lab.lead()
    for _ in range(50):
        lab.group.propose(b"x" * 20)
    lab.run()
    lab.ack(None, "b")
    lab.run()
    lab.group.applied(lab.group.commit_index)
    base = lab.group.first_index - 1
    assert base > 10
    lab.sent()
    lab.get("c", Message(Kind.REJECTED, "g", lab.group.term, lab.group.last_index, commit=3))
    (probe,) = [message for to, message in lab.sent() if to == "c"]

    assert (probe.kind, probe.at, len(probe.entries)) == (Kind.APPEND, base, lab.group.last_index - base)

    lab.get("c", Message(Kind.REJECTED, "g", lab.group.term, base, commit=3))
    lab.run(100)

    assert Kind.OFFER in [message.kind for to, message in lab.sent() if to == "c"]

    lab.ack(base, "c")
    lab.run()

    assert [(to, message.at) for to, message in lab.sent(Kind.APPEND) if message.entries] == [("c", base)]


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
