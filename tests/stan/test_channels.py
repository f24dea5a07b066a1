"""Channels: their names, what their limits leave of them, and what becomes of them at a restart."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from streamd.api.errors import STORAGE_EXCEEDED
from streamd.config.streaming import ChannelLimits
from streamd.errors import StoreError
from streamd.stan.schema_pb2 import MsgProto, NewOnly, SubscriptionRequest, SubscriptionResponse
from streamd.streams.jetstream import JetStream
from tests.core.test_nats_py import until
from tests.monitor.asking import ask
from tests.stan.by_hand import SUBSCRIBE, Stan, checked, refusal
from tests.stan.here import serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamd import Server
    from streamd.api.errors import ApiError
    from streamd.streams.stream import Stream

pytestmark = pytest.mark.anyio

#: What nats-streaming-server's file store counts for a message beside itself.
ENTRY_BYTES: Final = 40
#: Channel → the stream that keeps it.
NAMES: Final[dict[str | bytes, str]] = {
    "plain": "STAN_plain",
    "deep.er": "STAN_deep=2Eer",
    "a channel": "STAN_a=20channel",
    "a=20channel": "STAN_a=3D20channel",
    "=": "STAN_=3D",
    "grüße.Ж語": "STAN_gr=C3=BC=C3=9Fe=2E=D0=96=E8=AA=9E",
    "$STAN.x": "STAN_=24STAN=2Ex",
    b"\xff\xfe": "STAN_=FF=FE",
    b"\xc3=BC": "STAN_=C3=3DBC",
    "tab\tand\r\n\0": "STAN_tab=09and=0D=0A=00",
    "n" * 250: "STAN_" + "n" * 250,
}


def stream(server: Server, channel: str) -> Stream:
    """What a channel is kept in."""
    assert server.streaming is not None
    return server.streaming.channels.by_name[channel].stream


async def test_every_name(tmp_path: Path) -> None:
    """Any bytes that make tokens are a channel of their own, which JetStream reads as well, and which stays one."""
    async with serving(tmp_path) as server, await Stan.connect(server.client_url) as stan:
        for number, name in enumerate(NAMES):
            await stan.publish(name, f"first {number}")
    async with serving(tmp_path) as server, await Stan.connect(server.client_url, "other") as stan:
        js = stan.nats.jetstream()
        for number, (name, stored) in enumerate(NAMES.items()):
            await stan.publish(name, f"second {number}")
            heard = await stan.subscribe(name, durable="d")
            taken = await heard.take(2)
            assert [(m.sequence, m.data.decode()) for m in taken] == [(1, f"first {number}"), (2, f"second {number}")]
            assert (await js.get_msg(stored, 2)).data == f"second {number}".encode()
        assert {info.config.name for info in await js.streams_info()} == set(NAMES.values())


async def test_monitoring_shows_every_name(tmp_path: Path) -> None:
    """What is no UTF-8 in what clients name doesn't keep anybody from the pages."""
    readable = {name if isinstance(name, str) else name.decode(errors="backslashreplace") for name in NAMES}
    async with serving(tmp_path, http_port=-1) as server, await Stan.connect(server.client_url) as stan:
        assert server.monitor_port is not None
        for name in NAMES:
            request = SubscriptionRequest(
                clientID=b"me", subject=name if isinstance(name, bytes) else name.encode(), qGroup=b"q\xff",
                inbox=b"i\xff", durableName=b"d\xff", maxInFlight=1, ackWaitInSecs=1,
            )  # fmt: skip
            checked(await stan.ask(SUBSCRIBE, request.SerializeToString(), SubscriptionResponse))
        names: Any = (await ask(server.monitor_port, "/streaming/channelsz")).json()
        clients: Any = (await ask(server.monitor_port, "/streaming/clientsz?subs=1")).json()
        metrics = await ask(server.monitor_port, "/metrics")
        one: Any = (await ask(server.monitor_port, "/streaming/channelsz?subs=1&channel=%5Cxff%5Cxfe")).json()
    assert set(names["names"]) == readable
    assert set(clients["clients"][0]["subscriptions"]) == readable
    assert metrics.status == 200
    assert one["name"] == "\\xff\\xfe"
    assert (one["subscriptions"][0]["inbox"], one["subscriptions"][0]["queue_name"]) == ("i\\xff", "d\\xff:q\\xff")


async def test_names_that_can_not_be(tmp_path: Path) -> None:
    """Too long for a stream's name; or another spelling, which the original doesn't take either. Nothing is made."""
    names: dict[str | bytes, str] = {
        "n" * 251: f"the name of channel '{'n' * 40}'... is too long: its stream would have more than 255 bytes",
        "ü" * 42: f"the name of channel '{'ü' * 40}'... is too long: its stream would have more than 255 bytes",
        "Plain": 'rejecting channel "Plain" because channel "plain" alreay exists (different cases not allowed)',
        b"\xffa": 'rejecting channel "\\xffa" because channel "\\xffA" alreay exists (different cases not allowed)',
    }
    async with serving(tmp_path) as server, await Stan.connect(server.client_url) as stan:
        for name in ("plain", b"\xffA"):
            await stan.publish(name, "x")
        for name, reason in names.items():
            assert await refusal(stan.publish(name, "x")) == reason
            assert await refusal(stan.subscribe(name)) == reason
        assert len(await stan.nats.jetstream().streams_info()) == 2


@pytest.mark.parametrize(("store", "beside"), [("file", ENTRY_BYTES), ("memory", 0)])
async def test_bytes_are_counted_as_in_the_original(tmp_path: Path, store: str, beside: int) -> None:
    """Encoded messages and, on disk, 40 bytes for each; the oldest go, the newest never, even if it is too big alone."""
    now = time.time_ns()

    def size(sequence: int, data: bytes, reply: str = "") -> int:
        message = MsgProto(sequence=sequence, subject="a", reply=reply, data=data, timestamp=now)
        return int(message.ByteSize()) + beside

    room = size(1, b"x" * 100) + size(2, b"", "answer") + size(3, b"x" * 300)
    config = {"a": ChannelLimits(max_bytes=room)}
    async with serving(tmp_path, store=store, channels=config) as server, await Stan.connect(server.client_url) as stan:
        await stan.publish("a", b"x" * 100)
        await stan.publish("a", b"", reply="answer")
        await stan.publish("a", b"x" * 300)
        found = stream(server, "a").state
        assert (found.first_seq, found.last_seq, found.bytes) == (1, 3, room)
        await stan.publish("a", b"")
        found = stream(server, "a").state
        assert (found.first_seq, found.bytes) == (2, room - size(1, b"x" * 100) + size(4, b""))
        await stan.publish("a", b"y" * (room + 1))
        found = stream(server, "a").state
        assert (found.first_seq, found.last_seq, found.messages) == (5, 5, 1)
        assert found.bytes == size(5, b"y" * (room + 1))
        heard = await stan.subscribe("a")
        assert await heard.sequences(1) == [5]
        await stan.publish("a", "6")
        assert await heard.sequences(1) == [6]
        found = stream(server, "a").state
        assert (found.first_seq, found.bytes) == (6, size(6, b"6"))


async def test_limits_make_gaps(tmp_path: Path) -> None:
    """A durable that was away goes on behind the gap; what was pending and has gone is as good as acked."""
    config = {"a": ChannelLimits(max_msgs=3)}
    async with serving(tmp_path, channels=config) as server, await Stan.connect(server.client_url) as stan:
        await stan.publish("a", "1", "2", "3")
        durable = await stan.subscribe("a", durable="d", max_in_flight=2)
        stalled = await stan.subscribe("a", max_in_flight=1)
        await durable.take(2)
        await durable.close()
        await stalled.take(1)
        await stan.publish("a", *map(str, range(4, 11)))
        durable = await stan.subscribe("a", durable="d", max_in_flight=3)

        assert [(m.sequence, m.redelivered) for m in await durable.take(3)] == [(n, False) for n in (8, 9, 10)]
        sequence = 1
        while sequence < 10:
            message = (await stalled.take(1))[0]
            assert message.sequence > sequence
            sequence = message.sequence
            await stalled.ack(sequence)


async def test_age_takes_everything(tmp_path: Path) -> None:
    """Without a publish; numbers go on behind, a stalled subscription is free again, a restart changes nothing."""
    config = {"a": ChannelLimits(max_age_ns=400_000_000)}
    async with serving(tmp_path, channels=config) as server, await Stan.connect(server.client_url) as stan:
        heard = await stan.subscribe("a", durable="d", max_in_flight=1)
        await stan.publish("a", "1", "2", "3")
        assert [message.sequence for message in await heard.take(1)] == [1]
        await until(lambda: stream(server, "a").state.messages == 0)
        await stan.publish("a", "4")
        assert await heard.sequences(1) == [4]
        await until(lambda: stream(server, "a").state.messages == 0)
    async with serving(tmp_path, channels=config) as server, await Stan.connect(server.client_url, "other") as stan:
        found = stream(server, "a").state
        assert (found.messages, found.first_seq, found.last_seq) == (0, 5, 4)
        heard = await stan.subscribe("a")
        await stan.publish("a", "5")
        assert await heard.sequences(1) == [5]


async def test_unused_channels_go(tmp_path: Path) -> None:
    """With messages, durables and their place; one with a subscription stays; used again a channel begins at 1."""
    async with (
        serving(tmp_path, max_inactivity_ns=200_000_000) as server,
        await Stan.connect(server.client_url) as stan,
    ):
        assert server.streaming is not None
        there = server.streaming.channels.by_name
        heard = await stan.subscribe("used")
        await stan.publish("used", "1")
        for _ in range(3):
            durable = await stan.subscribe("a", durable="d")
            await stan.publish("a", "1", "2")
            assert [message.sequence for message in await durable.take(2)] == [1, 2]
            await durable.close()
            await until(lambda: "a" not in there)
            assert "used" in there
        assert await heard.sequences(1) == [1]
        assert [info.config.name for info in await stan.nats.jetstream().streams_info()] == ["STAN_used"]
        await heard.close()
        await until(lambda: not there)
        await stan.publish("a", "1")
    async with serving(tmp_path, max_inactivity_ns=200_000_000) as server:
        assert server.streaming is not None
        await until(lambda: server.streaming and not server.streaming.channels.by_name)


async def test_a_channel_that_is_used_while_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes while it is being deleted waits for that, and has the next one from its first message on."""
    held: list[Callable[[], None]] = []
    async with (
        serving(tmp_path, max_inactivity_ns=200_000_000) as server,
        await Stan.connect(server.client_url) as stan,
        await Stan.connect(server.client_url, "other") as other,
    ):
        assert server.jetstream is not None
        delete = server.jetstream.delete_stream
        monkeypatch.setattr(server.jetstream, "delete_stream", lambda *call: held.append(lambda: delete(*call)))
        await stan.publish("a", "old")
        await until(lambda: held)
        publishes = [await stan.start("a", str(number).encode()) for number in range(3)]
        subscription = asyncio.create_task(other.subscribe("a"))
        # Others are served meanwhile, and all of the above has arrived.
        for client in (stan, other):
            assert await client.ping() == ""
        assert not any(publish.done() for publish in publishes)
        assert not subscription.done()
        held.pop()()
        for publish in publishes:
            assert (await publish).error == ""
        taken = await (await subscription).take(3)
        assert [(message.sequence, message.data) for message in taken] == [(1, b"0"), (2, b"1"), (3, b"2")]


async def test_a_channel_that_can_not_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the disk full, say: nobody uses it, as it is in the store still; once it can go there is a new one."""
    full = STORAGE_EXCEEDED()
    config = {"a": ChannelLimits(max_inactivity_ns=200_000_000)}
    async with serving(tmp_path, channels=config) as server, await Stan.connect(server.client_url) as stan:
        assert server.jetstream is not None
        calls: list[Stream] = []

        def fail(stream: Stream, done: Callable[[ApiError | None], None]) -> None:
            calls.append(stream)
            done(full)

        with monkeypatch.context() as patch:
            patch.setattr(server.jetstream, "delete_stream", fail)
            await stan.publish("a", "old")
            await until(lambda: calls)
            assert await refusal(stan.publish("a", "x")) == full.description
            assert await refusal(stan.subscribe("a")) == full.description
            assert len(calls) == 3
            await stan.publish("b", "others go on")
        heard = await stan.subscribe("a")
        await stan.publish("a", "new")
        assert [(message.sequence, message.data) for message in await heard.take(1)] == [(1, b"new")]
    async with serving(tmp_path) as server, await Stan.connect(server.client_url, "other") as stan:
        assert [message.data for message in await (await stan.subscribe("a")).take(1)] == [b"new"]


async def test_limits_of_the_configuration_hold_for_what_is_found(tmp_path: Path) -> None:
    """A restart with others drops what is too much, and takes more where there is more room."""
    async with serving(tmp_path) as server, await Stan.connect(server.client_url) as stan:
        await stan.publish("a", *map(str, range(1, 11)))
        await stan.publish("b", "1")
        for _ in range(2):
            await stan.subscribe("b")
    limits = {"a": ChannelLimits(max_msgs=3), "b": ChannelLimits(max_subs=2)}
    async with serving(tmp_path, channels=limits) as server, await Stan.connect(server.client_url, "other") as stan:
        await until(lambda: stream(server, "a").state.messages == 3)
        assert await (await stan.subscribe("a")).sequences(3) == [8, 9, 10]
        assert (await stan.nats.jetstream().stream_info("STAN_a")).config.max_msgs == 3
        assert await refusal(stan.subscribe("b")) == "too many subscriptions per channel"
    limits = {"a": ChannelLimits(max_msgs=5, native=True)}
    async with serving(tmp_path, channels=limits) as server, await Stan.connect(server.client_url, "third") as stan:
        for number in range(11, 15):
            assert (await stan.nats.jetstream().publish("a", b"%d" % number)).seq == number
        assert await (await stan.subscribe("a")).sequences(5) == [10, 11, 12, 13, 14]
        await stan.subscribe("b")


async def test_limits_that_can_not_be_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The channel is served with those it had, and the log says so."""

    def fail(self: JetStream, stream: Stream, config: object, done: Callable[[ApiError | None], None]) -> None:
        done(STORAGE_EXCEEDED())

    async with serving(tmp_path) as server, await Stan.connect(server.client_url) as stan:
        await stan.publish("a", "1", "2")
    monkeypatch.setattr(JetStream, "update_stream", fail)
    async with serving(tmp_path, max_msgs=1) as server, await Stan.connect(server.client_url, "other") as stan:
        assert await (await stan.subscribe("a")).sequences(2) == [1, 2]
    line = 'STREAM: Channel "a" keeps the limits it had: insufficient storage resources available'
    assert line in caplog.messages


async def test_another_cluster_id_does_not_start(tmp_path: Path) -> None:
    """The store keeps its id; nothing of it is touched."""
    async with serving(tmp_path) as server, await Stan.connect(server.client_url) as stan:
        await stan.publish("a", "1")
    with pytest.raises(StoreError) as refused:
        async with serving(tmp_path, cluster_id="another"):
            pass
    assert str(refused.value) == (
        'cluster ID "another" does not match recovered value of "test-cluster": '
        "set streaming.cluster_id to that, or choose another dir"
    )
    async with serving(tmp_path) as server, await Stan.connect(server.client_url, "other") as stan:
        assert await (await stan.subscribe("a")).sequences(1) == [1]


async def test_memory_forgets(tmp_path: Path) -> None:
    """Channels, clients and durables; the JetStream beside it does not."""
    async with serving(tmp_path, store="memory") as server, await Stan.connect(server.client_url) as stan:
        await stan.publish("a", "1", "2")
        await (await stan.subscribe("a", durable="d")).sequences(2)
        js = stan.nats.jetstream()
        assert (await js.stream_info("STAN_a")).config.storage == "memory"
        await js.add_stream(name="S", subjects=["s"])
        await js.publish("s", b"")
        conn_id = stan.conn_id
        assert await stan.ping() == ""
    async with serving(tmp_path, store="memory") as server, await Stan.nats_only(server.client_url, conn_id) as stan:
        assert await stan.ping() == "client has been replaced or is no longer registered"
        assert await refusal(stan.publish("a", "3")) == "stan: invalid publish request"
        await stan.register()
        durable = await stan.subscribe("a", NewOnly, durable="d")
        await stan.publish("a", "1")
        assert await durable.sequences(1) == [1]
        assert (await stan.nats.jetstream().stream_info("S")).state.messages == 1
