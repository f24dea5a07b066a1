"""The configuration files of conf/, each a process in one directory: a cluster as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import nats
import pytest

from benchmarks.ports import free_port
from tests.cluster.test_messages import known
from tests.process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio

CONF = Path(__file__).parents[2] / "conf"


class Member(ServerProcess):
    """Started by its file alone."""

    def command(self) -> list[str]:
        return [part for part in super().command()[:3] if part] + self.arguments


@pytest.fixture
def members(tmp_path: Path) -> Iterator[list[Member]]:
    """a, b and c on free ports, with their stores side by side."""
    taken = {port: free_port() for port in range(4221, 4224)} | {port: free_port() for port in range(6221, 6224)}
    found = []
    try:
        for name in "abc":
            text = (CONF / f"{name}.conf").read_text()
            text = re.sub(r"\b[46]22\d\b", lambda match: str(taken[int(match[0])]), text)
            home = tmp_path / name
            home.mkdir()
            member = Member(home, config=text)
            member.port = int(text.split("port: ")[1].split()[0])
            found.append(member.start())
        yield found
    finally:
        for member in found:
            member.kill()


async def test_the_three_files_are_one_cluster(members: list[Member]) -> None:
    clients = [await nats.connect(member.url, allow_reconnect=False) for member in members]
    await known(clients, clients)
    for member, name in zip(members, "abc", strict=True):
        log = member.log()

        assert "Cluster name is test" in log
        assert f"Name:     {name}" in log
        assert "Listening for route connections on 0.0.0.0:" in log
        assert (member.directory / f"store{name}").is_dir()
    for client in clients:
        await client.close()
    for member in members:
        assert member.stop() == 0
