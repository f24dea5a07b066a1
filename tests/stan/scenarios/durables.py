"""Durable subscriptions: what they remember, and what makes them forget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.stan.scenarios.acks import told
from tests.stan.stage import refusal, scenario

if TYPE_CHECKING:
    from tests.stan.stage import Stage


@scenario()
def a_closed_durable_resumes(stage: Stage) -> None:
    """Where it was, wherever it is told to start."""
    connection = stage.connect()
    channel = stage.channel()
    connection.publish(channel, "1", "2")
    durable = connection.subscribe(channel, ("first", 0), durable="d", manual=True)
    assert durable.sequences(2) == [1, 2]
    durable.ack(1, 2)
    durable.close()
    connection.publish(channel, "3", "4")
    durable = connection.subscribe(channel, ("new", 0), durable="d", manual=True)

    assert told(durable.take(2)) == [(3, 0), (4, 0)]
    durable.ack(3, 4)
    durable.close()
    durable = connection.subscribe(channel, ("first", 0), durable="d", manual=True)
    connection.publish(channel, "5")
    assert told(durable.take(1)) == [(5, 0)]


@scenario()
def a_durable_outlives_its_connection(stage: Stage) -> None:
    """It belongs to the client id: closed properly, and dropped on the way."""
    publisher = stage.connect("publisher")
    channel = stage.channel()
    publisher.publish(channel, "1")
    connection = stage.connect()
    durable = connection.subscribe(channel, ("first", 0), durable="d", manual=True)
    durable.sequences(1)
    durable.ack(1)
    connection.close()
    publisher.publish(channel, "2")

    connection = stage.connect()
    durable = connection.subscribe(channel, durable="d", manual=True)
    assert told(durable.take(1)) == [(2, 0)]
    durable.ack(2)
    publisher.publish(channel, "3")
    assert told(durable.take(1)) == [(3, 0)]
    connection.drop()
    publisher.publish(channel, "4")

    durable = stage.connect().subscribe(channel, durable="d", manual=True)
    heard = durable.take_until(lambda message: message.sequence == 4)
    assert told(heard)[0] == (3, 1)
    assert [message.sequence for message in heard] == [3, 4]


@scenario()
def what_is_pending_comes_first(stage: Stage) -> None:
    """All of it at once and flagged, though fewer may be in flight; new messages wait for their turn."""
    connection = stage.connect()
    channel = stage.channel()
    connection.publish(channel, *"12345")
    durable = connection.subscribe(channel, ("first", 0), durable="d", manual=True)
    durable.take(5)
    durable.ack(3, 1)
    durable.close()
    connection.publish(channel, "6", "7")
    durable = connection.subscribe(channel, durable="d", manual=True, in_flight=2)

    assert told(durable.take(3)) == [(2, 1), (4, 1), (5, 1)]
    durable.ack(5)
    connection.publish(channel, "8")
    assert durable.waiting() == []
    durable.ack(2)
    assert told(durable.take(1)) == [(6, 0)]
    durable.ack(4)
    assert told(durable.take(1)) == [(7, 0)]
    durable.ack(6, 7)
    assert told(durable.take(1)) == [(8, 0)]


@scenario()
def an_unsubscribed_durable_is_forgotten(stage: Stage) -> None:
    """The next of that name starts anew, where it says."""
    connection = stage.connect()
    channel = stage.channel()
    connection.publish(channel, "1", "2")
    durable = connection.subscribe(channel, ("first", 0), durable="d", manual=True)
    durable.take(2)
    durable.ack(1, 2)
    durable.unsubscribe()

    durable = connection.subscribe(channel, ("sequence", 2), durable="d", manual=True)
    assert told(durable.take(1)) == [(2, 0)]


@scenario()
def a_durable_is_one_of_client_channel_and_name(stage: Stage) -> None:
    """Another client, another channel, another name is another durable; the same while it is active is refused."""
    one, other = stage.connect("one"), stage.connect("other")
    channel, second = stage.channel("first"), stage.channel("second")
    one.publish(channel, "1")
    one.publish(second, "1")
    durables = [
        one.subscribe(channel, ("first", 0), durable="d", manual=True),
        one.subscribe(channel, ("first", 0), durable="e: of all * characters >", manual=True),
        one.subscribe(second, ("first", 0), durable="d", manual=True),
        other.subscribe(channel, ("first", 0), durable="d", manual=True),
    ]

    assert [durable.sequences(1) for durable in durables] == [[1]] * 4
    assert refusal(one.subscribe, channel, durable="d") == "stan: duplicate durable registration"
    durables[0].ack(1)
    durables[0].close()
    one.publish(channel, "2")
    assert told(one.subscribe(channel, durable="d", manual=True).take(1)) == [(2, 0)]
    assert told(durables[3].take(1)) == [(2, 0)]


@scenario()
def a_durable_skips_what_was_dropped_meanwhile(stage: Stage) -> None:
    """No error: it goes on with the first that is left, and what was pending and is gone counts as acknowledged."""
    connection = stage.connect()
    channel = stage.channel("few")
    connection.publish(channel, "1", "2")
    durable = connection.subscribe(channel, ("first", 0), durable="d", manual=True, in_flight=2)
    durable.take(2)
    durable.ack(1)
    durable.close()
    connection.publish(channel, *"3456")
    durable = connection.subscribe(channel, durable="d", manual=True, in_flight=2)

    assert told(durable.take(2)) == [(4, 0), (5, 0)]
    durable.ack(4)
    assert told(durable.take(1)) == [(6, 0)]
