"""Unmodified nats-py against the server: what the first users do all day."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import nats
import pytest
from nats.errors import NoRespondersError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, DiscardPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from streamd import Server

pytestmark = pytest.mark.anyio


async def test_core_roles(client: Client) -> None:
    """Wildcards, queue groups, request and reply, headers, no responders."""
    seen: list[tuple[str, bytes]] = []
    groups: list[int] = []

    async def record(msg: Msg) -> None:
        seen.append((msg.subject, msg.data))

    async def answer(msg: Msg) -> None:
        await msg.respond((msg.headers or {}).get("k", "").encode() + b"pong")

    await client.subscribe("a.*.c", cb=record)
    await client.subscribe("a.>", cb=record)
    for member in range(3):

        async def take(_msg: Msg, member: int = member) -> None:
            groups.append(member)

        await client.subscribe("work", "group", cb=take)
    await client.subscribe("ping", cb=answer)
    await client.publish("a.b.c", b"1")
    await client.publish("a.b", b"2")
    for _ in range(300):
        await client.publish("work", b"")
    reply = await client.request("ping", b"", headers={"k": "v"})
    with pytest.raises(NoRespondersError):
        await client.request("nobody", b"", timeout=2)
    await client.flush()
    await asyncio.sleep(0)

    assert reply.data == b"vpong"
    assert sorted(seen) == [("a.b", b"2"), ("a.b.c", b"1"), ("a.b.c", b"1")]
    assert len(groups) == 300
    assert set(groups) == {0, 1, 2}


async def test_drain(server: Server, client: Client) -> None:
    """A draining client gets what was sent before."""
    other = await nats.connect(server.client_url)
    got: list[bytes] = []

    async def record(msg: Msg) -> None:
        got.append(msg.data)

    await other.subscribe("d", cb=record)
    await other.flush()
    for number in range(100):
        await client.publish("d", b"%d" % number)
    await client.flush()
    await other.drain()

    assert got == [b"%d" % number for number in range(100)]


async def test_publish_replay(client: Client) -> None:
    """Publish, then replay from first, last, sequence, time and new."""
    js = client.jetstream()
    info = await js.add_stream(name="S", subjects=["s.*"])
    assert info.state.messages == 0
    acks = [await js.publish(f"s.{number % 3}", b"%d" % number) for number in range(10)]
    assert [ack.seq for ack in acks] == list(range(1, 11))
    middle = (await js.get_msg("S", 6)).time
    assert middle is not None

    async def replay(**options: Any) -> list[int]:
        sub = await js.subscribe(
            "s.*", ordered_consumer=False, config=ConsumerConfig(ack_policy=AckPolicy.NONE, **options)
        )
        got = []
        try:
            while True:
                got.append((await sub.next_msg(timeout=0.3)).metadata.sequence.stream)
        except nats.errors.TimeoutError:
            pass
        await sub.unsubscribe()
        return got

    assert await replay(deliver_policy=DeliverPolicy.ALL) == list(range(1, 11))
    assert await replay(deliver_policy=DeliverPolicy.LAST) == [10]
    assert await replay(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=7) == [7, 8, 9, 10]
    assert await replay(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=middle) == [6, 7, 8, 9, 10]
    assert await replay(deliver_policy=DeliverPolicy.NEW) == []
    assert await replay(deliver_policy=DeliverPolicy.LAST_PER_SUBJECT, filter_subject="s.*") == [8, 9, 10]


async def test_pull_fetch_and_acks(client: Client) -> None:
    """Durable pull: fetch, ack, nak, term, in progress, ack_sync."""
    js = client.jetstream()
    await js.add_stream(name="S", subjects=["s"])
    for number in range(6):
        await js.publish("s", b"%d" % number)
    sub = await js.pull_subscribe("s", "dur", config=ConsumerConfig(ack_wait=2))
    msgs = await sub.fetch(6, timeout=2)
    assert [msg.metadata.num_pending for msg in msgs] == [5, 4, 3, 2, 1, 0]
    await msgs[0].ack()
    await msgs[1].ack_sync()
    await msgs[2].nak()
    await msgs[3].term()
    await msgs[4].in_progress()
    await msgs[4].ack()
    again = await sub.fetch(1, timeout=2)
    assert again[0].metadata.sequence.stream == 3
    assert again[0].metadata.num_delivered == 2
    await again[0].ack_sync()
    info = await sub.consumer_info()
    assert info.num_ack_pending == 1
    assert info.ack_floor is not None
    assert info.ack_floor.stream_seq == 5
    late = await sub.fetch(1, timeout=4)
    assert late[0].metadata.sequence.stream == 6
    with pytest.raises(nats.errors.TimeoutError):
        await sub.fetch(1, timeout=0.2)


async def test_push_durable_queue_and_ordered(client: Client) -> None:
    """A durable push consumer in a group, and an ordered one beside it."""
    js = client.jetstream()
    await js.add_stream(name="S", subjects=["s"])
    for number in range(500):
        await js.publish_async("s", b"%d" % number)
    await js.publish_async_completed()
    got: list[int] = []
    done = asyncio.Event()

    async def record(msg: Msg) -> None:
        got.append(msg.metadata.sequence.stream)
        await msg.ack()
        if len(got) == 500:
            done.set()

    await js.subscribe("s", queue="q", durable="q", cb=record)
    await js.subscribe("s", queue="q", durable="q", cb=record)
    await asyncio.wait_for(done.wait(), 10)
    assert sorted(got) == list(range(1, 501))

    ordered = await js.subscribe("s", ordered_consumer=True)
    sequences = [(await ordered.next_msg(timeout=2)).metadata.sequence.stream for _ in range(500)]
    assert sequences == list(range(1, 501))


async def test_get_delete_purge_and_lists(client: Client) -> None:
    """Messages one by one, purge, names and infos."""
    js = client.jetstream()
    await js.add_stream(name="S", subjects=["s.>"], allow_direct=True)
    for number in range(10):
        await js.publish(f"s.{number % 2}", b"%d" % number, headers={"n": str(number)})
    message = await js.get_msg("S", 3)
    assert (message.data, message.headers) == (b"2", {"n": "2"})
    assert (await js.get_last_msg("S", "s.0")).seq == 9
    direct = await js.get_msg("S", 3, direct=True)
    assert (direct.data, direct.subject, direct.seq) == (b"2", "s.0", 3)
    last = await js.get_msg("S", subject="s.1", direct=True)
    assert last.seq == 10
    assert await js.delete_msg("S", 3)
    with pytest.raises(NotFoundError):
        await js.get_msg("S", 3)
    with pytest.raises(NotFoundError):
        await js.get_msg("S", 3, direct=True)
    info = await js.stream_info("S")
    assert (info.state.messages, info.state.num_deleted) == (9, 1)
    await js.purge_stream("S", subject="s.1", keep=1)
    info = await js.stream_info("S", subjects_filter=">")
    assert info.state.subjects == {"s.0": 4, "s.1": 1}
    await js.purge_stream("S", seq=9)
    assert (await js.stream_info("S")).state.first_seq == 9
    await js.purge_stream("S")
    state = (await js.stream_info("S")).state
    assert (state.messages, state.first_seq, state.last_seq) == (0, 11, 10)
    await js.add_consumer("S", durable_name="d", ack_policy=AckPolicy.EXPLICIT)
    assert [consumer.name for consumer in await js.consumers_info("S")] == ["d"]
    assert await js.delete_consumer("S", "d")
    assert [stream.config.name for stream in await js.streams_info()] == ["S"]
    assert await js.delete_stream("S")
    account = await js.account_info()
    assert account.streams == 0


async def test_limits(client: Client) -> None:
    """Old messages leave by number, size, age and subject; new ones are refused where that was asked for."""
    js = client.jetstream()
    await js.add_stream(name="N", subjects=["n.*"], max_msgs=5)
    await js.add_stream(name="P", subjects=["p.*"], max_msgs_per_subject=1)
    await js.add_stream(name="A", subjects=["a"], max_age=0.3)
    await js.add_stream(StreamConfig(name="R", subjects=["r"], max_msgs=2, discard=DiscardPolicy.NEW))
    for number in range(20):
        await js.publish("n.x", b"%d" % number)
        await js.publish(f"p.{number % 4}", b"%d" % number)
    await js.publish("a", b"")
    await js.publish("r", b"")
    await js.publish("r", b"")
    with pytest.raises(nats.js.errors.APIError) as refused:
        await js.publish("r", b"")
    assert refused.value.err_code == 10077
    state = (await js.stream_info("N")).state
    assert (state.messages, state.first_seq, state.last_seq) == (5, 16, 20)
    state = (await js.stream_info("P")).state
    assert (state.messages, state.first_seq, state.last_seq) == (4, 17, 20)
    deadline = time.monotonic() + 5
    while (await js.stream_info("A")).state.messages:
        assert time.monotonic() < deadline
    assert (await js.get_last_msg("P", "p.3")).data == b"19"


async def test_dedupe_and_expectations(client: Client) -> None:
    """A repeated id is acked and not stored; expectations refuse."""
    js = client.jetstream()
    await js.add_stream(name="S", subjects=["s"])
    first = await js.publish("s", b"1", headers={"Nats-Msg-Id": "x"})
    second = await js.publish("s", b"1", headers={"Nats-Msg-Id": "x"})
    assert (first.seq, second.seq, second.duplicate) == (1, 1, True)
    with pytest.raises(nats.js.errors.APIError) as wrong:
        await js.publish("s", b"", headers={"Nats-Expected-Last-Sequence": "7"})
    assert wrong.value.err_code == 10071
    assert (await js.publish("s", b"", headers={"Nats-Expected-Last-Sequence": "1"})).seq == 2


async def test_memory_stream(client: Client) -> None:
    """A stream in memory behaves alike."""
    js = client.jetstream()
    await js.add_stream(StreamConfig(name="M", subjects=["m"], storage=StorageType.MEMORY, max_msgs=3))
    for number in range(5):
        await js.publish("m", b"%d" % number)
    sub = await js.pull_subscribe("m", "d")
    assert [msg.data for msg in await sub.fetch(3, timeout=2)] == [b"2", b"3", b"4"]
