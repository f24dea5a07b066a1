"""Members that come and go, leaderships handed over, reads confirmed, states installed."""

from __future__ import annotations

import pytest

from streamd.raft import ChangeRefused, Config, NotLeader, Options
from streamd.raft.membership import refusal
from tests.raft.cluster import Cluster
from tests.raft.doubles import MS
from tests.raft.lab import CONFIG, Kind, Lab, Message, regular
from tests.raft.quick import quick
from tests.raft.test_group import SECOND, commands, started


def with_spare(nodes: int = 3, spare: int = 1, *, options: Options | None = None) -> tuple[Cluster, list[str]]:
    """A group, and nodes that have it open without belonging to it."""
    cluster = Cluster(nodes + spare, options=options)
    names = list(cluster.nodes)
    cluster.bootstrap(nodes=names[:nodes])
    for name in names[nodes:]:
        cluster.nodes[name].open("g")
    cluster.elect()
    return cluster, names[nodes:]


# --- members


def test_learner_gets_everything_and_counts_for_nothing() -> None:
    cluster, (spare,) = with_spare(2)
    leader = cluster.elect()
    leader.propose(b"before")
    leader.add_learner(spare)
    cluster.settle()
    assert commands(cluster, spare) == [b"before"]
    assert [peer.learner for peer in leader.status() if peer.node == spare] == [True]
    voter = next(node for node in leader.config.voters if node != leader.node)
    cluster.split(voter)
    index = leader.propose(b"after")
    cluster.world.run(500 * MS)

    assert leader.commit_index < index


def test_learner_becomes_a_voter() -> None:
    cluster, (spare,) = with_spare(2)
    leader = cluster.elect()
    leader.add_learner(spare)
    cluster.settle()
    leader.promote(spare)
    cluster.settle()
    assert leader.config == Config(tuple(sorted(cluster.nodes)))
    cluster.nodes[leader.node].crash()
    successor = cluster.elect()
    index = successor.propose(b"x")
    cluster.world.run(100 * MS)

    assert successor.commit_index == index


def test_lagging_learner_is_not_promoted() -> None:
    cluster, (spare,) = with_spare()
    leader = cluster.elect()
    cluster.nodes[spare].crash()
    leader.add_learner(spare)
    cluster.world.run(100 * MS)

    with pytest.raises(ChangeRefused, match="lacks 3 entries"):
        leader.promote(spare)


def test_removed_voter_counts_no_more_and_disturbs_nobody() -> None:
    cluster = started(3)
    leader = cluster.elect()
    gone = next(node for node in cluster.nodes if node != leader.node)
    cluster.settle()
    leader.remove(gone)
    cluster.world.run(5 * SECOND)
    cluster.nodes[gone].crash()
    index = leader.propose(b"x")
    cluster.world.run(100 * MS)

    assert gone not in leader.config.voters
    assert (leader.leading, leader.commit_index, len(leader.status())) == (True, index, 1)


def test_refusals() -> None:
    cluster, (spare, other) = with_spare(3, 2)
    leader = cluster.elect()
    follower = next(group for group in cluster.groups() if group.node in leader.config.voters and group is not leader)
    with pytest.raises(ChangeRefused, match="doesn't lead"):
        follower.add_learner(spare)
    with pytest.raises(ChangeRefused, match="is a voter"):
        leader.add_learner(follower.node)
    with pytest.raises(ChangeRefused, match="no learner"):
        leader.promote(spare)
    with pytest.raises(ChangeRefused, match="no member"):
        leader.remove(spare)
    with pytest.raises(ChangeRefused, match="hand the leadership over"):
        leader.remove(leader.node)
    leader.add_learner(spare)
    with pytest.raises(ChangeRefused, match="isn't committed"):
        leader.add_learner(other)
    cluster.settle()
    cluster.split(*(node for node in cluster.nodes if node not in (leader.node, follower.node)), silent=True)
    cluster.world.run(SECOND + 300 * MS)
    assert leader.leading

    with pytest.raises(ChangeRefused, match="1 of 2 voters"):
        leader.remove(follower.node)


def test_rules_of_a_change() -> None:
    three = Config(("a", "b", "c"))

    assert refusal(three, three.with_learner("d"), "a", ()) is None
    assert refusal(three, Config(("a", "b", "c", "d", "e")), "a", "bcde") == "more than one voter would change"
    assert refusal(three, Config(("a", "b", "d")), "a", "bcd") == "more than one voter would change"
    assert refusal(three, three.without("c"), "a", "b") is None
    assert refusal(three, three.without("c"), "a", "c") is not None
    assert refusal(three, three.with_voter("d"), "a", "bc") is None
    assert refusal(three, three.with_voter("d"), "a", "bd") is None
    assert refusal(three, three.with_voter("d"), "a", "d") is not None


def test_change_without_a_quorum_is_undone() -> None:
    """Those who took it up follow their logs back."""
    cluster, (spare,) = with_spare()
    leader = cluster.elect()
    cluster.settle()
    cluster.split(leader.node)
    leader.add_learner(spare)
    assert leader.config.learners == (spare,)
    cluster.world.run(2 * SECOND)
    cluster.heal()
    cluster.settle()

    assert [group.config.learners for group in cluster.groups()] == [()] * 4


# --- handing over


def test_leadership_goes_where_it_is_sent() -> None:
    cluster = started(5)
    for _ in range(6):
        leader = cluster.elect()
        to = cluster.world.rng.choice([node for node in cluster.nodes if node != leader.node])
        outcome: list[bool] = []
        term, began = leader.term, cluster.world.now_ns
        leader.propose(b"x" * 2_000)
        leader.transfer(to, outcome.append)
        with pytest.raises(NotLeader):
            leader.propose(b"not now")
        cluster.world.run(100 * MS, lambda done=outcome: bool(done))  # type: ignore[misc]
        assert outcome == [True]
        assert cluster.world.now_ns - began < 50 * MS
        successor = cluster.elect()
        assert (successor.node, successor.term) == (to, term + 1)
        cluster.settle()
    cluster.check()


def test_handing_over_to_the_dead_is_given_up() -> None:
    cluster = started(3)
    leader = cluster.elect()
    dead = next(node for node in cluster.nodes if node != leader.node)
    cluster.nodes[dead].crash()
    leader.propose(b"x")
    outcome: list[bool] = []
    leader.transfer(dead, outcome.append)
    cluster.world.run(SECOND)
    assert outcome == [False]
    leader.propose(b"y")
    leader.transfer("stranger", outcome.append)

    assert outcome == [False, False]


def test_only_the_leader_can_ask_to_be_relieved() -> None:
    lab = Lab()
    lab.append("b", 1, 1, 0)
    lab.run()
    lab.get("c", Message(Kind.CAMPAIGN, "g", 1))
    lab.run()
    assert lab.sent(Kind.VOTE_FORCED) == []
    lab.get("b", Message(Kind.CAMPAIGN, "g", 1))
    lab.run()

    assert [(to, message.term) for to, message in lab.sent(Kind.VOTE_FORCED)] == [("b", 2), ("c", 2)]


def test_forced_vote_is_given_while_a_leader_is_alive() -> None:
    lab = Lab()
    lab.append("b", 1, 1, 0)
    lab.run()
    lab.sent()
    lab.get("c", Message(Kind.VOTE, "g", 2, 1, 0))
    lab.run()
    assert lab.sent(Kind.VOTED) == []
    lab.get("c", Message(Kind.VOTE_FORCED, "g", 2, 1, 0))
    lab.run()

    assert [to for to, _ in lab.sent(Kind.VOTED)] == ["c"]


# --- reads


def test_confirmation_takes_one_round() -> None:
    cluster = started(3)
    leader = cluster.elect()
    cluster.settle()
    outcome: list[bool] = []
    began = cluster.world.now_ns
    for _ in range(3):
        leader.confirm(outcome.append)
    cluster.world.run(50 * MS, lambda: len(outcome) == 3)

    assert outcome == [True] * 3
    assert cluster.world.now_ns - began < 3 * MS


def test_deposed_leader_confirms_nothing() -> None:
    cluster = started(3)
    leader = cluster.elect()
    cluster.split(leader.node, silent=True)
    cluster.world.run(900 * MS)
    assert leader.leading
    outcome: list[bool] = []
    leader.confirm(outcome.append)
    cluster.world.run(SECOND)
    assert outcome == [False]
    leader.confirm(outcome.append)

    assert outcome == [False, False]


def test_answers_to_earlier_rounds_confirm_nothing() -> None:
    lab = Lab()
    lab.lead()
    outcome: list[bool] = []
    lab.group.confirm(outcome.append)
    lab.run(1)
    for peer in ("b", "c"):
        lab.get(peer, Message(Kind.APPENDED, "g", lab.group.term, lab.group.last_index, round=0))
    assert outcome == []
    lab.get("b", Message(Kind.REJECTED, "g", lab.group.term, lab.group.last_index, round=1))

    assert outcome == [True]


def test_alone_a_confirmation_needs_nobody() -> None:
    cluster = started(1)
    outcome: list[bool] = []
    cluster.elect().confirm(outcome.append)
    cluster.world.run(MS)

    assert outcome == [True]


# --- compaction


SMALL = quick(tail_bytes=2_000, recent_bytes=1_000)


def test_node_that_is_far_behind_fetches_the_state() -> None:
    cluster = started(3, options=SMALL)
    leader = cluster.elect()
    away = next(node for node in cluster.nodes if node != leader.node)
    cluster.nodes[away].crash()
    for number in range(300):
        leader.propose(b"%020d" % number)
        if number % 10 == 9:
            cluster.world.run(20 * MS)
            for node in cluster.nodes.values():
                if node.host is not None:
                    node.save("g")
                    node.group().applied(node.machines["g"].applied)
    assert leader.first_index > 50
    cluster.start(away)
    cluster.settle()

    assert cluster.nodes[away].machines["g"].offers == 1
    assert commands(cluster, away) == [b"%020d" % number for number in range(300)]
    group = cluster.nodes[away].group()
    assert group.first_index > leader.first_index
    # It is as good as any other from now on, also after a restart.
    cluster.nodes[away].save("g")
    cluster.nodes[away].crash()
    leader.propose(b"more")
    cluster.world.run(50 * MS)
    cluster.start(away)
    cluster.settle()
    assert commands(cluster, away)[-1] == b"more"
    assert cluster.nodes[away].group().config == leader.config


def test_learner_of_a_compacted_group_fetches_the_state() -> None:
    cluster, (spare,) = with_spare(3, options=SMALL)
    leader = cluster.elect()
    for number in range(300):
        leader.propose(b"%020d" % number)
        cluster.world.run(5 * MS)
        leader.applied(leader.commit_index)
    leader.add_learner(spare)
    cluster.settle()

    assert cluster.nodes[spare].machines["g"].offers > 0
    assert commands(cluster, spare) == [b"%020d" % number for number in range(300)]


def test_who_fetches_the_state_does_not_campaign_but_votes() -> None:
    lab = Lab()
    lab.append("b", 3, 1, 0, regular(3), commit=2)
    lab.run()
    lab.get("b", Message(Kind.OFFER, "g", 3, 50, 2))
    assert lab.machine.leaders == ["b"]
    lab._link("b", False)
    lab.run(5_000)
    assert lab.sent(Kind.PREVOTE) == []
    lab.get("c", Message(Kind.VOTE, "g", 4, 60, 3))
    lab.run()
    assert [to for to, _ in lab.sent(Kind.VOTED)] == ["c"]
    lab.group.installed(50, 2, Config(("a", "b", "c")))
    lab.run(5_000)

    assert lab.sent(Kind.PREVOTE) != []
    assert (lab.group.first_index, lab.group.last_index, lab.group.commit_index) == (51, 50, 50)


def test_offer_of_what_is_there_is_ignored() -> None:
    lab = Lab()
    lab.append("b", 3, 1, 0, *(regular(3) for _ in range(9)), commit=4)
    lab.run()
    lab.get("b", Message(Kind.OFFER, "g", 3, 8, 3))
    lab.get("b", Message(Kind.OFFER, "g", 3, 3, 9))
    assert lab.machine.leaders == []
    lab.get("b", Message(Kind.OFFER, "g", 3, 8, 2))

    assert lab.machine.leaders == ["b"]


def test_machine_that_is_ahead_of_its_journal_leads_nobody() -> None:
    """A crash between the machine's state and the journal's new base."""
    lab = Lab()
    lab.append("b", 3, 1, 0, *(regular(3) for _ in range(5)), commit=6)
    lab.run()
    lab.restart(applied=40)
    lab.run(5_000)
    assert lab.sent(Kind.PREVOTE) == []
    lab.append("b", 3, 6, 3, *(regular(3) for _ in range(40)), commit=46)
    lab.run()

    assert [index for index, _, _ in lab.machine.entries] == list(range(41, 47))


def test_journal_follows_the_machine_after_such_a_crash() -> None:
    """What it needs is gone at the leader, and the machine has it."""
    lab = Lab()
    lab.append("b", 3, 1, 0, *(regular(3) for _ in range(5)), commit=6)
    lab.run()
    lab.restart(applied=40)
    config = Config(("a", "b", "c"), ("d",))
    entry = (3, bytes((CONFIG,)) + config.encode())
    lab.get("b", Message(Kind.OFFER, "g", 3, 30, 3, entries=(entry,)))
    lab.run()
    assert (lab.group.first_index, lab.group.last_index, lab.group.config) == (31, 30, config)
    lab.append("b", 3, 30, 3, *(regular(3) for _ in range(12)), commit=42)
    lab.run()

    assert lab.machine.leaders == []
    assert [index for index, _, _ in lab.machine.entries] == [41, 42]


def test_journal_follows_the_machine_though_it_is_longer() -> None:
    """Its tail was never committed: what the machine has is of another leader, which began a later term behind entry 6."""
    lab = Lab()
    lab.append("b", 3, 1, 0, *(regular(3) for _ in range(60)), commit=6)
    lab.run()
    lab.restart(applied=40)
    assert (lab.group.last_index, lab.group.commit_index) == (61, 6)
    entry = (4, bytes((CONFIG,)) + Config(("a", "b", "c")).encode())
    lab.get("c", Message(Kind.OFFER, "g", 5, 30, 4, entries=(entry,)))
    lab.run()
    assert (lab.group.first_index, lab.group.last_index) == (31, 30)
    lab.append("c", 5, 30, 4, *(regular(5) for _ in range(12)), commit=42)
    lab.run()

    assert [index for index, _, _ in lab.machine.entries] == [41, 42]


def test_committed_commands_can_be_read_again() -> None:
    lab = Lab(options=quick(recent_bytes=10))
    lab.append("b", 3, 1, 0, *(regular(3, f"{number}") for number in range(9)), commit=8)
    lab.run()

    assert lab.group.read(0, 1 << 20) == [(index, 3, b"%d" % (index - 2)) for index in range(2, 9)]
    assert lab.group.read(5, 1) == [(5, 3, b"3")]
    assert len(lab.group.read(2, 4)) == 2
    assert lab.group.read(9, 1 << 20) == []
