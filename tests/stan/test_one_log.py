"""A channel is a stream: NATS Streaming and JetStream see the same messages under the same numbers, each in its own way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig
from nats.js.errors import APIError, BadRequestError, NoStreamResponseError

from streamd.config.streaming import ChannelLimits
from streamd.stan.schema_pb2 import NewOnly
from tests.stan.by_hand import Refused, Stan, refusal
from tests.stan.here import serving, without

if TYPE_CHECKING:
    from pathlib import Path

    from nats.aio.msg import Msg

    from streamd import Server
    from streamd.stan.schema_pb2 import MsgProto

pytestmark = pytest.mark.anyio

NATIVE: Final = {"orders.>": ChannelLimits(native=True)}


def place(msg: Msg) -> tuple[int, int]:
    """(sequence, ns) that JetStream delivered a message with."""
    *_, sequence, _consumer, timestamp, _pending = msg.reply.split(".")
    return int(sequence), int(timestamp)


async def test_the_stream_of_a_channel(tmp_path: Path) -> None:
    """Its name, subject and limits are the documented ones, its state is the channel's."""
    limits = ChannelLimits(max_msgs=7, max_bytes=0, max_age_ns=3600 * 10**9)
    async with serving(tmp_path, channels={"a.b": limits}) as server, await Stan.connect(server.client_url) as stan:
        await stan.publish("a.b", "1", "2", "3")
        info = await stan.nats.jetstream().stream_info("STAN_a=2Eb")

    config, state = info.config, info.state
    assert config.subjects == ["$STAN.test-cluster.a.b"]
    assert (config.max_msgs, config.max_bytes, config.max_age, config.max_msg_size) == (7, -1, 3600, -1)
    assert (config.retention, config.discard, config.storage, config.num_replicas) == ("limits", "old", "file", 1)
    assert config.allow_direct
    assert config.metadata is not None
    assert config.metadata["nats-streaming.channel"] == "a.b"
    assert config.metadata["nats-streaming.cluster"] == "test-cluster"
    assert (state.messages, state.first_seq, state.last_seq) == (3, 1, 3)


async def test_consumers_read_while_stan_publishes(tmp_path: Path) -> None:
    """Push and pull consumers of JetStream and STAN subscriptions: all of it once, with equal sequences and times."""
    count = 500
    async with serving(tmp_path) as server, await Stan.connect(server.client_url) as stan:
        await stan.publish("a", "0")
        js = stan.nats.jetstream()
        push = await js.subscribe("$STAN.test-cluster.a", ordered_consumer=True)
        pull = await js.pull_subscribe("$STAN.test-cluster.a", "work")
        heard = await stan.subscribe("a")
        running = asyncio.create_task(stan.publish("a", *map(str, range(1, count)), reply="answer.here"))
        pulled: list[Msg] = []
        while len(pulled) < count:
            for msg in await pull.fetch(100, timeout=10):
                pulled.append(msg)
                await msg.ack_sync()
        await running
        pushed = [await push.next_msg(10) for _ in range(count)]
        taken = await heard.take(count)
        info = await pull.consumer_info()

    stan_places = [(message.sequence, message.timestamp) for message in taken]
    assert [sequence for sequence, _ in stan_places] == list(range(1, count + 1))
    assert list(map(place, pushed)) == list(map(place, pulled)) == stan_places
    assert [msg.data for msg in pushed] == [message.data for message in taken] == [b"%d" % n for n in range(count)]
    assert {msg.header["Nats-Streaming-Reply"] for msg in pushed[1:] if msg.header} == {"answer.here"}
    assert {message.reply for message in taken[1:]} == {"answer.here"}
    assert (info.num_pending, info.num_ack_pending) == (0, 0)


async def test_gets_see_what_was_acked_at_once(tmp_path: Path) -> None:
    """A publish that was acked can be got, directly and through the API, by its number or as the last of its subject."""
    async with serving(tmp_path) as server, await Stan.connect(server.client_url) as stan:
        js = stan.nats.jetstream()
        for number in range(1, 101):
            await stan.publish("a", str(number))
            last = await js.get_last_msg("STAN_a", "$STAN.test-cluster.a", direct=True)
            assert (last.seq, last.data) == (number, b"%d" % number)
        for direct in (True, False):
            message = await js.get_msg("STAN_a", 42, direct=direct)
            assert (message.seq, message.data, message.subject) == (42, b"42", "$STAN.test-cluster.a")


async def test_a_native_channel_takes_publishes_of_all_kinds(tmp_path: Path) -> None:
    """STAN, JetStream and core publishes get the numbers of one sequence, and everybody hears all of them."""
    async with serving(tmp_path, channels=NATIVE) as server, await Stan.connect(server.client_url) as stan:
        js = stan.nats.jetstream()
        with pytest.raises(NoStreamResponseError):
            await js.publish("orders.eu", b"the channel is made by its first STAN client")
        heard = await stan.subscribe("orders.eu")
        spy = await stan.nats.subscribe("orders.eu")
        taken: list[MsgProto] = []
        for number in range(0, 30, 3):
            await stan.publish("orders.eu", str(number))
            ack = await js.publish("orders.eu", b"%d" % (number + 1), headers={"Nats-Msg-Id": f"id{number}"})
            assert (ack.stream, ack.seq) == ("STAN_orders=2Eeu", number + 2)
            await stan.nats.publish("orders.eu", b"%d" % (number + 2))
            taken += await heard.take(3)
        again = await js.publish("orders.eu", b"1", headers={"Nats-Msg-Id": "id0"})
        info = await js.stream_info("STAN_orders=2Eeu")

        assert [(m.sequence, int(m.data), m.subject) for m in taken] == [(n + 1, n, "orders.eu") for n in range(30)]
        # Who listens to the subject itself hears those that were published to it.
        assert [int((await spy.next_msg(5)).data) for _ in range(20)] == [n for n in range(30) if n % 3]
        assert (again.duplicate, again.seq) == (True, 2)
        assert info.config.subjects == ["orders.eu"]
        assert info.state.messages == 30


async def test_other_channels_refuse_them(tmp_path: Path) -> None:
    """Nobody answers on the subject of a stream that only STAN clients publish into; nothing is stored."""
    async with serving(tmp_path, channels=NATIVE) as server, await Stan.connect(server.client_url) as stan:
        js = stan.nats.jetstream()
        await stan.publish("a", "1")
        for subject in ("$STAN.test-cluster.a", "a"):
            with pytest.raises(NoStreamResponseError):
                await js.publish(subject, b"x")
        await stan.publish("a", "2")
        assert await (await stan.subscribe("a")).sequences(2) == [1, 2]


async def test_deletes_and_purges_make_gaps(tmp_path: Path) -> None:
    """New deliveries skip what has gone, and what was pending needs no ack: the next messages come at once."""
    async with serving(tmp_path) as server, await Stan.connect(server.client_url) as stan:
        js = stan.nats.jetstream()
        await stan.publish("a", *map(str, range(1, 21)))
        durable = await stan.subscribe("a", durable="d", max_in_flight=2)
        assert [message.sequence for message in await durable.take(2)] == [1, 2]
        for sequence in (5, 1, 2):
            await js.delete_msg("STAN_a", sequence)

        assert [message.sequence for message in await durable.take(2)] == [3, 4]
        await js.purge_stream("STAN_a", seq=10)
        assert [message.sequence for message in await durable.take(2)] == [10, 11]
        await durable.close()
        await js.delete_msg("STAN_a", 10)
        durable = await stan.subscribe("a", durable="d", max_in_flight=2)
        again, fresh = await durable.take(2)
        assert (again.sequence, again.redelivered, fresh.sequence) == (11, True, 12)
        await js.purge_stream("STAN_a")
        await stan.publish("a", "after")
        assert [(message.sequence, message.data) for message in await durable.take(1)] == [(21, b"after")]
        whole = await stan.subscribe("a", queue="q")
        assert await whole.sequences(1) == [21]
        state = (await js.stream_info("STAN_a")).state
        assert (state.messages, state.first_seq, state.last_seq) == (1, 21, 21)


async def test_what_was_removed_while_jetstream_ran_alone(tmp_path: Path) -> None:
    """A start without the streaming block and back: clients and durables are there; what left meanwhile isn't pending."""
    async with serving(tmp_path) as server, await Stan.connect(server.client_url) as stan:
        await stan.publish("a", *map(str, range(1, 11)))
        durable = await stan.subscribe("a", durable="d", max_in_flight=5)
        shared = await stan.subscribe("a", durable="d", queue="q", max_in_flight=5)
        for heard in (durable, shared):
            await heard.take(5)
            await heard.ack(2)
            assert [message.sequence for message in await heard.take(1)] == [6]
            await heard.close()
        conn_id = stan.conn_id
    async with without(tmp_path) as server, await Stan.nats_only(server.client_url) as stan:
        js = stan.nats.jetstream()
        with pytest.raises(NoStreamResponseError):
            await js.publish("$STAN.test-cluster.a", b"x")
        await js.delete_msg("STAN_a", 3)
        await js.add_consumer("STAN_a", ConsumerConfig(durable_name="work", ack_policy=AckPolicy.EXPLICIT))
    async with serving(tmp_path) as server, await Stan.nats_only(server.client_url, conn_id) as stan:
        assert await stan.ping() == ""
        await stan.publish("a", "11")
        durable = await stan.subscribe("a", NewOnly, durable="d")
        shared = await stan.subscribe("a", NewOnly, durable="d", queue="q")
        for heard in (durable, shared):
            taken = await heard.take(9)
            assert [m.sequence for m in taken if m.redelivered] == [1, 4, 5, 6]
            assert [m.sequence for m in taken if not m.redelivered] == [7, 8, 9, 10, 11]
        sub = await stan.nats.jetstream().pull_subscribe_bind("work", "STAN_a")
        assert [place(msg)[0] for msg in await sub.fetch(10, timeout=5)] == [1, 2, 4, 5, 6, 7, 8, 9, 10, 11]


async def test_jetstream_does_not_rule_over_channels(tmp_path: Path) -> None:
    """Updates and deletes of a channel's stream are refused with the reason; consumers of it are JetStream's own."""
    reason = 'stream STAN_a is channel "a" of NATS Streaming: its limits and its end are those of the streaming block'
    async with serving(tmp_path) as server, await Stan.connect(server.client_url) as stan:
        js = stan.nats.jetstream()
        await stan.publish("a", "1", "2")
        config = (await js.stream_info("STAN_a")).config
        config.max_msgs = 1
        for call in (js.update_stream(config), js.delete_stream("STAN_a")):
            with pytest.raises(APIError) as refused:
                await call
            assert refused.value.description == reason
        with pytest.raises(BadRequestError) as taken:
            await js.add_stream(config)
        assert taken.value.err_code == 10058  # in use with another configuration
        with pytest.raises(BadRequestError) as overlapping:
            await js.add_stream(name="MINE", subjects=["$STAN.*.a"])
        assert overlapping.value.err_code == 10065
        last = ConsumerConfig(durable_name="last", deliver_policy=DeliverPolicy.LAST, ack_policy=AckPolicy.EXPLICIT)
        await js.add_consumer("STAN_a", last)
        assert await js.delete_consumer("STAN_a", "last")

        assert await (await stan.subscribe("a")).sequences(2) == [1, 2]


async def test_a_stream_that_stands_in_the_way(tmp_path: Path) -> None:
    """It keeps its name and its subjects: the channel can't be made, and says why; without it, it can."""
    async with serving(tmp_path, channels=NATIVE) as server, await Stan.connect(server.client_url) as stan:
        js = stan.nats.jetstream()
        for name, subject in (("STAN_one", "elsewhere"), ("MINE", "orders.*"), ("DEEP", "$STAN.test-cluster.two")):
            await js.add_stream(name=name, subjects=[subject])

        expected = {
            "one": "stream STAN_one exists and is not the channel 'one': delete or rename one of them",
            "orders.eu": "subject 'orders.eu' of channel 'orders.eu' belongs to stream MINE",
            "two": "subject '$STAN.test-cluster.two' of channel 'two' belongs to stream DEEP",
        }
        for channel, reason in expected.items():
            assert await refusal(stan.publish(channel, "x")) == reason
            assert await refusal(stan.subscribe(channel)) == reason
        assert channels(server) == set()
        for name in ("STAN_one", "MINE", "DEEP"):
            info = await js.stream_info(name)
            assert (info.state.messages, info.state.last_seq) == (0, 0)
            assert await js.delete_stream(name)
        for channel in expected:
            await stan.publish(channel, "x")
        assert channels(server) == set(expected)


def channels(server: Server) -> set[str]:
    """Names of those that there are."""
    assert server.streaming is not None
    return set(server.streaming.channels.by_name)


async def test_a_channel_that_is_made_meets_a_stream_that_is_made(tmp_path: Path) -> None:
    """Whoever comes first has the name, the other is refused; never both, never neither."""
    async with serving(tmp_path) as server, await Stan.connect(server.client_url) as stan:
        js = stan.nats.jetstream()
        for number in range(20):
            config = StreamConfig(name=f"STAN_{number}", subjects=[f"subject{number}"])
            calls = [stan.publish(str(number), "x"), js.add_stream(config)]
            results = await asyncio.gather(*(calls if number % 2 else reversed(calls)), return_exceptions=True)
            errors = [result for result in results if isinstance(result, BaseException)]
            assert len(errors) == 1, errors
            assert isinstance(errors[0], Refused | APIError), errors
            assert (str(number) in channels(server)) == isinstance(errors[0], APIError)
            info = await js.stream_info(config.name or "")
            assert info.state.messages == isinstance(errors[0], APIError)
