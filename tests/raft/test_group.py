"""Groups of several nodes: elections, replication, crashes, disks that fail."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from streamd.raft import ChangeRefused, Host, JournalDamaged, NotLeader, Overloaded
from streamd.raft.envelope import decode
from tests.raft.cluster import Cluster
from tests.raft.doubles import FULL, MS
from tests.raft.lab import Kind, Lab, Message, no_op, regular
from tests.raft.quick import quick

SECOND = 1_000 * MS


def started(nodes: int = 3, **more: object) -> Cluster:
    cluster = Cluster(nodes, **more)  # type: ignore[arg-type]
    cluster.bootstrap()
    cluster.elect()
    return cluster


def commands(cluster: Cluster, node: str) -> list[bytes]:
    return [command for _, _, command in cluster.nodes[node].machines["g"].entries]


@pytest.mark.parametrize("nodes", [1, 2, 3, 5])
def test_leader_is_elected_and_commits(nodes: int) -> None:
    cluster = started(nodes)
    leader = cluster.elect()
    index = leader.propose(b"one")
    assert cluster.world.run(100 * MS, lambda: leader.commit_index >= index)
    cluster.settle()

    for node in cluster.nodes:
        assert commands(cluster, node) == [b"one"]


def test_new_group_has_a_leader_soon() -> None:
    cluster = Cluster(3)
    cluster.bootstrap()
    cluster.elect()

    assert cluster.world.now_ns < 100 * MS


def test_new_group_is_led_by_who_is_to_lead_it() -> None:
    for number in range(3):
        cluster = Cluster(3)
        node = list(cluster.nodes)[number]
        cluster.bootstrap(leader=node)

        assert cluster.elect().node == node
        assert cluster.world.now_ns < 100 * MS


def test_new_group_waits_only_a_moment_for_who_is_to_lead_it() -> None:
    cluster = Cluster(3)
    nodes = list(cluster.nodes)
    for node in nodes[:2]:
        cluster.nodes[node].open("g").bootstrap(nodes, leader=nodes[2])
    cluster.elect()

    assert cluster.world.now_ns < 200 * MS


def test_what_a_follower_says_of_entries_leaves_before_it_applies_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def host(lab: Lab, *args: Any, **more: Any) -> Host:
        return Host(lab, *args, settle=lab.disk.settle, **more)

    lab = Lab(host=host)
    lab.append("b", 1, 1, 0, regular(1, "one"))
    lab.sent()
    order: list[str] = []
    monkeypatch.setattr(lab, "flush", lambda: order.extend(Kind(message.kind).name for _, message in lab.sent()))

    def committed(*_: object) -> None:
        lab.group.after_turn(lambda: order.append("applied"))

    monkeypatch.setattr(lab.machine, "committed", committed)
    lab.append("b", 1, 2, 1, regular(1, "two"), commit=2)

    assert order == ["APPENDED", "applied"]


def test_followers_refuse_proposals_and_know_the_leader() -> None:
    cluster = started()
    leader = cluster.elect()
    cluster.world.run(200 * MS)
    for group in cluster.groups():
        if group is not leader:
            with pytest.raises(NotLeader) as refused:
                group.propose(b"x")

            assert refused.value.leader == leader.node == group.leader


def test_roles_are_told() -> None:
    cluster = started()
    leader = cluster.elect()
    cluster.world.run(200 * MS)

    assert cluster.nodes[leader.node].machines["g"].roles[-1] == (True, leader.node, leader.term)
    # It serves from the moment on that its no-op is applied.
    assert leader.commit_index == leader.last_index == 2
    for node in cluster.nodes.values():
        assert node.machines["g"].roles[-1][1:] == (leader.node, leader.term)


@pytest.mark.parametrize("silent", [False, True])
def test_failover(silent: bool) -> None:
    """Fast where the links break, within an election timeout or two where the leader falls silent; one term each."""
    times = []
    cluster = started(seed=7)
    for round_ in range(20):
        leader = cluster.elect()
        leader.propose(b"%d" % round_)
        cluster.settle()
        term, began = leader.term, cluster.world.now_ns
        cluster.split(leader.node, silent=silent)

        def moved(leader: object = leader) -> bool:
            now = cluster.leader()
            return now is not None and now is not leader

        assert cluster.world.run(5 * SECOND, moved)
        times.append((cluster.world.now_ns - began) / MS)
        successor = cluster.leader()
        assert successor is not None
        assert successor.term == term + 1
        cluster.world.run(SECOND // 10)
        cluster.heal()
        cluster.settle()
    cluster.check()
    assert statistics.median(times) < (1_000 if silent else 40)
    assert max(times) < (1_600 if silent else 80)


def test_leader_without_a_quorum_steps_down() -> None:
    cluster = started()
    leader = cluster.elect()
    cluster.split(leader.node, silent=True)
    cluster.world.run(1_300 * MS)

    assert not leader.leading


def test_whole_cluster_restarts() -> None:
    cluster = started()
    for number in range(30):
        cluster.elect().propose(b"%d" % number)
    cluster.settle()
    term = cluster.elect().term
    for node in cluster.nodes.values():
        node.crash()
    cluster.start(*cluster.nodes)
    leader = cluster.elect()
    assert leader.term > term
    cluster.settle()

    # The machines had nothing durable: they get everything again.
    assert all(commands(cluster, node) == [b"%d" % number for number in range(30)] for node in cluster.nodes)


def test_machine_goes_on_where_it_was() -> None:
    cluster = started()
    leader = cluster.elect()
    index = leader.propose(b"one")
    cluster.settle()
    other = next(node for node in cluster.nodes if node != leader.node)
    cluster.nodes[other].save("g")
    cluster.nodes[other].crash()
    leader.propose(b"two")
    cluster.world.run(100 * MS)
    cluster.start(other)
    cluster.settle()

    assert cluster.nodes[other].durable["g"][1] == index
    assert commands(cluster, other) == [b"one", b"two"]


def test_clocks_that_disagree_matter_to_nobody() -> None:
    """Each node has its own monotonic time: a lead of hours elects nobody early, a jump of the wall clock nobody at all."""
    cluster = started(5)
    skews = {node.clock.monotonic_ns() // (60 * SECOND) for node in cluster.nodes.values()}
    term = cluster.elect().term
    cluster.world.run(10 * SECOND)

    assert len(skews) == 5
    assert cluster.elect().term == term


def test_as_much_as_may_wait_is_bounded() -> None:
    lab = Lab(options=quick(proposed_bytes_max=1_000))
    lab.lead()
    index = lab.group.propose(b"x" * 5_000)  # alone it may be bigger
    with pytest.raises(Overloaded):
        lab.group.propose(b"x")
    lab.run()
    lab.ack(index)
    lab.run()
    for _ in range(9):
        lab.group.propose(b"x" * 100)
    with pytest.raises(Overloaded):
        lab.group.propose(b"x" * 100)


def test_what_is_under_way_to_a_peer_is_bounded() -> None:
    lab = Lab(options=quick(batch_bytes=1_000, window_bytes=3_000, proposed_bytes_max=1 << 20))
    lab.lead()
    first = lab.group.last_index + 1
    for _ in range(30):
        lab.group.propose(b"x" * 499)
    lab.run(1)
    sent = [message for to, message in lab.sent(Kind.APPEND) if to == "b"]
    assert [len(message.entries) for message in sent] == [2, 2, 2]
    lab.run()
    lab.ack(first + 1, "b")
    lab.run(1)

    assert [(m.at, len(m.entries)) for to, m in lab.sent(Kind.APPEND) if to == "b" and m.entries] == [(first + 5, 2)]


def test_lost_entries_are_found_missing_by_the_next_heartbeat() -> None:
    cluster = started()
    leader = cluster.elect()
    cluster.world.run(300 * MS)
    victim = next(node for node in cluster.nodes if node != leader.node)
    cluster.taps.append(lambda sender, to, data: to != victim)
    leader.propose(b"lost on the way")
    cluster.world.run(20 * MS)
    cluster.taps.clear()
    began = cluster.world.now_ns
    cluster.settle()

    assert cluster.world.now_ns - began < 250 * MS


def test_failing_disk_costs_the_leadership() -> None:
    cluster = started()
    leader = cluster.elect()
    disk = cluster.nodes[leader.node].disk
    disk.failing = FULL
    leader.propose(b"x")
    cluster.world.run(50 * MS)
    assert not leader.leading
    assert leader.propose != cluster.elect(limit_ms=10_000).propose
    cluster.world.run(5 * SECOND)
    assert not leader.leading
    disk.failing = None
    cluster.elect().propose(b"y")
    cluster.settle()
    cluster.check()

    assert commands(cluster, leader.node)[-1] == b"y"


def test_failing_disks_of_followers_stop_commits_not_the_leader() -> None:
    cluster = started()
    leader = cluster.elect()
    others = [node for node in cluster.nodes.values() if node.node != leader.node]
    for node in others:
        node.disk.failing = FULL
    index = leader.propose(b"x")
    cluster.world.run(5 * SECOND)
    assert leader.leading
    assert leader.commit_index == index - 1
    others[0].disk.failing = None
    cluster.world.run(2 * SECOND)

    assert leader.commit_index == index


def test_node_that_may_not_lead_does_not() -> None:
    cluster = started()
    for _ in range(3):
        leader = cluster.elect()
        leader.can_lead(False)
        assert not leader.leading
        if all(not group.replica.can_lead for group in cluster.groups()):
            break
        cluster.world.run(2 * SECOND)
    cluster.world.run(5 * SECOND)
    assert cluster.leader() is None
    cluster.groups()[1].can_lead(True)

    assert cluster.elect() is cluster.groups()[1]


def test_group_begins_once() -> None:
    lab = Lab()
    with pytest.raises(ChangeRefused, match="begun"):
        lab.group.bootstrap(["a"])


def test_unbegun_group_campaigns_never_and_takes_entries() -> None:
    cluster = Cluster(3)
    names = list(cluster.nodes)
    for name in names:
        cluster.nodes[name].open("g")
    cluster.world.run(5 * SECOND)
    assert [group.term for group in cluster.groups()] == [0, 0, 0]
    for name in names[:2]:
        cluster.nodes[name].group().bootstrap(names[:2])
    leader = cluster.elect()
    leader.propose(b"x")
    leader.add_learner(names[2])
    cluster.settle()

    assert commands(cluster, names[2]) == [b"x"]


def test_groups_share_frames_and_heartbeats() -> None:
    cluster = Cluster(3)
    for name in ("g", "h", "i", "j"):
        cluster.bootstrap(name)
    cluster.world.run(SECOND)
    frames: list[tuple[str, str, int]] = []

    def note(sender: str, to: str, data: bytes) -> bool:
        frame = decode(data)
        assert frame is not None
        frames.append((sender, to, len(frame.messages)))
        return True

    cluster.taps.append(note)
    cluster.world.run(SECOND)
    leaders = {group.node for name in "ghij" if (group := cluster.leader(name)) is not None}

    # A heartbeat and its answer ten times a second for each pair, however many groups there are.
    assert len(frames) <= len(leaders) * 2 * 2 * 11
    assert sum(messages for _, _, messages in frames) == pytest.approx(4 * 2 * 2 * 10, abs=16)


def test_big_frames_are_split() -> None:
    lab = Lab(options=quick(frame_bytes=2_000, batch_bytes=500))
    lab.lead()
    for _ in range(10):
        lab.group.propose(b"x" * 400)
    lab.run(1)
    sizes = [len(frame.messages) for frame in lab.frames if frame.receiver == "b"]

    assert sizes == [4, 4, 2]


def test_frames_that_are_none_or_for_others_are_counted() -> None:
    lab = Lab()
    lab._handler(b"\1\0\3abc")
    lab.get("stranger", Message(Kind.APPEND, "g", 9))
    lab.get("b", Message(Kind.APPEND, "another group", 9))

    assert (lab.host.malformed, lab.host.strays, lab.host.unknown) == (1, 1, 1)
    assert lab.group.term == 0


def test_late_data_of_a_broken_link_is_no_sign_of_life() -> None:
    lab = Lab()
    lab.append("b", 1, 1, 0)
    lab.run()
    lab._link("b", False)
    lab.append("b", 1, 1, 0)
    lab.run(31)

    assert {to for to, _ in lab.sent(Kind.PREVOTE)} >= {"c"}
    lab._link("b", True)
    lab.append("b", 1, 1, 0)
    lab.sent()
    lab.run(500)
    assert lab.sent(Kind.PREVOTE) == []


def test_journal_damaged_while_running_ends_the_group() -> None:
    """An entry that was written is another when it is read again, for a peer that needs it."""
    lab = Lab(options=quick(recent_bytes=10))
    lab.append("b", 1, 1, 0, *(regular(1, "x" * 50) for _ in range(5)), commit=6)
    lab.run()
    roles = lab.machine.roles
    assert lab.until(lambda: bool(lab.sent(Kind.PREVOTE)))
    nonce = lab.group.replica.elections._prevote._round
    for kind in (Kind.PREVOTED, Kind.VOTED):
        lab.get("b", Message(kind, "g", lab.group.term, round=nonce))
        lab.run()
    assert lab.group.leader == "a"
    records = lab.disk.stream("g").records
    records[4] = records[5]
    lab.get("c", Message(Kind.REJECTED, "g", lab.group.term, 6, commit=4))
    lab.run()

    assert isinstance(lab.group.failed, JournalDamaged)

    assert lab.machine.roles > roles
    assert not lab.group.leading
    assert "g" not in lab.host.groups


def test_who_asks_for_ever_is_given_way_to_once() -> None:
    """Another node that doesn't reach a quorum asks again and again whether to campaign: this one reaches it, and asks too."""
    lab = Lab("abcd")
    lab.lead()
    lab.group.can_lead(False)
    lab.run()
    lab.group.can_lead(True)
    lab.sent()
    for _ in range(60):
        lab.get("d", Message(Kind.PREVOTE, "g", lab.group.term, lab.group.last_index, lab.group.last_term, round=7))
        lab.run(50)
        if lab.sent(Kind.PREVOTE):
            break
    else:
        pytest.fail("it never asked")


def test_a_candidate_that_may_lead_no_more_is_not_elected() -> None:
    """It was told while it waited for votes."""
    lab = Lab()
    assert lab.until(lambda: bool(lab.sent(Kind.PREVOTE)))
    nonce = lab.group.replica.elections._prevote._round
    for peer in "bc":
        lab.get(peer, Message(Kind.PREVOTED, "g", lab.group.term, round=nonce))
    lab.run()
    assert lab.sent(Kind.VOTE)
    lab.group.can_lead(False)
    for peer in "bc":
        lab.get(peer, Message(Kind.VOTED, "g", lab.group.term))
    lab.run()
    assert not lab.group.replica.core.leads


def test_what_can_not_be_stored_for_long_piles_up_no_answers() -> None:
    """A full disk: who asks is answered once there is room, and once."""
    lab = Lab()
    lab.append("b", 2, 1, 0, no_op(2))
    lab.run(20)
    lab.disk.failing = FULL
    for index in range(2, 60):
        lab.append("b", 2, index, 2, regular(2))
        lab.run(20)
    assert len(lab.group.replica._barrier._held) < 10
    lab.disk.failing = None
    lab.run(3_000)
    lab.sent()
    lab.append("b", 2, lab.group.last_index, 2)
    lab.run(50)
    assert [message.at for _, message in lab.sent(Kind.APPENDED)] == [lab.group.last_index]
