"""Streams and consumers from what the store holds of them; and rows, which are consumers that nobody runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from streamd._engine import CorruptRecord, StreamState
from streamd.api.consumer import ConsumerConfig
from streamd.api.stream import StreamConfig
from streamd.errors import StoreError
from streamd.store import StoredConsumer, restore_state
from streamd.streams.consumer import Consumer, filters_of
from streamd.streams.definitions import consumer_definition, fixed_options, new_consumer_state, stream_options
from streamd.streams.reading_back import explain_gaps
from streamd.streams.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamd._engine import ConsumerState
    from streamd.store import Environment, StoredStream, StreamLog
    from streamd.streams.services import Services


def stream_of(
    services: Services,
    environment: Environment,
    stored: StoredStream,
    definition: dict[str, Any],
    log: StreamLog,
    offline: str | None,
) -> Stream:
    """A stream without its consumers; `offline`: why it isn't even to be read. Damage takes it offline."""
    config = StreamConfig.model_validate(definition.get("config", {}), strict=False)
    channel = definition.get("channel")
    options = stream_options(config, channel) | fixed_options(config, channel)
    state = None
    try:
        if offline is None:
            explain_gaps(stored)
            state = restore_state(environment, stored, log, **options)
    except StoreError as error:
        offline = str(error)
    if state is None:
        state = StreamState(config.name or stored.name, **options)
    stream = Stream(services, config, state, log, stored.stream, definition.get("created", 0), channel)
    stream.name = config.name or stored.name
    stream.ids_found(len(stored.ids), state.last_ts_ns)
    if offline is not None:
        stream.go_offline(offline)
    stream.uid, stream.version = definition.get("uid", 0), definition.get("version", 0)
    stream.frozen, stream.partial = definition.get("frozen", False), definition.get("partial", False)
    stream.move, stream.group = definition.get("move", 0), definition.get("group", "")
    return stream


def consumers_of(stream: Stream, stored: StoredStream) -> None:
    """Give a stream the consumers that were stored with it; what is another service's is kept for that."""
    for consumer in stored.consumers.values():
        definition = json.loads(consumer.definition) if consumer.definition else {"service": ""}
        if "service" in definition or "config" not in definition:
            # Of a service, or of who knows what: the definition around it can't be read.
            stream.kept[consumer.consumer] = (definition, consumer.state)
        else:
            _consumer(stream, consumer, definition)


def take_up(stream: Stream) -> None:
    """A replicated stream is led from here: its consumers are what its rows say."""
    for number, (definition, state) in stream.rows.items():
        fields = json.loads(definition)
        if "service" in fields:
            stream.kept[number] = (fields, state)
        else:
            _consumer(stream, StoredConsumer(number, definition, state), fields)
    for consumer in ("", *stream.consumers):
        stream.services.advisories.of_group(stream, "leader_elected", consumer)


def rows_of(stream: Stream) -> dict[int, tuple[bytes, bytes | None]]:
    """The rows that the consumers of a stream make, for when it moves; those in memory get numbers."""
    rows: dict[int, tuple[bytes, bytes | None]] = {}
    for consumer in stream.consumers.values():
        consumer.consumer_id = consumer.consumer_id or stream.next_consumer_id()
        definition = consumer_definition(consumer.config, consumer.created_ns, 1, consumer.lasts_until)
        rows[consumer.consumer_id] = definition, consumer.state.encode()
    return rows


class Followed(NamedTuple):
    """A consumer that another server runs: as it was last stored."""

    config: ConsumerConfig
    state: ConsumerState
    created_ns: int


def has_consumer(stream: Stream, name: str) -> bool:
    """Whether a stream has a consumer, wherever that runs."""
    if stream.leads:
        return name in stream.consumers
    return any(fields["name"] == name for fields, _ in consumer_rows(stream))


def followed(stream: Stream) -> Iterator[Followed]:
    """The consumers of a stream that isn't led from here, by name, each made when it is its turn. What can't be read is left
    out. Shapes: `num_pending` is an upper bound where the index can't tell."""
    for fields, stored in sorted(consumer_rows(stream), key=lambda row: str(row[0]["name"])):
        config = ConsumerConfig.model_validate(fields["config"], strict=False)
        state = new_consumer_state(stream, config, fields.get("start", 1))
        try:
            if stored is not None:
                state.decode(stored)
        except CorruptRecord:
            continue
        filters = filters_of(config)
        count, exact = stream.state.pending(filters, state.next_seq)
        behind = max(stream.state.last_seq - state.next_seq + 1, 0)
        state.num_pending = count if exact else min(stream.state.bounds(filters)[2], behind)
        yield Followed(config, state, fields.get("created", 0))


def consumer_rows(stream: Stream) -> list[tuple[dict[str, Any], bytes | None]]:
    """Definition and state of each consumer of a stream that isn't led from here."""
    found = [(json.loads(definition), state) for definition, state in stream.rows.values()]
    return [row for row in found if "service" not in row[0]]


def _consumer(stream: Stream, stored: StoredConsumer, definition: dict[str, Any]) -> None:
    config = ConsumerConfig.model_validate(definition["config"], strict=False)
    state = new_consumer_state(stream, config, definition.get("start", 1))
    if stored.state is not None:
        try:
            state.decode(stored.state)
        except CorruptRecord as error:
            stream.go_offline(f"consumer {config.name} of stream {stream.name} is damaged: {error}")
    consumer = Consumer(stream, config, state, stored.consumer, definition.get("created", 0))
    if stream.offline is None:
        try:
            if config.deliver_policy == "last_per_subject":
                consumer.begin_with_lasts(definition.get("until", 0))
            consumer.pending.begin()
        except CorruptRecord as error:
            stream.damaged(error)
    stream.consumers[config.name] = consumer
