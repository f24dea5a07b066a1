"""Advisories and metrics: what happened to streams and consumers, as messages for whoever listens.

Source: nats-server 2.15.2.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from streamd.api.wire import time_text
from streamd.tokens import nuid

if TYPE_CHECKING:
    from streamd.clock import Clock
    from streamd.core.bus import Bus

_TYPE: Final = "io.nats.jetstream.advisory.v1."
_SUBJECT: Final = "$JS.EVENT.ADVISORY."


class Advisories:
    """Publishes them in the default account."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock

    def stream_action(self, stream: str, action: str) -> None:
        """create, delete or modify."""
        past = {"create": "CREATED", "delete": "DELETED", "modify": "UPDATED"}[action]
        self._publish(f"{_SUBJECT}STREAM.{past}.{stream}", "stream_action", stream=stream, action=action)

    def consumer_action(self, stream: str, consumer: str, action: str) -> None:
        """create or delete."""
        past = {"create": "CREATED", "delete": "DELETED"}[action]
        subject = f"{_SUBJECT}CONSUMER.{past}.{stream}.{consumer}"
        self._publish(subject, "consumer_action", stream=stream, consumer=consumer, action=action)

    def max_deliveries(self, stream: str, consumer: str, stream_seq: int, deliveries: int) -> None:
        """A message is given up."""
        subject = f"{_SUBJECT}CONSUMER.MAX_DELIVERIES.{stream}.{consumer}"
        self._publish(
            subject,
            "max_deliver",
            stream=stream,
            consumer=consumer,
            stream_seq=stream_seq,
            deliveries=deliveries,
        )

    def nak(self, stream: str, consumer: str, consumer_seq: int, stream_seq: int, deliveries: int) -> None:
        """A message was refused by its client."""
        self._publish(
            f"{_SUBJECT}CONSUMER.MSG_NAKED.{stream}.{consumer}",
            "nak",
            stream=stream,
            consumer=consumer,
            consumer_seq=consumer_seq,
            stream_seq=stream_seq,
            deliveries=deliveries,
        )

    def terminated(
        self, stream: str, consumer: str, consumer_seq: int, stream_seq: int, deliveries: int, reason: str
    ) -> None:
        """A message will not come again."""
        more = {"reason": reason} if reason else {}
        self._publish(
            f"{_SUBJECT}CONSUMER.MSG_TERMINATED.{stream}.{consumer}",
            "terminated",
            stream=stream,
            consumer=consumer,
            consumer_seq=consumer_seq,
            stream_seq=stream_seq,
            deliveries=deliveries,
            **more,
        )

    def ack_metric(
        self,
        stream: str,
        consumer: str,
        consumer_seq: int,
        stream_seq: int,
        ack_time_ns: int,
        deliveries: int,
    ) -> None:
        """A sampled ack."""
        self._publish(
            f"$JS.EVENT.METRIC.CONSUMER.ACK.{stream}.{consumer}",
            "io.nats.jetstream.metric.v1.consumer_ack",
            stream=stream,
            consumer=consumer,
            consumer_seq=consumer_seq,
            stream_seq=stream_seq,
            ack_time=ack_time_ns,
            deliveries=deliveries,
        )

    def _publish(self, subject: str, kind: str, **fields: Any) -> None:
        body = {
            "type": kind if kind.startswith("io.") else _TYPE + kind,
            "id": nuid(),
            "timestamp": time_text(self._clock.now_ns()),
            **fields,
        }
        self._bus.publish(subject, json.dumps(body, separators=(",", ":")).encode())
