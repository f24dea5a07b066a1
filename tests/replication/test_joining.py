"""Streams that servers had alone before they were a cluster."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from nats.js.api import ConsumerConfig

from tests.replication.nodes import Nodes, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def test_streams_from_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are the cluster's from then on, where they are; but for one whose name or subjects another server has brought."""
    caplog.set_level(logging.INFO, "streamd")
    nodes = Nodes(tmp_path, "abc")
    try:
        for name in "abc":
            await nodes.start(name, alone=True)
            js = await nodes.js(name)
            await js.add_stream(name=f"OF_{name}", subjects=[f"of.{name}"])
            await js.add_stream(name=f"RAM_{name}", subjects=[f"ram.{name}"], storage="memory")
            for number in range(10):
                await js.publish(f"of.{name}", b"%d" % number)
            sub = await js.pull_subscribe(
                f"of.{name}", "worker", stream=f"OF_{name}", config=ConsumerConfig(ack_wait=60)
            )
            for message in await sub.fetch(4, timeout=5):
                await message.ack_sync()
        for name in "bc":
            js = await nodes.js(name)
            await js.add_stream(name="BOTH", subjects=[f"both.{name}"])
            await js.publish(f"both.{name}", name.encode())
            await js.add_consumer("BOTH", durable_name="worker")
            await js.add_stream(name=f"SAME_{name}", subjects=["same.*"])
            await js.publish("same.x", name.encode())
        await nodes.stop("a", "b", "c")
        await nodes.start("a", "b", "c")
        wanted = {f"OF_{name}" for name in "abc"} | {"BOTH"}
        await until(lambda: wanted <= nodes.any.meta.state.streams.keys())
        js = await nodes.js("b")
        for name in "abc":
            info = await js.stream_info(f"OF_{name}")
            assert (info.state.messages, info.cluster and info.cluster.leader) == (10, name)
            worker = await js.consumer_info(f"OF_{name}", "worker")
            assert (worker.ack_floor.stream_seq, worker.num_pending) == (4, 6)
            assert (await (await nodes.js("a")).publish(f"of.{name}", b"x")).seq == 11
        # One of two won, and the other is told of.
        (winner,) = nodes.any.meta.state.streams["BOTH"].names
        loser = "c" if winner == "b" else "b"
        text = "stream BOTH was made before this server joined the cluster, which has another one with the same name"
        await until(
            lambda: any(text in record.getMessage() and record.name == f"streamd.{loser}" for record in caplog.records)
        )
        assert (await js.stream_info("BOTH")).config.subjects == [f"both.{winner}"]
        await until(lambda: any("with the same subjects" in record.getMessage() for record in caplog.records))
        assert (await js.publish("same.y", b"once")).seq == 2
        # Replicas are another thing to be had now.
        await js.update_stream(name="OF_a", subjects=["of.a"], num_replicas=3)
        await nodes.led("OF_a")
        assert (await nodes.alike())["OF_a"] == 11
        # It isn't served after a restart either; but alone, and in the cluster once its name is free.
        await nodes.stop("a", "b", "c")
        await nodes.start("a", "b", "c")
        await nodes.led("BOTH", by=lambda name: name == winner)
        assert "BOTH" not in nodes.servers[loser].jetstream.streams  # type: ignore[union-attr]
        await nodes.stop(loser)
        await nodes.start(loser, alone=True)
        alone = await nodes.js(loser)
        assert (await alone.get_msg("BOTH", 1)).data == loser.encode()
        await nodes.stop(loser)
        await nodes.start(loser)
        js = await nodes.js("a")
        await until(nodes.meta_leader)
        assert await js.delete_stream("BOTH")
        await nodes.led("BOTH", by=lambda name: name == loser)
        assert (await js.get_msg("BOTH", 1)).data == loser.encode()
        assert (await js.consumer_info("BOTH", "worker")).num_pending == 1
        await nodes.alike()
    finally:
        await nodes.__aexit__()
