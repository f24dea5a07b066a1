"""While a commit is under way the machine is ahead of the log: readers see neither damage nor what is going."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import nats
import pytest
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig

from tests.streams.held import Held

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js import JetStreamContext

    from streamd import Server
    from streamd.store import Work

pytestmark = pytest.mark.anyio
ROLLUP = {"Nats-Rollup": "all"}


async def publish(js: JetStreamContext) -> None:
    await js.publish("s.1", b"new")


async def roll_up(js: JetStreamContext) -> None:
    await js.publish("s.1", b"new", headers=ROLLUP)


async def delete(js: JetStreamContext) -> None:
    await js.delete_msg("S", 2)


async def purge(js: JetStreamContext) -> None:
    await js.purge_stream("S", subject="s.1")


@pytest.mark.parametrize(
    ("config", "action", "left"),
    [
        ({"max_msgs_per_subject": 1}, publish, [b"0", b"2", b"3", b"4"]),
        ({"max_msgs": 3}, publish, [b"3", b"4"]),
        ({"allow_rollup_hdrs": True}, roll_up, []),
        ({}, delete, [b"0", b"2", b"3", b"4"]),
        ({}, purge, [b"0", b"2", b"3", b"4"]),
    ],
    ids=["limit per subject", "limit", "rollup", "delete", "purge"],
)
async def test_reading_while_messages_leave(
    server: Server,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    config: dict[str, Any],
    action: Any,
    left: list[bytes],
) -> None:
    """A consumer that reads during the commit gets what stays, and the stream stays online."""
    js = client.jetstream()
    await js.add_stream(StreamConfig(name="S", subjects=["s.*"], **config))
    for number in range(5):
        await js.publish(f"s.{number}", b"%d" % number)
    sub = await js.pull_subscribe("s.*", "c", config=ConsumerConfig(ack_policy=AckPolicy.NONE))
    held = Held(monkeypatch)
    going = asyncio.ensure_future(action(js))
    await held.one()
    got: list[bytes] = []
    try:
        while len(got) < len(left):
            got += [msg.data for msg in await sub.fetch(5, timeout=0.3)]
    except NatsTimeout:
        pass
    held.let_go()
    await going
    assert server.jetstream is not None

    assert got == left
    assert server.jetstream.streams["S"].offline is None
    other = await nats.connect(server.client_url)
    again = await other.jetstream().pull_subscribe("s.*", "after")
    state = (await js.stream_info("S")).state
    assert len(await again.fetch(state.messages, timeout=2)) == state.messages
    await other.close()


async def test_what_runs_at_rest_has_its_turn(server: Server) -> None:
    """Also while replicas have something for the next commit whenever one ends."""
    assert server.jetstream is not None
    commits = server.jetstream.services.commits
    rounds = ran = 0

    def apply() -> None:
        nonlocal rounds
        if commits.crowded:
            commits.hurry(apply)
        elif not ran and rounds < 1_000:
            rounds += 1
            commits.open()
            commits.after_open(lambda _outcome: apply())
            commits.hurry(lambda: None)

    def job(_work: Work) -> None:
        nonlocal ran
        ran = rounds

    apply()
    commits.at_rest(job)
    async with asyncio.timeout(10):
        while not ran:
            await asyncio.sleep(0)
    assert ran < 10
