"""Handlers of consumers: create in its forms, names, list, info, delete. Source: nats-server 2.15.2."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from streamd.api import consumer as wire
from streamd.api.errors import (
    CONSUMER_NAME_EXISTS,
    CONSUMER_NOT_FOUND,
    CONSUMERS_MAX,
    NOT_AVAILABLE,
    ApiError,
)
from streamd.api.metadata import dynamic
from streamd.api.wire import time_parse
from streamd.core.info import PROTOCOL_VERSION
from streamd.state.consumer import consumer_create, consumer_named
from streamd.store import sequence_of
from streamd.streams.consumers import create_consumer, update_consumer
from streamd.streams.failures import storage_error
from streamd.streams.found import Followed, followed
from streamd.tokens import token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamd.errors import StoreError
    from streamd.streams.api import Call
    from streamd.streams.consumer import Consumer
    from streamd.streams.jetstream import JetStream
    from streamd.streams.stream import Stream


class ConsumerApi:
    """CONSUMER.CREATE, DURABLE.CREATE, NAMES, LIST, INFO and DELETE."""

    def __init__(self, jetstream: JetStream) -> None:
        self._jetstream = jetstream

    def consumer_create(self, call: Call, request: wire.ConsumerCreateRequest) -> None:
        """CREATE.S, CREATE.S.C and CREATE.S.C.filter."""
        self._create(call, request, durable=False)

    def consumer_durable_create(self, call: Call, request: wire.ConsumerCreateRequest) -> None:
        """DURABLE.CREATE.S.C."""
        self._create(call, request, durable=True)

    def _create(self, call: Call, request: wire.ConsumerCreateRequest, *, durable: bool) -> None:
        stream = call.stream_online()
        stream_name, name, filter_subject = [*call.arguments, "", ""][:3]
        config = consumer_named(request, stream_name, name, filter_subject, durable=durable)
        existing = stream.consumers.get(config.name) if config.name else None
        settled = consumer_create(
            config,
            stream.config,
            self._jetstream.limits,
            old=existing.config if existing else None,
            action=request.action,
            pedantic=request.pedantic,
        )

        def done(consumer: Consumer, error: ApiError | None) -> None:
            if error is None:
                consumer.pending.when_counted(lambda: call.answer(wire.ConsumerCreateResponse.of(self.info(consumer))))
            elif error.err_code == NOT_AVAILABLE().err_code:
                # The leader changed. Made twice, a consumer is the same one.
                call.ask_again(error)
            else:
                call.fail(error)

        if existing is not None:
            if settled is existing.config:
                made = partial(done, existing)
                existing.made.when(
                    lambda error: made(error) if error else self._surely(call, stream, partial(made, None))
                )
                return
            if existing.push_bound and settled.deliver_subject != existing.config.deliver_subject:
                raise CONSUMER_NAME_EXISTS()
            update_consumer(existing, settled, partial(done, existing))
            return
        if 0 < stream.config.max_consumers <= len(stream.consumers):
            raise CONSUMERS_MAX()
        if not settled.name:
            settled.name = token(8)
        create_consumer(stream, settled, start_sequence(stream, settled), done)

    def consumer_names(self, call: Call, request: wire.ConsumersRequest) -> None:
        """Names, sorted, a page at a time."""
        names = sorted(call.stream_online().consumers)
        offset = min(max(request.offset, 0), len(names))
        limit = wire.CONSUMER_NAMES_LIMIT
        page = names[offset : offset + limit]
        call.answer(wire.ConsumerNamesResponse(total=len(names), offset=offset, limit=limit, consumers=page))

    def consumer_list(self, call: Call, request: wire.ConsumersRequest) -> None:
        """Infos, sorted by name, a page at a time."""
        consumers = sorted(call.stream_online().consumers.values(), key=lambda consumer: consumer.name)
        offset = min(max(request.offset, 0), len(consumers))
        limit = wire.CONSUMER_LIST_LIMIT
        page = [self.info(consumer, listed=True) for consumer in consumers[offset : offset + limit]]
        call.answer(wire.ConsumerListResponse(total=len(consumers), offset=offset, limit=limit, consumers=page))

    def consumer_info(self, call: Call, _request: None) -> None:
        """One info. An ack floor that was told doesn't go back: of a replicated consumer nothing is told that another server
        wouldn't know if it led next, and nobody tells it who leads no more."""
        consumer = self._consumer(call)
        stream = consumer.stream

        def counted() -> None:
            answer = wire.ConsumerInfoResponse.of(self.info(consumer))
            stream.changes.settle(consumer, lambda: self._surely(call, stream, lambda: call.answer(answer)))

        consumer.pending.when_counted(counted)

    def _surely(self, call: Call, stream: Stream, answer: Callable[[], None]) -> None:
        """Answer without a change once a quorum has confirmed that this server leads; if another one does, that one answers."""
        reads = self._jetstream.reads
        if stream.replica is None or reads is None:
            answer()
        else:
            reads.confirm(stream, lambda leading: answer() if leading else call.ask_again(NOT_AVAILABLE()))

    def consumer_delete(self, call: Call, _request: None) -> None:
        """Remove a consumer."""
        consumer = self._consumer(call)

        def done(error: StoreError | None) -> None:
            if error is not None:
                call.fail(storage_error(error))
            else:
                call.answer(wire.ConsumerDeleteResponse())

        consumer.stream.delete_consumer(consumer, done)

    def _consumer(self, call: Call) -> Consumer:
        consumer = call.stream_online().consumers.get(call.arguments[1])
        if consumer is None:
            raise CONSUMER_NOT_FOUND()
        return consumer

    def info(self, consumer: Consumer, *, listed: bool = False) -> wire.ConsumerInfo:
        """What clients see of a consumer. `listed`: in a list, with the stored metadata only."""
        config = consumer.config
        consumer.requests.look()
        if not listed:
            config = config.model_copy(update={"metadata": dynamic(config.metadata, PROTOCOL_VERSION)})
        shown = Followed(config, consumer.state, consumer.created_ns)
        return self._shown(consumer.stream, shown, push_bound=consumer.push_bound)

    def infos(self, stream: Stream) -> Iterator[wire.ConsumerInfo]:
        """Of all consumers of a stream, as in a list, by name, also where another server runs them."""
        if stream.leads:
            for consumer in sorted(stream.consumers.values(), key=lambda consumer: consumer.name):
                if not consumer.closed:
                    yield self.info(consumer, listed=True)
        else:
            for one in followed(stream):
                yield self._shown(stream, one, push_bound=False)

    def _shown(self, stream: Stream, one: Followed, *, push_bound: bool) -> wire.ConsumerInfo:
        config, state, created_ns = one
        return wire.ConsumerInfo(
            stream_name=stream.name,
            name=config.name,
            created=created_ns,
            config=config,
            delivered=wire.SequenceInfo(
                consumer_seq=state.delivered_consumer_seq,
                stream_seq=state.delivered_stream_seq,
                last_active=state.delivered_at_ns,
            ),
            ack_floor=wire.SequenceInfo(
                consumer_seq=state.ack_floor_consumer_seq,
                stream_seq=state.ack_floor_stream_seq,
                last_active=state.acked_at_ns,
            ),
            num_ack_pending=state.num_ack_pending,
            num_redelivered=state.num_redelivered,
            num_waiting=state.num_waiting,
            num_pending=state.num_pending,
            push_bound=push_bound,
            cluster=None if self._jetstream.view is None else self._jetstream.view.of_stream(stream),
            ts=self._jetstream.services.clock.now_ns(),
        )


def start_sequence(stream: Stream, config: wire.ConsumerConfig) -> int:
    """Where a new consumer begins. Errors: CorruptRecord."""
    policy, state = config.deliver_policy, stream.state
    filters = list(config.filter_subjects or ([config.filter_subject] if config.filter_subject else []))
    beyond = stream.committed_seq + 1
    if policy == "by_start_sequence":
        return max(config.opt_start_seq, state.first_seq, 1)
    if policy == "by_start_time":
        return max(stream.first_since(time_parse(config.opt_start_time)[0]), 1)
    if policy == "new":
        return beyond
    if policy == "last":
        if not filters:
            return max(stream.committed_seq, 1)
        lasts = [value for value in map(stream.last_match, filters) if value is not None]
        return max(map(sequence_of, lasts), default=max(state.first_seq, 1))
    if policy == "last_per_subject":
        return min(stream.last_per_subject(filters), default=max(stream.committed_seq, state.first_seq, 1))
    return max(state.first_seq, 1)
