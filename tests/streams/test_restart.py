"""kill -9, start, and go on: nats-py finds streams, messages, consumers and message ids as they were."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import nats
import pytest
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig
from nats.js.errors import NotFoundError

from tests.core.test_nats_py import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from tests.process import ServerProcess

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def connected(process: ServerProcess) -> AsyncIterator[Client]:
    """A client for one life of the server."""
    client = await nats.connect(process.url, allow_reconnect=False)
    try:
        yield client
    finally:
        await client.close()


@pytest.mark.parametrize("clean", [False, True], ids=["kill -9", "stop"])
async def test_streams_and_messages(process: ServerProcess, clean: bool) -> None:
    """Infos, bytes, deletes, purges and subjects are the same; sequences and ids go on."""
    async with connected(process) as client:
        js = client.jetstream()
        config = StreamConfig(name="S", subjects=["s.*"], description="text", max_msgs=50, metadata={"k": "v"})
        await js.add_stream(config)
        await js.add_stream(name="P", subjects=["p.*"], max_msgs_per_subject=2)
        for number in range(60):
            await js.publish(
                f"s.{number % 3}", b"%d" % number, headers={"Nats-Msg-Id": f"id{number}", "n": str(number)}
            )
            await js.publish(f"p.{number % 4}", b"%d" % number)
        await js.delete_msg("S", 30)
        await js.purge_stream("S", subject="s.1", keep=3)
        await js.add_stream(name="M", subjects=["m"], storage="memory")
        await js.publish("m", b"")
        before = [await js.stream_info(name, subjects_filter=">") for name in ("S", "P")]
        message = await js.get_msg("S", 60)
    if clean:
        assert process.stop() == 0
    else:
        process.kill()
    process.start()
    async with connected(process) as client:
        js = client.jetstream()
        after = [await js.stream_info(name, subjects_filter=">") for name in ("S", "P")]
        assert [(info.config, info.state, info.created) for info in after] == [
            (info.config, info.state, info.created) for info in before
        ]
        again = await js.get_msg("S", 60)
        assert (again.data, again.headers, again.time) == (message.data, message.headers, message.time)
        with pytest.raises(NotFoundError):
            await js.get_msg("S", 30)
        repeated = await js.publish("s.0", b"59", headers={"Nats-Msg-Id": "id59"})
        assert (repeated.seq, repeated.duplicate) == (60, True)
        assert (await js.publish("s.0", b"", headers={"Nats-Expected-Last-Sequence": "60"})).seq == 61
        # What lived in memory is gone with the process.
        with pytest.raises(NotFoundError):
            await js.stream_info("M")


async def test_a_first_sequence(process: ServerProcess) -> None:
    """A stream that begins later does so after each kill, with messages and without."""
    async with connected(process) as client:
        await client.jetstream().add_stream(name="S", subjects=["s"], first_seq=100)
    for number in range(3):
        process.kill()
        process.start()
        async with connected(process) as client:
            js = client.jetstream()
            assert (await js.publish("s", b"")).seq == 100 + number
            assert (await js.stream_info("S")).state.first_seq == 100


async def test_consumers(process: ServerProcess) -> None:
    """Infos stay; what was acked never comes again, what wasn't does, with its count."""
    async with connected(process) as client:
        js = client.jetstream()
        await js.add_stream(name="S", subjects=["s.*"])
        for number in range(10):
            await js.publish(f"s.{number % 2}", b"%d" % number)
        sub = await js.pull_subscribe("s.*", "work", config=ConsumerConfig(ack_wait=1))
        msgs = await sub.fetch(6, timeout=2)
        for place in (0, 1, 3, 5):
            await msgs[place].ack_sync()
        last = ConsumerConfig(durable_name="last", deliver_policy=DeliverPolicy.LAST, ack_policy=AckPolicy.EXPLICIT)
        await js.add_consumer("S", last)
        await js.add_consumer("S", ConsumerConfig(durable_name="gone", ack_policy=AckPolicy.EXPLICIT))
        await js.delete_consumer("S", "gone")
        before = await js.consumer_info("S", "work")
    process.kill()
    process.start()
    async with connected(process) as client:
        js = client.jetstream()
        assert sorted(info.name for info in await js.consumers_info("S")) == ["last", "work"]
        after = await js.consumer_info("S", "work")
        assert (after.config, after.created, after.num_ack_pending, after.num_pending) == (
            before.config,
            before.created,
            2,
            4,
        )
        assert after.ack_floor is not None
        assert after.delivered is not None
        assert (after.ack_floor.stream_seq, after.delivered.stream_seq) == (2, 6)
        sub = await js.pull_subscribe_bind("work", "S")
        seen: dict[int, int] = {}
        while len(seen) < 6:
            for msg in await sub.fetch(6 - len(seen), timeout=5):
                seen[msg.metadata.sequence.stream] = msg.metadata.num_delivered
                await msg.ack_sync()
        assert seen == {3: 2, 5: 2, 7: 1, 8: 1, 9: 1, 10: 1}
        sub = await js.pull_subscribe_bind("last", "S")
        assert [msg.data for msg in await sub.fetch(1, timeout=2)] == [b"9"]
    process.kill()
    process.start()
    async with connected(process) as client:
        info = await client.jetstream().consumer_info("S", "work")
        assert (info.num_ack_pending, info.num_pending) == (0, 0)


async def test_what_was_refused(process: ServerProcess) -> None:
    """A delay goes on over a kill -9, and what was given back without one comes at once."""
    async with connected(process) as client:
        js = client.jetstream()
        await js.add_stream(name="S", subjects=["s"])
        for number in range(2):
            await js.publish("s", b"%d" % number)
        heard = await client.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MSG_NAKED.>")
        delayed = await js.pull_subscribe("s", "delayed", config=ConsumerConfig(ack_wait=1))
        at_once = await js.pull_subscribe("s", "atonce", config=ConsumerConfig(ack_wait=3600))
        first, _second = await delayed.fetch(2, timeout=2)
        other = (await at_once.fetch(1, timeout=2))[0]
        # What was delivered is stored with this, so that it isn't what stores the rest.
        await js.publish("s", b"2")
        await first.nak(delay=3600)
        await other.nak()
        for _ in range(2):
            await heard.next_msg(2)
        await js.publish("s", b"3")
    process.kill()
    process.start()
    async with connected(process) as client:
        js = client.jetstream()
        assert (await js.consumer_info("S", "delayed")).num_ack_pending == 2
        seen = []
        bound = await js.pull_subscribe_bind("delayed", "S")
        while 2 not in seen:
            seen += [msg.metadata.sequence.stream for msg in await bound.fetch(1, timeout=5)]
        assert 1 not in seen
        bound = await js.pull_subscribe_bind("atonce", "S")
        again = (await bound.fetch(1, timeout=5))[0].metadata
        assert (again.sequence.stream, again.num_delivered) == (1, 2)


async def test_a_client_goes_on_by_itself(process: ServerProcess) -> None:
    """A push consumer's and a pull consumer's client reconnect and miss nothing."""

    back = asyncio.Event()

    async def ignore(_error: Exception) -> None:
        pass

    async def note() -> None:
        back.set()

    client = await nats.connect(
        process.url, reconnect_time_wait=0.05, max_reconnect_attempts=-1, error_cb=ignore, reconnected_cb=note
    )
    js = client.jetstream()
    await js.add_stream(name="S", subjects=["s"])
    pushed: set[int] = set()

    async def record(msg: Msg) -> None:
        pushed.add(msg.metadata.sequence.stream)
        await msg.ack()

    await js.subscribe("s", durable="push", cb=record, config=ConsumerConfig(ack_wait=1))
    pull = await js.pull_subscribe("s", "pull", config=ConsumerConfig(ack_wait=1))
    for number in range(20):
        await js.publish("s", b"%d" % number)
    for msg in await pull.fetch(5, timeout=2):
        await msg.ack_sync()
    process.kill()
    process.start()
    await asyncio.wait_for(back.wait(), 10)
    for number in range(20, 30):
        await js.publish("s", b"%d" % number, timeout=10)
    pulled: set[int] = set()
    while len(pulled) < 25:
        for msg in await pull.fetch(25 - len(pulled), timeout=10):
            pulled.add(msg.metadata.sequence.stream)
            await msg.ack()
    await until(lambda: len(pushed) == 30)
    await client.close()

    assert pulled == set(range(6, 31))
