"""The `nats` command line on a cluster of three: reports, stepdowns, peers, as people use it."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from anyio import to_thread

from tests.interop.test_cli import Cli
from tests.interop.test_system import System, rows
from tests.replication.nodes import Nodes, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.interop, pytest.mark.anyio]


class Commands:
    """`nats` at one of the servers, while they go on."""

    def __init__(self, cli: Cli) -> None:
        self._cli = cli

    async def __call__(self, *arguments: str, fails: bool = False) -> str:
        """Run a command; its output."""
        return await to_thread.run_sync(partial(self._cli, *arguments, fails=fails))

    async def json(self, *arguments: str) -> Any:
        """Run a command that answers JSON."""
        return json.loads(await self(*arguments, "--json"))


async def test_cluster(programs: Path, tmp_path: Path) -> None:
    async with Nodes(tmp_path, "abc") as nodes:
        port = nodes.servers["a"].port
        common = Commands(Cli(programs / "nats", port, tmp_path))
        system = Commands(System(programs / "nats", port, tmp_path))
        await common("stream", "add", "ORDERS", "--subjects", "orders.>", "--replicas", "3", "--defaults")
        await common("stream", "add", "LONE", "--subjects", "lone", "--defaults")
        await common("consumer", "add", "ORDERS", "worker", "--pull", "--defaults")
        await common("pub", "orders.new", "hello {{Count}}", "--count", "20", "--jetstream")
        leader = await nodes.led("ORDERS")
        await nodes.alike()

        # Reports
        assert "3 replies" in await system("server", "ping")
        checked = rows(await system("server", "consumer-check", "--health"))
        assert sorted(row[5].rstrip("*") for row in checked if row[0] == "worker") == ["a", "b", "c"]
        assert all(row[-1] == ":ok:" for row in checked if row[0] == "worker")
        report = rows(await system("server", "report", "jetstream"))
        servers = {row[0].rstrip("*"): row for row in report if row[1:2] == ["C"]}
        assert sorted(servers) == ["a", "b", "c"]
        assert sum(int(row[2]) for row in servers.values()) == 4  # streams: three replicas, and one alone
        assert [name for name, row in servers.items() if row[0] != name] == [nodes.meta_leader()]
        meta = {row[0]: row[2:5] for row in report if row[1:2] != ["C"] and row[0] in servers}
        assert meta == {name: ["yes" if name == nodes.meta_leader() else "", "true", "true"] for name in "abc"}
        info = await common.json("stream", "info", "ORDERS")
        assert info["cluster"]["leader"] == leader
        assert sorted(peer["name"] for peer in info["cluster"]["replicas"]) == sorted(set("abc") - {leader})
        assert all(peer["current"] for peer in info["cluster"]["replicas"])
        text = await common("stream", "report")
        assert f"{leader}*" in text
        assert "ORDERS" in text
        assert "!" not in text  # which marks a replica that is behind
        text = await common("consumer", "report", "ORDERS")
        assert "worker" in text
        assert f"{leader}*" in text

        # Stepdowns
        await common("stream", "cluster", "step-down", "ORDERS")
        after = await nodes.led("ORDERS", by=lambda name: name not in ("", leader))
        assert (await common.json("stream", "info", "ORDERS"))["cluster"]["leader"] == after
        await common("consumer", "cluster", "step-down", "ORDERS", "worker")
        await nodes.led("ORDERS", by=lambda name: name not in ("", after))
        before = nodes.meta_leader()
        await system("server", "cluster", "step-down")
        await until(lambda: nodes.meta_leader() not in ("", before))

        # Replicas
        await common("stream", "edit", "LONE", "--replicas", "3", "--force")
        await nodes.led("LONE")
        assert len((await common.json("stream", "info", "LONE"))["cluster"]["replicas"]) == 2
        refused = await common("stream", "cluster", "peer-remove", "LONE", "c", "--force", fails=True)
        assert "no server can take the place of c" in refused
        await common("stream", "edit", "LONE", "--replicas", "1", "--force")
        await until(lambda: len(nodes.any.meta.state.streams["LONE"].names) == 1)

        # A server goes for good
        (gone, *_) = [name for name in "bc" if nodes.any.meta.state.streams["LONE"].names != (name,)]
        await nodes.stop(gone)
        await until(nodes.meta_leader)
        await nodes.led("ORDERS")
        text = await system("server", "report", "jetstream")
        assert gone in text
        await system("server", "cluster", "peer-remove", gone, "--force")
        await until(lambda: gone not in nodes.any.meta.state.nodes)
        assert await common("stream", "get", "ORDERS", "20")
