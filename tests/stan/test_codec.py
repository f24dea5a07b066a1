"""What the engine frames and reads by itself, against the protobuf library."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamd._engine import StanGroup, record_encode, stan_channel_valid, stan_reply_headers
from streamd.config.streaming import StreamingConfig
from streamd.stan.schema_pb2 import (
    Ack,
    ConnectRequest,
    First,
    MsgProto,
    PubAck,
    PubMsg,
    SubscriptionRequest,
)
from tests.stan.local import LocalCore, LocalService, StillClock

if TYPE_CHECKING:
    from streamd._engine import Batch

SECOND = 10**9
NOW = 1_700_000_000 * SECOND
CLUSTER = "test-cluster"

#: What may be a protobuf string; those that subjects have no place for come more often.
TEXTS = st.one_of(
    st.text(st.sampled_from("ab.%\r\n\t \0\x7f2é")), st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
)
CHANNELS = TEXTS.filter(stan_channel_valid)
SEQUENCES = st.one_of(st.integers(1, 300), st.integers(1, (1 << 64) - 2))


class Taken:
    """Everything that is published on some subjects."""

    def __init__(self, core: LocalCore, clock: StillClock, *subjects: str) -> None:
        self._clock = clock
        self._found: list[tuple[str, bytes]] = []
        core.bus.bind(subjects, self._take)

    def _take(self, batch: Batch) -> None:
        self._found += [(batch[index].subject, batch[index].payload) for index in range(len(batch))]

    def payloads(self) -> list[bytes]:
        self._clock.run()
        found, self._found = self._found, []
        return [payload for _subject, payload in found]


@given(
    channel=CHANNELS,
    sequence=SEQUENCES,
    timestamp=st.integers(-(1 << 63), (1 << 63) - 1),
    reply=TEXTS,
    data=st.binary(max_size=300),
)
@example(channel="foo", sequence=(1 << 64) - 2, timestamp=(1 << 63) - 1, reply="r\r\n\r\n%0A%%25", data=b"")
@example(channel="foo", sequence=1, timestamp=0, reply="", data=b"")
def test_deliveries(channel: str, sequence: int, timestamp: int, reply: str, data: bytes) -> None:
    """A first delivery, a second one, and the ack that ends it."""
    clock = StillClock(NOW)
    core = LocalCore(clock)
    taken = Taken(core, clock, "inbox")
    headers = stan_reply_headers(reply.encode()) if reply else b""
    values = [record_encode(sequence, timestamp, "stored", headers, data)]
    group = StanGroup(channel, queue=False, next_seq=sequence)
    group.join(1, "inbox", ack_wait_ns=SECOND, max_in_flight=1)
    expected = MsgProto(sequence=sequence, subject=channel, reply=reply, data=data, timestamp=timestamp)

    group.deliver(core.engine, "$G", values, NOW)
    core.flush_soon()
    assert [MsgProto.FromString(payload) for payload in taken.payloads()] == [expected]

    expected.redelivered = True
    for count in (1, 2):
        now_ns = NOW + count * SECOND
        assert group.due(now_ns, 1) == [sequence]
        group.deliver(core.engine, "$G", values, now_ns, redelivery=True)
        core.flush_soon()
        expected.redeliveryCount = count
        assert [MsgProto.FromString(payload) for payload in taken.payloads()] == [expected]

    outcomes: list[tuple[int, int]] = []
    core.bus.bind(["acks"], lambda batch: outcomes.append(group.ack(batch)))
    for ack in (Ack(subject="else", sequence=sequence), Ack(subject=channel, sequence=sequence)):
        core.bus.publish("acks", ack.SerializeToString())
    clock.run()
    assert outcomes == [(1, 1)]
    assert group.num_pending == 0


@settings(deadline=None, max_examples=25)
@given(
    messages=st.lists(
        st.builds(
            PubMsg,
            guid=TEXTS.filter(bool),
            reply=TEXTS,
            data=st.binary(max_size=300),
            sha256=st.binary(max_size=4),  # of no meaning to a server
        ),
        min_size=1,
        max_size=5,
    ),
    channel=CHANNELS,
)
def test_publishes_come_back_as_they_were(messages: list[PubMsg], channel: str) -> None:
    """Through the store and a restart, with the acks that their publishers get."""
    with tempfile.TemporaryDirectory() as directory:
        clock = StillClock(NOW)
        config = StreamingConfig(store="file", dir=directory)
        service = LocalService(Path(directory) / "store", clock, config, "never")
        acks = Taken(service.core, clock, "acks")
        service.serve()
        connect = ConnectRequest(clientID=b"me", heartbeatInbox=b"heart", connID=b"conn")
        service.core.bus.publish(f"_STAN.discover.{CLUSTER}", connect.SerializeToString())
        clock.run()
        for message in messages:
            message.connID, message.subject = b"conn", channel
            service.core.bus.publish(f"_STAN.pub.{CLUSTER}.x", message.SerializeToString(), reply="acks")
        assert [PubAck.FromString(payload) for payload in acks.payloads()] == [
            PubAck(guid=message.guid) for message in messages
        ]
        service.stop()

        service = LocalService(Path(directory) / "store", clock, config, "never")
        inbox = Taken(service.core, clock, "inbox")
        service.serve()
        subscribe = SubscriptionRequest(
            clientID=b"me",
            subject=channel.encode(),
            inbox=b"inbox",
            maxInFlight=10,
            ackWaitInSecs=30,
            startPosition=First,
        )
        service.core.bus.publish(f"_STAN.sub.{CLUSTER}", subscribe.SerializeToString())
        assert [MsgProto.FromString(payload) for payload in inbox.payloads()] == [
            MsgProto(sequence=number, subject=channel, reply=message.reply, data=message.data, timestamp=NOW)
            for number, message in enumerate(messages, 1)
        ]
        service.stop()
