"""What can't be deleted for want of room is served as before, and whatever takes its name takes its place."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Any, Final

import pytest
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import APIError

from streamd.api.consumer import ConsumerConfig as Wanted
from streamd.api.stream import StreamConfig
from streamd.store.environment import Environment
from streamd.streams.consumers import create_consumer
from tests.streams.test_mishaps import Running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamd.api.errors import ApiError
    from streamd.errors import StoreError
    from streamd.streams.jetstream import JetStream

pytestmark = pytest.mark.anyio
FULL: Final = 10047


class Disk:
    """A disk that finds no room so many times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refusals = 0
        commit = Environment.commit

        def tried(environment: Environment, txn: Any) -> int:
            if self.refusals:
                self.refusals -= 1
                raise OSError(errno.ENOSPC, "no space left on device")
            return commit(environment, txn)

        monkeypatch.setattr(Environment, "commit", tried)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """That of the test's servers."""
    return Disk(monkeypatch)


class Asked:
    """What those hear who ask for something."""

    def __init__(self) -> None:
        self.told: list[int | None] = []

    def error(self, error: ApiError | None) -> None:
        self.told.append(None if error is None else error.err_code)

    def store(self, error: StoreError | None) -> None:
        self.told.append(None if error is None else FULL)

    def made(self, _what: object, error: ApiError | None) -> None:
        self.error(error)

    async def all(self, count: int) -> list[int | None]:
        async with asyncio.timeout(10):
            while len(self.told) < count:
                await asyncio.sleep(0.001)
        return self.told


def jetstream_of(running: Running) -> JetStream:
    assert running.server.jetstream is not None
    return running.server.jetstream


async def filled(running: Running) -> None:
    """S with five messages, two of them acked at its durable consumer; that has a companion in memory."""
    await running.js.add_stream(name="S", subjects=["s.*"])
    for number in range(5):
        await running.js.publish("s.x", b"%d" % number)
    await running.js.add_consumer("S", durable_name="kept", ack_policy=AckPolicy.EXPLICIT)
    await running.js.add_consumer("S", ConsumerConfig(name="light", ack_policy=AckPolicy.EXPLICIT, mem_storage=True))
    assert await taken(running, "kept", 2) == [b"0", b"1"]


async def taken(running: Running, consumer: str, count: int) -> list[bytes]:
    sub = await running.js.pull_subscribe_bind(consumer, "S")
    messages = await sub.fetch(count, timeout=5)
    for message in messages:
        await message.ack_sync()
    await sub.unsubscribe()
    return [message.data for message in messages]


async def refused(asked: Any) -> None:
    with pytest.raises(APIError) as raised:
        await asked
    assert raised.value.err_code == FULL


async def names(running: Running) -> list[str]:
    return [info.config.name or "" for info in await running.js.streams_info()]


def next_commit(running: Running) -> Callable[[], Any]:
    """Wait until a commit is under way: what is asked for now goes into the one behind it."""

    async def wait() -> None:
        async with asyncio.timeout(10):
            while not jetstream_of(running).services.commits.in_flight:
                await asyncio.sleep(0)

    return wait


async def test_a_stream_that_can_not_be_deleted_is_served(tmp_path: Path, disk: Disk) -> None:
    """With its consumers, those in memory too, and also behind a restart."""
    async with Running(tmp_path) as running:
        await filled(running)
        disk.refusals = 1
        await refused(running.js.delete_stream("S"))
        assert await names(running) == ["S"]
        assert await taken(running, "kept", 1) == [b"2"]
        assert await taken(running, "light", 3) == [b"0", b"1", b"2"]
        async with asyncio.timeout(10):
            while True:  # for a moment it isn't even tried
                try:
                    assert (await running.js.publish("s.x", b"5")).seq == 6
                    break
                except APIError:
                    await asyncio.sleep(0.01)
    async with Running(tmp_path) as running:
        assert (await running.js.stream_info("S")).state.messages == 6
        assert await taken(running, "kept", 2) == [b"3", b"4"]
        await running.js.delete_stream("S")
    async with Running(tmp_path) as running:
        assert await names(running) == []


@pytest.mark.parametrize("refusals", [0, 1])
@pytest.mark.parametrize("storage", ["file", "memory"])
@pytest.mark.parametrize("behind", [False, True])
async def test_a_stream_in_the_place_of_one_that_goes(
    tmp_path: Path, disk: Disk, refusals: int, storage: str, behind: bool
) -> None:
    """Either one of them is there, never both; a restart doesn't bring the other one back. `behind`: in the next commit."""
    async with Running(tmp_path) as running:
        await filled(running)
        jetstream, asked = jetstream_of(running), Asked()
        stream = jetstream.streams["S"]
        disk.refusals = refusals
        jetstream.delete_stream(stream, asked.error, keep=True)
        if behind:
            await next_commit(running)()
        config = StreamConfig.model_validate({**stream.config.wire(), "storage": storage}, strict=False)
        jetstream.create_stream(config, asked.made)
        told = await asked.all(2)
        assert told == [FULL if refusals else None, FULL if refusals and not behind and storage == "file" else None]
        left = await running.js.stream_info("S")
        old = told[1] is not None
        assert left.state.messages == (5 if old else 0)
        if storage == "memory":
            async with asyncio.timeout(10):
                while jetstream._removing._going:
                    await asyncio.sleep(0.01)
    async with Running(tmp_path) as running:
        assert await names(running) == ([] if storage == "memory" else ["S"])
        if storage == "file":
            assert (await running.js.stream_info("S")).state.messages == left.state.messages
            await running.js.delete_stream("S")
    async with Running(tmp_path) as running:
        assert await names(running) == []


async def test_another_stream_has_the_subjects_meanwhile(tmp_path: Path, disk: Disk) -> None:
    """Then the one that was to go does, once there is room."""
    async with Running(tmp_path) as running:
        await filled(running)
        jetstream, asked = jetstream_of(running), Asked()
        disk.refusals = 1
        jetstream.delete_stream(jetstream.streams["S"], asked.error, keep=True)
        await next_commit(running)()
        config = {**jetstream._removing._going["S"][0].config.wire(), "name": "T"}
        jetstream.create_stream(StreamConfig.model_validate(config, strict=False), asked.made)
        assert await asked.all(2) == [FULL, None]
        assert await names(running) == ["T"]
        async with asyncio.timeout(10):
            while jetstream._removing._going:
                await asyncio.sleep(0.01)
    async with Running(tmp_path) as running:
        assert await names(running) == ["T"]


async def test_a_consumer_that_can_not_be_deleted_is_served(tmp_path: Path, disk: Disk) -> None:
    """From where it was, and also behind a restart."""
    async with Running(tmp_path) as running:
        await filled(running)
        disk.refusals = 1
        await refused(running.js.delete_consumer("S", "kept"))
        info = await running.js.consumer_info("S", "kept")
        assert (info.ack_floor and info.ack_floor.stream_seq, info.num_pending) == (2, 3)
        assert await taken(running, "kept", 1) == [b"2"]
    async with Running(tmp_path) as running:
        assert await taken(running, "kept", 1) == [b"3"]
        await running.js.delete_consumer("S", "kept")
    async with Running(tmp_path) as running:
        assert await running.js.consumers_info("S") == []


@pytest.mark.parametrize("refusals", [0, 1])
@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("light", [False, True])
async def test_a_consumer_in_the_place_of_one_that_goes(
    tmp_path: Path, disk: Disk, refusals: int, behind: bool, light: bool
) -> None:
    """Either one of them is there, and stays."""
    async with Running(tmp_path) as running:
        await filled(running)
        jetstream, asked = jetstream_of(running), Asked()
        stream = jetstream.streams["S"]
        disk.refusals = refusals
        stream.delete_consumer(stream.consumers["kept"], asked.store)
        if behind:
            await next_commit(running)()
        wanted = {"durable_name": "kept", "name": "kept", "ack_policy": "explicit", "mem_storage": light}
        create_consumer(stream, Wanted.model_validate(wanted), 1, asked.made)
        other = Wanted.model_validate(wanted | {"durable_name": "other", "name": "other", "mem_storage": False})
        create_consumer(stream, other, 1, asked.made)
        failed = FULL if refusals and not behind else None
        assert await asked.all(3) == [FULL if refusals else None, failed, failed]
        assert not stream.going
        pending = 3 if failed else 5
        assert (await running.js.consumer_info("S", "kept")).num_pending == pending
    async with Running(tmp_path) as running:
        infos = await running.js.consumers_info("S")
        kept = {"kept": pending} if failed or not light else {}
        assert {info.name: info.num_pending for info in infos} == kept | ({} if failed else {"other": 5})


async def test_a_consumer_that_is_made_and_deleted_on_a_full_disk(tmp_path: Path, disk: Disk) -> None:
    """It was never there."""
    async with Running(tmp_path) as running:
        await filled(running)
        jetstream, asked = jetstream_of(running), Asked()
        stream = jetstream.streams["S"]
        disk.refusals = 1
        config = Wanted.model_validate({"durable_name": "brief", "name": "brief", "ack_policy": "explicit"})
        create_consumer(stream, config, 1, asked.made)
        stream.delete_consumer(stream.consumers["brief"], asked.store)
        assert await asked.all(2) == [None, FULL]
        assert {*stream.consumers} == {"kept", "light"}
        assert not stream.going
