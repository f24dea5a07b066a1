"""A real nats-server in the mesh: it dials streamd, and streamd dials it; messages, groups and discovery across both."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import urllib.request
from collections import Counter
from typing import TYPE_CHECKING, Any

import nats
import pytest
from nats.errors import NoRespondersError

from benchmarks.ports import free_port
from tests.cluster.members import cluster_of, member, names, seed, until
from tests.cluster.test_messages import known

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from streamd import Server

    Start = Callable[..., contextlib.AbstractAsyncContextManager["Theirs"]]

pytestmark = [pytest.mark.anyio, pytest.mark.interop]


class Theirs:
    """A running nats-server."""

    def __init__(self, directory: Path, *routes: str, name: str = "theirs", cluster: str = "name: C") -> None:
        self.name = name
        self.port, self.cluster_port, self.http_port = free_port(), free_port(), free_port()
        self.log = directory / f"{name}.log"
        self.config = directory / f"{name}.conf"
        self.config.write_text(
            f'server_name: {name}\nlisten: "127.0.0.1:{self.port}"\nhttp: "127.0.0.1:{self.http_port}"\ndebug: true\n'
            f'log_file: "{self.log}"\n'
            f'cluster {{ {cluster}, listen: "127.0.0.1:{self.cluster_port}", routes: {json.dumps(routes)} }}\n'
        )

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def seed(self) -> str:
        return f"nats-route://127.0.0.1:{self.cluster_port}"

    def logged(self, text: str) -> bool:
        return self.log.exists() and text in self.log.read_text()

    async def page(self, path: str) -> dict[str, Any]:
        """One of its pages of monitoring."""

        def ask() -> dict[str, Any]:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)
                return found

        return await asyncio.to_thread(ask)

    async def remotes(self) -> list[str]:
        """Names of the servers that it has routes to, one for each connection."""
        return sorted(route["remote_name"] for route in (await self.page("/routez"))["routes"])


@pytest.fixture
def start(anyio_backend: str, programs: Path, tmp_path: Path) -> Start:
    """Starts nats-servers."""

    @contextlib.asynccontextmanager
    async def run(*routes: str, **more: str) -> AsyncIterator[Theirs]:
        theirs = Theirs(tmp_path, *routes, **more)
        process = await asyncio.create_subprocess_exec(str(programs / "nats-server"), "-c", str(theirs.config))
        try:
            await until(lambda: theirs.logged("Server is ready"))
            yield theirs
        finally:
            process.terminate()
            await process.wait()

    return run


async def exchange(ours: Server, theirs: Theirs) -> None:
    """Messages both ways, requests, headers, groups, no responders."""
    here = await nats.connect(ours.client_url, allow_reconnect=False)
    there = await nats.connect(theirs.url, allow_reconnect=False)
    try:
        for source, other in ((here, there), (there, here)):
            await _both(source, other)
            await _group(source, other)
    finally:
        await here.close()
        await there.close()


async def _both(source: Client, other: Client) -> None:
    seen: list[Msg] = []

    async def answer(msg: Msg) -> None:
        seen.append(msg)
        if msg.reply:
            await other.publish(msg.reply, msg.data.upper(), headers={"Echo": (msg.headers or {}).get("Word", "")})

    first = await other.subscribe("words.*", cb=answer)
    await known([other], [source])
    with pytest.raises(NoRespondersError):
        await source.request("nobody", b"", timeout=5)
    for size in (0, 1, 1000, 900_000):
        reply = await source.request("words.x", b"a" * size, timeout=5, headers={"Word": str(size)})

        assert reply.data == b"A" * size
        assert reply.headers == {"Echo": str(size)}
    await source.publish("words.y", b"no reply")
    await source.publish("words.z", b"no reply", headers={"A": "b"})
    await until(lambda: len(seen) == 6)

    assert [(msg.subject, msg.data, msg.headers) for msg in seen[-2:]] == [
        ("words.y", b"no reply", None),
        ("words.z", b"no reply", {"A": "b"}),
    ]
    await first.unsubscribe()
    await known([other], [source])
    with pytest.raises(NoRespondersError):
        await source.request("words.x", b"", timeout=5)


async def _group(source: Client, other: Client) -> None:
    """One member of each group, wherever it is, and plain subscribers as well."""
    taken: Counter[str] = Counter()

    def count(name: str) -> Any:
        async def take(_: Msg) -> None:
            taken[name] += 1

        return take

    subscriptions = [
        await other.subscribe("jobs", "group", cb=count("one")),
        await other.subscribe("jobs", "group", cb=count("two")),
        await other.subscribe("jobs", "others", cb=count("others")),
        await other.subscribe("jobs", cb=count("plain")),
    ]
    await known([other], [source])
    for _ in range(100):
        await source.publish("jobs", b"")
    await until(lambda: taken.total() >= 300)

    assert taken["one"] + taken["two"] == taken["others"] == taken["plain"] == 100
    assert min(taken["one"], taken["two"]) > 10
    taken.clear()
    mine = await source.subscribe("jobs", "group", cb=count("mine"))
    await source.flush()
    for _ in range(50):
        await source.publish("jobs", b"")
    await until(lambda: taken.total() >= 150)

    assert (taken["others"], taken["plain"], taken["one"] + taken["two"] + taken["mine"]) == (50, 50, 50)
    # streamd prefers the member beside the publisher; nats-server chooses among all.
    assert taken["mine"] == 50 or "streamd" not in source._server_info
    for subscription in (*subscriptions, mine):
        await subscription.unsubscribe()
    await source.flush()
    await known([source, other], [source, other])


async def test_it_dials_streamd(start: Start) -> None:
    async with member("ours") as ours, start(seed(ours)) as theirs:
        await until(lambda: names(ours) == ["theirs"])
        await exchange(ours, theirs)

        assert await theirs.remotes() == ["ours"]
        assert len(cluster_of(ours).routes) == 1


async def test_streamd_dials_it(start: Start) -> None:
    async with start() as theirs, member("ours", theirs.seed) as ours:
        await until(lambda: names(ours) == ["theirs"])
        await exchange(ours, theirs)

        assert await theirs.remotes() == ["ours"]
        (route,) = cluster_of(ours).routes.values()
        assert route.target is not None


async def test_both_dial_and_one_connection_stays(start: Start) -> None:
    port = free_port()
    for _ in range(3):
        async with start(f"nats-route://127.0.0.1:{port}") as theirs, member("ours", theirs.seed, port=port) as ours:
            told: list[bool] = []
            cluster_of(ours).watch(lambda _, came, told=told: told.append(came))  # type: ignore[misc]
            await until(lambda ours=ours: names(ours) == ["theirs"] and len(cluster_of(ours).routes) == 1)  # type: ignore[misc]
            await exchange(ours, theirs)

            assert await theirs.remotes() == ["ours"]
            assert told.count(False) <= 1


async def test_mesh_of_both_by_gossip(start: Start) -> None:
    """Each is told of the others by the one seed, and clients of all of them."""
    async with (
        start() as one,
        member("a", one.seed) as a,
        member("b", one.seed) as b,
        start(seed(a), name="two") as two,
    ):
        await until(lambda: names(a) == ["b", "theirs", "two"])
        await until(lambda: names(b) == ["a", "theirs", "two"])
        for theirs in (one, two):
            while sorted(set(await theirs.remotes())) != sorted({"a", "b", "theirs", "two"} - {theirs.name}):
                await asyncio.sleep(0.01)
        for ours in (a, b):
            for theirs in (one, two):
                await exchange(ours, theirs)
        client = await nats.connect(two.url)
        ports = sorted(server.netloc.rpartition(":")[2] for server in client.servers)

        assert ports == sorted(str(port) for port in (one.port, two.port, a.port, b.port))
        await client.close()


async def test_it_goes_and_returns(start: Start, tmp_path: Path) -> None:
    async with member("ours") as ours:
        for _ in range(2):
            async with start(seed(ours)) as theirs:
                await until(lambda: names(ours) == ["theirs"])
                await exchange(ours, theirs)
            await until(lambda: names(ours) == [])


async def test_refusals_in_each_others_words(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "streamd")
    async with member("ours") as ours, start(seed(ours), cluster="name: D") as theirs:
        text = 'Rejecting connection, cluster name "D" does not match "C"'
        await until(lambda: any(text in record.getMessage() for record in caplog.records))
        await until(lambda: theirs.logged("Cluster Name Conflict"))

        assert names(ours) == []
    access = 'name: C, authorization { user: u, password: "secret" }'
    async with start(cluster=access, name="locked") as theirs:
        async with member("ours", theirs.seed) as ours:
            await until(lambda: theirs.logged("authentication error"))

            assert names(ours) == []
        with_user = theirs.seed.replace("//", "//u:secret@")
        async with member("ours", with_user) as ours:
            await until(lambda: names(ours) == ["locked"])
            await exchange(ours, theirs)


async def test_made_up_names_agree(start: Start) -> None:
    async with member("ours", name="") as ours, start(seed(ours), cluster="connect_retries: 1") as theirs:
        await until(lambda: names(ours) == ["theirs"])
        await exchange(ours, theirs)

        assert (await theirs.page("/varz"))["cluster"]["name"] == cluster_of(ours).name
