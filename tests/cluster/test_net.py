"""Frames and calls between nodes: what arrives, what is told of links, and what becomes of calls that nobody answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

import nats
import pytest

from tests.cluster.members import ByHand, cluster_of, linked, member, meshed, names, seed, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from streamd import Server
    from streamd.cluster.net import SubjectNet
    from streamd.raft.net import Data, Net

pytestmark = pytest.mark.anyio

SECOND = 1_000_000_000


def net_of(server: Server) -> SubjectNet:
    net = cluster_of(server).net
    assert net is not None
    typed: Net = net  # the same shape as what Raft wants
    assert typed.node.startswith(f"{server.name}#")
    return net


@pytest.fixture
async def two(anyio_backend: str) -> AsyncIterator[tuple[SubjectNet, SubjectNet]]:
    async with member("a") as a, member("b", seed(a)) as b:
        await meshed(a, b)
        yield net_of(a), net_of(b)


async def asked(net: SubjectNet, to: str, what: str, payload: bytes, timeout_ns: int = 5 * SECOND) -> bytes | None:
    answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
    net.call(to, what, payload, answer.set_result, timeout_ns=timeout_ns)
    assert not answer.done()
    return await asyncio.wait_for(answer, 10)


def note(frame: Data, names: list[str]) -> None:
    """A frame that is the name of a node."""
    data = bytes(frame)
    if b"#" in data[:3] and len(data) < 20:
        names.append(data.decode())


async def test_frames_arrive_in_order(two: tuple[SubjectNet, SubjectNet]) -> None:
    one, other = two
    seen: list[bytes] = []
    other.on_frame(
        lambda frame: seen.append(bytes(frame)) if bytes(frame).isdigit() else None
    )  # the nodes' own go on beside
    frames = [b"%d" % number * (number % 100 + 1) for number in range(1000)]
    for frame in frames:
        one.send(other.node, frame)
    await until(lambda: len(seen) == len(frames))

    assert frames == seen
    one.send("gone#000000000000", b"x")


async def test_calls_are_answered_now_or_later(two: tuple[SubjectNet, SubjectNet]) -> None:
    one, other = two
    waiting: list[Callable[[bytes], None]] = []
    other.serve("upper", lambda caller, payload, answer: answer(payload.upper() + caller.encode()))
    other.serve("later", lambda _caller, _payload, answer: waiting.append(answer))

    assert await asked(one, other.node, "upper", b"word") == b"WORD" + one.node.encode()
    assert await asked(other, other.node, "upper", b"self") == b"SELF" + other.node.encode()
    later = asyncio.ensure_future(asked(one, other.node, "later", b""))
    await until(lambda: waiting)
    waiting[0](b"")
    waiting[0](b"twice")
    assert await later == b""


async def test_big_calls_fit(two: tuple[SubjectNet, SubjectNet]) -> None:
    """Larger than what clients may publish: pieces of a store."""
    one, other = two
    other.serve("echo", lambda _, payload, answer: answer(payload))
    payload = bytes(range(256)) * (8 << 12)

    assert len(payload) == 8 << 20
    assert await asked(one, other.node, "echo", payload) == payload


async def test_calls_without_an_answer_end(two: tuple[SubjectNet, SubjectNet]) -> None:
    one, other = two
    other.serve("silence", lambda _caller, _payload, _answer: None)

    assert await asked(one, other.node, "silence", b"", 50_000_000) is None
    assert await asked(one, other.node, "unknown", b"", 50_000_000) is None
    # Nobody is there: there is nothing to wait for.
    assert await asked(one, "gone#000000000000", "any", b"", 3600 * SECOND) is None


async def test_answers_to_a_process_that_ended_are_none_to_the_next(tmp_path: Path) -> None:
    """It is the same node and counts its calls anew: what was asked before must not answer what is asked now."""
    async with member("b") as b:
        waiting: list[Callable[[bytes], None]] = []
        there = net_of(b)
        there.serve("late", lambda _caller, _payload, answer: waiting.append(answer))
        there.serve("silence", lambda _caller, _payload, _answer: None)
        there.serve("echo", lambda _caller, payload, answer: answer(payload))
        async with member("a", seed(b), store=tmp_path) as a:
            await meshed(a, b)
            before = net_of(a).node
            for _ in range(20):
                net_of(a).call(there.node, "late", b"", lambda _answer: None, timeout_ns=3600 * SECOND)
            await until(lambda: len(waiting) == 20)
        async with member("a", seed(b), store=tmp_path) as a:
            await meshed(a, b)
            here, answers = net_of(a), list[bytes | None]()
            assert here.node == before
            for _ in range(50):
                here.call(there.node, "silence", b"", answers.append, timeout_ns=3600 * SECOND)
            for answer in waiting:
                answer(b"late")

            assert await asked(here, there.node, "echo", b"now") == b"now"
            assert answers == []


async def test_what_is_sent_once_a_link_is_up_arrives() -> None:
    """In both directions, from the first moment on; and its end ends the calls that wait."""
    async with member("a") as a:
        for _ in range(10):
            heard: list[str] = []
            told: list[tuple[str, bool]] = []
            here = net_of(a)
            here.on_frame(lambda frame, heard=heard: note(frame, heard))  # type: ignore[misc]

            def up(node: str, came: bool, here: SubjectNet = here, told: list[tuple[str, bool]] = told) -> None:
                told.append((node, came))
                if came:
                    here.send(node, here.node.encode())

            here.on_link(up)
            b = member("b", seed(a))
            await b.__aenter__()
            there = net_of(b)
            got: list[str] = []
            there.on_frame(lambda frame, got=got: note(frame, got))  # type: ignore[misc]
            there.serve("silence", lambda _caller, _payload, _answer: None)
            there.on_link(lambda node, came, there=there: came and there.send(node, there.node.encode()))  # type: ignore[misc]
            await until(lambda got=got, heard=heard: got and heard)  # type: ignore[misc]

            assert got == [here.node]
            assert heard == [there.node]
            call = asyncio.ensure_future(asked(here, there.node, "silence", b"", 3600 * SECOND))
            await until(lambda here=here: here._calls)  # type: ignore[misc]
            await b.__aexit__(None, None, None)
            assert await call is None
            assert told == [(there.node, True), (there.node, False)]
            here._link_handlers.clear()


async def test_lane_is_no_place_for_clients_and_bulk_is_none_for_nodes(two: tuple[SubjectNet, SubjectNet]) -> None:
    """Clients reach nothing of the system account; a connection that is full of their messages delays no frame."""
    one, other = two
    core = one._bus._core
    (url,) = {f"nats://127.0.0.1:{core.identity.port}"} if core.identity is not None else {""}
    client = await nats.connect(url)
    seen: list[bytes] = []
    other.on_frame(lambda frame: seen.append(bytes(frame)) if bytes(frame) in (b"forged", b"true") else None)
    await client.publish(f"$SD.RAFT.{other.node.partition('#')[2]}", b"forged")
    await client.flush()
    one.send(other.node, b"true")
    await until(lambda: seen)

    assert seen == [b"true"]
    lanes = [route for route in core._links.values() if getattr(route, "lane", None) is not None]
    assert sorted(core.engine.connection(route.conn)["out_msgs"] > 0 for route in lanes) == [False, True]
    await client.close()


async def test_broken_lane_is_told_at_once_and_comes_back() -> None:
    """Though the connection beside it stands."""
    async with member("a") as a, member("b", seed(a)) as b:
        await meshed(a, b)
        told: list[bool] = []
        net_of(a).on_link(lambda _, up: told.append(up))
        for count in range(1, 4):
            (lane,) = (route for route in cluster_of(b).routes.values() if route.lane)
            lane.transport.abort()
            await until(lambda count=count: told == [False, True] * count)  # type: ignore[misc]
            await until(lambda: linked(b) == ["a"])

        assert names(a) == ["b"]


async def process_of_node(hand: ByHand, server_id: str, *, lane: bool) -> None:
    """A connection of a streamd server whose node id is given. By its id the other one chooses what carries."""
    node = "hand#0123456789ab"
    hand.connect(name=server_id)
    hand.info(server_id=server_id, streamd="1", streamd_node=node, streamd_lane=lane)
    await hand.hear("INFO")
    if lane:
        hand.say("RS+ $SYS $SD.RAFT.0123456789ab")
        hand.say("RS+ $SYS $SD.CALL.0123456789ab.>")


@pytest.mark.parametrize("lane_first", [False, True])
async def test_next_process_of_a_node_takes_the_place_of_one_that_ended_unheard(
    lane_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever of its connections comes first: the node goes and comes, calls to the process before fail, and it stays."""
    caplog.set_level(logging.INFO, "streamd")
    async with member("a") as a, contextlib.AsyncExitStack() as stack:
        told: list[bool] = []
        net = net_of(a)
        net.on_link(lambda _, up: told.append(up))
        before = [await stack.enter_async_context(ByHand.dial(a)) for _ in range(2)]
        for hand, lane in zip(before, (False, True), strict=True):
            await process_of_node(hand, "ZBEFORE", lane=lane)
        await until(lambda: linked(a) == ["hand"])
        call = asyncio.ensure_future(asked(net, "hand#0123456789ab", "any", b"", 3600 * SECOND))
        after = [await stack.enter_async_context(ByHand.dial(a)) for _ in range(2)]
        for hand, lane in zip(after, (lane_first, not lane_first), strict=True):
            await process_of_node(hand, "ZAFTER", lane=lane)
        for hand in before:
            await hand.ended()
        await until(lambda: told == [True, False, True])

        assert await call is None
        assert list(cluster_of(a).peers) == ["ZAFTER"]
        assert sum(record.getMessage().endswith("closed: Server Restarted") for record in caplog.records) == 2
        net.send("hand#0123456789ab", b"frame")
        await after[not lane_first].hear("RMSG $SYS $SD.RAFT.0123456789ab ")


async def test_server_without_jetstream_is_no_node() -> None:
    from streamd import Server as Build
    from streamd.config.models import Config

    async with member("a") as a:
        cluster = {"name": "C", "host": "127.0.0.1", "port": -1, "routes": (seed(a),)}
        config = Config(host="127.0.0.1", port=-1, server_name="b", cluster=cluster)  # type: ignore[arg-type]
        async with Build(config) as b:
            await until(lambda: names(a) == ["b"] and names(b) == ["a"])
            (peer,) = cluster_of(a).peers.values()

            assert peer.node is None
            assert cluster_of(b).net is None
            assert linked(a) == []
