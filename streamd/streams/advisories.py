"""Advisories and metrics: what happened to streams, consumers and their cluster, as messages for whoever listens.

Guarantee:  what nobody listens to isn't made.
Source:     nats-server 2.15.2.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from streamd.api.cluster import peer_id
from streamd.api.wire import time_text
from streamd.config.models import SYSTEM_ACCOUNT
from streamd.tokens import nuid

if TYPE_CHECKING:
    from streamd.clock import Clock
    from streamd.core.bus import Bus
    from streamd.streams.replication.view import View
    from streamd.streams.stream import Stream

_TYPE: Final = "io.nats.jetstream.advisory.v1."
_SUBJECT: Final = "$JS.EVENT.ADVISORY."
_ACCOUNT: Final = "$G"


class Advisories:
    """Publishes them in the default account; what is about a cluster in the system account, too or alone."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        #: What is shown of the cluster, in one.
        self.view: View | None = None
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

    # of a cluster

    def consumer_made(self, stream: Stream, consumer: str) -> None:
        """A consumer was made; in a group it has a leader from then on."""
        self.of_group(stream, "leader_elected", consumer)
        self.consumer_action(stream.name, consumer, "create")

    def of_group(self, stream: Stream, event: str, consumer: str = "") -> None:
        """leader_elected (this server) or quorum_lost, of a stream or one of its consumers, if it is in a group."""
        if stream.replica is None or self.view is None:
            return
        kind, about = "stream", {"stream": stream.name}
        if consumer:
            kind, about = "consumer", {"stream": stream.name, "consumer": consumer}
        subject = f"{_SUBJECT}{kind.upper()}.{event.upper()}.{'.'.join(about.values())}"
        accounts = [each for each in (_ACCOUNT, SYSTEM_ACCOUNT) if self._bus.heard(subject, account=each)]
        if not accounts:
            return
        group = stream.replica.group
        fields: dict[str, Any] = dict(about)
        if event == "leader_elected":
            fields["leader"] = self.view.name
        fields["replicas"] = [peer.wire() for peer in self.view.members(group)]
        for account in accounts:
            whose = {"account": _ACCOUNT} if account == SYSTEM_ACCOUNT else {}
            self._publish(subject, f"{kind}_{event}", in_account=account, **whose, **fields)

    def domain_leader(self) -> None:
        """This server leads the meta group from now on."""
        if self.view is not None:
            self._publish(
                f"{_SUBJECT}DOMAIN.LEADER_ELECTED",
                "domain_leader_elected",
                in_account=SYSTEM_ACCOUNT,
                leader=peer_id(self.view.name),
                replicas=[peer.wire() for peer in self.view.meta_members()],
                cluster=self.view.cluster,
            )

    def server_removed(self, server: str) -> None:
        """A server was taken out of the cluster."""
        if self.view is not None:
            self._publish(
                f"{_SUBJECT}SERVER.REMOVED",
                "server_removed",
                in_account=SYSTEM_ACCOUNT,
                server=server,
                server_id=peer_id(server),
                cluster=self.view.cluster,
            )

    def _publish(self, subject: str, kind: str, *, in_account: str = _ACCOUNT, **fields: Any) -> None:
        if not self._bus.heard(subject, account=in_account):
            return
        body = {
            "type": kind if kind.startswith("io.") else _TYPE + kind,
            "id": nuid(),
            "timestamp": time_text(self._clock.now_ns()),
            **fields,
        }
        self._bus.publish(subject, json.dumps(body, separators=(",", ":")).encode(), account=in_account)
