"""Unmodified nats-py over consumers: every ack, every policy, every limit, and the order in which messages come."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import nats
import pytest
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, ReplayPolicy
from nats.js.errors import APIError, NotFoundError

from tests.core.test_nats_py import collector, until

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

    from streamd import Server

pytestmark = pytest.mark.anyio


async def fill(js: JetStreamContext, count: int = 6, **config: Any) -> None:
    """Stream S with messages 0, 1, … on s.0 and s.1 in turn."""
    await js.add_stream(name="S", subjects=["s.*"], **config)
    for number in range(count):
        await js.publish(f"s.{number % 2}", b"%d" % number)


async def pulled(sub: JetStreamContext.PullSubscription, batch: int = 20, seconds: float = 0.2) -> list[Msg]:
    """What a fetch brings in the time, none included."""
    try:
        return await sub.fetch(batch, timeout=seconds)
    except NatsTimeout:
        return []


def sequences(msgs: list[Msg]) -> list[int]:
    """Stream sequences."""
    return [msg.metadata.sequence.stream for msg in msgs]


async def test_acks_and_redelivery(client: Client) -> None:
    """ack, nak with and without a delay, term and in progress; only what is open comes again."""
    js = client.jetstream()
    await fill(js)
    sub = await js.pull_subscribe("s.*", "c", config=ConsumerConfig(ack_wait=0.6))
    msgs = await sub.fetch(6, timeout=2)
    start = time.monotonic()
    await msgs[0].ack_sync()
    await msgs[1].nak()
    await msgs[2].nak(delay=0.3)
    await msgs[3].term()
    first = await sub.fetch(1, timeout=2)
    assert (sequences(first), first[0].metadata.num_delivered) == ([2], 2)
    await first[0].ack_sync()
    delayed = await sub.fetch(1, timeout=2)
    assert sequences(delayed) == [3]
    assert time.monotonic() - start >= 0.3
    await delayed[0].ack_sync()
    while time.monotonic() - start < 0.9:
        await msgs[4].in_progress()
        await asyncio.sleep(0.05)
        # Six has been left alone and comes after ack_wait, five is in progress.
    late = await sub.fetch(1, timeout=2)
    assert (sequences(late), late[0].metadata.num_delivered) == ([6], 2)
    await late[0].ack_sync()
    await msgs[4].ack_sync()
    info = await sub.consumer_info()
    assert (info.num_ack_pending, info.num_redelivered, info.num_pending) == (0, 0, 0)
    assert info.ack_floor is not None
    assert info.ack_floor.stream_seq == 6
    assert await pulled(sub) == []


async def test_max_deliver_and_backoff(client: Client) -> None:
    """A message is given up after max_deliver, with an advisory; backoff sets the pauses."""
    js = client.jetstream()
    told, record = collector()
    await client.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.S.c", cb=record)
    await fill(js, 1)
    sub = await js.pull_subscribe("s.*", "c", config=ConsumerConfig(max_deliver=3, backoff=[0.1, 0.3]))
    times = [time.monotonic()]
    for _ in range(3):
        await sub.fetch(1, timeout=2)
        times.append(time.monotonic())
    await until(lambda: told)
    advisory = json.loads(told[0].data)

    assert times[2] - times[0] >= 0.1
    assert times[3] - times[0] >= 0.4
    assert (advisory["stream_seq"], advisory["deliveries"]) == (1, 3)
    assert await pulled(sub) == []
    info = await sub.consumer_info()
    assert info.num_ack_pending == 0


async def test_ack_policies(client: Client) -> None:
    """none asks for nothing; all settles everything before; explicit one by one."""
    js = client.jetstream()
    await fill(js)
    none = await js.pull_subscribe("s.*", "none", config=ConsumerConfig(ack_policy=AckPolicy.NONE))
    assert len(await pulled(none)) == 6
    assert (await none.consumer_info()).num_ack_pending == 0
    together = await js.pull_subscribe("s.*", "all", config=ConsumerConfig(ack_policy=AckPolicy.ALL))
    msgs = await pulled(together)
    await msgs[3].ack_sync()
    info = await together.consumer_info()
    assert (info.num_ack_pending, info.ack_floor.stream_seq) == (2, 4)  # type: ignore[union-attr]
    explicit = await js.pull_subscribe("s.*", "explicit")
    msgs = await pulled(explicit)
    await msgs[3].ack_sync()
    info = await explicit.consumer_info()
    assert (info.num_ack_pending, info.ack_floor.stream_seq) == (5, 0)  # type: ignore[union-attr]


async def test_limits(client: Client) -> None:
    """max_ack_pending holds back, max_waiting refuses, max_bytes bounds a pull."""
    js = client.jetstream()
    await fill(js)
    sub = await js.pull_subscribe("s.*", "c", config=ConsumerConfig(max_ack_pending=2, max_waiting=1))
    msgs = await pulled(sub)
    assert len(msgs) == 2
    assert await pulled(sub) == []
    await msgs[0].ack_sync()
    assert sequences(await pulled(sub)) == [3]
    seen, record = collector()
    await client.subscribe("inbox.*", cb=record)
    for number in range(2):
        body = json.dumps({"batch": 1, "expires": 10**9}).encode()
        await client.publish("$JS.API.CONSUMER.MSG.NEXT.S.c", body, reply=f"inbox.{number}")
    await until(lambda: seen)
    assert seen[0].subject == "inbox.1"
    assert seen[0].headers is not None
    assert seen[0].headers["Status"] == "409"
    other = await js.pull_subscribe("s.*", "bytes")
    await client.publish(
        "$JS.API.CONSUMER.MSG.NEXT.S.bytes", b'{"batch":6,"max_bytes":100,"no_wait":true}', reply="inbox.b"
    )
    await until(lambda: len([msg for msg in seen if msg.subject != "inbox.1"]) >= 2)
    got = [msg for msg in seen if msg.subject.startswith("s.")]
    assert 0 < len(got) < 6
    assert (await other.consumer_info()).num_ack_pending == len(got)


async def test_pull_statuses(client: Client) -> None:
    """no_wait ends at once, expires ends in time, a deleted consumer ends everything."""
    js = client.jetstream()
    await fill(js, 1)
    await js.pull_subscribe("s.*", "c")
    seen, record = collector()
    await client.subscribe("inbox", cb=record)
    subject = "$JS.API.CONSUMER.MSG.NEXT.S.c"

    async def ask(**body: Any) -> tuple[str, str]:
        seen.clear()
        await client.publish(subject, json.dumps(body).encode(), reply="inbox")
        await until(lambda: any(msg.headers and "Status" in msg.headers for msg in seen))
        headers = seen[-1].headers
        assert headers is not None
        return headers["Status"], headers["Description"]

    assert await ask(batch=2, no_wait=True) == ("404", "No Messages")
    assert seen[0].data == b"0"
    assert await ask(batch=2, no_wait=True) == ("404", "No Messages")
    assert await ask(batch=2, expires=10**8) == ("408", "Request Timeout")
    assert await ask(batch=2, expires=5 * 10**8, idle_heartbeat=10**8) == ("100", "Idle Heartbeat")
    seen.clear()
    await client.publish(subject, b'{"batch":1,"expires":60000000000}', reply="inbox")
    await client.flush()
    await js.delete_consumer("S", "c")
    await until(lambda: any((msg.headers or {}).get("Description") == "Consumer Deleted" for msg in seen))
    with pytest.raises(NotFoundError):
        await js.consumer_info("S", "c")


async def test_filters_and_deliver_policies(client: Client) -> None:
    """One filter, several, and each start; what comes later follows."""
    js = client.jetstream()
    await fill(js, 8)
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({"filter_subject": "s.0"}, [1, 3, 5, 7]),
        ({"filter_subjects": ["s.0", "s.1"]}, list(range(1, 9))),
        ({"deliver_policy": DeliverPolicy.LAST}, [8]),
        ({"deliver_policy": DeliverPolicy.LAST, "filter_subject": "s.0"}, [7]),
        ({"deliver_policy": DeliverPolicy.NEW}, []),
        ({"deliver_policy": DeliverPolicy.BY_START_SEQUENCE, "opt_start_seq": 6}, [6, 7, 8]),
        ({"deliver_policy": DeliverPolicy.LAST_PER_SUBJECT, "filter_subject": "s.*"}, [7, 8]),
    ]
    subs = []
    for number, (config, expected) in enumerate(cases):
        await js.add_consumer("S", ConsumerConfig(durable_name=f"c{number}", ack_policy=AckPolicy.NONE, **config))
        sub = await js.pull_subscribe_bind(f"c{number}", "S")
        assert sequences(await pulled(sub)) == expected, config
        subs.append(sub)
    await js.publish("s.0", b"later")
    assert [sequences(await pulled(sub)) for sub in subs] == [[9]] * len(cases)


async def test_replay_original(client: Client) -> None:
    """Messages come with the pauses they were stored with."""
    js = client.jetstream()
    await js.add_stream(name="S", subjects=["s.*"])
    for _ in range(3):
        await js.publish("s.0", b"")
        await asyncio.sleep(0.2)
    sub = await js.pull_subscribe(
        "s.*", "c", config=ConsumerConfig(replay_policy=ReplayPolicy.ORIGINAL, ack_policy=AckPolicy.NONE)
    )
    start = time.monotonic()
    assert len(await pulled(sub, 3, 5)) == 3
    assert time.monotonic() - start >= 0.39


async def test_push_heartbeats_and_flow_control(server: Server, client: Client) -> None:
    """Many messages pass the window of flow control, and heartbeats follow when there is nothing more."""
    js = client.jetstream()
    await js.add_stream(name="S", subjects=["s.*"])
    for _ in range(600):
        await js.publish_async("s.0", bytes(10_000))
    await js.publish_async_completed()
    other = await nats.connect(server.client_url)
    seen: list[int] = []

    async def record(msg: Msg) -> None:
        seen.append(msg.metadata.sequence.stream)

    await other.jetstream().subscribe("s.*", cb=record, ordered_consumer=True, flow_control=True, idle_heartbeat=0.2)
    await until(lambda: len(seen) == 600, 20)
    heard, note = collector()
    await client.subscribe("deliver", cb=note)
    config = ConsumerConfig(
        durable_name="p", deliver_subject="deliver", idle_heartbeat=0.1, deliver_policy=DeliverPolicy.NEW
    )
    await js.add_consumer("S", config)
    await until(lambda: heard)
    await other.close()

    assert seen == list(range(1, 601))
    assert heard[0].headers is not None
    assert heard[0].headers["Description"] == "Idle Heartbeat"


async def test_ephemeral_goes_durable_stays(client: Client) -> None:
    """An ephemeral consumer nobody uses goes after its threshold; a durable one stays."""
    js = client.jetstream()
    await fill(js, 1)
    await js.add_consumer("S", ConsumerConfig(name="short", inactive_threshold=0.2, ack_policy=AckPolicy.EXPLICIT))
    await js.add_consumer("S", ConsumerConfig(durable_name="long", ack_policy=AckPolicy.EXPLICIT))
    async with asyncio.timeout(10):
        while [info.name for info in await js.consumers_info("S")] != ["long"]:
            await asyncio.sleep(0.02)


async def test_refusals_name_the_reason(client: Client) -> None:
    """What can't be had is refused with nats-server's numbers."""
    js = client.jetstream()
    await fill(js, 1)
    await js.add_consumer("S", ConsumerConfig(durable_name="c", ack_policy=AckPolicy.EXPLICIT))
    for config, err_code in (
        (ConsumerConfig(durable_name="c", deliver_policy=DeliverPolicy.NEW, ack_policy=AckPolicy.EXPLICIT), 10012),
        (ConsumerConfig(durable_name="x", filter_subject="a..b", ack_policy=AckPolicy.EXPLICIT), 10052),
        (ConsumerConfig(durable_name="x", backoff=[1, 2], max_deliver=1, ack_policy=AckPolicy.EXPLICIT), 10116),
        (ConsumerConfig(durable_name="x", deliver_subject="d", max_waiting=5, ack_policy=AckPolicy.EXPLICIT), 10080),
    ):
        with pytest.raises(APIError) as refused:
            await js.add_consumer("S", config)
        assert refused.value.err_code == err_code
    with pytest.raises(NotFoundError):
        await js.add_consumer("NONE", ConsumerConfig(durable_name="x"))
