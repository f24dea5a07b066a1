"""Publishes to replicated streams: from any server, with what headers ask for, and through changes of leaders."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import nats
import pytest
from nats.js.api import StreamConfig
from nats.js.errors import APIError, BadRequestError, ServiceUnavailableError

from streamd.raft.errors import Overloaded
from streamd.streams import commits
from tests.replication.nodes import more_than, publishing, until
from tests.replication.test_streams import api

if TYPE_CHECKING:
    from tests.replication.nodes import Nodes

pytestmark = pytest.mark.anyio


async def test_from_any_server(shared: Nodes) -> None:
    """One by one, many at once, with headers, from servers with and without a replica."""
    js = await shared.js("a")
    await js.add_stream(name="PUBS", subjects=["pubs.>"], num_replicas=3)
    await js.add_stream(name="SOLO", subjects=["solo.>"])
    for name in "abc":
        mine = await shared.js(name)
        for subject in ("pubs", "solo"):
            assert (await mine.publish(f"{subject}.{name}", b"one", headers={"From": name})).seq > 0
            acks = await asyncio.gather(*[mine.publish(f"{subject}.{name}", b"%d" % number) for number in range(200)])
            assert sorted(ack.seq for ack in acks) == [ack.seq for ack in acks]
            futures = [await mine.publish_async(f"{subject}.{name}", b"later") for _ in range(50)]
            assert len({(await future).seq for future in futures}) == 50
    found = await js.get_last_msg("PUBS", "pubs.c")
    assert (found.seq, found.data) == (3 * 251, b"later")
    assert ((await js.get_msg("PUBS", 1)).headers or {}) == {"From": "a"}
    assert (await shared.alike())["PUBS"] == 3 * 251
    assert (await js.stream_info("SOLO")).state.messages == 3 * 251


async def test_expectations(shared: Nodes) -> None:
    """Checked by whoever leads, against what is committed."""
    js = await shared.js("a")
    await js.add_stream(name="EXPECT", subjects=["expect.*"], num_replicas=3)
    assert (await js.publish("expect.a", headers={"Nats-Msg-Id": "1"})).seq == 1
    expected: list[tuple[dict[str, str], int]] = [
        ({"Nats-Expected-Last-Sequence": "5"}, 10071),
        ({"Nats-Expected-Last-Subject-Sequence": "5"}, 10071),
        ({"Nats-Expected-Last-Msg-Id": "5"}, 10070),
        ({"Nats-Expected-Stream": "OTHER"}, 10060),
    ]
    for name in "abc":
        mine = await shared.js(name)
        for headers, code in expected:
            with pytest.raises(APIError) as refused:
                await mine.publish("expect.a", headers=headers)
            assert refused.value.err_code == code
        assert (await mine.publish("expect.a", headers={"Nats-Msg-Id": "1"})).duplicate
    assert (await js.publish("expect.a", headers={"Nats-Expected-Last-Sequence": "1"})).seq == 2
    assert (await js.publish("expect.b", headers={"Nats-Expected-Last-Subject-Sequence": "0"})).seq == 3
    # Many that expect the same: one of them is right.
    clients = [await shared.js(name) for name in "abc"]
    headers = {"Nats-Expected-Last-Subject-Sequence": "3"}
    answers = await asyncio.gather(
        *[mine.publish("expect.b", headers=headers) for mine in clients for _ in range(5)], return_exceptions=True
    )
    assert sum(not isinstance(answer, Exception) for answer in answers) == 1
    assert (await shared.alike())["EXPECT"] == 4


async def test_limits_hold_among_entries_that_are_stored_together(
    shared: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an entry pushes out may have come with one of the same commit, on every replica; and after restarts."""
    monkeypatch.setattr(commits, "RIPE_NS", 50_000_000)
    monkeypatch.setattr(commits, "LINGER_NS", 60_000_000)
    limits: dict[str, dict[str, Any]] = {
        "last": {"max_msgs_per_subject": 1},
        "few": {"max_msgs": 3},
        "small": {"max_bytes": 400},
        "rolled": {"allow_rollup_hdrs": True},
        "ids": {"duplicate_window": 120},
    }
    js = await shared.js("a")
    for name, fields in limits.items():
        await js.add_stream(name=name, subjects=[f"{name}.*"], num_replicas=3, **fields)

    for number in range(60):
        for name in limits:
            headers = {"Nats-Msg-Id": str(number // 2)} if name == "ids" else None
            if name == "rolled" and number % 10 == 9:
                headers = {"Nats-Rollup": "sub"}
            await js.publish(f"{name}.{number % 4}", b"%d" % number, headers=headers)
    counts = await shared.alike()
    assert {name: counts[name] for name in ("last", "few", "ids")} == {"last": 4, "few": 3, "ids": 30}
    assert (await js.stream_info("few")).state.first_seq == 58
    assert counts["small"] < 20
    assert counts["rolled"] < 40
    for name in "abc":
        await shared.stop(name)
        await shared.start(name)
        assert await shared.alike() == counts


async def test_ids_are_known_to_the_next_leader(shared: Nodes) -> None:
    js = await shared.js("a")
    client = await shared.client("b")
    await js.add_stream(name="IDS", subjects=["ids"], num_replicas=3)
    for number in range(100):
        await js.publish("ids", b"x", headers={"Nats-Msg-Id": str(number)})
    for _ in range(3):
        await shared.step_down(client, "IDS")
        for number in (0, 50, 99):
            ack = await js.publish("ids", b"again", headers={"Nats-Msg-Id": str(number)})
            assert (ack.duplicate, ack.seq) == (True, number + 1)
    assert (await shared.alike())["IDS"] == 100


async def test_stepdowns_while_publishing(shared: Nodes) -> None:
    """Publishers wait a moment; nothing is lost, nothing comes twice, nobody gets an error."""
    js = await shared.js("a")
    client = await shared.client("c")
    await js.add_stream(name="STEPS", subjects=["steps.*"], num_replicas=3)
    # One at a time without ids, and without second tries: whatever is stored twice or lost shows.
    done = asyncio.Event()

    acked = dict.fromkeys("abc", 0)

    async def one_by_one(name: str) -> None:
        mine = await shared.js(name)
        while not done.is_set():
            await mine.publish(f"steps.{name}", b"%d" % acked[name], timeout=4)
            acked[name] += 1

    tasks = [asyncio.create_task(one_by_one(name)) for name in "abc"]
    for _ in range(6):
        count = sum(acked.values())
        await until(more_than(count + 10, lambda: sum(acked.values())))
        await shared.step_down(client, "STEPS")
    done.set()
    await asyncio.gather(*tasks)
    counts = await shared.alike()
    assert counts["STEPS"] == sum(acked.values())
    for name, count in acked.items():
        sub = await js.subscribe(f"steps.{name}", ordered_consumer=True)
        assert [int((await sub.next_msg(5)).data) for _ in range(count)] == list(range(count))
        await sub.unsubscribe()


async def test_moves_while_publishing(shared: Nodes) -> None:
    """Publishers wait, or are told to try again; nothing is lost, and nothing comes twice."""
    js = await shared.js("a")
    await js.add_stream(name="MOVES", subjects=["moves.*"], num_replicas=3)
    done = asyncio.Event()
    acked = dict.fromkeys("abc", 0)

    async def many(name: str) -> None:
        mine = await shared.js(name)

        async def one(number: int) -> None:
            while True:
                try:
                    await mine.publish(f"moves.{name}", b"%d" % number, timeout=10)
                except ServiceUnavailableError:
                    continue
                acked[name] += 1
                return

        while not done.is_set():
            await asyncio.gather(*[one(number) for number in range(20)])

    tasks = [asyncio.create_task(many(name)) for name in "abc"]
    for replicas in (1, 3, 1, 3):
        count = sum(acked.values())
        await until(more_than(count + 100, lambda: sum(acked.values())))
        await js.update_stream(name="MOVES", subjects=["moves.*"], num_replicas=replicas)
        await until(lambda: not shared.any.meta.state.streams["MOVES"].moving)
    done.set()
    await asyncio.gather(*tasks)
    assert (await shared.alike())["MOVES"] == sum(acked.values())


LIMITS: list[tuple[str, dict[str, Any], int]] = [
    ("MSGS", {"max_msgs": 10}, 10),
    ("BYTES", {"max_bytes": 1000}, 7),
    ("SUBJECT", {"max_msgs_per_subject": 2}, 6),
]


@pytest.mark.parametrize(("name", "limits", "left"), LIMITS)
async def test_limits(shared: Nodes, name: str, limits: dict[str, Any], left: int) -> None:
    js = await shared.js("b")
    subject = name.lower()
    await js.add_stream(StreamConfig(name=name, subjects=[f"{subject}.*"], num_replicas=3, **limits))
    for number in range(60):
        await js.publish(f"{subject}.{number % 3}", b"x" * 100)
    assert (await shared.alike())[name] == left
    assert (await js.stream_info(name)).state.last_seq == 60
    # A lower limit counts at once.
    await js.update_stream(
        StreamConfig(name=name, subjects=[f"{subject}.*"], num_replicas=3, **limits, max_consumers=3)
    )
    lower = {key: max(1, value // 2) for key, value in limits.items()}
    await js.update_stream(StreamConfig(name=name, subjects=[f"{subject}.*"], num_replicas=3, **lower))
    assert (await shared.alike())[name] < left


async def test_age(shared: Nodes) -> None:
    """What is too old goes everywhere, by one entry of the log."""
    js = await shared.js("a")
    await js.add_stream(StreamConfig(name="AGE", subjects=["age"], num_replicas=3, max_age=0.5, duplicate_window=0.5))
    for number in range(20):
        await js.publish("age", b"x", headers={"Nats-Msg-Id": str(number)})
    async with asyncio.timeout(5):
        while (await js.stream_info("AGE")).state.messages:
            await asyncio.sleep(0.05)
    assert (await js.stream_info("AGE")).state.first_seq == 21
    assert not (await js.publish("age", b"x", headers={"Nats-Msg-Id": "3"})).duplicate
    await shared.alike()


async def test_discard_new(shared: Nodes) -> None:
    js = await shared.js("c")
    await js.add_stream(
        StreamConfig(name="FULL", subjects=["full.*"], num_replicas=3, max_msgs=3, discard="new")  # type: ignore[arg-type]
    )
    clients = [await shared.js(name) for name in "abc"]
    answers = await asyncio.gather(*[each.publish("full.a") for each in clients * 4], return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, APIError)]
    assert len(refused) == 9
    assert {(each.code, each.err_code, each.description) for each in refused} == {
        (503, 10077, "maximum messages exceeded")
    }
    assert (await shared.alike())["FULL"] == 3


async def test_rollup(shared: Nodes) -> None:
    """What a rollup takes away goes everywhere, also when the leader changes right behind it."""
    js = await shared.js("a")
    client = await shared.client("a")
    config = StreamConfig(name="ROLL", subjects=["roll.>"], num_replicas=3, allow_rollup_hdrs=True)
    await js.add_stream(config)
    for number in range(30):
        await js.publish(f"roll.{number % 3}", b"%d" % number)
    await js.publish("roll.1", b"all", headers={"Nats-Rollup": "sub"})
    await api(client, "STREAM.LEADER.STEPDOWN.ROLL")
    await shared.led("ROLL")
    assert (await shared.alike())["ROLL"] == 21
    assert (await js.stream_info("ROLL", subjects_filter=">")).state.subjects == {
        "roll.0": 10,
        "roll.1": 1,
        "roll.2": 10,
    }
    await js.publish("roll.x", b"everything", headers={"Nats-Rollup": "all"})
    assert (await shared.alike())["ROLL"] == 1


async def test_purge_and_delete(shared: Nodes) -> None:
    js = await shared.js("a")
    await js.add_stream(name="PURGE", subjects=["purge.*"], num_replicas=3)
    for number in range(60):
        await js.publish(f"purge.{number % 3}", b"%d" % number)
    client = await shared.client("b")
    assert await js.delete_msg("PURGE", 30)
    assert (await api(client, "STREAM.MSG.DELETE.PURGE", seq=31, no_erase=True))["success"] is True
    with pytest.raises(BadRequestError):
        await js.delete_msg("PURGE", 30)
    assert (await api(client, "STREAM.PURGE.PURGE", filter="purge.0", keep=5))["purged"] == 14
    assert (await api(client, "STREAM.PURGE.PURGE", seq=20))["purged"] == 12
    counts = await shared.alike()
    assert counts["PURGE"] == 60 - 2 - 14 - 12
    info = await js.stream_info("PURGE")
    assert (info.state.first_seq, info.state.last_seq) == (20, 60)
    assert await js.purge_stream("PURGE")
    assert (await shared.alike())["PURGE"] == 0
    assert (await js.publish("purge.1")).seq == 61


async def test_an_id_through_failovers(trio: Nodes) -> None:
    """A publisher that tries again after every error stores each message once, while every server restarts in turn."""
    js = await trio.js("a")
    await js.add_stream(name="ONCE", subjects=["once"], num_replicas=3)
    acked: list[int] = []
    options: Any = {"servers": [server.client_url for server in trio.servers.values()], "reconnect_time_wait": 0.01}
    client = await nats.connect(**options, max_reconnect_attempts=-1)
    async with publishing(client.jetstream(), "once", acked):
        for name in "abc":
            await trio.stop(name)
            count = len(acked)
            async with asyncio.timeout(10):
                while len(acked) < count + 10:
                    await asyncio.sleep(0.01)
            await trio.start(name)
    await client.close()
    assert acked == list(range(len(acked)))
    counts = await trio.alike()
    assert len(acked) <= counts["ONCE"] <= len(acked) + 1
    stored = [trio.held("a", "ONCE").get(number) or b"" for number in range(1, len(acked) + 1)]
    assert [int(value[-len(str(number)) :]) for number, value in enumerate(stored)] == acked


async def test_who_can_not_be_proposed_is_told(shared: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publish that is too much for what waits already is refused, and the next one is taken."""
    js = await shared.js("a")
    await js.add_stream(name="MUCH", subjects=["much"], num_replicas=3)
    leader = await shared.led("MUCH")
    group = shared.replication(leader).replicas[shared.any.meta.state.streams["MUCH"].group].group

    def full(*_pieces: bytes) -> int:
        raise Overloaded(group.name, 1)

    with monkeypatch.context() as patch:
        patch.setattr(group, "propose_whole", full)
        with pytest.raises(ServiceUnavailableError):
            await js.publish("much", b"refused")
    assert (await js.publish("much", b"taken")).seq == 1
