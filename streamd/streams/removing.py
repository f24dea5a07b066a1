"""Streams and consumers that clients delete: gone at once, for good once that is durable, and served again if it can't be.

Guarantee:  there is never more than one of a name in the store. What takes the name of one whose deletion isn't durable yet
            takes that one's place in the same commit.
Not here:   what a cluster has removed (dropping).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from streamd._engine import CorruptRecord
from streamd.errors import LeadershipLost, StoreError
from streamd.state.stream import subjects_overlap
from streamd.streams.consumer import Consumer
from streamd.streams.definitions import consumer_definition
from streamd.streams.dropping import drop
from streamd.streams.failures import storage_error
from streamd.streams.mishaps import answered

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.api.errors import ApiError
    from streamd.store import Outcome, Work
    from streamd.streams.changes import After, Rows
    from streamd.streams.services import Services
    from streamd.streams.stream import Stream


class Removing:
    """The streams of a server that leave it."""

    def __init__(self, services: Services, streams: dict[str, Stream]) -> None:
        """`streams`: those that are served, by name."""
        self._services = services
        self._streams = streams
        #: By name, what may still be in the store and is served again if it stays, with the consumers that it had.
        self._going: dict[str, tuple[Stream, list[Consumer]]] = {}

    def remove(self, stream: Stream, done: Callable[[ApiError | None], None], *, keep: bool) -> None:
        """Remove a stream with all its consumers; `done` once that is durable. `keep`: if that fails it is served as before;
        else who asks sees to it."""
        name = stream.name
        consumers = list(stream.consumers.values())
        if self._streams.get(name) is stream:
            del self._streams[name]
        stream.close("409 Consumer Deleted")
        if keep and stream.stream_id:
            self._going.setdefault(name, (stream, consumers))

        def job(work: Work) -> Callable[[Outcome], None]:
            if stream.stream_id:
                stream.part(work).drop = True
            return after

        def after(outcome: Outcome) -> None:
            if outcome.error is not None and stream.stream_id and keep:
                self._stays(name)
                done(storage_error(outcome.error))
                return
            self._gone(stream)
            for consumer in (*consumers, *stream.going.values()):
                self._services.advisories.consumer_action(name, consumer.name, "delete")
            self._services.advisories.stream_action(name, "delete")
            done(storage_error(outcome.error) if outcome.error is not None and stream.stream_id else None)

        self._services.commits.at_rest(answered(stream, job, after))

    def replace(self, name: str, work: Work) -> None:
        """A stream of that name is made in this work."""
        if name in self._going:
            self._going[name][0].part(work).drop = True

    def replaced(self, stream: Stream, *, made: bool) -> None:
        """A stream was made, or wasn't."""
        if made:
            if stream.name in self._going and self._going[stream.name][0] is not stream:
                del self._going[stream.name]
        else:
            self._gone(stream)  # if it was deleted meanwhile
            self._stays(stream.name)

    def _gone(self, stream: Stream) -> None:
        if stream.name in self._going and self._going[stream.name][0] is stream:
            del self._going[stream.name]

    def _stays(self, name: str) -> None:
        """What was to go couldn't."""
        if name not in self._going:
            return
        stream, consumers = self._going[name]
        taken = self._streams.get(name)
        if taken is not None and not taken.in_memory:
            return  # by one that takes its place, or says so if it can't
        if taken is None and not any(
            subjects_overlap(stream.subjects, each.subjects) for each in self._streams.values()
        ):
            del self._going[name]
            self._streams[name] = stream
            reopen(stream, consumers)
        else:
            # Others have its name or its subjects by now.
            drop(self._services, stream, lambda: self._gone(stream))


def reopen(stream: Stream, consumers: list[Consumer]) -> None:
    """Serve a stream that was closed again as it is stored, with the consumers that it had and those that are still to go."""
    stream.closed, stream.binding = False, None
    consumers = [*consumers, *stream.going.values()]
    stream.going.clear()
    if stream.offline is None:
        stream.put_back()
    again = [serve_again(stream, consumer) for consumer in consumers]
    stream.start()
    for consumer in again:
        consumer.start()
    stream.changes.rows(partial(_define, again))


def _define(consumers: list[Consumer], rows: Rows) -> After:
    """Of one that was made behind the deletion of its stream the store has nothing."""
    for consumer in consumers:
        if consumer.consumer_id and not consumer.closed:
            definition = consumer_definition(consumer.config, consumer.created_ns, 1, consumer.lasts_until)
            rows.put(consumer.stream, consumer.consumer_id, definition, consumer.state.encode())
    return lambda _error: None


def remove_consumer(stream: Stream, consumer: Consumer, done: Callable[[StoreError | None], None] | None) -> None:
    """Remove a consumer; `done` once that is durable. If that fails it is served as before."""
    name = consumer.name
    stream.consumers.pop(name, None)
    consumer.close("409 Consumer Deleted")
    # A group's log has both what removes it and what comes in its place, in order; and it can't be full.
    if consumer.consumer_id and not stream.group:
        stream.going.setdefault(name, consumer)

    def change(rows: Rows) -> After:
        if not stream.closed:
            rows.drop(stream, consumer.consumer_id)
        return after

    def after(error: StoreError | None) -> None:
        if error is None or isinstance(error, LeadershipLost):
            if stream.going.get(name) is consumer:
                del stream.going[name]
            stream.services.advisories.consumer_action(stream.name, name, "delete")
        else:
            consumer_stays(stream, name)
        if done is not None:
            done(error)

    stream.changes.rows(change)


def replace_consumer(consumer: Consumer, rows: Rows) -> None:
    """A consumer is made by these rows. What is stored has the number of the one that was to go, and so its place."""
    going = consumer.stream.going.get(consumer.name)
    if going is not None and not consumer.consumer_id:
        rows.drop(consumer.stream, going.consumer_id)


def consumer_made(consumer: Consumer, *, stored: bool) -> None:
    """It has taken the place of the one of its name that was to go, unless it was closed before it was `stored`."""
    going, name = consumer.stream.going, consumer.name
    if stored:
        before = going.pop(name, None)
        if before is not None and consumer.closed and consumer.consumer_id:
            going[name] = consumer  # it is to go itself
    elif going.get(name) is consumer:
        del going[name]


def consumer_not_made(consumer: Consumer) -> None:
    """It couldn't be stored: the one of its name that was to go is there still."""
    stream, name = consumer.stream, consumer.name
    if stream.consumers.get(name) is consumer:
        del stream.consumers[name]
    if stream.going.get(name) is consumer:
        del stream.going[name]
    consumer_stays(stream, name)


def consumer_stays(stream: Stream, name: str) -> None:
    """A consumer that was to go couldn't."""
    if name in stream.going and name not in stream.consumers and stream.leads and not stream.closed:
        serve_again(stream, stream.going.pop(name)).start()


def serve_again(stream: Stream, before: Consumer) -> Consumer:
    """A consumer in the place of one that was closed, with its state."""
    consumer = Consumer(stream, before.config, before.state, before.consumer_id, before.created_ns)
    stream.consumers[consumer.name] = consumer
    if stream.offline is None:
        try:
            if consumer.config.deliver_policy == "last_per_subject":
                consumer.begin_with_lasts(before.lasts_until)
            consumer.pending.begin()
        except CorruptRecord as error:
            stream.damaged(error)
    consumer.changed()
    return consumer
