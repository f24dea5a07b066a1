"""Servers that stop, restart and were away for long; and too few of them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from nats.errors import NoRespondersError
from nats.js.api import ConsumerConfig
from nats.js.errors import NoStreamResponseError, ServiceUnavailableError

from streamd.raft.options import Options
from tests.replication.nodes import Nodes, publishing, until
from tests.replication.test_streams import api

if TYPE_CHECKING:
    from pathlib import Path

    from nats.js import JetStreamContext

pytestmark = pytest.mark.anyio


@pytest.fixture
def short_journals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals keep little, so whoever was away fetches a state."""
    monkeypatch.setattr("streamd.raft.host.Options", lambda: Options(tail_bytes=4096, recent_bytes=4096))


async def busy(js: JetStreamContext, turn: int) -> None:
    """Everything that changes a stream's state, a little of it."""
    names = ("LOG", "KV", "SHORT")
    if not turn:
        await js.add_stream(name="LOG", subjects=["log.*"], num_replicas=3)
        await js.add_stream(
            name="KV",
            subjects=["kv.*"],
            num_replicas=3,
            max_msgs_per_subject=1,
            allow_rollup_hdrs=True,
            allow_direct=True,
        )
        await js.add_stream(name="SHORT", subjects=["short.*"], num_replicas=3, max_msgs=20, storage="memory")
        for name in names:
            await js.add_consumer(name, ConsumerConfig(durable_name="worker", ack_wait=60))
    await asyncio.gather(
        *[
            js.publish(f"{name.lower()}.{number % 7}", b"%d" % number * 50, headers={"Nats-Msg-Id": f"{turn} {number}"})
            for number in range(60)
            for name in names
        ]
    )
    await js.publish("kv.3", b"", headers={"Nats-Rollup": "sub", "KV-Operation": "PURGE"})
    for name in names:
        sub = await js.pull_subscribe_bind("worker", name)
        for message in (await sub.fetch(12, timeout=5))[::2]:
            await message.ack()
        await sub.unsubscribe()
    last = (await js.stream_info("LOG")).state.last_seq
    await js.delete_msg("LOG", last - 5)
    await js.purge_stream("LOG", subject="log.5", keep=2)
    await js.add_consumer("LOG", ConsumerConfig(durable_name=f"turn{turn}", filter_subject="log.1"))
    await js.add_stream(name=f"TURN{turn}", subjects=[f"turn.{turn}"], num_replicas=2)
    await js.publish(f"turn.{turn}", b"x")
    if turn:
        await js.delete_stream(f"TURN{turn - 1}")
        await js.delete_consumer("LOG", f"turn{turn - 1}")
        await js.update_stream(name="LOG", subjects=["log.*"], num_replicas=3, max_msgs=1000 - turn)


@pytest.mark.parametrize("short", [False, True])
async def test_one_that_was_away(tmp_path: Path, request: pytest.FixtureRequest, short: bool) -> None:
    """Each server in turn misses all of it, and has it afterwards: by the entries, or by a state that it fetches."""
    if short:
        request.getfixturevalue("short_journals")
    async with Nodes(tmp_path, "abc") as nodes:
        await busy(await nodes.js("a"), 0)
        await nodes.alike()
        for turn, away in enumerate("abc", 1):
            await nodes.stop(away)
            here = next(name for name in "abc" if name != away)
            js = await nodes.js(here)
            await until(nodes.meta_leader)
            for stream in ("LOG", "KV", "SHORT"):
                await nodes.led(stream)
            await busy(js, turn)
            await nodes.start(away)
            counts = await nodes.alike()
            assert counts["SHORT"] == 20
            assert sum(nodes.replication(name).transfer.fetched for name in nodes.servers) >= turn * short
        await nodes.stop("a", "b", "c")
        await nodes.start("a", "b", "c")
        assert await nodes.alike() == counts
        js = await nodes.js("b")
        await busy(js, 4)
        await nodes.alike()


async def test_catching_up_while_publishing(tmp_path: Path, short_journals: None) -> None:
    """A server comes back to a stream that goes on growing."""
    async with Nodes(tmp_path, "abc") as nodes:
        js = await nodes.js("a")
        await js.add_stream(name="GROWS", subjects=["grows.*"], num_replicas=3)
        await nodes.stop("c")
        await nodes.led("GROWS")
        payload = b"x" * 2000
        for _ in range(10):
            await asyncio.gather(*[js.publish("grows.bulk", payload) for _ in range(200)])
        acked: list[int] = []
        async with publishing(js, "grows.new", acked):
            await nodes.start("c")
            await until(lambda: nodes.replication("c").transfer.fetched)
            count = len(acked)
            await until(lambda: len(acked) > count + 20)
        assert (await nodes.alike())["GROWS"] == 2000 + len(acked)


async def test_minority_refuses(trio: Nodes) -> None:
    """One of three answers publishes and requests with 503 and why, within its patience; and serves again with the others."""
    js = await trio.js("a")
    await js.add_stream(name="MINOR", subjects=["minor"], num_replicas=3, allow_direct=True)
    await js.add_stream(name="LONE", subjects=["lone"], placement=None)
    await js.publish("minor", b"before")
    await trio.alike()
    client = await trio.client("a")
    await trio.stop("b", "c")
    begun = time.monotonic()
    with pytest.raises(ServiceUnavailableError) as refused:
        await js.publish("minor", b"refused", timeout=5)
    assert time.monotonic() - begun < 2.8
    assert (refused.value.code, refused.value.err_code) == (503, 10008)
    why = refused.value.description or ""
    assert "has no leader, 1 of its 3 voters can be reached" in why
    # This server may have led, and have it in its log: then it may be stored once the others are back.
    last = (1, 2) if "it is stored if these have it already" in why else (1,)
    await until(lambda: trio.replication("a").meta_leaderless_ns() > 2_000_000_000)
    for verb in ("STREAM.INFO.MINOR", "STREAM.NAMES", "INFO", "STREAM.DELETE.MINOR", "CONSUMER.LIST.MINOR"):
        error = (await api(client, verb))["error"]
        assert (error["code"], error["err_code"]) == (503, 10008)
        assert "1 of" in error["description"]
    # What is here can be read.
    assert (await js.get_msg("MINOR", 1, direct=True)).data == b"before"
    if trio.any.meta.state.streams["LONE"].names == ("a",):
        assert (await js.publish("lone")).seq == 1
    else:
        with pytest.raises((NoRespondersError, NoStreamResponseError)):
            await js.publish("lone", timeout=1)
    await trio.start("b", "c")
    await trio.led("MINOR")
    # A publish here, where nobody was known to lead for long, would be refused at any moment.
    group = trio.any.meta.state.streams["MINOR"].group
    await until(lambda: trio.replication("a").replicas[group].group.leader)
    after = (await js.publish("minor", b"after")).seq
    assert after - 1 in last
    counts = await trio.alike()
    assert counts["MINOR"] == after


async def test_two_of_five_down(tmp_path: Path) -> None:
    """Five replicas serve with two servers down, whichever they are, and all are alike when those are back."""
    async with Nodes(tmp_path, "abcde") as nodes:
        js = await nodes.js("a")
        await js.add_stream(name="FIVE", subjects=["five.*"], num_replicas=5)
        await js.add_stream(name="THREE", subjects=["three.*"], num_replicas=3)
        await js.add_consumer("FIVE", durable_name="worker", ack_policy="explicit")
        leader = await nodes.led("FIVE")
        down = [leader, next(name for name in "edcb" if name != leader)]
        up = [name for name in "abcde" if name not in down]
        js = await nodes.js(up[0])
        acked: list[int] = []
        async with publishing(js, "five.x", acked):
            await until(lambda: len(acked) > 10)
            await nodes.stop(*down)
            await nodes.led("FIVE")
            count = len(acked)
            await until(lambda: len(acked) > count + 10)
        sub = await js.pull_subscribe("five.*", "worker", stream="FIVE")
        for message in await sub.fetch(5, timeout=5):
            await message.ack_sync()
        await nodes.led("THREE", by=lambda _name: True)
        await nodes.start(*down)
        counts = await nodes.alike()
        assert counts["FIVE"] == len(acked)
        assert (await js.consumer_info("FIVE", "worker")).ack_floor.stream_seq == 5


async def test_streams_in_memory(trio: Nodes) -> None:
    """Replicated ones stay through restarts; one without replicas begins anew with its server, and others don't mind."""
    js = await trio.js("a")
    options: dict[str, Any] = {"storage": "memory"}
    await js.add_stream(name="RAM3", subjects=["ram3"], num_replicas=3, **options)
    for number in range(3):
        await js.add_stream(name=f"RAM{number}", subjects=[f"ram.{number}"], **options)
    owners = [await trio.led(f"RAM{number}") for number in range(3)]
    assert set(owners) == set("abc")
    for _ in range(10):
        await js.publish("ram3", b"x")
        for number in range(3):
            await js.publish(f"ram.{number}", b"x")
    gone = owners[0]
    await trio.alike()
    await trio.stop(gone)
    await trio.start(gone)
    js = await trio.js(next(name for name in "abc" if name != gone))
    await until(lambda: trio.leader("RAM0"))
    assert (await js.stream_info("RAM0")).state.messages == 0
    assert (await js.publish("ram.0", b"x")).seq == 1
    assert (await js.stream_info("RAM1")).state.messages == 10
    assert (await trio.alike())["RAM3"] == 10
    assert (await js.publish("ram3", b"x")).seq == 11
