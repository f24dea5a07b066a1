"""What is stored of a stream or consumer beside its messages and state, and what the native machines are made of.

Shapes:  JSON. A stream's: name, created (ns), config as on the wire, and for a channel of NATS Streaming `channel`, its name.
         A consumer's: name, created, start, until, config. What a service of another room stores in a consumer's or stream's
         place carries `service`, that room's name, and is its own business.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from streamd._engine import ConsumerState
from streamd.streams.consumer import state_options

if TYPE_CHECKING:
    from streamd.api.consumer import ConsumerConfig
    from streamd.api.stream import StreamConfig
    from streamd.streams.stream import Stream

#: What a channel's stream is to whoever wants to change it.
CHANNEL_OWNER: Final = 'channel "{}" of NATS Streaming: its limits and its end are those of the streaming block'


def stream_options(config: StreamConfig, channel: str | None) -> dict[str, Any]:
    """What the native machine needs to know of a configuration, as far as it may change."""
    return {
        "max_msgs": config.max_msgs,
        "max_bytes": config.max_bytes,
        "max_msgs_per_subject": config.max_msgs_per_subject,
        "max_msg_size": config.max_msg_size,
        "max_age_ns": config.max_age,
        "discard_new": config.discard == "new",
        "discard_new_per_subject": config.discard_new_per_subject,
        "duplicate_window_ns": config.duplicate_window,
        "no_ack": config.no_ack,
        "allow_rollup": config.allow_rollup_hdrs,
        "deny_purge": config.deny_purge,
        "sealed": config.sealed,
        "keep_newest": channel is not None,
    }


def fixed_options(config: StreamConfig, channel: str | None) -> dict[str, Any]:
    """And what never changes."""
    length = 0 if channel is None else len(channel.encode("utf-8", "surrogateescape"))
    return {"memory": config.storage == "memory", "channel_len": length}


def stream_definition(config: StreamConfig, created_ns: int, channel: str | None, cluster: dict[str, Any]) -> bytes:
    """The stored form of a stream's definition; `cluster`: what a cluster adds (uid, version, group, frozen, partial)."""
    fields: dict[str, Any] = {"name": config.name, "created": created_ns, "config": config.wire()}
    if channel is not None:
        fields["channel"] = channel
    return json.dumps(fields | cluster).encode()


def consumer_definition(config: ConsumerConfig, created_ns: int, start_seq: int, until: int) -> bytes:
    """The stored form of a consumer's definition; `until` as in `Consumer.begin_with_lasts`."""
    fields = {
        "name": config.name,
        "created": created_ns,
        "start": start_seq,
        "until": until,
        "config": config.wire(),
    }
    return json.dumps(fields).encode()


def is_service(definition: bytes) -> bool:
    """Whether a row is of a service of another room, not of a consumer, whose metadata may have any name."""
    # Channels have many rows, and every list and report counts: what needn't be read isn't.
    return definition.startswith(b'{"service"') or (b'"service"' in definition and "service" in json.loads(definition))


def new_consumer_state(stream: Stream, config: ConsumerConfig, start_seq: int) -> ConsumerState:
    """A machine for a configuration that has delivered nothing and begins at a sequence."""
    return ConsumerState(
        stream.name,
        config.name,
        ack_policy=config.ack_policy,
        flow_control=config.flow_control,
        next_seq=start_seq,
        **state_options(config),
    )
