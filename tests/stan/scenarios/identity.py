"""Client ids: one living connection each; and names that are refused."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.stan.scenarios.acks import told
from tests.stan.stage import refusal, scenario

if TYPE_CHECKING:
    from tests.stan.stage import Stage

TAKEN = "stan: clientID already registered"
REPLACED = "client has been replaced or is no longer registered"


@scenario()
def an_id_in_use_is_refused(stage: Stage) -> None:
    """While its holder answers. The holder notices nothing."""
    holder = stage.connect()
    channel = stage.channel()
    subscription = holder.subscribe(channel)

    assert refusal(stage.connect, program=stage.program()) == TAKEN
    assert refusal(stage.connect) == TAKEN
    holder.publish(channel, "1")
    assert subscription.sequences(1) == [1]


@scenario()
def a_dead_clients_id_is_taken_over(stage: Stage) -> None:
    """By the next that asks; its durable waits for that one, with what is pending."""
    channel = stage.channel()
    program = stage.program()
    holder = stage.connect(program=program)
    durable = holder.subscribe(channel, durable="d", manual=True)
    holder.publish(channel, "1", "2")
    durable.take(2)
    durable.ack(1)
    program.close()

    heir = stage.connect(wait_seconds=10)
    heir.publish(channel, "3")
    assert told(heir.subscribe(channel, durable="d", manual=True).take(2)) == [(2, 1), (3, 0)]


@scenario()
def a_silent_clients_id_is_taken_over(stage: Stage) -> None:
    """Its NATS connection stands and it answers nothing: asked for half a second, then replaced. It learns so itself."""
    program = stage.program()
    holder = stage.connect(program=program, ping_seconds=1)
    program.freeze()
    asked = time.monotonic()
    heir = stage.connect(wait_seconds=10)
    assert time.monotonic() - asked >= 0.5
    program.thaw()

    assert holder.lost() == REPLACED
    channel = stage.channel()
    subscription = heir.subscribe(channel)
    heir.publish(channel, "1")
    assert subscription.sequences(1) == [1]


@scenario()
def a_wrong_cluster_is_not_found(stage: Stage) -> None:
    """Nobody answers; what is said of it is the library's."""
    text = refusal(stage.connect, cluster="no-such-cluster", wait_seconds=1)

    assert text == stage.language.wrong_cluster.format(cluster="no-such-cluster")


@scenario()
def bad_client_ids(stage: Stage) -> None:
    """Letters, digits, hyphen and underscore."""
    expected = "stan: invalid clientID: only alphanumeric and `-` or `_` characters allowed"

    for client in ("a.b", "a b", "ä", "a*", "a/b"):
        assert refusal(stage.connect, client=client) == expected
    stage.connect(client=stage.client("A-Za_z09")).close()


@scenario()
def bad_channels(stage: Stage) -> None:
    """No wildcards, no empty tokens, no slash; nothing is stored."""
    connection = stage.connect()
    channel = stage.channel()
    for name in (f"{channel}.*", f"{channel}.>", "*", ">", f"{channel}/x"):
        assert refusal(connection.publish, name, "x") == "stan: invalid publish request", name
    for name in (f"{channel}.*", f"{channel}.>", "*", ">", f"{channel}/x", f"{channel}.", f".{channel}", "a..b"):
        assert refusal(connection.subscribe, name) == "stan: invalid subject", name
    acked, errors = connection.publish_async(f"{channel}.>", ["x", "y"])
    assert (acked, errors) == ([], ["stan: invalid publish request"] * 2)

    connection.publish(channel, "1")
    assert connection.subscribe(channel, ("first", 0)).sequences(1) == [1]


@scenario()
def a_channels_first_spelling_wins(stage: Stage) -> None:
    """Names that differ in case alone are one too many."""
    connection = stage.connect()
    channel = stage.channel("Case")
    connection.publish(channel, "1")
    other = channel.lower()
    expected = f'rejecting channel "{other}" because channel "{channel}" alreay exists (different cases not allowed)'

    assert refusal(connection.publish, other, "x") == expected
    assert refusal(connection.subscribe, other) == expected
    connection.publish(channel, "2")
