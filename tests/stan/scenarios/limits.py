"""What a server doesn't take more of, and what it drops instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.stan.stage import refusal, scenario

if TYPE_CHECKING:
    from tests.stan.stage import Stage


@scenario("store_limits { max_channels: 2 }")
def too_many_channels(stage: Stage) -> None:
    """A third is refused to publishers and subscribers; those that are there go on."""
    connection = stage.connect()
    connection.publish("one", "1")
    subscription = connection.subscribe("two")

    assert refusal(connection.publish, "three", "x") == "too many channels"
    assert refusal(connection.subscribe, "three") == "too many channels"
    connection.publish("two", "1")
    connection.publish("one", "2")
    assert subscription.sequences(1) == [1]
    assert connection.subscribe("one", ("first", 0)).sequences(2) == [1, 2]


@scenario("store_limits { max_subs: 2 }")
def too_many_subscriptions(stage: Stage) -> None:
    """On one channel: a member of a queue counts, and a durable even while it is away."""
    connection = stage.connect()
    plain = connection.subscribe("a")
    durable = connection.subscribe("a", durable="d")
    durable.close()
    expected = "too many subscriptions per channel"

    assert refusal(connection.subscribe, "a") == expected
    assert refusal(connection.subscribe, "a", queue="q") == expected
    connection.subscribe("b")
    durable = connection.subscribe("a", durable="d")
    plain.close()
    connection.subscribe("a", queue="q")
    assert refusal(connection.subscribe, "a", queue="q") == expected
    durable.unsubscribe()
    connection.subscribe("a", queue="q")


@scenario()
def the_oldest_are_dropped(stage: Stage) -> None:
    """No publish is refused; what was on its way arrives all the same."""
    connection = stage.connect()
    channel = stage.channel("few")
    subscription = connection.subscribe(channel, manual=True)
    connection.publish(channel, *"123456")

    assert subscription.sequences(6) == [1, 2, 3, 4, 5, 6]
    subscription.ack(1, 6)
    connection.publish(channel, "7")
    assert subscription.sequences(1) == [7]
    assert connection.subscribe(channel, ("first", 0)).sequences(3) == [5, 6, 7]
