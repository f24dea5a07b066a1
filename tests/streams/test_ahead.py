"""While a commit is under way the next one is prepared: what fills a tap is numbered and encoded ahead."""

from __future__ import annotations

import asyncio
import errno
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.js.api import StreamConfig

from streamd import _engine
from streamd.store.environment import Environment
from streamd.streams.commits import Commits
from tests.streams.held import Held

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.aio.client import Client
    from nats.aio.subscription import Subscription

    from streamd import Server
    from streamd.streams.sources import Source
    from streamd.streams.stream import Stream

pytestmark = pytest.mark.anyio
#: Too long for the journal, so that the writer's thread commits it.
LONG = b"x" * 400_000
MANY = 500


class Acks:
    """What publishers are told, in that order."""

    def __init__(self, sub: Subscription) -> None:
        self._sub = sub

    @property
    def some(self) -> bool:
        return self._sub.pending_msgs > 0

    async def all(self) -> list[dict[str, Any]]:
        return [json.loads((await self._sub.next_msg(timeout=10)).data) for _ in range(MANY + 1)]


def _no_room(environment: Environment, txn: Any) -> int:
    raise OSError(errno.ENOSPC, "no space left on device")


async def _behind_one(
    server: Server,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    *,
    commit: Callable[[Environment, Any], int] = Environment.commit,
    **config: Any,
) -> tuple[Stream, Held, Acks]:
    """A stream, the commit of its first message over but not yet told, and many messages behind that."""
    await client.jetstream().add_stream(StreamConfig(name="S", subjects=["s"], **config))
    monkeypatch.setattr(Environment, "commit", commit)
    held, inbox = Held(monkeypatch), client.new_inbox()
    acks = Acks(await client.subscribe(inbox))
    await client.publish("s", LONG, reply=inbox)
    await held.one()
    for number in range(MANY):
        await client.publish("s", b"%04d" % number + b"y" * 1_000, reply=inbox)
    await client.flush()
    assert server.jetstream is not None
    return server.jetstream.streams["S"], held, acks


async def _published(client: Client, payload: bytes) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((await client.request("s", payload, timeout=10)).data)
    return told


async def test_numbered_ahead_and_acked_in_order(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is shown or acked before its commit, and the acks are those of the order of publishing."""
    stream, held, acks = await _behind_one(server, client, monkeypatch)

    assert stream.state.last_seq > 1
    assert stream.committed_seq == 0
    assert not acks.some

    held.let_go()
    assert [ack["seq"] for ack in await acks.all()] == list(range(1, MANY + 2))
    sub = await client.jetstream().pull_subscribe("s", "c")
    got = [msg.data[:4] for _ in range(2) for msg in await sub.fetch(1 + MANY // 2, timeout=5)]
    assert got == [LONG[:4], *(b"%04d" % number for number in range(MANY))]


async def test_a_limit_that_removes_the_oldest_waits(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not in the log yet can't be removed from it."""
    stream, held, acks = await _behind_one(server, client, monkeypatch, max_msgs=100)

    assert stream.state.last_seq == 1

    held.let_go()
    assert [ack["seq"] for ack in await acks.all()] == list(range(1, MANY + 2))
    assert (stream.state.first_seq, stream.state.messages) == (MANY - 98, 100)
    assert stream.offline is None


async def test_what_was_admitted_behind_a_failed_commit_fails_with_it(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every publisher is told, nothing stays in memory, and the next publish is the first."""
    commit = Environment.commit
    stream, held, acks = await _behind_one(server, client, monkeypatch, commit=_no_room)
    assert stream.state.last_seq > 1

    monkeypatch.setattr(Environment, "commit", commit)
    held.let_go()
    assert {ack["error"]["err_code"] for ack in await acks.all()} == {10047}
    assert (stream.state.messages, stream.state.last_seq, stream.offline) == (0, 0, None)
    async with asyncio.timeout(10):
        # For a moment it isn't even tried.
        while (await _published(client, b"again")).get("seq") != 1:
            pass


async def test_changes_come_through_a_flood(server: Server, client: Client) -> None:
    """A purge needs a moment in which nothing is admitted; publishers that never pause leave it one."""
    js = client.jetstream(publish_async_max_pending=100_000)
    await js.add_stream(StreamConfig(name="S", subjects=["s"]))
    over = asyncio.Event()

    async def flood() -> None:
        while not over.is_set():
            acks = [await js.publish_async("s", b"y" * 1_000) for _ in range(1_000)]
            await asyncio.wait(acks, return_when=asyncio.FIRST_COMPLETED)

    floods = [asyncio.ensure_future(flood()) for _ in range(2)]
    async with asyncio.timeout(20):
        for _ in range(5):
            await js.purge_stream("S")
    over.set()
    await asyncio.gather(*floods)
    async with asyncio.timeout(20):
        await js.publish_async_completed()


@settings(deadline=None, max_examples=200)
@given(
    limits=st.fixed_dictionaries(
        {"max_msgs": st.integers(-1, 12), "max_bytes": st.integers(-1, 900), "max_msgs_per_subject": st.integers(-1, 3)}
    ),
    batches=st.lists(
        st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 90)), min_size=1, max_size=6), max_size=6
    ),
)
def test_what_fits_removes_nothing_by_the_stream_s_limits(
    limits: dict[str, Any], batches: list[list[tuple[str, int]]]
) -> None:
    """Compared with what admitting it comes to."""
    engine = _engine.Engine()
    tap = engine.tap("A")
    engine.tap_add(tap, ">")
    state = _engine.StreamState("S", **limits)
    for messages in batches:
        for subject, size in messages:
            engine.publish("A", subject, b"x" * size)
        batch = engine.take(tap)
        assert batch is not None
        if not state.fits(batch):
            continue
        assert not state.admit(batch, 1_000).over


async def test_what_goes_wrong_ahead_costs_no_client_its_connection(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, and what waited is admitted when its turn comes."""

    def broken(commits: Commits, source: Source) -> None:
        raise RuntimeError

    monkeypatch.setattr(Commits, "filling", broken)
    _stream, held, acks = await _behind_one(server, client, monkeypatch)
    held.let_go()

    assert [ack["seq"] for ack in await acks.all()] == list(range(1, MANY + 2))
    assert client.stats["reconnects"] == 0
