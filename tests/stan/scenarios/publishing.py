"""Connecting and publishing: acks, sequences, order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.stan.stage import scenario

if TYPE_CHECKING:
    from tests.stan.stage import Stage


@scenario()
def connects_and_closes(stage: Stage) -> None:
    """A closed client's id is free at once, for as long as one likes."""
    for _ in range(3):
        stage.connect().close()


@scenario()
def publishes_one_by_one(stage: Stage) -> None:
    """Sequences from 1 without a gap, times that never fall, the channel's name in each message."""
    connection = stage.connect()
    channel = stage.channel()
    sent = [f"message {number}" for number in range(1, 11)]
    connection.publish(channel, *sent)

    heard = connection.subscribe(channel, ("first", 0)).take(10)

    assert [message.sequence for message in heard] == list(range(1, 11))
    assert [message.data for message in heard] == sent
    assert {message.channel for message in heard} == {channel}
    assert {(message.redelivered, message.count) for message in heard} == {(False, 0)}
    times = [message.timestamp_us for message in heard]
    assert times == sorted(times)
    assert times[0] > 0


@scenario()
def publishes_many_at_once(stage: Stage) -> None:
    """Acks come in the order of the publishes, and so do the messages."""
    connection = stage.connect()
    channel = stage.channel()
    sent = [str(number) for number in range(2000)]
    acked, errors = connection.publish_async(channel, sent)

    heard = connection.subscribe(channel, ("first", 0)).take(2000)

    assert errors == []
    assert acked == list(range(2000))
    assert [message.sequence for message in heard] == list(range(1, 2001))
    assert [message.data for message in heard] == sent


@scenario()
def channels_count_apart(stage: Stage) -> None:
    """Each channel has its own sequences, whoever publishes."""
    one, other = stage.connect("one"), stage.connect("other")
    channels = [stage.channel(name) for name in ("red", "green", "blue")]
    running = [
        (connection, connection.start_async(channel, [f"{channel} {number}" for number in range(100)]))
        for channel in channels
        for connection in (one, other)
    ]
    for connection, number in running:
        acked, errors = connection.finish(number)
        assert (len(acked), errors) == (100, [])

    for channel in channels:
        heard = one.subscribe(channel, ("first", 0)).take(200)
        assert [message.sequence for message in heard] == list(range(1, 201))
        assert {message.channel for message in heard} == {channel}
        assert sorted(message.data for message in heard) == sorted(2 * [f"{channel} {n}" for n in range(100)])


@scenario()
def payloads_of_every_size(stage: Stage) -> None:
    """Nothing, a little, text of other alphabets, and nearly all that NATS takes."""
    connection = stage.connect()
    channel = stage.channel()
    sent = ["", "x", "grüße Ж 語", "y" * 1_000_000]
    subscription = connection.subscribe(channel)
    connection.publish(channel, *sent)

    assert [message.data for message in subscription.take(4)] == sent


@scenario()
def subscribers_hear_what_others_publish(stage: Stage) -> None:
    """Every plain subscription gets all of it, each from its own start."""
    publisher, subscriber = stage.connect("publisher"), stage.connect("subscriber")
    channel = stage.channel()
    early = subscriber.subscribe(channel)
    twin = subscriber.subscribe(channel)
    publisher.publish(channel, "1", "2")
    late = publisher.subscribe(channel)
    publisher.publish(channel, "3")

    assert early.sequences(3) == twin.sequences(3) == [1, 2, 3]
    assert late.sequences(1) == [3]
