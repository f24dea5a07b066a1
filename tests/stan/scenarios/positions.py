"""Where a subscription starts. A message published afterwards closes each comparison: nothing else came before it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.stan.stage import scenario

if TYPE_CHECKING:
    from tests.stan.stage import Stage

#: Start and what of the messages 1 to 5 it gives.
FILLED = [
    (("new", 0), []),
    (("last", 0), [5]),
    (("first", 0), [1, 2, 3, 4, 5]),
    (("sequence", 0), [1, 2, 3, 4, 5]),
    (("sequence", 1), [1, 2, 3, 4, 5]),
    (("sequence", 3), [3, 4, 5]),
    (("sequence", 5), [5]),
    (("sequence", 6), []),
    (("sequence", 99), []),
    (("ago", 3600), [1, 2, 3, 4, 5]),
    (("ago", 0), []),
    (("ago", -3600), []),
]


@scenario()
def starts_on_a_filled_channel(stage: Stage) -> None:
    """Every start, those beyond the ends too."""
    connection = stage.connect()
    channel = stage.channel()
    connection.publish(channel, *"12345")
    subscriptions = [connection.subscribe(channel, start) for start, _ in FILLED]
    connection.publish(channel, "6")

    found = [[m.sequence for m in one.take_until(lambda m: m.data == "6")] for one in subscriptions]

    assert dict(zip((start for start, _ in FILLED), found, strict=True)) == {s: [*e, 6] for s, e in FILLED}


@scenario()
def starts_on_an_empty_channel(stage: Stage) -> None:
    """Everything waits for the first message, however far away the start was."""
    connection = stage.connect()
    channel = stage.channel()
    subscriptions = {start: connection.subscribe(channel, start) for start, _ in FILLED}
    connection.publish(channel, "1", "2")

    assert {start: one.sequences(2) for start, one in subscriptions.items()} == {start: [1, 2] for start, _ in FILLED}


@scenario()
def starts_at_a_time(stage: Stage) -> None:
    """The first message that is not older; the Python library cuts what lies between seconds."""
    connection = stage.connect()
    channel = stage.channel()
    connection.publish(channel, "1", "2")
    second = connection.subscribe(channel, ("last", 0)).take()[0].timestamp_us / 1e6
    while time.time() < second + 3:
        time.sleep(0.05)
    connection.publish(channel, "3")
    between = connection.subscribe(channel, ("time", second + 0.01))
    before = connection.subscribe(channel, ("time", second - 60))
    connection.publish(channel, "4")

    assert between.sequences(2) == [3, 4]
    assert before.sequences(4) == [1, 2, 3, 4]


@scenario()
def starts_where_the_oldest_are_dropped(stage: Stage) -> None:
    """A channel that keeps three: what lies before them starts with the first that is left."""
    connection = stage.connect()
    channel = stage.channel("few")
    connection.publish(channel, *"123456")
    starts = {("first", 0): [4, 5, 6], ("sequence", 1): [4, 5, 6], ("sequence", 5): [5, 6], ("last", 0): [6]}
    starts |= {("ago", 3600): [4, 5, 6], ("new", 0): []}

    subscriptions = {start: connection.subscribe(channel, start) for start in starts}
    connection.publish(channel, "7")

    found = {s: [m.sequence for m in one.take_until(lambda m: m.data == "7")] for s, one in subscriptions.items()}
    assert found == {start: [*expected, 7] for start, expected in starts.items()}


@scenario()
def starts_where_all_has_expired(stage: Stage) -> None:
    """A channel that keeps a second: sequences go on, and every start waits for the next message."""
    connection = stage.connect()
    channel = stage.channel("short")
    connection.publish(channel, "1", "2", "3")
    gone = time.monotonic() + 1.5
    while True:
        while time.monotonic() < gone:
            time.sleep(0.05)
        starts = [("first", 0), ("sequence", 1), ("last", 0), ("new", 0), ("ago", 3600)]
        subscriptions = [connection.subscribe(channel, start) for start in starts]
        connection.publish(channel, "next")
        found = [one.take()[0] for one in subscriptions]
        if {message.data for message in found} == {"next"} or time.monotonic() > gone + 10:
            break
        gone += 1.5

    assert [message.data for message in found] == ["next"] * 5
    assert len({message.sequence for message in found}) == 1
    assert found[0].sequence >= 4
