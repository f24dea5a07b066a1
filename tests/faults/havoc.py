"""What is done to the nodes of a cluster: kill -9 of a leader, standing still, cut links. Afterwards all is whole again."""

from __future__ import annotations

import asyncio
import random
import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.trio import Node, Trio
    from tests.faults.netns import Links

PAUSE_SECONDS_MAX: Final = 1.5


class Havoc:
    """`leaders`: who leads something now, each asked in turn. Without `links` none is cut."""

    def __init__(
        self, cluster: Trio, seed: int, leaders: list[Callable[[], Node | None]], links: Links | None = None
    ) -> None:
        self._cluster = cluster
        self._chance = random.Random(seed)
        self._leaders = leaders
        self._links = links
        self._kills = 0

    async def kill_a_leader(self) -> Node:
        """kill -9. The node stays away."""
        look = self._leaders[self._kills % len(self._leaders)]
        self._kills += 1
        leader = await asyncio.to_thread(self._cluster.until, "leader", look)
        leader.kill()
        return leader

    async def bring_back(self, node: Node, whole: Callable[[], bool]) -> None:
        """Start it again and wait until nothing is missing anywhere."""
        node.spawn()
        await asyncio.to_thread(node.wait_ready)
        await asyncio.to_thread(self._cluster.until, "node that has caught up", whole)

    async def disturb(self) -> None:
        """For a while a node stands still, or cannot reach another one, or cannot reach anybody."""
        seconds = self._chance.uniform(0.1, PAUSE_SECONDS_MAX)
        node, other = self._chance.sample(self._cluster.nodes, 2)
        what = self._chance.choice(["pause", "cut", "deafen", "isolate"] if self._links else ["pause"])
        if self._links is None or what == "pause":
            node.send(signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                node.send(signal.SIGCONT)
            return
        if what == "cut":
            self._links.cut(node.name, other.name)
            self._links.cut(other.name, node.name)
        elif what == "deafen":
            self._links.cut(node.name, other.name)
        else:
            for each in self._cluster.others(node):
                self._links.cut(node.name, each.name)
                self._links.cut(each.name, node.name)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._links.heal()
