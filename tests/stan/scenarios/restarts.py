"""The server stops, or is killed, and starts again on its store: to a client it was a pause."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.stan.scenarios.acks import told
from tests.stan.scenarios.identity import TAKEN
from tests.stan.stage import refusal, scenario

if TYPE_CHECKING:
    from tests.stan.program import Connection
    from tests.stan.stage import Stage


def patient(stage: Stage, name: str = "me") -> Connection:
    """A connection whose pings outlast every restart."""
    return stage.connect(name, ping_seconds=1, ping_out=60)


def survives(stage: Stage, *, clean: bool) -> None:
    """The same connection and subscription go on; messages, sequences and times are as they were."""
    connection = patient(stage)
    channel = stage.channel()
    subscription = connection.subscribe(channel, ("first", 0), manual=True, ack_seconds=60)
    connection.publish(channel, *"12345")
    before = subscription.take(5)
    subscription.ack(1, 2, 3, 4, 5)
    stage.server.restart(clean=clean)
    connection.reconnected()
    connection.publish(channel, *"678")

    heard = subscription.take_until(lambda message: message.sequence == 8)
    assert [message.data for message in heard if not message.redelivered] == ["6", "7", "8"]
    assert not clean or len(heard) == 3
    stored = connection.subscribe(channel, ("first", 0)).take(8)
    assert [(m.sequence, m.data) for m in stored] == [(number, str(number)) for number in range(1, 9)]
    assert [m.timestamp_us for m in stored[:5]] == [m.timestamp_us for m in before]
    assert refusal(stage.connect, program=stage.program()) == TAKEN
    connection.close()
    stage.connect().close()


def durable_connected(stage: Stage, *, clean: bool) -> None:
    """What was pending comes again, what was acknowledged before a clean stop doesn't, and new messages come.

    A kill may overtake an ack: nobody confirms one to a client.
    """
    connection = patient(stage)
    channel = stage.channel()
    durable = connection.subscribe(channel, durable="d", manual=True, ack_seconds=2)
    connection.publish(channel, "1", "2", "3")
    durable.take_until(lambda message: message.sequence == 3)
    durable.ack(1, 3)
    stage.server.restart(clean=clean)
    connection.reconnected()
    connection.publish(channel, "4")

    seen: set[int] = set()
    while seen != {2, 4}:
        for message in durable.take(1):
            assert not clean or message.sequence in (2, 4)
            assert message.sequence == 4 or message.redelivered
            if message.sequence in (2, 4):
                seen.add(message.sequence)
            durable.ack(message.sequence)
    connection.close()
    connection = patient(stage)
    durable = connection.subscribe(channel, durable="d", manual=True)
    connection.publish(channel, "5")
    heard = durable.take_until(lambda message: message.sequence == 5)
    assert [message.sequence for message in heard if not message.redelivered] == [5]
    assert not clean or len(heard) == 1


def durable_offline(stage: Stage, *, clean: bool) -> None:
    """A suspended durable and the shadow of a durable queue wait on the disk with what is pending."""
    connection = patient(stage)
    channel = stage.channel()
    durable = connection.subscribe(channel, durable="d", manual=True)
    member = connection.subscribe(channel, queue="q", durable="e", manual=True)
    connection.publish(channel, "1", "2", "3")
    for one in (durable, member):
        one.take(3)
        one.ack(2)
    connection.close()
    stage.server.restart(clean=clean)
    other = patient(stage, "other")
    other.publish(channel, "4")
    connection = patient(stage)

    durable = connection.subscribe(channel, ("first", 0), durable="d", manual=True)
    assert told(durable.take(3)) == [(1, 1), (3, 1), (4, 0)]
    member = other.subscribe(channel, ("first", 0), queue="q", durable="e", manual=True)
    assert told(member.take(3)) == [(1, 1), (3, 1), (4, 0)]


def queue_goes_on(stage: Stage, *, clean: bool) -> None:
    """Its members are members still: what comes is shared, each message once."""
    one, other = patient(stage, "one"), patient(stage, "other")
    channel = stage.channel()
    members = [connection.subscribe(channel, queue="q", ack_seconds=60) for connection in (one, other)]
    stage.server.restart(clean=clean)
    one.reconnected()
    other.reconnected()
    acked, errors = one.publish_async(channel, [str(number) for number in range(50)])
    one.publish(channel, "end")

    assert (len(acked), errors) == (50, [])
    found: list[int] = []
    while len(found) < 51:
        for member in members:
            found += member.sequences(len(member.waiting()))
    assert sorted(found) == list(range(1, 52))


@scenario("")
def a_connection_survives_a_restart(stage: Stage) -> None:
    """A clean stop."""
    survives(stage, clean=True)


@scenario("")
def a_connection_survives_a_kill(stage: Stage) -> None:
    """kill -9."""
    survives(stage, clean=False)


@scenario("")
def a_connected_durable_survives_a_restart(stage: Stage) -> None:
    """A clean stop."""
    durable_connected(stage, clean=True)


@scenario("")
def a_connected_durable_survives_a_kill(stage: Stage) -> None:
    """kill -9."""
    durable_connected(stage, clean=False)


@scenario("")
def a_suspended_durable_survives_a_restart(stage: Stage) -> None:
    """A clean stop."""
    durable_offline(stage, clean=True)


@scenario("")
def a_suspended_durable_survives_a_kill(stage: Stage) -> None:
    """kill -9."""
    durable_offline(stage, clean=False)


@scenario("")
def a_queue_survives_a_restart(stage: Stage) -> None:
    """A clean stop."""
    queue_goes_on(stage, clean=True)


@scenario("")
def a_queue_survives_a_kill(stage: Stage) -> None:
    """kill -9."""
    queue_goes_on(stage, clean=False)
