"""Consumers of replicated streams: at any server, through changes of leaders and restarts."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import nats
import pytest
from nats.errors import TimeoutError as Timeout
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

    from tests.replication.nodes import Nodes

pytestmark = pytest.mark.anyio


async def filled(nodes: Nodes, name: str, count: int, **config: Any) -> JetStreamContext:
    """A replicated stream with so many messages, their numbers; from server a."""
    js = await nodes.js("a")
    await js.add_stream(name=name, subjects=[f"{name}.*"], num_replicas=3, **config)
    await asyncio.gather(*[js.publish(f"{name}.{number % 3}", b"%d" % number) for number in range(count)])
    return js


async def step_down(nodes: Nodes, stream: str, consumer: str = "") -> str:
    """Let another server lead a stream; its name."""
    await nodes.led(stream)
    return await nodes.step_down(await nodes.client("b"), stream, consumer)


def numbers(messages: list[Msg]) -> list[int]:
    return [int(message.data) for message in messages]


async def test_durable_pull_through_stepdowns(shared: Nodes) -> None:
    """What was acked doesn't come again; what was not comes again after ack_wait, from whoever leads."""
    js = await filled(shared, "PULL", 40)
    subs = [
        await (await shared.js(name)).pull_subscribe(
            "PULL.*", "worker", stream="PULL", config=ConsumerConfig(ack_wait=1)
        )
        for name in "abc"
    ]
    seen: list[int] = []
    for turn, sub in enumerate(subs):
        for message in await sub.fetch(10, timeout=5):
            seen.append(int(message.data))
            await message.ack_sync()
        info = await js.consumer_info("PULL", "worker")
        assert info.cluster is not None
        assert info.cluster.leader == shared.leader("PULL")
        assert info.ack_floor.stream_seq == 10 * (turn + 1)
        await step_down(shared, "PULL", "worker")
        info = await js.consumer_info("PULL", "worker")
        assert (info.ack_floor.stream_seq, info.num_pending) == (10 * (turn + 1), 30 - 10 * turn)
    unacked = numbers(await subs[0].fetch(10, timeout=5))
    assert sorted(seen + unacked) == list(range(40))
    await step_down(shared, "PULL")
    again = await subs[1].fetch(10, timeout=5)
    assert sorted(numbers(again)) == sorted(unacked)
    assert all(message.metadata.num_delivered == 2 for message in again)
    for message in again:
        await message.ack()
    async with asyncio.timeout(5):
        while (await js.consumer_info("PULL", "worker")).num_ack_pending:
            await asyncio.sleep(0.01)
    await shared.alike()


async def test_fetch_across_a_stepdown(shared: Nodes) -> None:
    """Who waits is told, and goes on with the next leader. (nats-py takes that for a message to wait on.)"""
    js = await filled(shared, "FETCH", 0)
    sub = await js.pull_subscribe("FETCH.*", "worker", stream="FETCH")
    waiting = asyncio.create_task(sub.fetch(1, timeout=2))
    client = await shared.client("c")
    inbox = await client.subscribe("inbox.fetch")
    await client.publish("$JS.API.CONSUMER.MSG.NEXT.FETCH.worker", b'{"batch":5,"expires":9000000000}', "inbox.fetch")
    async with asyncio.timeout(5):
        while (await js.consumer_info("FETCH", "worker")).num_waiting < 2:
            await asyncio.sleep(0.01)
    await step_down(shared, "FETCH")
    status = (await inbox.next_msg(5)).headers
    assert status == {"Status": "409", "Description": "Leadership Change"}
    with pytest.raises(Timeout):
        await waiting
    await js.publish("FETCH.1", b"7")
    assert numbers(await sub.fetch(1, timeout=5)) == [7]


async def test_kinds_of_acks(shared: Nodes) -> None:
    """Nak, nak with a delay, term, in progress, next and ack sync, each known to the next leader."""
    js = await filled(shared, "ACKS", 6)
    config = ConsumerConfig(ack_wait=30, max_deliver=5)
    sub = await js.pull_subscribe("ACKS.*", "worker", stream="ACKS", config=config)
    first, second, third, fourth, fifth, sixth = await sub.fetch(6, timeout=5)
    await first.ack_sync()
    await second.nak()
    await third.nak(delay=0.3)
    await fourth.term()
    await fifth.in_progress()
    await sixth.ack_sync()
    again = await sub.fetch(1, timeout=5)
    assert numbers(again) == [int(second.data)]
    await again[0].ack_sync()
    await step_down(shared, "ACKS")
    info = await js.consumer_info("ACKS", "worker")
    assert info.num_ack_pending == 2
    delayed = await sub.fetch(1, timeout=5)
    assert numbers(delayed) == [int(third.data)]
    await delayed[0].ack_sync()
    await fifth.ack_sync()
    info = await js.consumer_info("ACKS", "worker")
    assert (info.num_ack_pending, info.ack_floor.stream_seq) == (0, 6)
    await step_down(shared, "ACKS")
    assert (await js.consumer_info("ACKS", "worker")).ack_floor.stream_seq == 6
    await shared.alike()


async def test_a_delay_holds_for_the_next_leader(shared: Nodes) -> None:
    """It isn't ack_wait that ends it."""
    js = await filled(shared, "DELAY", 2)
    client = await shared.client("b")
    heard = await client.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MSG_NAKED.DELAY.worker")
    sub = await js.pull_subscribe("DELAY.*", "worker", stream="DELAY", config=ConsumerConfig(ack_wait=1))
    first, second = await sub.fetch(2, timeout=5)
    await shared.alike()  # what was delivered is known to all, so that it isn't what tells them of the rest
    await first.nak(delay=3600)
    await heard.next_msg(5)
    await step_down(shared, "DELAY")
    assert numbers(await sub.fetch(1, timeout=5)) == numbers([second])
    assert (await js.consumer_info("DELAY", "worker")).num_ack_pending == 2


async def test_push_and_queue_push(shared: Nodes) -> None:
    """Members at all servers share; a durable push goes on where it was after a stepdown."""
    js = await filled(shared, "PUSH", 30)
    got: list[int] = []

    async def take(message: Msg) -> None:
        got.append(int(message.data))
        await message.ack()

    clients = [await shared.js(name) for name in "abc"]
    for each in clients:
        await each.subscribe("PUSH.*", queue="group", durable="group", stream="PUSH", cb=take, manual_ack=True)
    async with asyncio.timeout(10):
        while len(got) < 30:
            await asyncio.sleep(0.01)
        await step_down(shared, "PUSH")
        await asyncio.gather(*[js.publish("PUSH.0", b"%d" % number) for number in range(30, 60)])
        while len(set(got)) < 60:
            await asyncio.sleep(0.01)
    assert sorted(set(got)) == list(range(60))
    info = await js.consumer_info("PUSH", "group")
    assert info.push_bound
    async with asyncio.timeout(5):
        while (await js.consumer_info("PUSH", "group")).ack_floor.stream_seq < 60:
            await asyncio.sleep(0.01)
    await shared.alike()


async def test_ordered_through_stepdowns(shared: Nodes) -> None:
    """An ordered consumer sees every message once and in order, whoever leads."""
    js = await filled(shared, "ORDER", 100)
    sub = await (await shared.js("c")).subscribe("ORDER.*", ordered_consumer=True, stream="ORDER", idle_heartbeat=0.5)
    found = numbers([await sub.next_msg(5) for _ in range(50)])
    await step_down(shared, "ORDER")
    await asyncio.gather(*[js.publish("ORDER.0", b"%d" % number) for number in range(100, 200)])
    found += numbers([await sub.next_msg(10) for _ in range(75)])
    await step_down(shared, "ORDER")
    found += numbers([await sub.next_msg(10) for _ in range(75)])
    assert found == list(range(200))
    await sub.unsubscribe()


async def test_ephemeral(shared: Nodes) -> None:
    """It lives through a change of leaders, and goes on its own once nobody uses it, from all replicas."""
    js = await filled(shared, "EPHEMERAL", 10)
    config = ConsumerConfig(
        ack_policy=AckPolicy.EXPLICIT, deliver_policy=DeliverPolicy.ALL, inactive_threshold=1, mem_storage=True
    )
    made = await js.add_consumer("EPHEMERAL", config)
    sub = await js.pull_subscribe_bind(made.name, "EPHEMERAL")
    assert numbers(await sub.fetch(5, timeout=5)) == list(range(5))
    await step_down(shared, "EPHEMERAL")
    assert numbers(await sub.fetch(5, timeout=5)) == list(range(5, 10))
    async with asyncio.timeout(10):
        with contextlib.suppress(NotFoundError):
            while await js.consumer_info("EPHEMERAL", made.name):
                await asyncio.sleep(0.1)
    await shared.alike()
    assert not shared.held("a", "EPHEMERAL").rows


async def test_update_and_delete(shared: Nodes) -> None:
    js = await filled(shared, "CHANGE", 9)
    made = await js.add_consumer("CHANGE", ConsumerConfig(durable_name="one", filter_subject="CHANGE.1"))
    assert made.num_pending == 3
    assert made.cluster is not None
    assert sorted(str(peer.name) for peer in made.cluster.replicas or []) == sorted(set("abc") - {made.cluster.leader})
    await step_down(shared, "CHANGE")
    await js.add_consumer("CHANGE", ConsumerConfig(durable_name="one", filter_subject="CHANGE.2", max_deliver=3))
    await js.add_consumer("CHANGE", ConsumerConfig(durable_name="two"))
    for name in "abc":
        mine = await shared.js(name)
        info = await mine.consumer_info("CHANGE", "one")
        assert (info.config.filter_subject, info.config.max_deliver) == ("CHANGE.2", 3)
        assert sorted(each.name for each in await mine.consumers_info("CHANGE")) == ["one", "two"]
        assert (await mine.stream_info("CHANGE")).state.consumer_count == 2
    await step_down(shared, "CHANGE")
    assert await (await shared.js("c")).delete_consumer("CHANGE", "two")
    await step_down(shared, "CHANGE")
    with pytest.raises(NotFoundError):
        await js.consumer_info("CHANGE", "two")
    await shared.alike()
    assert len(shared.held("b", "CHANGE").rows) == 1


async def test_heartbeats_and_flow_control(shared: Nodes) -> None:
    """A push consumer at one server, its client at another: heartbeats when idle, and a window when not."""
    js = await filled(shared, "FLOW", 0)
    await js.add_consumer(
        "FLOW", ConsumerConfig(durable_name="flow", deliver_subject="flow.here", flow_control=True, idle_heartbeat=0.2)
    )
    follower = shared.followers("FLOW")[0]
    client: Client = await shared.client(follower)
    got: list[bytes] = []
    controls: list[str] = []

    async def take(message: Msg) -> None:
        status = (message.headers or {}).get("Status")
        if status is None:
            got.append(message.data)
        else:
            controls.append((message.headers or {}).get("Description") or "")
            if message.reply:
                await client.publish(message.reply)

    await client.subscribe("flow.here", cb=take)
    async with asyncio.timeout(10):
        while "Idle Heartbeat" not in controls:
            await asyncio.sleep(0.01)
        payload = b"x" * 100_000
        await asyncio.gather(*[js.publish("FLOW.0", payload) for _ in range(40)])
        while len(got) < 40:
            await asyncio.sleep(0.01)
    assert "FlowControl Request" in controls


async def test_direct_gets(shared: Nodes) -> None:
    """Answered at whichever replica is near, with what is committed there."""
    await filled(shared, "DIRECT", 30, allow_direct=True)
    await shared.alike()
    for name in "abc":
        mine = await shared.js(name)
        found = await mine.get_msg("DIRECT", 7, direct=True)
        assert (found.seq, found.data, found.subject) == (7, b"6", "DIRECT.0")
        assert (await mine.get_last_msg("DIRECT", "DIRECT.2", direct=True)).data == b"29"
        with pytest.raises(NotFoundError):
            await mine.get_msg("DIRECT", 99, direct=True)


async def test_consumers_survive_restarts(trio: Nodes) -> None:
    """All servers restart, one by one and all at once: acks and what is pending stay."""
    js = await filled(trio, "LAST", 30)
    sub = await js.pull_subscribe("LAST.*", "worker", stream="LAST", config=ConsumerConfig(ack_wait=2))
    for message in await sub.fetch(10, timeout=5):
        await message.ack_sync()
    pending = numbers(await sub.fetch(5, timeout=5))
    await trio.alike()
    for name in "abc":
        await trio.stop(name)
        await trio.start(name)
    await trio.led("LAST")
    client = await trio.client("c")
    again = client.jetstream()
    info = await again.consumer_info("LAST", "worker")
    assert (info.ack_floor.stream_seq, info.num_ack_pending, info.num_pending) == (10, 5, 15)
    await trio.stop("a", "b", "c")
    await trio.start("a", "b", "c")
    await trio.led("LAST")
    await trio.alike()
    nc = await nats.connect(trio.servers["b"].client_url)
    sub = await nc.jetstream().pull_subscribe("LAST.*", "worker", stream="LAST")
    seen: list[int] = []
    with contextlib.suppress(Timeout):
        async with asyncio.timeout(10):
            while len(seen) < 20:
                for message in await sub.fetch(20, timeout=3):
                    seen.append(int(message.data))
                    await message.ack_sync()
    assert sorted(seen) == list(range(10, 30))
    assert set(pending) <= set(seen)
    await nc.close()
    await trio.alike()


async def test_consumers_that_are_made_while_the_leader_changes(shared: Nodes) -> None:
    """Whom the leader before can't tell whether it was stored, the next one answers."""
    js = await filled(shared, "made", 10)
    client = await shared.client("c")
    for number in range(4):
        names = [f"m{number}-{each}" for each in range(20)]
        makers = [await shared.js(name) for name in "abc"]
        made = [
            asyncio.create_task(makers[at % 3].add_consumer("made", durable_name=name)) for at, name in enumerate(names)
        ]
        await shared.step_down(client, "made")
        assert [(await task).name for task in made] == names
    assert len(await js.consumers_info("made")) == 80
    await shared.alike()
