"""Lists of streams: each stream is told of by the server that leads it, whoever is asked, else by another whole copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.replication.nodes import Nodes, until
from tests.replication.test_leaders import preferring, system
from tests.replication.test_streams import api

if TYPE_CHECKING:
    from pathlib import Path

    from nats.aio.client import Client

    from streamd.api.cluster import ClusterInfo
    from streamd.streams.stream import Stream

pytestmark = pytest.mark.anyio


async def listed(client: Client, name: str) -> dict[str, Any]:
    """What STREAM.LIST says of a stream; nothing if it is missing."""
    answer = await api(client, "STREAM.LIST")
    found: dict[str, Any] = {each["config"]["name"]: each for each in answer["streams"]}
    assert (name in found) != (name in (answer.get("missing") or []))
    return dict(found.get(name, {}))


async def meta_led_by(nodes: Nodes, name: str) -> None:
    """Who answers STREAM.LIST."""
    if nodes.meta_leader() != name:
        await api(await system(nodes, name), "META.LEADER.STEPDOWN", **preferring(name))
    await until(lambda: nodes.meta_leader() == name)


async def test_lists_are_of_leaders(tmp_path: Path) -> None:
    """Whether the server that answers leads a stream, follows, or has no part in it."""
    async with Nodes(tmp_path, "abcd") as nodes:
        client = await nodes.client("a")
        js = client.jetstream(timeout=5)
        for number in range(4):
            await js.add_stream(name=f"S{number}", subjects=[f"s.{number}"], num_replicas=3)
            await js.publish(f"s.{number}")
            await js.add_consumer(f"S{number}", durable_name="worker", ack_policy="explicit")
        await js.add_stream(name="LONE", subjects=["lone"])
        await nodes.alike()
        places = {name: stream.names for name, stream in nodes.any.meta.state.streams.items()}
        for name in "abcd":
            await meta_led_by(nodes, name)
            for stream in places:
                leader = await nodes.led(stream)
                info = await listed(client, stream)
                others = sorted(set(places[stream]) - {leader})
                assert info["cluster"]["leader"] == leader
                assert [(each["name"], each["current"]) for each in info["cluster"].get("replicas", [])] == [
                    (other, True) for other in others
                ]


async def test_lists_without_the_leader(trio: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader that can't tell isn't all there is; but a copy that isn't whole tells nothing."""
    js = await trio.js("a")
    await js.add_stream(name="TOLD", subjects=["told"], num_replicas=3)
    await js.publish("told")
    await trio.alike()
    leader = await trio.led("TOLD")
    asked, other = trio.followers("TOLD")
    await meta_led_by(trio, asked)
    client = await trio.client(asked)
    monkeypatch.setattr(trio.held(leader, "TOLD"), "offline", "for the test")

    assert (await listed(client, "TOLD"))["state"]["messages"] == 1
    monkeypatch.setattr(trio.held(asked, "TOLD"), "partial", True)
    assert (await listed(client, "TOLD"))["state"]["messages"] == 1
    monkeypatch.setattr(trio.held(other, "TOLD"), "partial", True)
    assert await listed(client, "TOLD") == {}


def claims(monkeypatch: pytest.MonkeyPatch, nodes: Nodes, name: str, leader: str, since: int) -> None:
    """From now on a server says that somebody leads, since when."""
    view = nodes.replication(name).view
    of_stream = view.of_stream

    def claimed(stream: Stream) -> ClusterInfo:
        return of_stream(stream).model_copy(update={"leader": leader, "leader_since": since})

    monkeypatch.setattr(view, "of_stream", claimed)


async def test_who_is_asked_first_may_have_stepped_down(trio: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the others are asked who leads."""
    js = await trio.js("a")
    await js.add_stream(name="DOWN", subjects=["down"], num_replicas=3)
    leader = await trio.led("DOWN")
    asked, other = trio.followers("DOWN")
    await meta_led_by(trio, asked)
    claims(monkeypatch, trio, leader, other, 0)
    claims(monkeypatch, trio, other, other, 5)

    assert "leader_since" in (await listed(await trio.client(asked), "DOWN"))["cluster"]


async def test_of_two_leaders_the_later_one_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The earlier one hasn't heard yet that it leads no more."""
    async with Nodes(tmp_path, "abcd") as nodes:
        js = await nodes.js("a")
        await js.add_stream(name="TWO", subjects=["two"], num_replicas=3)
        leader = await nodes.led("TWO")
        (asked,) = set("abcd") - {leader, *nodes.followers("TWO")}
        await meta_led_by(nodes, asked)
        for name in nodes.followers("TWO"):
            claims(monkeypatch, nodes, name, name, 1)

        assert (await listed(await nodes.client(asked), "TWO"))["cluster"]["leader"] == leader
