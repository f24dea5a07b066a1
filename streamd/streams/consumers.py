"""Consumers made and changed: stored first, then there."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from streamd.api.errors import CONSUMER_NOT_FOUND
from streamd.streams.consumer import Consumer
from streamd.streams.definitions import consumer_definition, new_consumer_state
from streamd.streams.failures import storage_error
from streamd.streams.removing import consumer_made, consumer_not_made, replace_consumer

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.api.consumer import ConsumerConfig
    from streamd.api.errors import ApiError
    from streamd.errors import StoreError
    from streamd.streams.changes import After, Rows
    from streamd.streams.stream import Stream


def create_consumer(
    stream: Stream, config: ConsumerConfig, start_seq: int, done: Callable[[Consumer, ApiError | None], None]
) -> None:
    """Make a consumer that begins at a sequence; `done` once it is durable. Errors: CorruptRecord."""
    services = stream.services
    created_ns = services.clock.now_ns()
    # What is replicated is stored, or a replica that restarts would differ from the others.
    stored = bool(stream.stream_id) and not (config.mem_storage and not stream.group)
    state = new_consumer_state(stream, config, start_seq)
    consumer = Consumer(stream, config, state, stream.next_consumer_id(config.name) if stored else 0, created_ns)
    until = 0
    if config.deliver_policy == "last_per_subject":
        until = stream.committed_seq
        consumer.begin_with_lasts(until)
    consumer.pending.begin()
    stream.consumers[config.name] = consumer
    consumer.made.begin()
    consumer.made.when(partial(done, consumer))

    written = False

    def change(rows: Rows) -> After:
        nonlocal written
        if not consumer.closed:
            written = True
            replace_consumer(consumer, rows)
            definition = consumer_definition(config, created_ns, start_seq, until)
            rows.put(stream, consumer.consumer_id, definition, state.encode())
        return after

    def after(error: StoreError | None) -> None:
        if error is not None:
            consumer.close("409 Consumer Deleted")
            consumer_not_made(consumer)
            consumer.made.end(storage_error(error))
            return
        consumer_made(consumer, stored=written)
        services.advisories.consumer_made(stream, consumer.name)
        # It listens before the answer leaves; its first deliveries, which take a turn, follow that, as clients expect.
        if not consumer.closed:
            consumer.start()
        consumer.made.end(None)

    stream.changes.rows(change)


def update_consumer(consumer: Consumer, config: ConsumerConfig, done: Callable[[ApiError | None], None]) -> None:
    """Take on a checked configuration; `done` once it is durable."""

    def change(rows: Rows) -> After:
        if consumer.closed:
            return lambda error: done(CONSUMER_NOT_FOUND() if error is None else storage_error(error))
        definition = consumer_definition(config, consumer.created_ns, 1, consumer.lasts_until)
        rows.put(consumer.stream, consumer.consumer_id, definition, consumer.state.encode())
        return after

    def after(error: StoreError | None) -> None:
        if error is None:
            consumer.stream.checked(partial(consumer.reconfigure, config))
        done(storage_error(error) if error is not None else None)

    consumer.stream.changes.rows(change)
