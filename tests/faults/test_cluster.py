"""Three real servers that are killed, stopped and cut off under the load of real clients: nothing that was acked is lost."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING

import pytest

from benchmarks.trio import Trio, on_loopback
from tests.faults import netns
from tests.faults.cluster_load import STREAM, ChannelLoad, StreamLoad
from tests.faults.havoc import Havoc
from tests.trio import STREAMD, as_in_conf

if TYPE_CHECKING:
    from pathlib import Path

    from tests.stan.program import Language

pytestmark = pytest.mark.anyio


async def survive(
    cluster: Trio, kills: int, loads: list[StreamLoad | ChannelLoad], links: netns.Links | None = None
) -> list[str]:
    """Kill a leader so often, with a disturbance before each kill. Returns what the clients' histories tell of it."""
    leaders = [
        (lambda: cluster.stream_leader(STREAM)) if isinstance(load, StreamLoad) else cluster.streaming_leader
        for load in loads
    ]

    def whole() -> bool:
        return all(
            cluster.replicas_current(STREAM) if isinstance(load, StreamLoad) else cluster.streaming_leader() is not None
            for load in loads
        )

    havoc = Havoc(cluster, kills, leaders, links)
    for load in loads:
        await load.set_up()
    async with AsyncExitStack() as stack:
        for load in loads:
            await stack.enter_async_context(load.running())
        for _ in range(kills):
            for load in loads:
                await load.acks.more(50)
            await havoc.disturb()
            for load in loads:
                await load.acks.more(20)
            killed = await havoc.kill_a_leader()
            for load in loads:
                await load.acks.more(50)
            await havoc.bring_back(killed, whole)
    return [fault for load in loads for fault in await load.finish()]


@pytest.fixture
def links() -> netns.Links:
    """Hosts whose links can be cut."""
    if missing := netns.unavailable():
        pytest.skip(missing)
    return netns.Links()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [10, pytest.param(90, marks=pytest.mark.soak)])
async def test_kills_of_leaders_lose_nothing(tmp_path: Path, python_client: Language, kills: int) -> None:
    """Both protocols at once: the leader of the stream and that of NATS Streaming are killed in turn."""
    with ExitStack() as stack:
        cluster = stack.enter_context(Trio(STREAMD, on_loopback(tmp_path), as_in_conf, streaming=True))
        urls = [node.url for node in cluster.nodes]
        channel = ChannelLoad(python_client, urls, tmp_path)
        stack.callback(channel.close)

        assert await survive(cluster, kills, [StreamLoad(urls), channel]) == []


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.soak)])
async def test_cut_links_lose_nothing(tmp_path: Path, python_client: Language, links: netns.Links, kills: int) -> None:
    """The same where nodes are cut off from each other as well, one way or both, while clients reach all of them."""
    with ExitStack() as stack:
        stack.enter_context(links)
        cluster = stack.enter_context(Trio(STREAMD, links.places(tmp_path), as_in_conf, streaming=True))
        urls = [node.url for node in cluster.nodes]
        channel = ChannelLoad(python_client, urls, tmp_path)
        stack.callback(channel.close)

        assert await survive(cluster, kills, [StreamLoad(urls), channel], links) == []
