"""The server inside a program: `async with Server(config) as server`."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import nats
import pytest

from streamd import Server
from streamd.config.models import Config, JetStreamConfig
from streamd.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def test_without_a_configuration() -> None:
    """JetStream on a temporary store and a free port; afterwards nothing is left."""
    threads, tasks = {*threading.enumerate()}, asyncio.all_tasks()
    async with Server() as server:
        store = server.store_dir
        assert store is not None
        assert store.exists()
        client = await nats.connect(server.client_url)
        await client.jetstream().add_stream(name="S", subjects=["s"])
        assert (await client.jetstream().publish("s", b"")).seq == 1
        await client.close()
    assert not store.exists()
    assert {*threading.enumerate()} <= threads
    assert asyncio.all_tasks() <= tasks
    with pytest.raises(OSError, match="Connect"):
        await asyncio.open_connection("127.0.0.1", server.port)


async def test_a_configured_store_stays(tmp_path: Path) -> None:
    """What was stored is there for the next server on the same directory, on the port it was given."""
    config = Config(host="127.0.0.1", port=-1, jetstream=JetStreamConfig(store_dir=str(tmp_path)))
    async with Server(config) as server:
        client = await nats.connect(server.client_url)
        await client.jetstream().add_stream(name="S", subjects=["s"])
        await client.jetstream().publish("s", b"kept")
        await client.close()
    async with Server(config.model_copy(update={"port": server.port})) as again:
        assert again.port == server.port
        client = await nats.connect(again.client_url)
        assert (await client.jetstream().get_msg("S", 1)).data == b"kept"
        await client.close()


async def test_two_in_one_process() -> None:
    """They share nothing."""
    async with Server() as one, Server() as other:
        assert one.port != other.port
        first, second = await nats.connect(one.client_url), await nats.connect(other.client_url)
        await first.jetstream().add_stream(name="S", subjects=["s"])
        assert await second.jetstream().streams_info() == []
        got = await second.subscribe("s")
        await second.flush()
        await first.publish("s", b"")
        await first.flush()
        with pytest.raises(nats.errors.TimeoutError):
            await got.next_msg(timeout=0.1)
        await first.close()
        await second.close()


async def test_one_store_is_for_one_server(tmp_path: Path) -> None:
    """A second server on the same directory is refused and leaves nothing running."""
    config = Config(host="127.0.0.1", port=-1, jetstream=JetStreamConfig(store_dir=str(tmp_path)))
    async with Server(config) as server:
        with pytest.raises(StoreError):
            async with Server(config):
                pass
        client = await nats.connect(server.client_url)
        await client.flush()
        await client.close()


async def test_a_taken_port_is_an_error(tmp_path: Path) -> None:
    """The error of the system comes through, and the store is free again."""
    async with Server() as server:
        config = Config(host="127.0.0.1", port=server.port, jetstream=JetStreamConfig(store_dir=str(tmp_path)))
        with pytest.raises(OSError, match=str(server.port)):
            async with Server(config):
                pass
    async with Server(config.model_copy(update={"port": -1})):
        pass


async def test_without_jetstream() -> None:
    """Core NATS alone: requests of JetStream have no responder."""
    async with Server(Config(host="127.0.0.1", port=-1)) as server:
        client = await nats.connect(server.client_url)
        with pytest.raises(nats.js.errors.ServiceUnavailableError):
            await client.jetstream().account_info()
        await client.close()


async def test_leaving_closes_clients_and_keeps_what_was_acked(tmp_path: Path) -> None:
    """Clients are closed, with what was sent to them; what was published and acked before is stored."""
    config = Config(host="127.0.0.1", port=-1, jetstream=JetStreamConfig(store_dir=str(tmp_path)))
    closed = asyncio.Event()

    async def note() -> None:
        closed.set()

    async with Server(config) as server:
        client = await nats.connect(server.client_url, allow_reconnect=False, closed_cb=note)
        js = client.jetstream()
        await js.add_stream(name="S", subjects=["s"])
        acks = [await js.publish_async("s", b"%d" % number) for number in range(200)]
        await asyncio.gather(*acks)
    await asyncio.wait_for(closed.wait(), 5)
    async with Server(config) as server:
        client = await nats.connect(server.client_url)
        assert (await client.jetstream().stream_info("S")).state.messages == 200
        await client.close()
