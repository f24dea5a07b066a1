"""Acks by hand, redelivery, and how many messages may be under way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.stan.stage import scenario

if TYPE_CHECKING:
    from tests.stan.program import Message
    from tests.stan.stage import Stage

#: A server resends what is due within this.
EARLY_SECONDS = 0.02


def told(messages: list[Message]) -> list[tuple[int, int]]:
    """Sequence and redelivery count; that the flag agrees is checked here."""
    odd = [message for message in messages if message.redelivered != (message.count > 0)]
    assert odd == []
    return [(message.sequence, message.count) for message in messages]


@scenario()
def unacked_comes_again(stage: Stage) -> None:
    """Every ack wait, flagged and counted, for as long as it isn't acknowledged; then no more."""
    connection = stage.connect()
    channel = stage.channel()
    subscription = connection.subscribe(channel, manual=True, ack_seconds=1)
    before = time.monotonic()
    connection.publish(channel, "1", "2")

    heard = subscription.take(8)
    assert told(heard[:2]) == [(1, 0), (2, 0)]
    for sequence in (1, 2):
        mine = [message for message in heard if message.sequence == sequence]
        assert told(mine) == [(sequence, count) for count in range(4)]
        assert all(message.at >= before + message.count - EARLY_SECONDS for message in mine)
    subscription.ack(1)
    later = subscription.take_until(lambda message: message.count == 5)

    assert [message.sequence for message in later] in ([2, 2], [1, 2, 2])


@scenario()
def acked_in_time_never_comes_again(stage: Stage) -> None:
    """The one that isn't acknowledged tells when the others would have come."""
    connection = stage.connect()
    channel = stage.channel()
    subscription = connection.subscribe(channel, manual=True, ack_seconds=1)
    connection.publish(channel, *"12345")
    assert subscription.sequences(5) == [1, 2, 3, 4, 5]
    subscription.ack(2, 1, 5, 4)

    assert told(subscription.take(2)) == [(3, 1), (3, 2)]


@scenario()
def one_in_flight(stage: Stage) -> None:
    """Nothing new before the ack: the first thing that comes is the same message again."""
    connection = stage.connect()
    channel = stage.channel()
    connection.publish(channel, *"123")
    subscription = connection.subscribe(channel, ("first", 0), manual=True, in_flight=1, ack_seconds=1)

    assert told(subscription.take(2)) == [(1, 0), (1, 1)]
    subscription.ack(1)
    assert told(subscription.take_until(lambda message: message.sequence == 2))[-1] == (2, 0)
    subscription.ack(2)
    assert told(subscription.take_until(lambda message: message.sequence == 3))[-1] == (3, 0)


@scenario()
def two_in_flight(stage: Stage) -> None:
    """Each ack makes room for one, in whatever order they come."""
    connection = stage.connect()
    channel = stage.channel()
    connection.publish(channel, *"123456")
    subscription = connection.subscribe(channel, ("first", 0), manual=True, in_flight=2, ack_seconds=2)

    assert told(subscription.take(4)) == [(1, 0), (2, 0), (1, 1), (2, 1)]
    subscription.ack(2)
    assert told(subscription.take(1)) == [(3, 0)]
    subscription.ack(1)
    assert told(subscription.take_until(lambda message: message.sequence == 4))[-1] == (4, 0)


@scenario()
def acks_of_the_library_keep_it_flowing(stage: Stage) -> None:
    """One in flight and the library's own acks: all messages, in order, each once."""
    connection = stage.connect()
    channel = stage.channel()
    acked, _ = connection.publish_async(channel, [str(number) for number in range(200)])
    subscription = connection.subscribe(channel, ("first", 0), in_flight=1)

    assert len(acked) == 200
    assert told(subscription.take(200)) == [(sequence, 0) for sequence in range(1, 201)]


@scenario()
def subscriptions_are_acked_apart(stage: Stage) -> None:
    """An ack counts for the subscription it was given to."""
    connection = stage.connect()
    channel = stage.channel()
    one = connection.subscribe(channel, manual=True, ack_seconds=1)
    other = connection.subscribe(channel, manual=True, ack_seconds=1)
    connection.publish(channel, "1")
    assert one.sequences(1) == other.sequences(1) == [1]
    one.ack(1)

    assert told(other.take(2)) == [(1, 1), (1, 2)]
    assert one.waiting() == []


@scenario()
def an_unsubscribed_one_is_gone(stage: Stage) -> None:
    """Its pending messages are nobody's; a new one starts where it says."""
    connection = stage.connect()
    channel = stage.channel()
    first = connection.subscribe(channel, manual=True, ack_seconds=1)
    connection.publish(channel, "1", "2")
    assert first.sequences(2) == [1, 2]
    first.unsubscribe()
    second = connection.subscribe(channel, manual=True)
    connection.publish(channel, "3")

    assert told(second.take(1)) == [(3, 0)]
