"""Pull requests through changes of leader: who waits is told once, and who asks again is never told that nobody answers."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.replication.nodes import until
from tests.replication.test_answering import answered, consumer, everywhere
from tests.replication.world import INBOX, World

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from tests.replication.nodes import Nodes

CHANGED = {"status": "NATS/1.0 409 Leadership Change"}
NEXT = b'{"batch": 1, "expires": 60000000000}'
PAYLOAD = {"number": 7}


def filled(world: World) -> None:
    world.until(world.formed)
    world.create("S")
    world.ask("$JS.API.CONSUMER.CREATE.S.worker", consumer("S", "worker"))
    everywhere(world, "CONSUMER.MSG.NEXT.S.worker", NEXT, "pull")
    world.run(2)
    assert not answered(world)["pull"]


def publish(world: World) -> None:
    leader = world.leader("S")
    assert leader is not None
    leader.request("S.x", PAYLOAD, f"{INBOX}.stored")
    world.run(2)
    assert answered(world)["stored"][0]["seq"]


@pytest.mark.parametrize("seed", range(3))
def test_a_leader_that_dies(seed: int) -> None:
    """The next one tells who waited; who asks while there is none is served by it."""
    with World(seed) as world:
        filled(world)
        leader = world.leader("S")
        assert leader is not None
        leader.answers.clear()
        leader.kill()
        group = world.running[0].replication.meta.state.streams["S"].group
        asked: set[str] = set()
        while not world.leader("S"):
            world.run(0.001)
            for server in world.running:
                if server.replication.replicas[group].lead.leaderless_ns and server.name not in asked:
                    asked.add(server.name)
                    server.request("$JS.API.CONSUMER.MSG.NEXT.S.worker", NEXT, f"{INBOX}.again")
        assert asked
        world.run(1)
        assert answered(world)["pull"] == [CHANGED]
        publish(world)
        assert answered(world)["x"] == [PAYLOAD]  # under the subject that it was stored with


def test_a_leader_that_steps_down_tells_so_itself() -> None:
    with World(4) as world:
        filled(world)
        everywhere(world, "STREAM.LEADER.STEPDOWN.S", b"", "down")
        world.run(3)
        found = answered(world)
        assert found["down"][0]["success"] is True
        assert found["pull"] == [CHANGED]


def test_one_whose_request_has_ended_is_told_nothing() -> None:
    with World(5) as world:
        filled(world)
        publish(world)
        assert answered(world)["x"] == [PAYLOAD]
        leader = world.leader("S")
        assert leader is not None
        for server in world.running:
            server.answers.clear()
        leader.kill()
        world.run(4)
        assert world.leader("S")
        assert not answered(world)["pull"]


@pytest.mark.anyio
async def test_a_client_that_asks_again_at_once(shared: Nodes) -> None:
    """At each server, through stepdowns one after another: it never hears that there is nobody."""
    js = await shared.js("a")
    await js.add_stream(name="PULLS", subjects=["pulls"], num_replicas=3)
    await js.add_consumer("PULLS", durable_name="worker", ack_policy="none")
    await shared.led("PULLS")
    got: dict[str, list[str]] = {name: [] for name in "abc"}

    async def pull(name: str) -> None:
        client = await shared.client(name)
        inbox = client.new_inbox()

        async def ask() -> None:
            await client.publish("$JS.API.CONSUMER.MSG.NEXT.PULLS.worker", NEXT, reply=inbox)

        async def heard(message: Msg) -> None:
            status = (message.headers or {}).get("Status", "")
            got[name].append(status or message.data.decode())
            if len(got[name]) < 1000:
                await ask()

        await client.subscribe(inbox, cb=heard)
        await ask()

    for name in "abc":
        await pull(name)
    for turn in range(4):
        await shared.step_down(await shared.client("b"), "PULLS")
        async with asyncio.timeout(10):
            while not all("409" in found[-1:] or found.count("409") > turn for found in got.values()):
                await asyncio.sleep(0)
    for number in range(9):
        await js.publish("pulls", json.dumps(number).encode())
    async with asyncio.timeout(10):
        while sum(each.isdigit() and each not in ("409", "503") for found in got.values() for each in found) < 9:
            await asyncio.sleep(0)
    assert not any("503" in found for found in got.values())


@pytest.mark.anyio
async def test_a_server_that_stops_tells_who_waits_at_another(trio: Nodes) -> None:
    js = await trio.js("a")
    await js.add_stream(name="ALONE", subjects=["alone"], num_replicas=1)
    await js.add_consumer("ALONE", durable_name="worker", ack_policy="none")
    name = await trio.led("ALONE")
    client = await trio.client(next(other for other in "abc" if other != name))
    inbox = client.new_inbox()
    sub = await client.subscribe(inbox)
    await client.publish("$JS.API.CONSUMER.MSG.NEXT.ALONE.worker", NEXT, reply=inbox)
    stream = trio.held(name, "ALONE")
    await until(lambda: stream.consumers["worker"].state.num_waiting)
    await trio.stop(name)
    told = await sub.next_msg(timeout=5)
    assert told.headers == {"Status": "409", "Description": "Server Shutdown"}
