"""kill -9 under load: no acknowledged publish is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.stan.stage import scenario

if TYPE_CHECKING:
    from tests.stan.stage import Stage

BATCH = 2_000
#: So many of the last batch are stored when the server dies.
EARLY = 200


@scenario("")
def what_was_acknowledged_is_there(stage: Stage) -> None:
    """In its order and once, and the durable that was listening misses none of it.

    It may hear some twice, and not always flagged: what was sent last isn't on the disk yet when the original dies.
    """
    publisher = stage.connect("publisher", program=stage.program(), ping_seconds=1, ping_out=60, ack_seconds=5)
    subscriber = stage.connect("subscriber", ping_seconds=1, ping_out=60)
    channel = stage.channel()
    durable = subscriber.subscribe(channel, durable="d", ack_seconds=2)
    batches = [[str(number) for number in range(start, start + BATCH)] for start in range(0, 3 * BATCH, BATCH)]
    for batch in batches[:-1]:
        assert publisher.publish_async(channel, batch) == (list(range(BATCH)), [])
    running = publisher.start_async(channel, batches[-1])
    subscriber.program.until(lambda: len(durable.waiting()) >= 2 * BATCH + EARLY or None, "message of the last batch")
    stage.server.restart(clean=False)
    subscriber.reconnected()
    acked, errors = publisher.finish(running)
    reader = stage.connect("reader")
    reader.publish(channel, "end")

    stored = reader.subscribe(channel, ("first", 0)).take_until(lambda message: message.data == "end")
    assert [message.sequence for message in stored] == list(range(1, len(stored) + 1))
    numbers = [int(message.data) for message in stored[:-1]]
    assert errors == []
    assert set(range(2 * BATCH)) | {2 * BATCH + index for index in acked} <= set(numbers)
    assert numbers == sorted(set(numbers))
    everything = {message.data for message in stored}
    subscriber.program.until(lambda: {message.data for message in durable.waiting()} == everything or None, "all of it")
