"""Features that are read but not served yet: refused by name, never silently dropped.

Purpose: one row per field; a feature that arrives loses its row here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamd.api.errors import CONSUMER_CREATE, STREAM_INVALID_CONFIG

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.api.consumer import ConsumerConfig
    from streamd.api.stream import StreamConfig

STREAM: dict[str, Callable[[StreamConfig], object]] = {
    "mirror": lambda config: config.mirror,
    "sources": lambda config: config.sources,
    "retention interest": lambda config: config.retention == "interest",
    "retention workqueue": lambda config: config.retention == "workqueue",
    "subject_transform": lambda config: config.subject_transform,
    "republish": lambda config: config.republish,
    "allow_msg_ttl": lambda config: config.allow_msg_ttl,
    "subject_delete_marker_ttl": lambda config: config.subject_delete_marker_ttl,
    "allow_msg_counter": lambda config: config.allow_msg_counter,
    "allow_atomic": lambda config: config.allow_atomic,
    "allow_msg_schedules": lambda config: config.allow_msg_schedules,
    "persist_mode async": lambda config: config.persist_mode == "async",
    "allow_batched": lambda config: config.allow_batched,
}
CONSUMER: dict[str, Callable[[ConsumerConfig], object]] = {
    "ack_policy flow_control": lambda config: config.ack_policy == "flow_control",
    "rate_limit_bps": lambda config: config.rate_limit_bps,
    "direct": lambda config: config.direct,
    "sourcing": lambda config: config.sourcing,
    "pause_until": lambda config: config.pause_until and not config.pause_until.startswith("0001-01-01"),
    "priority_groups": lambda config: config.priority_groups,
    "priority_policy": lambda config: config.priority_policy != "none",
    "priority_timeout": lambda config: config.priority_timeout,
}


def stream_later(config: StreamConfig) -> None:
    """Errors: ApiError 10052 naming the first feature that isn't there yet."""
    for name, used in STREAM.items():
        if used(config):
            raise STREAM_INVALID_CONFIG(err=f"{name} not supported yet by streamd")


def consumer_later(config: ConsumerConfig) -> None:
    """Errors: ApiError 10012 naming the first feature that isn't there yet."""
    for name, used in CONSUMER.items():
        if used(config):
            raise CONSUMER_CREATE(err=f"{name} not supported yet by streamd")
