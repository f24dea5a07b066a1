"""Pings and heartbeats: how each side notices that the other is gone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.stan.scenarios.acks import told
from tests.stan.scenarios.identity import REPLACED
from tests.stan.stage import scenario

if TYPE_CHECKING:
    from tests.stan.stage import Stage

PINGS_FAILED = "stan: connection lost due to PING failure"


@scenario("")
def a_silent_server_is_given_up(stage: Stage) -> None:
    """Two pings a second apart may stay unanswered, the third may not; with patience a connection survives the same."""
    hasty = stage.connect("hasty", ping_seconds=1, ping_out=2)
    patient = stage.connect("patient", ping_seconds=1, ping_out=60)
    channel = stage.channel()
    subscription = patient.subscribe(channel)
    frozen = time.monotonic()
    stage.server.freeze()

    assert hasty.lost() == PINGS_FAILED
    assert time.monotonic() - frozen >= 2
    stage.server.thaw()
    patient.publish(channel, "1")
    assert subscription.sequences(1) == [1]


@scenario("store: memory")
def a_forgetful_server_says_so(stage: Stage) -> None:
    """After its restart it knows nobody: the first ping's answer ends the connection."""
    connection = stage.connect(ping_seconds=1, ping_out=60)
    channel = stage.channel()
    connection.publish(channel, "1")
    stage.server.restart(clean=True)

    assert connection.lost() == REPLACED
    anew = stage.connect()
    anew.publish(channel, "1")
    assert anew.subscribe(channel, ("first", 0)).sequences(1) == [1]


@scenario("hb_interval: 1s\nhb_timeout: 1s\nhb_fail_count: 1")
def a_client_without_heartbeats_is_closed(stage: Stage) -> None:
    """What it held goes to the other member, and it is told when it asks; who answers stays."""
    program = stage.program()
    silent = stage.connect("silent", program=program, ping_seconds=1, ping_out=60)
    living = stage.connect("living", ping_seconds=1, ping_out=60)
    channel = stage.channel()
    holder = silent.subscribe(channel, queue="q", manual=True, ack_seconds=60)
    living.publish(channel, "1", "2")
    holder.take(2)
    holder.ack(1)
    other = living.subscribe(channel, queue="q", manual=True, ack_seconds=60)
    program.freeze()

    assert told(other.take(1)) == [(2, 1)]
    program.thaw()
    assert silent.lost() == REPLACED
    living.publish(channel, "3")
    assert told(other.take(1)) == [(3, 0)]


@scenario("hb_interval: 1s\nhb_timeout: 1s\nhb_fail_count: 1")
def a_vanished_client_is_closed(stage: Stage) -> None:
    """Its NATS connection is gone; its durable is suspended, and its place in the queue is free."""
    program = stage.program()
    vanishing = stage.connect("vanishing", program=program)
    living = stage.connect("living")
    channel = stage.channel()
    holder = vanishing.subscribe(channel, queue="q", manual=True, ack_seconds=60)
    durable = vanishing.subscribe(channel, durable="d", manual=True, ack_seconds=60)
    living.publish(channel, "1")
    holder.take(1)
    durable.take(1)
    other = living.subscribe(channel, queue="q", manual=True, ack_seconds=60)
    program.close()

    assert told(other.take(1)) == [(1, 1)]
    heir = stage.connect("vanishing")
    assert told(heir.subscribe(channel, durable="d", manual=True).take(1)) == [(1, 1)]
