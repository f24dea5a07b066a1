"""What the library does wrong, as shipped and in this room: rows 10 to 18 of docs/raft.md, leaderships, members and states."""

from __future__ import annotations

import pytest
from pysyncobj.config import FAIL_REASON

from streamd.raft import ChangeRefused, Config, JournalDamaged
from streamd.raft.journal import Journal
from streamd.raft.node import PeerNode
from tests.raft.cluster import Cluster
from tests.raft.doubles import MS
from tests.raft.lab import Kind, Lab, Message, no_op, regular
from tests.raft.quick import quick
from tests.raft.stock import Stock


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
    lab = Lab(options=quick(tail_bytes=100))
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
    lab = Lab(options=quick(tail_bytes=50))
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


def test_10_vote_ends_what_was_asked_before() -> None:
    """Who has nothing against a campaign may say so after the node has voted for another one: that one it would depose."""
    lab = Lab()
    assert lab.until(lambda: bool(lab.sent(Kind.PREVOTE)))
    nonce = lab.group.replica.elections._prevote._round
    lab.get("b", Message(Kind.VOTE, "g", 1, 1, 0))
    lab.run()
    assert [to for to, _ in lab.sent(Kind.VOTED)] == ["b"]
    lab.get("c", Message(Kind.PREVOTED, "g", 0, round=nonce))
    lab.run()

    assert (lab.group.term, lab.sent(Kind.VOTE)) == (1, [])


def test_14_state_is_offered_only_to_who_lacks_the_base() -> None:
    """A term that began before the base and parts behind it: the hint points before the base, the logs agree there."""
    lab = Lab(options=quick(tail_bytes=100))
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
