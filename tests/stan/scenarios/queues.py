"""Queue groups and durable queue groups: who gets a message, and what becomes of it when its holder leaves."""

from __future__ import annotations

import time
from itertools import chain
from typing import TYPE_CHECKING

from tests.stan.program import PATIENCE_SECONDS
from tests.stan.scenarios.acks import told
from tests.stan.stage import refusal, scenario

if TYPE_CHECKING:
    from tests.stan.program import Subscription
    from tests.stan.stage import Stage

#: Longer than a test waits for anything: what comes didn't come because an ack wait ended.
NEVER_SECONDS = 3600


def share(members: list[Subscription], count: int) -> list[list[int]]:
    """The sequences that each member got, once `count` came in all."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while sum(len(member.waiting()) for member in members) < count:
        assert time.monotonic() < deadline, [member.waiting() for member in members]
        time.sleep(0.01)
    return [member.sequences(len(member.waiting())) for member in members]


@scenario()
def a_queue_shares(stage: Stage) -> None:
    """Each message to one member, while a plain subscription beside them gets all."""
    one, other = stage.connect("one"), stage.connect("other")
    channel = stage.channel()
    members = [one.subscribe(channel, queue="q"), other.subscribe(channel, queue="q")]
    plain = one.subscribe(channel)
    one.publish_async(channel, [str(number) for number in range(100)])

    shares = share(members, 100)
    assert sorted(chain.from_iterable(shares)) == list(range(1, 101))
    assert all(shares)
    assert plain.sequences(100) == list(range(1, 101))


@scenario()
def the_least_burdened_member_gets_it(stage: Stage) -> None:
    """A holds four, B joins: the next four are B's. Only the first member's start counts."""
    a, b = stage.connect("a"), stage.connect("b")
    channel = stage.channel()
    a.publish(channel, *"1234")
    first = a.subscribe(channel, ("first", 0), queue="q", manual=True)
    assert first.sequences(4) == [1, 2, 3, 4]
    second = b.subscribe(channel, ("first", 0), queue="q", manual=True)
    a.publish(channel, *"5678")

    assert told(second.take(4)) == [(5, 0), (6, 0), (7, 0), (8, 0)]
    assert first.waiting() == []


@scenario()
def a_leaving_member_hands_over(stage: Stage) -> None:
    """What it holds comes to the others soon, flagged; not only when its ack wait ends."""
    for way in ("close", "unsubscribe", "connection"):
        a, b = stage.connect(f"a-{way}"), stage.connect(f"b-{way}")
        channel = stage.channel(way)
        a.publish(channel, "1", "2", "3")
        first = a.subscribe(channel, ("first", 0), queue="q", manual=True, ack_seconds=NEVER_SECONDS)
        assert first.sequences(3) == [1, 2, 3]
        first.ack(2)
        second = b.subscribe(channel, queue="q", manual=True, ack_seconds=NEVER_SECONDS)
        if way == "connection":
            a.close()
        elif way == "close":
            first.close()
        else:
            first.unsubscribe()

        assert told(second.take(2)) == [(1, 1), (3, 1)]


@scenario()
def an_empty_queue_is_forgotten(stage: Stage) -> None:
    """The first of the next members says where the group starts."""
    connection = stage.connect()
    channel = stage.channel()
    connection.publish(channel, "1", "2")
    member = connection.subscribe(channel, ("first", 0), queue="q", manual=True)
    member.take(2)
    member.ack(1)
    member.close()
    member = connection.subscribe(channel, ("first", 0), queue="q", manual=True)

    assert told(member.take(2)) == [(1, 0), (2, 0)]


@scenario()
def a_queue_redelivers_to_any_member(stage: Stage) -> None:
    """Flagged and counted for the group, to whoever has the least to do."""
    a, b = stage.connect("a"), stage.connect("b")
    channel = stage.channel()
    members = [one.subscribe(channel, queue="q", manual=True, ack_seconds=1) for one in (a, b)]
    a.publish(channel, "1")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while sum(len(member.waiting()) for member in members) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.01)

    heard = sorted((message for member in members for message in member.waiting()), key=lambda message: message.at)
    assert told(heard[:4]) == [(1, 0), (1, 1), (1, 2), (1, 3)]


@scenario()
def an_ack_frees_a_member(stage: Stage) -> None:
    """One in flight each: the third message waits for the first ack, and goes to who gave it."""
    a, b = stage.connect("a"), stage.connect("b")
    channel = stage.channel()
    members = [one.subscribe(channel, queue="q", manual=True, in_flight=1) for one in (a, b)]
    a.publish(channel, "1", "2", "3")
    shares = share(members, 2)
    assert sorted(chain.from_iterable(shares)) == [1, 2]
    members[1].ack(shares[1][0])

    assert told(members[1].take(1)) == [(3, 0)]
    assert members[0].waiting() == []


@scenario()
def a_durable_queue_leaves_a_shadow(stage: Stage) -> None:
    """It outlives its last member; whoever joins next, of whatever client, gets what was pending first."""
    a, b = stage.connect("a"), stage.connect("b")
    channel = stage.channel()
    a.publish(channel, "1", "2", "3")
    member = a.subscribe(channel, ("first", 0), queue="q", durable="d", manual=True)
    member.take(3)
    member.ack(2)
    member.close()
    a.publish(channel, "4")
    member = b.subscribe(channel, ("new", 0), queue="q", durable="d", manual=True)

    assert told(member.take(3)) == [(1, 1), (3, 1), (4, 0)]
    member.ack(1, 3, 4)
    b.close()
    a.publish(channel, "5")
    assert told(a.subscribe(channel, queue="q", durable="d", manual=True).take(1)) == [(5, 0)]


@scenario()
def only_the_last_member_can_make_a_durable_queue_forget(stage: Stage) -> None:
    """An unsubscribe before that is a leave."""
    a, b = stage.connect("a"), stage.connect("b")
    channel = stage.channel()
    a.publish(channel, "1", "2")
    first = a.subscribe(channel, ("first", 0), queue="q", durable="d", manual=True)
    first.take(2)
    first.ack(1)
    second = b.subscribe(channel, queue="q", durable="d", manual=True)
    first.unsubscribe()
    assert told(second.take(1)) == [(2, 1)]
    second.ack(2)
    second.unsubscribe()

    anew = a.subscribe(channel, ("first", 0), queue="q", durable="d", manual=True)
    assert told(anew.take(2)) == [(1, 0), (2, 0)]


@scenario()
def a_group_is_one_of_channel_queue_and_durable(stage: Stage) -> None:
    """The queue, the durable queue of its name, and the durable: three that know nothing of each other."""
    connection = stage.connect()
    channel = stage.channel()
    subscriptions = [
        connection.subscribe(channel, queue="g"),
        connection.subscribe(channel, queue="g", durable="d"),
        connection.subscribe(channel, queue="h", durable="d"),
        connection.subscribe(channel, durable="d"),
    ]
    connection.publish(channel, "1", "2")

    assert [one.sequences(2) for one in subscriptions] == [[1, 2]] * 4
    text = refusal(connection.subscribe, channel, queue="g", durable="a:b")
    assert text == "stan: durable name of a durable queue subscriber can't contain the character ':'"
