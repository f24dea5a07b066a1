"""A fault tolerance group: one member serves, the others wait for its store, and clients notice a pause."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import pytest

from benchmarks.ports import free_port
from streamd.stan.schema_pb2 import NewOnly, PubAck
from tests.core.test_nats_py import until
from tests.monitor.asking import ask
from tests.process import READY, ServerProcess
from tests.stan.by_hand import CLUSTER, Heard, Stan
from tests.stan.servers import StanServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streamd.stan.schema_pb2 import MsgProto

pytestmark = pytest.mark.anyio

STANDBY = "STREAM: Starting in standby mode: process"


class Member(StanServer):
    """One server of a group, with a directory of its own for its log, and the store that it shares."""

    def __init__(self, directory: Path, store: Path, group: str = "ft_group: g") -> None:
        directory.mkdir()
        streaming = f'streaming {{ id: {CLUSTER}, store: file, dir: "{store}", hb_interval: "10m", {group} }}'
        self.monitor_port = free_port()
        ServerProcess.__init__(
            self, directory, "-m", str(self.monitor_port), config=streaming.replace(", ", "\n") + "\n"
        )
        self.port = free_port()
        self._offset = 0

    def start(self, timeout_seconds: float = 30, *, ready: str = READY) -> Member:
        """Start (again), and wait for a line of its log."""
        self.ready = ready
        self._offset = len(self.log()) if self.log_path.exists() else 0
        super().start(timeout_seconds)
        return self

    def stand_by(self) -> Member:
        """Start, and wait until it waits."""
        return self.start(ready=STANDBY)

    @property
    def active(self) -> bool:
        """Whether it serves, in this life."""
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        return "Streaming Server is ready" in self.log()[self._offset :]

    @property
    def listening(self) -> bool:
        """Whether clients can connect."""
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    async def says(self) -> tuple[int, str]:
        """(status of isFTActive, state of serverz)."""
        found = await ask(self.monitor_port, "/streaming/isFTActive")
        assert found.raw == b""
        serverz = await ask(self.monitor_port, "/streaming/serverz")
        return found.status, json.loads(serverz.raw)["state"]


class Group:
    """Members over one store."""

    def __init__(self, directory: Path, count: int) -> None:
        self.store = directory / "shared"
        self.members = [Member(directory / name, self.store) for name in "abc"[:count]]
        self.active = self.members[0]

    def start(self) -> None:
        """The first one becomes the active one."""
        self.active.start()
        for member in self.standbys:
            member.stand_by()

    @property
    def standbys(self) -> list[Member]:
        """All that run and wait."""
        return [member for member in self.members if member is not self.active]

    async def connect(self, client_id: str = "me") -> Stan:
        """A client that knows all members and goes on where it can."""
        return await Stan.connect(
            [member.url for member in self.members],
            client_id,
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.02,
            error_cb=_ignore,
        )

    async def taken_over(self, *, stopped: Member) -> Member:
        """Wait until another one serves; exactly one does."""
        waiting = [member for member in self.members if member is not stopped]
        await until(lambda: any(member.active for member in waiting))
        self.active = next(member for member in waiting if member.active)
        assert [member for member in waiting if member.active or member.listening] == [self.active]
        return self.active


async def _ignore(error: Exception) -> None:
    """Connections end on purpose; nats-py would log it."""


@pytest.fixture
def group(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Group]:
    """So many members, started."""
    made = Group(tmp_path, getattr(request, "param", 2))
    with ExitStack() as stack:
        for member in made.members:
            stack.callback(member.kill)
        made.start()
        yield made
        for member in made.members:
            assert "Traceback" not in member.log()


@pytest.mark.parametrize("group", [3], indirect=True)
async def test_one_serves_and_the_others_wait(group: Group) -> None:
    """Standbys have no client port and say what they are; the log names who has the store."""
    assert group.active.listening
    assert await group.active.says() == (200, "FT_ACTIVE")
    assert "STREAM: Server is active" in group.active.log()
    for member in group.standbys:
        assert not member.listening
        assert await member.says() == (204, "FT_STANDBY")
        assert f"{STANDBY} {group.active.pid} has the store in {group.store}" in member.log()


class Worker:
    """A client that publishes all the time, and a durable that notes and acks what it hears."""

    def __init__(self, stan: Stan, durable: Heard) -> None:
        self.stan = stan
        self.durable = durable
        self.heard: list[MsgProto] = []
        self.sent = 0
        self.acked: set[int] = set()
        self.refused: list[str] = []
        self._tasks = [asyncio.create_task(call) for call in (self._publish(), self._hear())]

    async def _publish(self) -> None:
        """Ten at once; who gets no answer in time is sent no more."""
        while True:
            numbers = range(self.sent, self.sent + 10)
            self.sent += 10
            acks = [await self.stan.start("a", str(number).encode()) for number in numbers]
            for number, ack in zip(numbers, acks, strict=True):
                ack.add_done_callback(partial(self._on_ack, number))
            await asyncio.wait(acks, timeout=0.5)

    def _on_ack(self, number: int, done: asyncio.Future[PubAck]) -> None:
        if not done.cancelled():
            self.refused += [done.result().error] if done.result().error else []
            self.acked.add(number)

    async def _hear(self) -> None:
        while True:
            message = await self.durable.messages.get()
            self.heard.append(message)
            await self.durable.ack(message.sequence)

    async def acks(self, more: int) -> None:
        """Wait for so many publishes more that are acked."""
        wanted = len(self.acked) + more
        await until(lambda: len(self.acked) >= wanted, 30)

    async def stop(self) -> None:
        """Publish no more."""
        self._tasks[0].cancel()
        await asyncio.wait(self._tasks[:1])

    async def finish(self) -> None:
        """Wait until the durable has heard all that is stored, which has all that was acked, in its order."""
        await self.stop()
        await self.stan.publish("a", "end")
        stored: list[MsgProto] = []
        reader = await self.stan.subscribe("a", max_in_flight=100_000)
        while not stored or stored[-1].data != b"end":
            stored += await reader.take(1)
        await until(lambda: {message.sequence for message in self.heard} >= {m.sequence for m in stored})
        self._tasks[1].cancel()
        assert self.refused == []
        assert [message.sequence for message in stored] == list(range(1, len(stored) + 1))
        numbers = [int(message.data) for message in stored[:-1]]
        assert numbers == sorted(set(numbers))
        assert set(numbers) >= self.acked
        by_sequence = {message.sequence: (message.data, message.timestamp) for message in stored}
        assert all(by_sequence[message.sequence] == (message.data, message.timestamp) for message in self.heard)


@pytest.mark.parametrize("group", [3], indirect=True)
async def test_takeover_after_kill_loses_nothing(group: Group) -> None:
    """Twice, and once more by the first one, which came back: the same client, durable and connection id go on."""
    async with await group.connect() as stan:
        worker = Worker(stan, await stan.subscribe("a", durable="d", ack_seconds=1))
        first = group.active
        for back in (True, False, False):
            await worker.acks(100)
            killed = group.active
            killed.kill()
            active = await group.taken_over(stopped=killed)
            await worker.acks(100)
            assert active.listening
            assert await active.says() == (200, "FT_ACTIVE")
            assert await stan.ping() == ""
            group.members.remove(killed)
            if back:
                group.members.append(first.stand_by())
                assert not first.listening
        assert group.active is first or len(group.members) == 1
        await worker.finish()
        await stan.close()
    assert group.active.stop() == 0


async def test_takeover_after_a_clean_stop_repeats_nothing(group: Group) -> None:
    """All that was acked by then is not heard again; sequences go on."""
    async with await group.connect() as stan:
        worker = Worker(stan, await stan.subscribe("a", durable="d", ack_seconds=60))
        await worker.acks(200)
        await worker.stop()
        await stan.publish("a", "last")
        await until(lambda: worker.heard and worker.heard[-1].data == b"last")
        # Acks are taken in the order they came; this client's last one is in once its channel is left.
        await (await stan.subscribe("a", NewOnly)).close()
        stopped = group.active
        assert stopped.stop() == 0
        assert not stopped.listening
        active = await group.taken_over(stopped=stopped)
        await until(lambda: stan.nats.connected_url and stan.nats.connected_url.port == active.port)
        assert await stan.ping() == ""
        await stan.publish("a", "next")
        await until(lambda: worker.heard[-1].data == b"next")
        sequences = [message.sequence for message in worker.heard]
        assert sequences == list(range(1, len(sequences) + 1))
        assert not any(message.redelivered for message in worker.heard)
        stopped.stand_by()
        assert await stopped.says() == (204, "FT_STANDBY")
        assert await active.says() == (200, "FT_ACTIVE")


async def test_the_end_of_a_standby_changes_nothing(group: Group) -> None:
    """It ends at once and cleanly; the store stays with the active one, which others still can't have."""
    standby = group.standbys[0]
    async with await group.connect() as stan:
        heard = await stan.subscribe("a")
        for count, end in enumerate((signal.SIGTERM, signal.SIGINT, signal.SIGKILL), 1):
            assert standby.process is not None
            os.kill(standby.pid, end)
            assert standby.process.wait(5) == (-end if end == signal.SIGKILL else 0)
            standby.stand_by()
            assert f"process {group.active.pid} has the store" in standby.log()[standby._offset :]
            await stan.publish("a", str(count))
            assert await heard.sequences(1) == [count]
            assert group.active.active


async def test_others_are_refused_the_store(group: Group, tmp_path: Path) -> None:
    """A server that is in no group doesn't wait: it says who has the store and ends; so does JetStream alone."""
    alone = Member(tmp_path / "alone", group.store, group="")
    reason = (
        f"store directory {group.store}/jetstream is in use by process {group.active.pid}: stop it, or choose another"
    )
    with pytest.raises(RuntimeError, match="did not get ready") as refused:
        alone.start()
    assert reason in str(refused.value)
    assert alone.process is not None
    assert alone.process.wait(5) == 1
    plain = ServerProcess(tmp_path, store=group.store)
    with pytest.raises(RuntimeError, match="did not get ready") as refused:
        plain.start()
    assert reason in str(refused.value)
    async with await group.connect() as stan:
        await stan.publish("a", "1")
    # And the group waits for a server that is in none.
    group.standbys[0].kill()
    group.active.kill()
    with ExitStack() as stack:
        stack.callback(alone.kill)
        assert alone.start().active
        assert f"{STANDBY} {alone.pid} has the store" in group.active.stand_by().log()[group.active._offset :]
        async with await Stan.connect(alone.url, "other") as stan:
            assert await (await stan.subscribe("a")).sequences(1) == [1]
