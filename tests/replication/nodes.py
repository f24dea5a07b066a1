"""A cluster in this process, whose servers stop and start again on their stores, and the comparison of their replicas."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import nats
import pytest

from benchmarks.ports import free_port
from streamd import Server
from streamd.config.models import Config, JetStreamConfig, SystemUser
from streamd.streams.replication.view import name_of
from streamd.streams.stream import Stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from nats.aio.client import Client
    from nats.js import JetStreamContext

    from streamd.streams.replication.node import Replication
    from streamd.streams.replication.replica import Replica
    from streamd.streams.shelf import Shelf


async def until(condition: Callable[[], object], seconds: float = 15, what: str = "") -> None:
    """Wait for something that will come."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"in {seconds} s it didn't come: {what}") from None


class Place(NamedTuple):
    """Where a server always is."""

    directory: Path
    port: int
    route_port: int
    tags: tuple[str, ...]


class Nodes:
    """Servers by name."""

    def __init__(self, home: Path, names: str, tags: Mapping[str, tuple[str, ...]] | None = None) -> None:
        """`names`: one letter a server."""
        self.places = {name: Place(home / name, free_port(), free_port(), (tags or {}).get(name, ())) for name in names}
        self.servers: dict[str, Server] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._clients = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self.start(*self.places)
        except BaseException:
            await self.stop(*list(self.servers))
            raise
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._clients.aclose()
        await self.stop(*list(self.servers))

    # servers

    async def start(self, *names: str, alone: bool = False) -> None:
        """Start servers, and wait until they know who leads. `alone`: not as one of the cluster."""
        for name in names:
            place = self.places[name]
            others = [each for each in self.places.values() if each is not place]
            routes = tuple(f"nats-route://127.0.0.1:{each.route_port}" for each in others)
            cluster: Any = {"name": "C", "host": "127.0.0.1", "port": place.route_port, "routes": routes}
            config = Config(
                host="127.0.0.1",
                port=place.port,
                server_name=name,
                jetstream=JetStreamConfig(store_dir=str(place.directory)),
                cluster=None if alone else cluster,
                server_tags=place.tags,
                system_users=(SystemUser(user="sys", password="pw"),),
            )
            await self._run(name, Server(config, logger=logging.getLogger(f"streamd.{name}")))
        if not alone:
            await self.agree(*names)

    async def _run(self, name: str, server: Server) -> None:
        """In a task of its own, as servers end in any order."""
        ready = asyncio.Event()

        async def serve() -> None:
            async with server:
                ready.set()
                await server.wait_stopped()

        task = self._tasks[name] = asyncio.create_task(serve())
        task.add_done_callback(lambda _task: ready.set())
        await ready.wait()
        if task.done():
            await task
        self.servers[name] = server

    async def agree(self, *names: str) -> None:
        """Wait until servers, all without names, know the same leader of the meta group, and all others that run."""
        for name in names or self.servers:
            await until(lambda name=name: self._agrees(name), what=f"a meta leader at {name}")  # type: ignore[misc]

    def _agrees(self, name: str) -> bool:
        replication = self.replication(name)
        meta = replication.meta
        known = {node.name: node.node for node in meta.state.nodes.values()}
        return meta.group.leader is not None and all(
            known.get(each) == self.replication(each).net.node for each in self.servers
        )

    async def stop(self, *names: str) -> None:
        """Stop servers one after another, as SIGTERM does."""
        for name in names:
            self.servers.pop(name).stop()
            await self._tasks.pop(name)

    def replication(self, name: str) -> Replication:
        """A server's part of the cluster."""
        found = self.servers[name].replication
        assert found is not None
        return found

    @property
    def any(self) -> Replication:
        """Of one that runs."""
        return self.replication(next(iter(self.servers)))

    # clients

    async def client(self, name: str, **options: Any) -> Client:
        """A client of one server, that closes with the cluster."""
        client = await nats.connect(self.servers[name].client_url, **options)
        self._clients.push_async_callback(_close, client)
        return client

    async def js(self, name: str) -> JetStreamContext:
        """JetStream from one server."""
        return (await self.client(name)).jetstream(timeout=5)

    # who leads

    def meta_leader(self) -> str:
        """The server that leads the meta group, "" if none says so."""
        return next((name for name in self.servers if self.replication(name).meta.leading), "")

    def leader(self, stream: str) -> str:
        """The server that serves a stream, "" if none does."""
        for name, server in self.servers.items():
            assert server.jetstream is not None
            held = server.jetstream.streams.get(stream)
            if held is not None and held.leads and not held.partial:
                return name
        return ""

    async def led(self, stream: str, *, by: Callable[[str], bool] = bool) -> str:
        """Wait until somebody serves a stream, and maybe somebody in particular."""
        await until(lambda: by(self.leader(stream)), what=f"a leader of {stream}")
        return self.leader(stream)

    async def step_down(self, client: Client, stream: str, consumer: str = "") -> str:
        """Have a stream's leader step down, as such or as its consumer's, and wait for the next one. Returns who that is."""
        await until(lambda: self._term(stream), what=f"a leader of {stream}")
        before = self._term(stream)
        what = f"CONSUMER.LEADER.STEPDOWN.{stream}.{consumer}" if consumer else f"STREAM.LEADER.STEPDOWN.{stream}"
        answer = json.loads((await client.request(f"$JS.API.{what}", timeout=5)).data)
        assert answer.get("success") is True, answer
        await until(lambda: self._term(stream) > before, what=f"another leader of {stream}")
        return self.leader(stream)

    def _term(self, stream: str) -> int:
        """In which the leader of a stream leads. A later one is known before all of a server has heard that it is over."""
        leader = self.leader(stream)
        if not leader:
            return 0
        group = self.replication(leader).replicas[self.any.meta.state.streams[stream].group].group
        return group.term if group.leading else 0

    def followers(self, stream: str) -> list[str]:
        """Servers with a replica that don't lead it."""
        names = self.any.meta.state.streams[stream].names
        return [name for name in names if name in self.servers and name != self.leader(stream)]

    def held(self, name: str, stream: str) -> Stream:
        """A server's replica."""
        jetstream = self.servers[name].jetstream
        assert jetstream is not None
        return jetstream.streams[stream]

    # what all replicas have in common

    async def alike(self) -> dict[str, int]:
        """Wait until all running replicas of all groups have applied the same, and compare what they have. Returns how many
        messages each stream has."""
        await until(self._settled, what="all replicas at the same entry")
        counts: dict[str, int] = {}
        groups = {name for each in self.servers for name in self.replication(each).replicas}
        for group in sorted(groups):
            plan = self.any.meta.state.groups[group]
            members = {name: self.replication(name).replicas[group] for name in plan.names if name in self.servers}
            first, *others = members.values()
            expected = contents(first)
            for name, replica in zip(list(members)[1:], others, strict=True):
                found = contents(replica)
                assert found.keys() == expected.keys(), f"{group}: streams at {name}"
                for uid, content in found.items():
                    wrong = [
                        f"{part}: {str(content[part])[-200:]} instead of {str(expected[uid][part])[-200:]}"
                        for part in content
                        if content[part] != expected[uid][part]
                    ]
                    if wrong:
                        pytest.fail(f"{group}: {content.get('name', 'the shelf')} at {name}: {'; '.join(wrong)}")
            counts |= {own.name: own.state.messages for own in first.owners.values() if isinstance(own, Stream)}
        self._where_they_belong()
        return counts

    def _where_they_belong(self) -> None:
        """Every stream is on the servers that the meta group names, and nowhere else."""
        wanted = {name: set(stream.names) for name, stream in self.any.meta.state.streams.items()}
        for name, server in self.servers.items():
            assert server.jetstream is not None
            here = {stream.name for stream in server.jetstream.streams.values() if stream.uid}
            assert here == {stream for stream, names in wanted.items() if name in names}, f"streams at {name}"

    def _settled(self) -> bool:
        metas = [self.replication(name).meta for name in self.servers]
        if len({meta.applied for meta in metas}) > 1 or any(
            stream.moving for stream in metas[0].state.streams.values()
        ):
            return False
        for name in self.servers:
            for replica in self.replication(name).replicas.values():
                group, leader = replica.group, name_of(replica.group.leader)
                peer = self.replication(leader).replicas.get(replica.name) if leader in self.servers else None
                if peer is None or not peer.leading or not replica.idle:
                    return False
                # What is committed is handed to the machine a turn later.
                if not group.replica.core.applied == group.commit_index == group.last_index == peer.group.last_index:
                    return False
                if replica.owners.keys() != peer.owners.keys() or any(own.closed for own in replica.owners.values()):
                    return False  # a deletion is under way
        return True


def contents(replica: Replica) -> dict[int, dict[str, object]]:
    """Everything of a group that is to be the same everywhere."""
    return {uid: content(owner) for uid, owner in replica.owners.items()}


def content(owner: Stream | Shelf) -> dict[str, object]:
    """Everything of a stream or shelf."""
    found: dict[str, object] = {"rows": dict(owner.rows), "group": owner.group, "offline": owner.offline}
    if isinstance(owner, Stream):
        state = owner.state
        records = owner.log.read(1, 1 << 40, 1 << 40)
        assert state.check(1, records, to_seq=state.last_seq) >= state.last_seq or not state.last_seq
        found |= {
            "name": owner.name,
            "config": owner.config.wire(),
            "created": owner.created_ns,
            "version": owner.version,
            "frozen": owner.frozen or owner.partial,
            # Sequence, time, subject, headers and payload, under one checksum.
            "records": records,
            "messages": state.messages,
            "bytes": state.bytes,
            "first": state.first_seq,
            "last": (state.last_seq, state.last_ts_ns),
            "subjects": state.subjects(">", 0, 1 << 30),
            "deleted": state.deleted(1 << 30),
            "ids": state.ids(),
            "committed": owner.committed_seq,
        }
    return found


def more_than(count: int, found: Callable[[], int]) -> Callable[[], bool]:
    """A condition to wait for."""
    return lambda: found() > count


async def _close(client: Client) -> None:
    # nats-py says a last word to a server that has been stopped.
    with contextlib.suppress(OSError):
        await client.close()


@contextlib.asynccontextmanager
async def publishing(js: JetStreamContext, subject: str, acked: list[int]) -> AsyncIterator[None]:
    """Meanwhile a client publishes numbers, each with an id and as often as it takes; `acked` gets them in their order."""
    done = asyncio.Event()

    async def publish() -> None:
        while not done.is_set():
            number, acks = len(acked) - before, len(acked)
            async with asyncio.timeout(30):
                while len(acked) == acks:  # what was refused or got no answer may be stored all the same
                    with contextlib.suppress(nats.errors.Error):
                        await js.publish(
                            subject, str(number).encode(), headers={"Nats-Msg-Id": f"{subject}{number}"}, timeout=2
                        )
                        acked.append(number)

    before = len(acked)
    task = asyncio.create_task(publish())
    try:
        yield
    finally:
        done.set()
        await task
