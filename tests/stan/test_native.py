"""Channels and JetStream: what its clients may do with a channel, and whose a subject is."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import nats
import pytest
from nats.errors import NoRespondersError
from nats.js.errors import NoStreamResponseError, ServerError

from streamd import Server
from streamd.config.models import Config, JetStreamConfig
from streamd.config.streaming import ChannelLimits, StreamingConfig
from streamd.errors import StoreError
from streamd.stan.schema_pb2 import ConnectRequest, PubAck, PubMsg

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nats.aio.client import Client
    from nats.js import JetStreamContext

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def without(store_dir: Path) -> AsyncIterator[JetStreamContext]:
    """A client of a server on the same store without NATS Streaming."""
    config = Config(host="127.0.0.1", port=-1, jetstream=JetStreamConfig(store_dir=str(store_dir)))
    async with Server(config) as server, await nats.connect(server.client_url) as client:
        yield client.jetstream()


@asynccontextmanager
async def served(store_dir: Path, **native: bool) -> AsyncIterator[Client]:
    """A client of a server on whose store channels are native or not, by name."""
    channels = {name: ChannelLimits(native=value) for name, value in native.items()}
    streaming = StreamingConfig(store="file", dir=str(store_dir), channels=channels)
    async with Server(Config(host="127.0.0.1", port=-1, streaming=streaming)) as server:
        client = await nats.connect(server.client_url)
        try:
            await client.request("_STAN.discover.test-cluster", connecting())
            yield client
        finally:
            await client.close()


def connecting() -> bytes:
    return ConnectRequest(clientID=b"me", heartbeatInbox=b"_INBOX.me").SerializeToString()


async def publish(client: Client, channel: str) -> str:
    """As a client of NATS Streaming. Returns the error."""
    request = PubMsg(clientID="me", guid="g", subject=channel, data=b"stan")
    answer = await client.request("_STAN.pub.test-cluster.x", request.SerializeToString())
    return PubAck.FromString(answer.data).error


async def test_a_channel_is_read_purged_and_thinned_out_but_not_changed(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        assert [await publish(client, "orders") for _ in range(4)] == [""] * 4
        stream = client.jetstream()

        assert await stream.delete_msg("STAN_orders", 2)
        assert await stream.purge_stream("STAN_orders", seq=2)
        follower = await stream.subscribe("$STAN.test-cluster.orders", ordered_consumer=True)
        heard = [await follower.next_msg() for _ in range(2)]
        assert [(one.metadata.sequence.stream, one.data) for one in heard] == [(3, b"stan"), (4, b"stan")]
        config = (await stream.stream_info("STAN_orders")).config
        for refused in (stream.update_stream(config, max_msgs=1), stream.delete_stream("STAN_orders")):
            with pytest.raises(ServerError, match='is channel "orders" of NATS Streaming'):
                await refused
        with pytest.raises(NoStreamResponseError):
            await stream.publish("$STAN.test-cluster.orders", b"native")


async def test_a_channel_becomes_native_and_again_not(tmp_path: Path) -> None:
    """One numbering all along; each message keeps the subject that it was stored under."""
    async with served(tmp_path) as client:
        assert await publish(client, "orders") == ""
    async with served(tmp_path, orders=True) as client:
        assert await publish(client, "orders") == ""
        assert (await client.jetstream().publish("orders", b"native")).seq == 3
    async with served(tmp_path) as client:
        assert await publish(client, "orders") == ""
        with pytest.raises(NoRespondersError):
            await client.request("orders", b"native")
        stream = client.jetstream()
        stored = [await stream.get_msg("STAN_orders", number) for number in range(1, 5)]

        private = "$STAN.test-cluster.orders"
        assert [one.subject for one in stored] == [private, "orders", "orders", private]
        assert [one.data for one in stored] == [b"stan", b"stan", b"native", b"stan"]


async def test_a_channel_can_t_become_native_on_a_subject_that_is_another_stream_s(tmp_path: Path) -> None:
    """Otherwise both would store what is published, and the ack could be either's."""
    async with served(tmp_path) as client:
        assert await publish(client, "orders") == ""
        await client.jetstream().add_stream(name="MINE", subjects=["orders"])

    with pytest.raises(StoreError, match='"orders" can\'t be native: its subject belongs to stream MINE'):
        async with served(tmp_path, orders=True):
            pass
    async with served(tmp_path) as client:
        assert (await client.jetstream().publish("orders", b"x")).stream == "MINE"


@pytest.mark.parametrize("channel", ["$JS.API.INFO", "_INBOX.someone", "_STAN.pub.test-cluster.orders", "$SYS.x"])
async def test_no_pattern_makes_a_subject_of_the_protocols_a_channel_s(channel: str, tmp_path: Path) -> None:
    """Clients choose the names of channels: they would hear what isn't theirs, and answer it with acks."""
    async with served(tmp_path, **{">": True}) as client:
        assert await publish(client, channel) == ""
        assert await publish(client, "orders") == ""

        subjects = [(one.config.subjects or [])[0] for one in await client.jetstream().streams_info()]
        assert sorted(subjects) == [f"$STAN.test-cluster.{channel}", "orders"]


async def test_after_nats_streaming_a_channel_is_a_stream_like_any_other(tmp_path: Path) -> None:
    """It gets the subjects that it is to have, and may go; a server with NATS Streaming makes it a channel again."""
    async with served(tmp_path) as client:
        assert [await publish(client, channel) for channel in ("orders", "other")] == ["", ""]
    async with without(tmp_path) as stream:
        with pytest.raises(NoStreamResponseError):
            await stream.publish("$STAN.test-cluster.orders", b"x")
        config = (await stream.stream_info("STAN_orders")).config
        await stream.update_stream(config, subjects=["shop.>"])
        assert (await stream.publish("shop.orders", b"native")).seq == 2
        assert await stream.delete_stream("STAN_other")
    async with served(tmp_path) as client:
        assert [await publish(client, channel) for channel in ("orders", "other")] == ["", ""]
        stream = client.jetstream()
        state = [(await stream.stream_info(name)).state.last_seq for name in ("STAN_orders", "STAN_other")]
        assert state == [3, 1]
        assert (await stream.stream_info("STAN_orders")).config.subjects == ["$STAN.test-cluster.orders"]
