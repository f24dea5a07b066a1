"""Unmodified nats-py over core NATS: what a client may rely on, and what it is told when something goes wrong."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import nats
import pytest
from nats.aio.client import Client
from nats.errors import BadSubscriptionError, ConnectionClosedError, MaxPayloadError, NoRespondersError, NoServersError

from streamd import Server
from streamd.config.models import AuthorizationConfig, Config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nats.aio.msg import Msg

    from tests.process import ServerProcess

pytestmark = pytest.mark.anyio


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait for something that will come."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def collector() -> tuple[list[Msg], Any]:
    """A list, and a callback that fills it."""
    seen: list[Msg] = []

    async def record(msg: Msg) -> None:
        seen.append(msg)

    return seen, record


async def test_who_is_heard(server: Server, client: Client) -> None:
    """Members of queue groups and services count like anybody else."""
    bus = server.core.bus
    assert not bus.heard("h.x")
    sub = await client.subscribe("h.*", queue="q")
    await until(lambda: bus.heard("h.x"))
    assert not bus.heard("h.x", account="$SYS")
    await sub.unsubscribe()
    await until(lambda: not bus.heard("h.x"))
    binding = bus.bind(["h.>"], lambda _batch: None)
    assert bus.heard("h.x")
    binding.close()
    assert not bus.heard("h.x")


async def test_wildcards(client: Client) -> None:
    """`*` stands for one token, `>` for the rest; each subscription gets its own copy."""
    found: dict[str, list[Msg]] = {}
    for pattern in ("a.b", "a.*", "*.b", "a.>", ">", "a.*.c", "b.>"):
        found[pattern], record = collector()
        await client.subscribe(pattern, cb=record)
    for subject in ("a.b", "a", "a.b.c"):
        await client.publish(subject, subject.encode())
    await client.flush()
    await until(lambda: len(found[">"]) == 3)

    assert {pattern: [msg.subject for msg in msgs] for pattern, msgs in found.items()} == {
        "a.b": ["a.b"],
        "a.*": ["a.b"],
        "*.b": ["a.b"],
        "a.>": ["a.b", "a.b.c"],
        ">": ["a.b", "a", "a.b.c"],
        "a.*.c": ["a.b.c"],
        "b.>": [],
    }


async def test_queue_groups_share(server: Server, client: Client) -> None:
    """Each group gets every message once, spread over its members, beside plain subscribers."""
    plain, record = collector()
    await client.subscribe("work", cb=record)
    members: dict[str, list[Msg]] = {}
    others = [await nats.connect(server.client_url) for _ in range(4)]
    for number, other in enumerate(others):
        for group in ("one", "two"):
            members[f"{group}{number}"], record = collector()
            await other.subscribe("work", group, cb=record)
        await other.flush()
    for number in range(400):
        await client.publish("work", b"%d" % number)
    await client.flush()
    for group in ("one", "two"):
        mine = [members[f"{group}{n}"] for n in range(4)]
        async with asyncio.timeout(10):
            while sum(map(len, mine)) < 400:
                await asyncio.sleep(0.005)
        everything = [int(msg.data) for n in range(4) for msg in members[f"{group}{n}"]]
        assert sorted(everything) == list(range(400))
        # A fair choice of 400 among four leaves nobody with less than 40 once in 10^15 runs.
        assert min(len(members[f"{group}{n}"]) for n in range(4)) > 40
    await until(lambda: len(plain) == 400)
    for other in others:
        await other.close()


async def test_request_reply(server: Server, client: Client) -> None:
    """Many requests at once, each gets its own answer; the old style with an inbox each, too."""
    other = await nats.connect(server.client_url)

    async def answer(msg: Msg) -> None:
        await msg.respond(msg.data * 2)

    await other.subscribe("double", cb=answer)
    await other.flush()
    replies = await asyncio.gather(*(client.request("double", b"%d" % n, timeout=5) for n in range(100)))
    old = await client.request("double", b"x", timeout=5, old_style=True)
    with pytest.raises(NoRespondersError):
        await client.request("nobody", b"", timeout=5)
    with pytest.raises(NoRespondersError):
        await client.request("nobody", b"", timeout=5, old_style=True)
    await other.close()

    assert [reply.data for reply in replies] == [b"%d" % n * 2 for n in range(100)]
    assert old.data == b"xx"


async def test_headers(client: Client) -> None:
    """Headers arrive as they were sent."""
    seen, record = collector()
    await client.subscribe("h", cb=record)
    sent = {"Key": "value", "key": "other case", "Long": "x" * 3000, "Unicode": "äöü"}
    await client.publish("h", b"body", headers=sent)
    await client.publish("h", b"", headers={"Only": "headers"})
    await client.publish("h", b"none")
    await client.flush()
    await until(lambda: len(seen) == 3)

    assert [(msg.headers, msg.data) for msg in seen] == [(sent, b"body"), ({"Only": "headers"}, b""), (None, b"none")]


async def test_unsubscribe(client: Client) -> None:
    """At once, and after a number of messages."""
    limited, record = collector()
    sub = await client.subscribe("u", cb=record)
    await sub.unsubscribe(limit=3)
    gone, record = collector()
    other = await client.subscribe("u", cb=record)
    await other.unsubscribe()
    last, record = collector()
    await client.subscribe("u", cb=record)
    for _ in range(5):
        await client.publish("u", b"")
    await client.flush()
    await until(lambda: len(last) == 5)
    with pytest.raises(BadSubscriptionError):
        await other.unsubscribe()

    assert (len(limited), len(gone)) == (3, 0)


async def test_max_payload_and_order(client: Client) -> None:
    """The largest message passes, a larger one is refused by the client; order is kept."""
    seen, record = collector()
    await client.subscribe("big", cb=record)
    largest = bytes(client.max_payload)
    await client.publish("big", largest)
    for number in range(1000):
        await client.publish("big", b"%d" % number)
    with pytest.raises(MaxPayloadError):
        await client.publish("big", largest + b"x")
    await client.flush()
    await until(lambda: len(seen) == 1001)

    assert client.max_payload == 1 << 20
    assert seen[0].data == largest
    assert [int(msg.data) for msg in seen[1:]] == list(range(1000))


async def test_no_echo(server: Server) -> None:
    """A client that wants no echo gets only what others send."""
    silent = await nats.connect(server.client_url, no_echo=True)
    seen, record = collector()
    await silent.subscribe("e", cb=record)
    await silent.publish("e", b"own")
    await silent.flush()
    other = await nats.connect(server.client_url)
    await other.publish("e", b"other")
    await other.flush()
    await until(lambda: seen)
    await silent.close()
    await other.close()

    assert [msg.data for msg in seen] == [b"other"]


async def test_drain_of_a_subscription_and_a_connection(server: Server, client: Client) -> None:
    """What was sent before is handled, what comes later isn't; then the connection is closed."""
    other = await nats.connect(server.client_url)
    seen: list[bytes] = []

    async def slowly(msg: Msg) -> None:
        await asyncio.sleep(0.001)
        seen.append(msg.data)

    sub = await other.subscribe("one", cb=slowly)
    await other.subscribe("two", cb=slowly)
    await other.flush()
    for number in range(50):
        await client.publish("one", b"%d" % number)
        await client.publish("two", b"%d" % number)
    await client.flush()
    await sub.drain()  # type: ignore[no-untyped-call]
    await client.publish("one", b"late")
    await client.flush()
    await other.drain()
    with pytest.raises(ConnectionClosedError):
        await other.publish("x", b"")

    assert sorted(map(int, seen)) == sorted([*range(50), *range(50)])
    assert other.is_closed


async def test_reconnect_after_a_kill(process: ServerProcess) -> None:
    """kill -9 and a new start on the same port: the client comes back with its subscriptions and what it buffered."""
    events: list[str] = []

    async def gone() -> None:
        events.append("disconnected")

    async def back() -> None:
        events.append("reconnected")

    async def ignore(_error: Exception) -> None:
        pass

    client = await nats.connect(
        process.url,
        reconnect_time_wait=0.05,
        max_reconnect_attempts=-1,
        disconnected_cb=gone,
        reconnected_cb=back,
        error_cb=ignore,
    )
    seen, record = collector()
    await client.subscribe("r.*", cb=record)
    await client.subscribe("r.*", "group", cb=record)
    await client.publish("r.1", b"before")
    await client.flush()
    await until(lambda: len(seen) == 2)
    process.kill()
    await until(lambda: "disconnected" in events)
    await client.publish("r.1", b"meanwhile")
    process.start()
    await until(lambda: "reconnected" in events)
    await client.publish("r.1", b"after")
    await until(lambda: len(seen) == 6)
    await client.close()

    assert [msg.data for msg in seen] == [b"before"] * 2 + [b"meanwhile"] * 2 + [b"after"] * 2


CREDENTIALS: list[tuple[AuthorizationConfig, dict[str, Any], list[dict[str, Any]]]] = [
    (
        AuthorizationConfig(user="me", password="secret"),
        {"user": "me", "password": "secret"},
        [{}, {"user": "me", "password": "wrong"}, {"user": "you", "password": "secret"}, {"token": "secret"}],
    ),
    (
        AuthorizationConfig(token="t0ken"),
        {"token": "t0ken"},
        [{}, {"token": "t"}, {"user": "t0ken", "password": "t0ken"}],
    ),
]


@pytest.mark.parametrize(("authorization", "right", "wrong"), CREDENTIALS, ids=["user", "token"])
async def test_authorization(
    anyio_backend: str,
    tmp_path: Path,
    authorization: AuthorizationConfig,
    right: dict[str, Any],
    wrong: list[dict[str, Any]],
) -> None:
    """The right credentials get in, all others are told why not."""
    errors: list[str] = []

    async def note(error: Exception) -> None:
        errors.append(str(error))

    async with Server(Config(host="127.0.0.1", port=-1, authorization=authorization)) as server:
        client = await nats.connect(server.client_url, **right)
        await client.flush()
        for credentials in wrong:
            errors.clear()
            refused = Client()
            with pytest.raises((NoServersError, nats.errors.Error)):
                await refused.connect(server.client_url, allow_reconnect=False, error_cb=note, **credentials)
            # nats-py leaves the socket of a refused connection to the garbage collector.
            assert refused._transport is not None
            refused._transport.close()  # type: ignore[no-untyped-call]
            await refused._transport.wait_closed()  # type: ignore[no-untyped-call]
            assert any("uthorization" in error for error in errors)
        assert client.is_connected
        await client.close()
