"""What waits for a consumer is counted once and exactly: beside commits, deliveries and deletes, and a piece at a time."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig

from streamd._engine import count_matching
from streamd.streams import counting, readable
from streamd.streams.counting import Counting
from tests.streams.held import Held

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js import JetStreamContext

    from streamd import Server

pytestmark = pytest.mark.anyio


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Three records are a piece and a turn (asked for before the server); the list grows by each turn."""
    turns: list[int] = []
    turn = Counting._turn

    def counted(self: Counting) -> None:
        turns.append(len(self._under_way))
        turn(self)

    monkeypatch.setattr(readable, "SCAN_RECORDS", 3)
    monkeypatch.setattr(counting, "RECORDS_A_TURN", 3)
    monkeypatch.setattr(Counting, "_turn", counted)
    return turns


async def fill(client: Client, js: JetStreamContext, count: int) -> None:
    for number in range(count - 1):
        await client.publish(f"s.{number % 3}", b"%d" % number)
    await js.publish(f"s.{(count - 1) % 3}", b"%d" % (count - 1))


def from_seq(sequence: int, name: str, filter_subject: str | None) -> ConsumerConfig:
    return ConsumerConfig(
        durable_name=name,
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=sequence,
        filter_subject=filter_subject,
        ack_policy=AckPolicy.NONE,
    )


@pytest.mark.parametrize("filter_subject", [None, "s.1"])
@pytest.mark.parametrize("start", [1, 4, 250, 302, 310])
async def test_what_is_being_committed_counts_once(
    client: Client, monkeypatch: pytest.MonkeyPatch, filter_subject: str | None, start: int
) -> None:
    js = client.jetstream()
    await js.add_stream(StreamConfig(name="S", subjects=["s.*"]))
    await fill(client, js, 300)
    held = Held(monkeypatch)
    for number in range(300, 309):
        await client.publish(f"s.{number % 3}", b"%d" % number)
    await held.one()
    made = asyncio.ensure_future(js.add_consumer("S", from_seq(start, "c", filter_subject)))
    await client.flush()
    held.let_go()
    await made

    expected = [number for number in range(309) if number + 1 >= start and (filter_subject is None or number % 3 == 1)]
    async with asyncio.timeout(10):
        while (await js.stream_info("S")).state.messages < 309:
            await asyncio.sleep(0)
    assert (await js.consumer_info("S", "c")).num_pending == len(expected)


async def test_many_are_counted_in_pieces(small_pieces: list[int], client: Client) -> None:
    """The answer tells the exact number, and the loop came round meanwhile."""
    js = client.jetstream()
    await js.add_stream(StreamConfig(name="S", subjects=["s.*"]))
    await fill(client, js, 300)

    made = await js.add_consumer("S", from_seq(151, "c", "s.1"))

    assert made.num_pending == 50
    assert len(small_pieces) >= 150 / 3 - 1
    assert (await js.consumer_info("S", "c")).num_pending == 50


async def test_what_comes_before_a_count_has_begun_counts_once(
    small_pieces: list[int], monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    """Its turn comes behind that of another one."""
    js = client.jetstream()
    await js.add_stream(StreamConfig(name="S", subjects=["s.*"]))
    await fill(client, js, 300)
    stopped: list[Counting] = []
    turn = Counting._turn
    monkeypatch.setattr(Counting, "_turn", lambda self: stopped.append(self))
    made = [asyncio.ensure_future(js.add_consumer("S", from_seq(151, name, "s.1"))) for name in ("c", "d")]
    await client.flush()
    async with asyncio.timeout(10):
        while not stopped or len(stopped[0]._under_way) < 2:
            await asyncio.sleep(0)
    await asyncio.gather(*[js.publish("s.1", b"more") for _ in range(30)])
    monkeypatch.setattr(Counting, "_turn", turn)
    turn(stopped[0])

    await asyncio.gather(*made)
    assert [(await js.consumer_info("S", name)).num_pending for name in ("c", "d")] == [80, 80]
    assert small_pieces


async def test_a_batch_of_direct_gets_is_of_one_moment(small_pieces: list[int], client: Client) -> None:
    """What is stored while it goes out isn't part of it, and what is left is never less than nothing."""
    js = client.jetstream()
    await js.add_stream(StreamConfig(name="S", subjects=["s.*"], allow_direct=True))
    await fill(client, js, 300)
    inbox = client.new_inbox()
    sub = await client.subscribe(inbox)

    await client.publish("$JS.API.DIRECT.GET.S", b'{"seq": 151, "next_by_subj": "s.1", "batch": 100}', reply=inbox)
    for number in range(30):
        await client.publish("s.1", b"late %d" % number)
    left: list[int] = []
    while not left or left[-1]:
        headers = (await sub.next_msg(timeout=5)).headers
        assert headers is not None
        left.append(int(headers["Nats-Num-Pending"]))
    end = await sub.next_msg(timeout=5)

    assert left == list(range(49, -1, -1))
    assert end.headers is not None
    assert (end.headers["Status"], end.headers["Nats-Num-Pending"]) == ("204", "0")


@pytest.mark.parametrize("seed", range(6))
async def test_in_the_end_what_waits_is_known(
    small_pieces: list[int], server: Server, client: Client, seed: int
) -> None:
    """Whatever is stored, delivered and deleted while it is counted."""
    rng = random.Random(seed)
    js = client.jetstream()
    await js.add_stream(StreamConfig(name="S", subjects=["s.*"]))
    await fill(client, js, 200)
    names = {"c1": ["s.1"], "c2": ["s.0", "s.2"]}
    for name, filters in names.items():
        config = from_seq(rng.randint(2, 200), name, None)
        config.filter_subjects = filters
        await js.add_consumer("S", config)
    subs = [await js.pull_subscribe_bind(name, "S") for name in names]

    async def act() -> None:
        state = (await js.stream_info("S")).state
        match rng.randrange(6):
            case 0:
                for _ in range(3):
                    await js.delete_msg("S", rng.randint(state.first_seq, state.last_seq))
            case 1:
                await js.purge_stream("S", subject=f"s.{rng.randrange(3)}", keep=rng.randint(20, 80))
            case 2:
                await js.purge_stream("S", seq=state.first_seq + rng.randrange(5))
            case 3:
                await asyncio.gather(*(js.publish(f"s.{rng.randrange(3)}", b"more") for _ in range(rng.randint(1, 40))))
            case 4:
                await rng.choice(subs).fetch(rng.randint(1, 10), timeout=0.05)
            case 5:
                await js.consumer_info("S", rng.choice(list(names)))

    for _ in range(25):
        await asyncio.gather(*(act() for _ in range(rng.randint(1, 8))), return_exceptions=True)
    assert server.jetstream is not None
    stream = server.jetstream.streams["S"]

    for name, filters in names.items():
        info = await js.consumer_info("S", name)
        live = [
            value
            for sequence in range(stream.consumers[name].state.next_seq, stream.committed_seq + 1)
            if (value := stream.get(sequence)) is not None
        ]
        assert info.num_pending == count_matching(live, filters)
    for sub in subs:
        while (await js.consumer_info("S", sub._consumer)).num_pending:
            await sub.fetch(100, timeout=5)
        with pytest.raises(NatsTimeout):
            await sub.fetch(1, timeout=0.05)
    assert len(small_pieces) > 100
